"""SGD against its continuum candidates: where every cloud's covariance is known, and on the two-weight network."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim import theory
from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential, potentials
from sgdsim.processes import SGD
from sgdsim.studies.candidates import NETWORK_LIMITS_FILES
from sgdsim.studies.network_limits import network_limits
from sgdsim.studies.presets import preset

pytestmark = pytest.mark.slow  # whole studies: not run with the oldest and newest versions

KEY = jax.random.key(0)
CURVATURES = np.array([2.0, 1.0, 1.0, 0.5])
SPREADS = np.array([3.0, 1.0, 0.5, 0.2])  # √ of the eigenvalues of D: the curvatures know nothing of them


def finite_sum(**options):
    """Σᵢ ½(x − zᵢ)ᵀK(x − zᵢ)/N on both signs of every corner: D = K Cov(z) K exactly, at every x."""
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T
    data = corners * SPREADS / CURVATURES
    hessian = jnp.asarray(CURVATURES)
    risk = EmpiricalRisk(lambda w, z: jnp.sum(hessian * (w - z) ** 2) / 2, data, init=np.zeros(4))
    return SGD(risk, **({"learning_rate": 0.25, "batch_size": 4} | options))


@pytest.fixture(scope="module")
def quadratic():
    sgd = finite_sum()
    return network_limits(sgd, np.zeros(4), particles=3_000, steps=60, save_every=60, key=KEY, svag=(2, 4), substeps=4)


def noise(sgd):
    return sgd.sampling_factor * SPREADS**2 / sgd.batch_size  # C


def test_every_covariance_is_the_one_that_is_known(quadratic):
    """Along D's axes, late. 20 comparisons at 4 sigmas.

    Lyapunov's ηC/2k is what both Langevin clouds would have without a step; Euler in 4 sub-steps has the law of a chain
    of that step, which is SVAG(4)'s.
    """
    sgd, eta = finite_sum(), 0.25
    c = noise(sgd)

    def law(variances, refinement):
        laws = [theory.svag_variance(k, v, eta, refinement) for k, v in zip(CURVATURES, variances, strict=True)]
        return np.array(laws)

    even = np.full(4, np.mean(c))
    truth = {"SGD": law(c, 1), "D(x)": law(c, 4), "isotropic": law(even, 4), "SVAG(2)": law(c, 2), "SVAG(4)": law(c, 4)}
    lyapunov = np.diag(theory.ou_stationary_covariance(np.diag(CURVATURES), np.diag(c), eta))
    np.testing.assert_allclose(truth["D(x)"] * (1 - eta * CURVATURES / 8), lyapunov)
    np.testing.assert_allclose(np.abs(quadratic.axes), np.eye(4), atol=1e-6)
    assert [cloud.name for cloud in quadratic.clouds] == list(truth)
    forget = 1 - np.exp(-2 * CURVATURES * quadratic.times[-1])  # of the start at 0, less than a thousandth
    for cloud in quadratic.clouds:
        assert cloud.along_axes[-1].agrees_with(truth[cloud.name] * forget, sigmas=4), cloud.name


def test_the_report_says_which_noise_is_sgds(quadratic):
    """Isotropic noise has the trace and the wrong widths, by mean(C)/C: 0.28 along the first axis, 64 at the last."""
    isotropic = quadratic.candidates[1]
    assert isotropic.cloud.name == "isotropic"
    measured = isotropic.cloud.along_axes[-1].value / quadratic.candidates[0].cloud.along_axes[-1].value
    np.testing.assert_allclose(measured, np.mean(SPREADS**2) / SPREADS**2, rtol=0.2)
    chain = theory.sgd_stationary_covariance(np.diag(CURVATURES), noises()[0], 0.25)
    limit = theory.ou_stationary_covariance(np.diag(CURVATURES), noises()[1], 0.25)
    apart = np.sum((chain - limit) ** 2) / (np.sum(chain**2) + np.sum(limit**2))
    assert isotropic.covariance[-1].agrees_with(apart, sigmas=4)
    assert isotropic.covariance[-1].floors > 20 and isotropic.distance[-1].floors > 3
    assert "Langevin, isotropic differs from SGD in covariance to the end" in quadratic.reading
    # ηk = ½ along the first axis: even the true limit is too narrow there
    true, two = (quadratic.candidates[i].covariance[-1] for i in (0, 2))
    assert two.value < true.value < isotropic.covariance[-1].value / 5
    assert "Langevin, D(x) differs from SGD in covariance" in quadratic.reading


def noises():
    c = noise(finite_sum())
    return [np.diag(c), np.mean(c) * np.eye(4)]


def test_at_a_small_rate_the_true_limit_and_svag_are_sgd():
    """ηk ≤ 0.04, s_B = (N − B)/(N − 1) in the temperature: nothing departs but isotropic noise."""
    sgd = finite_sum(learning_rate=0.02, batch_size=8, sampling="without-replacement")
    study = network_limits(sgd, np.zeros(4), particles=500, steps=200, save_every=100, key=KEY, svag=(2,))
    for title in ("Langevin, D(x)", "SVAG(2)"):
        assert f"{title} is indistinguishable from SGD with 500 particles" in study.reading
    assert "Langevin, isotropic differs from SGD in covariance" in study.reading
    k, c, t = CURVATURES, noise(sgd), study.times[-1]
    for candidate, variances in zip(study.candidates, (c, np.mean(c)), strict=False):  # Lyapunov's, from a point
        law = 0.02 * variances / (2 * k) * (1 - np.exp(-2 * k * t))
        assert candidate.cloud.along_axes[-1].agrees_with(law, sigmas=4)


def two_weights(learning_rate, particles, clock, **options):
    chosen = preset("two-weight-network")
    problem, start = chosen.build()
    sgd = SGD(problem, learning_rate=learning_rate, batch_size=chosen.batch_size, sampling=chosen.sampling)
    steps = round(clock / learning_rate)
    options = {"save_every": steps // 2, "key": KEY, "name": "two weights"} | options
    return network_limits(sgd, start, steps=steps, particles=particles, **options)


@pytest.fixture(scope="module")
def network():
    return two_weights(0.05, 5_000, 40.0, cells=128, svag=(2,))


def test_two_weight_network_at_a_small_rate(network):
    """SGD, Langevin with D(x) and Fokker–Planck are one law; isotropic noise makes another, by hundreds of floors."""
    assert network.comparison.grid_is_below_floor and network.comparison.solver_is_below_floor
    clouds = {cloud.name: cloud for cloud in network.clouds}
    for name in ("SGD", "D(x)", "SVAG(2)"):  # 6 comparisons
        assert all(reading.agrees_with(0.0, sigmas=3.5) for reading in clouds[name].kl), name
    assert all(reading.floors > 150 and reading.value > 0.5 for reading in clouds["isotropic"].kl)
    assert all(reading.agrees_with(0.0, sigmas=3.5) for reading in clouds["isotropic"].own_kl)
    apart = network.densities.apart
    assert abs(apart.value[0]) < 1e-12 and np.all(apart.value[1:] > 1)
    assert np.all(apart.standard_error < 0.02 * np.maximum(apart.value, 0.01))
    # merged cells keep some of the true KL, never more
    assert all(r.value - 4 * r.standard_error < a for r, a in zip(clouds["isotropic"].kl, apart.value[1:], strict=True))
    assert "of which Langevin, isotropic departs" in network.reading


def test_figure_and_files(network, quadratic, tmp_path):
    for study in (network, quadratic):
        assert [p.name for p in study.save(tmp_path)] == list(NETWORK_LIMITS_FILES)
        content = json.loads((tmp_path / "network_limits.json").read_text())
        assert content["reading"] == study.reading and content["lost"] == dict.fromkeys(study.lost, 0)
        assert content["candidates"][1]["cloud"]["name"] == "isotropic"
        assert content["candidates"][1]["covariance"]["floor"] == study.candidates[1].covariance.floor.tolist()
        with np.load(tmp_path / "network_limits.npz") as arrays:
            np.testing.assert_array_equal(arrays["late SGD"], study.late["SGD"])
            assert ("isotropic" in arrays) == (study is network)
        assert study.reading in str(study)


def test_what_runs_away_is_left_out_and_counted():
    """Two of twenty start where x⁴ throws SGD out; momentum has no SVAG."""
    data = np.random.default_rng(0).normal(size=(16, 4))
    risk = EmpiricalRisk(lambda w, z: jnp.sum((w - z) ** 2) / 2 + jnp.sum(w**4) / 4, data, init=np.zeros(4))
    start = np.zeros((20, 4))
    start[:2] = 40.0
    sgd = SGD(risk, learning_rate=0.05, batch_size=4, momentum=0.5)
    study = network_limits(sgd, start, steps=10, key=KEY, save_every=10)
    assert study.lost["SGD"] == 2 and study.sgd.loss.left_out == 2
    assert "2 of 20 particles of SGD ran away and are left out of every measure." in study.reading
    assert "SVAG needs batches drawn independently" in study.reading and len(study.candidates) == 2
    assert np.all(np.isfinite(study.candidates[0].distance.value))


QUADRATIC = NoisyPotential(potentials.Quadratic(np.eye(2)), GaussianNoise(1.0))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sgd": QUADRATIC}, TypeError, "sgd must be an SGD process, got NoisyPotential"),
        ({"key": 0}, TypeError, "key must be one typed key"),
        ({"steps": 0}, ValueError, "steps must be a positive whole number, got 0"),
        ({"svag": (0,)}, ValueError, "refinement must be a positive whole number, got 0"),
        ({"substeps": 3}, ValueError, "substeps must be a power of two"),
        ({"cells": 8}, ValueError, "grid and cells must not be given in 4-D"),
        ({"particles": 5}, ValueError, "particles must be at least 10"),
        (
            {"sgd": SGD(QUADRATIC, learning_rate=0.1, batch_size=1), "start": np.zeros(2)},
            ValueError,
            "start must be a Gaussian for a density in 2-D",
        ),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"sgd": finite_sum(), "start": np.zeros(4), "steps": 2, "key": KEY} | change
    with pytest.raises(error, match=message):
        network_limits(arguments.pop("sgd"), arguments.pop("start"), **arguments)
