"""Cyclic learning rates on a quadratic, where the swing that comes through and its lag are known."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.ensemble import Gaussian
from sgdsim.problems import GaussianNoise, NoisyPotential
from sgdsim.processes import SGD
from sgdsim.studies.cyclic_rates import CYCLIC_RATES_FILES, cyclic_rates

QUADRATIC = NoisyPotential(lambda x: 1.5 * jnp.sum(x**2) / 2, GaussianNoise(1.0), dim=1)
CHAIN = SGD(QUADRATIC, learning_rate=0.02, batch_size=1)
START = Gaussian([0.3], 0.02)


@pytest.fixture(scope="module")
def study():
    run = {"key": jax.random.key(0), "particles": 20_000, "periods": [1.0, 8.0]}
    return cyclic_rates(CHAIN, START, swing=0.5, **run)


def test_small_swings_come_through_as_a_low_pass_filter_lets_them(study):
    """dS/dt = −2kS + 2T(t)D: amplitude 1/√(1 + (π/(kτ))²), lag atan(π/(kτ))/2π, for the swing of 50 % to some %."""
    for cycle in study.cycles:
        x = np.pi / (1.5 * cycle.period)
        for losses, tolerance in ((cycle.density, 0.06), (cycle.quadratic, 0.06), (cycle.sgd.value, 0.08)):
            size, lag = cycle.response(np.asarray(losses))
            assert size == pytest.approx(1 / np.sqrt(1 + x**2), rel=tolerance)
            assert lag == pytest.approx(np.arctan(x) / (2 * np.pi), abs=0.02)


def test_descriptions_are_one_on_their_clock(study):
    """Langevin and density against the exact quadratic, and no departures: 66 readings of KL each."""
    for cycle in study.cycles:
        np.testing.assert_allclose(cycle.density, cycle.quadratic, rtol=0.02)
        assert np.mean(np.abs(cycle.langevin.z(cycle.density)) < 3) > 0.95
        assert all(float(r.floors) < 2.5 for r in cycle.langevin_kl)
    assert "Langevin departs from the density at 0 of" in study.reading


def test_files(study, tmp_path):
    assert [p.name for p in study.save(tmp_path)] == list(CYCLIC_RATES_FILES)
    content = json.loads((tmp_path / "cyclic_rates.json").read_text())
    assert content["reading"] == study.reading and len(content["cycles"]) == 2


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sgd": QUADRATIC}, TypeError, "sgd must be an SGD process, got NoisyPotential"),
        ({"start": [0.0]}, ValueError, "start must be a Gaussian"),
        ({"swing": 1.0}, ValueError, "swing must lie above 0 and below 1, got 1.0"),
        ({"periods": [0.01]}, ValueError, "periods must be finite and four steps long at least, 0.08"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"sgd": CHAIN, "start": START, "key": jax.random.key(0)} | change
    with pytest.raises(error, match=message):
        cyclic_rates(arguments.pop("sgd"), arguments.pop("start"), **arguments)
