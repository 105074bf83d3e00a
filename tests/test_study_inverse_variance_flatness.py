"""Variance against curvature where both laws are exact: quadratic losses over three decades of curvature."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential, potentials
from sgdsim.processes import SGD
from sgdsim.studies.inverse_variance_flatness import inverse_variance_flatness
from sgdsim.studies.variance_flatness import INVERSE_VARIANCE_FLATNESS_FILES, WAYS

pytestmark = pytest.mark.slow  # whole studies: not run with the oldest and newest versions

KEY = jax.random.key(0)
CURVATURES = np.geomspace(0.01, 10, 10)
RATE, SIZE, COUNT = 0.1, 4, 64  # 16 batches in an epoch: sharp and flat meet at k = 1.9


def spread(power, momentum=0.0):
    """½Σ kⱼxⱼ² + aᵢ·x + 1 with D = diag(k^p), its axes turned: noise aligned with the Hessian, the same at all x."""
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(COUNT, 10))
    columns = np.linalg.qr(columns - columns.mean(axis=0))[0] * np.sqrt(COUNT)  # of covariance 1 exactly
    turn = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    hessian, data = turn @ np.diag(CURVATURES) @ turn.T, columns * CURVATURES ** (power / 2) @ turn.T
    risk = EmpiricalRisk(lambda w, a: w @ jnp.asarray(hessian) @ w / 2 + a @ w + 1, data, init=np.zeros(10))
    return SGD(risk, learning_rate=RATE, batch_size=SIZE, momentum=momentum, sampling="without-replacement")


SETTINGS = {"key": KEY, "settle": 0, "relax": 150, "window": 40, "replicas": 200, "components": 6}


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["isotropic", "proportional"])
def study(request):
    return request.param, inverse_variance_flatness(spread(request.param), **SETTINGS)


def test_variances_are_the_laws(study):
    """Ten directions in each of five readings that have a law, taken when they were: 50 readings within 4 errors."""
    power, result = study
    np.testing.assert_allclose(result.curvatures, CURVATURES[::-1], rtol=1e-6)
    np.testing.assert_allclose(result.noise, CURVATURES[::-1] ** power, rtol=1e-6)
    assert result.crossover == pytest.approx(1.875)
    for sampled in (result.independent, result.reshuffled):
        for way in WAYS:
            if sampled.law[way] is not None:
                assert np.all(np.abs(sampled.variance(way).z(sampled.law[way])) < 4), (sampled.sampling, way)


def test_reshuffling_alone_turns_equilibrium_into_its_inverse(study):
    """Flat directions: D = 1 has σ² ∝ k⁻¹, and k⁺¹ at an epoch's end; D = k has k⁰, k⁺¹ and k⁺² in turn."""
    power, result = study
    one, other = result.independent, result.reshuffled
    plain, mixed, end = (
        result.exponent(s, way, "flat") for s, way in ((one, "ensemble"), (other, "ensemble"), (other, "end"))
    )
    for found, sampled, way in ((plain, one, "ensemble"), (mixed, other, "ensemble"), (end, other, "end")):
        assert found.agrees_with(result.expected(sampled, way, "flat"), 4)
    assert plain.value == pytest.approx(power - 1, abs=0.1)
    assert mixed.value == pytest.approx(power, abs=0.2)
    assert end.value == pytest.approx(power + 1, abs=0.25)
    relation = "no trend" if power else "flat directions are the wide ones"
    assert relation in result.reading


def test_a_window_alone_mimics_it_too(study):
    """Forty epochs, 64 on the clock: what relaxes in longer does not show, and independent batches read more."""
    _, result = study
    seen = result.exponent(result.independent, "window", "flat")
    assert seen.agrees_with(result.expected(result.independent, "window", "flat"), 4)
    assert seen.value > result.exponent(result.independent, "ensemble", "flat").value + 0.25


def test_flatness_of_principal_directions(study):
    """f = 1 + ½ks² there: F = 2√(2(e − 1)f/k) up to the run's mean, which is not quite the minimum."""
    _, result = study
    principal = result.independent.principal
    expected = 2 * np.sqrt(2 * (np.e - 1) / principal.curvatures[: len(principal.flatness)])
    np.testing.assert_allclose(principal.flatness, expected, rtol=0.3)
    assert principal.psi().value == pytest.approx(2 * principal.exponent().value, abs=0.3)


def test_files(study, tmp_path):
    _, result = study
    assert [p.name for p in result.save(tmp_path)] == list(INVERSE_VARIANCE_FLATNESS_FILES)
    content = json.loads((tmp_path / "inverse_variance_flatness.json").read_text())
    assert content["reading"] == result.reading and len(content["reshuffled"]["laws"]["end"]) == 10
    with np.load(tmp_path / "inverse_variance_flatness.npz") as arrays:
        assert arrays["independent_window"].shape == (200, 10)
    assert result.reading in str(result)


def test_momentum_has_no_law_and_divergence_is_refused():
    few = SETTINGS | {"relax": 10, "window": 10, "replicas": 8}
    result = inverse_variance_flatness(spread(1.0, momentum=0.5), **few)
    assert result.independent.law["ensemble"] is None and "No law to compare with" in result.reading
    assert result.crossover == pytest.approx(1.875 / 2)
    wild = SGD(spread(1.0).problem, learning_rate=1e10, batch_size=SIZE)
    with pytest.raises(ValueError, match="learning_rate must let"):
        inverse_variance_flatness(wild, **few)


POTENTIAL = NoisyPotential(potentials.Quadratic(np.eye(2)), GaussianNoise(1.0))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sgd": POTENTIAL}, TypeError, "sgd must be an SGD process, got NoisyPotential"),
        ({"sgd": SGD(POTENTIAL, learning_rate=0.1, batch_size=1)}, TypeError, "must descend an EmpiricalRisk"),
        ({"start": np.zeros(3)}, ValueError, r"start must be one vector of shape \(10,\), got \(3,\)"),
        ({"replicas": 7}, ValueError, "replicas must be a whole number of at least 8, got 7"),
        ({"window": 1}, ValueError, "window must be a whole number of at least 2, got 1"),
        ({"sgd": spread(0.0).with_batch_size(33)}, ValueError, "batch_size must leave two batches in an epoch"),
        ({"key": 0}, TypeError, "key must be one typed key"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"sgd": spread(0.0)} | SETTINGS | change
    with pytest.raises(error, match=message):
        inverse_variance_flatness(arguments.pop("sgd"), arguments.pop("start", None), **arguments)
