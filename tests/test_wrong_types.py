"""Arguments of the wrong type, as a user meets them: without the type checker that the other tests run under."""

import jax
import numpy as np
import pytest

import sgdsim as ss

WELL = ss.NoisyPotential(ss.potentials.DoubleWell(), ss.GaussianNoise(1.0))
SGD = ss.SGD(WELL, learning_rate=0.1, batch_size=1)
KEY = jax.random.key(0)
START = ss.Gaussian([0.0], 0.1)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ss.SGD(lambda x: x, learning_rate=0.1, batch_size=1), TypeError, "problem must be a Problem"),
        (
            lambda: ss.SGD(WELL, learning_rate=0.1, batch_size=1.5),
            ValueError,
            "batch_size must be a positive whole number",
        ),
        (lambda: ss.simulate(SGD, START, particles=2, steps=2.5, key=KEY), ValueError, "steps must be a whole number"),
        (lambda: ss.simulate(SGD, START, particles=2, steps=2, key=0), TypeError, "key must be one typed key"),
        (
            lambda: ss.simulate(SGD, START, particles=2, steps=2, key=jax.random.PRNGKey(0)),
            TypeError,
            "key must be one typed key",
        ),
        (lambda: ss.Langevin.limit_of(WELL), TypeError, "sgd must be an SGD process"),
        (
            lambda: ss.ItoDiffusion(drift=1.0, diffusion=np.outer, dim=1),
            TypeError,
            "drift and diffusion must be callables",
        ),
        (lambda: ss.NoisyPotential(3.0, ss.GaussianNoise(1.0)), TypeError, "potential must be a callable"),
        (lambda: ss.NoisyPotential(ss.potentials.DoubleWell(), 1.0), TypeError, "noise must be a noise model"),
        (lambda: ss.compare(WELL, START, steps=2, key=KEY), TypeError, "sgd must be an SGD process"),
        (lambda: ss.compare(SGD, START, steps=1.5, key=KEY), ValueError, "steps must be a positive whole number"),
    ],
)
def test_wrong_type(call, error, message):
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
