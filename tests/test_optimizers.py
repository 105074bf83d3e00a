"""Any optax optimizer as a process: SGD is itself, and each particle keeps a state of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sgdsim.draws import Draws
from sgdsim.ensemble import simulate
from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential
from sgdsim.processes import SGD, Langevin, Optimizer, ScheduledSGD

QUADRATIC = NoisyPotential(lambda x: x[0] ** 2 / 2 + 2 * x[1] ** 2, GaussianNoise(1.0), dim=2)
RISK = EmpiricalRisk(
    lambda w, example: (example[0] @ w - example[1]) ** 2 / 2,
    (np.random.default_rng(0).normal(size=(20, 3)), np.random.default_rng(1).normal(size=20)),
    init=jnp.zeros(3),
)
RUN = {"particles": 50, "steps": 40, "save_every": 10, "key": jax.random.key(0)}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(
    ("problem", "sampling"),
    [(QUADRATIC, "with-replacement"), (RISK, "without-replacement"), (RISK, "epoch")],
    ids=["quadratic", "risk", "epochs"],
)
def test_optax_sgd_is_sgd(problem, sampling, momentum):
    settings = {"batch_size": 4, "sampling": sampling}
    ours = SGD(problem, learning_rate=0.05, momentum=momentum, **settings)
    theirs = Optimizer(problem, optax.sgd(0.05, momentum or None), time_step=float(ours.time_step), **settings)
    start = np.full(problem.dim, 0.5)
    a, b = (simulate(process, start, **RUN) for process in (ours, theirs))
    np.testing.assert_allclose(b.particles, a.particles, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(b.times, a.times)


@pytest.mark.parametrize("optimizer", [optax.adam(0.05), optax.rmsprop(0.01), optax.adamw(0.05), optax.lion(0.01)])
def test_each_particle_keeps_its_own_state(optimizer):
    process = Optimizer(QUADRATIC, optimizer, batch_size=1)
    all_of_them = simulate(process, [1.0, 1.0], **RUN).particles
    in_chunks = simulate(process, [1.0, 1.0], chunk_size=20, **RUN).particles
    np.testing.assert_allclose(in_chunks, all_of_them, rtol=1e-12)
    assert np.std(all_of_them[-1], axis=0).min() > 0


def test_adam_by_hand():
    """Kingma and Ba, algorithm 1, for three steps, on the gradients that the process itself draws."""
    rate, first, second, epsilon = 0.05, 0.9, 0.99, 1e-8
    process = Optimizer(QUADRATIC, optax.adam(rate, first, second, epsilon), batch_size=2)
    found = simulate(process, [1.0, -0.5], **RUN | {"steps": 3, "save_every": 1}).particles
    draws = Draws.of(RUN["key"], np.arange(50))
    x, m, v = np.tile([1.0, -0.5], (50, 1)), 0.0, 0.0
    for k in range(3):
        gradient = np.asarray(QUADRATIC.minibatch_gradient(jnp.asarray(x.T), draws.at(k), 2, "with-replacement")).T
        m, v = first * m + (1 - first) * gradient, second * v + (1 - second) * gradient**2
        x = x - rate * (m / (1 - first ** (k + 1))) / (np.sqrt(v / (1 - second ** (k + 1))) + epsilon)
        np.testing.assert_allclose(found[k + 1], x, rtol=1e-6)


def test_schedules_of_the_optimizer_count_its_steps():
    schedule = optax.piecewise_constant_schedule(0.1, {20: 0.1})
    cloud = simulate(Optimizer(QUADRATIC, optax.sgd(schedule), batch_size=1), [1.0, 1.0], **RUN)
    sgd = ScheduledSGD(SGD(QUADRATIC, learning_rate=0.1, batch_size=1), learning_rate=schedule)
    np.testing.assert_allclose(cloud.particles, simulate(sgd, [1.0, 1.0], **RUN).particles, rtol=1e-9)


@pytest.mark.usefixtures("as_users_run")
def test_no_limit_is_claimed():
    process = Optimizer(QUADRATIC, optax.adam(0.1), batch_size=1)
    with pytest.raises(TypeError, match="sgd must be an SGD process, got Optimizer"):
        Langevin.limit_of(process)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"problem": lambda x: x}, TypeError, "problem must be a Problem"),
        ({"optimizer": 0.1}, TypeError, "optimizer must be an optax transformation, got float"),
        ({"batch_size": 0}, ValueError, "batch_size must be a positive whole number, got 0"),
        ({"optimizer": optax.lbfgs()}, TypeError, "optimizer must update from a gradient, its state and x alone"),
        ({"optimizer": optax.noisy_sgd(0.1)}, ValueError, "optimizer must not draw noise of its own"),
        ({"time_step": 0.0}, ValueError, "time_step must be positive and finite, got 0.0"),
        ({"sampling": "epoch"}, ValueError, "sampling must be 'with-replacement'"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"problem": QUADRATIC, "optimizer": optax.adam(0.1), "batch_size": 1} | change
    with pytest.raises(error, match=message):
        Optimizer(arguments.pop("problem"), arguments.pop("optimizer"), **arguments)
