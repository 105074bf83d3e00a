"""Raising the batch instead of cutting the rate, on a quadratic whose laws are exact, and on true minibatches."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.ensemble import Gaussian
from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential
from sgdsim.problems.potentials import DoubleWell
from sgdsim.processes import SGD, ScheduledSGD
from sgdsim.studies.batch_not_decay import ARMS, BATCH_NOT_DECAY_FILES, batch_not_decay
from sgdsim.studies.local_quadratic import LocalQuadratic
from sgdsim.theory import heavy_ball_covariance, ou_stationary_covariance

HESSIAN, NOISE = np.diag([1.0, 0.4]), np.array([[1.0, 0.3], [0.3, 0.5]])
QUADRATIC = NoisyPotential(lambda x: x @ jnp.asarray(HESSIAN) @ x / 2, GaussianNoise(NOISE))
START = Gaussian([1.0, -1.0], 0.1)
CHAIN = SGD(QUADRATIC, learning_rate=0.1, batch_size=2)


@pytest.fixture(scope="module")
def study():
    rates = [0.1, 0.4, 1.2]
    return batch_not_decay(CHAIN, START, key=jax.random.key(0), learning_rates=rates, particles=5_000, stage=6.0)


@pytest.mark.slow
def test_every_arm_keeps_its_law(study):
    """9 comparisons within 4 standard errors; the laws reach 80 %."""
    for name in ARMS[:3]:
        for arm in study.arms[name]:
            assert arm.excess.agrees_with(arm.law, sigmas=4)
    laws = np.array([[arm.law for arm in study.arms[name]] for name in ARMS])
    assert laws[1, 2] > 0.5 and abs(laws[0, 0]) < 0.02 and laws[2, 2] > 0.1  # not one and the same
    assert np.all(laws[3] == 0)


@pytest.mark.slow
def test_they_agree_at_small_rates_and_not_at_large_ones(study):
    small, large = (study.arms["raise the batch"][i].distance for i in (0, 2))
    assert small.value < 1.5 * small.floor
    assert large.value > 5 * large.floor
    assert "up to η = 0.1" in study.reading


@pytest.mark.slow
def test_arms_share_their_temperature_and_their_clock(study):
    for i in range(3):
        ends = [study.arms[name][i].times[-1] for name in ARMS]
        np.testing.assert_allclose(ends, ends[0])


def test_local_quadratic_settles_where_the_laws_say():
    quadratic = LocalQuadratic.of(CHAIN, START)
    np.testing.assert_allclose(quadratic.hessian, HESSIAN, atol=1e-9)
    for eta, mu in ((0.5, 0.0), (0.3, 0.8)):
        chain = SGD(QUADRATIC, learning_rate=eta, batch_size=2, momentum=mu)
        same = ScheduledSGD(chain, batch_size=[(1, 2)])
        truth = np.trace(heavy_ball_covariance(HESSIAN, NOISE / 2, eta, mu))
        assert quadratic.chain_widths(same, 400)[-1] == pytest.approx(truth)
        truth = np.trace(ou_stationary_covariance(HESSIAN, NOISE / 2, eta / (1 - mu)))
        assert quadratic.limit_widths(same, 400)[-1] == pytest.approx(truth)


@pytest.mark.slow
def test_files(study, tmp_path):
    assert [p.name for p in study.save(tmp_path)] == list(BATCH_NOT_DECAY_FILES)
    content = json.loads((tmp_path / "batch_not_decay.json").read_text())
    assert content["reading"] == study.reading
    assert len(content["arms"]["raise the batch"]) == 3


@pytest.mark.slow
def test_true_minibatches_without_replacement_cool_by_the_same_temperature():
    """s_B falls faster than 1/B, and the rate is cut by as much."""
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(40, 2)), rng.normal(size=40))
    risk = EmpiricalRisk(lambda w, example: (example[0] @ w - example[1]) ** 2 / 2, data, init=jnp.zeros(2))
    sgd = SGD(risk, learning_rate=0.1, batch_size=4, sampling="without-replacement")
    run = {"key": jax.random.key(1), "factor": 4, "particles": 4_000, "learning_rates": [0.05]}
    study = batch_not_decay(sgd, Gaussian([0.0, 0.0], 0.01), stage=4.0, **run)
    arms = [study.arms[name][0] for name in ARMS]
    assert all(arm.excess.agrees_with(0.0, sigmas=4) for arm in arms[:2])
    width, limit = arms[0].widths[-1], arms[3].widths[-1]
    assert width.value == pytest.approx(limit.value, rel=0.2)


@pytest.mark.slow
def test_runs_that_explode_agree_with_nothing():
    """In the double well large steps lose particles: no distance, no law (two minima), and the reading says so."""
    problem = NoisyPotential(DoubleWell(1), GaussianNoise(1.0))
    sgd = SGD(problem, learning_rate=0.1, batch_size=1)
    study = batch_not_decay(
        sgd, Gaussian([-1.0], 0.01), key=jax.random.key(0), learning_rates=[0.02, 0.9], stage=4.0, particles=1_000
    )
    assert study.arms["raise the batch"][1].diverged > 0
    assert study.arms["raise the batch"][1].distance is None
    assert np.isnan(study.arms["cut the rate"][0].law)
    assert "up to η = 0.02" in study.reading and "lost particles to infinity" in study.reading


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sgd": QUADRATIC}, TypeError, "sgd must be an SGD process, got NoisyPotential"),
        ({"sgd": SGD(QUADRATIC, learning_rate=0.1, batch_size=1, momentum=0.5)}, ValueError, "must have no momentum"),
        ({"factor": 1}, ValueError, "factor must be a whole number of at least 2, got 1"),
        ({"momentum": 1.0}, ValueError, "momentum must lie above 0 and below 1, got 1.0"),
        ({"learning_rates": [0.1, -1.0]}, ValueError, "learning_rates must be positive and finite"),
        ({"stage": 0.01, "learning_rates": [0.1]}, ValueError, "stage must last a step at least"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"sgd": CHAIN, "start": START, "key": jax.random.key(0)} | change
    with pytest.raises(error, match=message):
        batch_not_decay(arguments.pop("sgd"), arguments.pop("start"), **arguments)
