"""The rank of minibatch noise through training, where it is known and on digits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.measures.noise_spectrum import noise_spectrum as spectrum_at
from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential, datasets, networks, potentials
from sgdsim.processes import SGD
from sgdsim.studies.noise_spectrum import NOISE_SPECTRUM_FILES, noise_spectrum

pytestmark = pytest.mark.slow  # whole studies: not run with the oldest and newest versions

KEY = jax.random.key(0)


def factor_regression(count, factors=6, dim=80):
    """Labels and inputs of a few factors: D has their number as its rank, however many examples there are."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(count, factors)) @ rng.normal(size=(factors, dim)) / np.sqrt(dim)
    labels = rng.normal(size=count)
    risk = EmpiricalRisk(lambda w, z: (z[0] @ w - z[1]) ** 2 / 2, (inputs, labels), init=np.zeros(dim))
    return SGD(risk, learning_rate=0.05, batch_size=4)


def orthogonal_regression(count, dim=80):
    """Inputs eᵢ and labels ±1: gradients ±eᵢ at w = 0, so that D has rank N − 1 with no small eigenvalue."""
    labels = np.where(np.random.default_rng(0).random(count) < 0.5, 1.0, -1.0)
    risk = EmpiricalRisk(lambda w, z: (z[0] @ w - z[1]) ** 2 / 2, (np.eye(count, dim), labels), init=np.zeros(dim))
    return SGD(risk, learning_rate=0.05, batch_size=4)


@pytest.fixture(scope="module")
def digits():
    inputs, labels = datasets.digits()
    data = (inputs[:160], labels[:160])
    risk = EmpiricalRisk(networks.cross_entropy, data, init=networks.mlp((64, 134, 10), key=jax.random.key(1)))
    sgd = SGD(risk, learning_rate=0.1, batch_size=16)
    return noise_spectrum(sgd, key=KEY, steps=400, at=(0, 40, 400), tile=50, name="digits")


def test_rank_that_the_examples_decide_and_rank_that_they_do_not():
    """Orthogonal gradients: N − 1 at N, N/2 − 1 at half of it. Six factors: six at both."""
    study = noise_spectrum(orthogonal_regression(40), key=KEY, steps=20, at=(0, 20))
    assert np.all(study.ranks.value == 39) and np.all(study.half_ranks == 19)
    assert study.largest_share == pytest.approx(39 / 80)
    assert "0.49 times the rank" in study.reading
    study = noise_spectrum(factor_regression(200), key=KEY, steps=20, at=(0, 20))
    assert np.all(study.ranks.value == 6) and np.all(study.half_ranks == 6)
    assert "cannot exceed 80, 1 of d" in study.reading and "1.00 times the rank" in study.reading


def test_digits_have_the_rank_of_the_paper_and_it_falls(digits):
    """d = 10,060: rank over d within 0.3 to 2 % though N/d = 1.6 % allows more, and smaller as the examples are fitted.

    At ε of double precision it is all that N allows, which the reading says.
    """
    assert digits.dim == 10_060 and digits.num_examples == 160
    shares, limit = digits.shares.value, digits.largest_share
    assert np.all((shares > 0.003) & (shares < 0.02) & (shares < limit / 1.4))
    assert digits.ranks[2].value + 4 * digits.ranks[2].standard_error < digits.ranks[1].value
    assert np.all(digits.fine_ranks.value == 159)
    assert np.all(np.diff([digits.directions[f].value for f in (0.5, 0.9, 0.99)], axis=0) > 0)
    assert digits.losses.value[-1] < digits.losses.value[0] / 2
    for words in ("N = 160 examples (N/d = 0.0159)", "cannot exceed 159", "lies within", "1.58%"):
        assert words in digits.reading


def test_looks_are_points_of_the_run(digits):
    """At step 0 the replicas are one point, whose spectrum is that of the risk at its init."""
    inputs, labels = datasets.digits()
    init = networks.mlp((64, 134, 10), key=jax.random.key(1))
    risk = EmpiricalRisk(networks.cross_entropy, (inputs[:160], labels[:160]), init=init)
    truth = spectrum_at(risk, risk.x0)
    np.testing.assert_allclose(digits.eigenvalues[0], np.array([truth.eigenvalues] * 2), atol=1e-12)
    assert digits.losses[0].value == pytest.approx(float(risk.loss(risk.x0)))
    assert digits.ranks[0].standard_error == 0 < digits.traces[2].standard_error
    assert not np.array_equal(digits.eigenvalues[1, 0], digits.eigenvalues[1, 1])


def test_files(digits, tmp_path):
    assert [p.name for p in digits.save(tmp_path)] == list(NOISE_SPECTRUM_FILES)
    content = json.loads((tmp_path / "noise_spectrum.json").read_text())
    assert content["reading"] == digits.reading and content["steps"] == [0, 40, 400]
    assert content["rank_shares"]["value"] == digits.shares.value.tolist()
    assert content["examples_per_dimension"] == pytest.approx(160 / 10_060)
    with np.load(tmp_path / "noise_spectrum.npz") as arrays:
        assert arrays["eigenvalues"].shape == (3, 2, 159)
    assert digits.reading in str(digits) and "rank, double" in str(digits)


def test_default_looks_end_with_the_run():
    study = noise_spectrum(factor_regression(12), key=KEY, steps=250)
    np.testing.assert_array_equal(study.steps, [0, 2, 6, 20, 60, 250])
    assert noise_spectrum(factor_regression(12), key=KEY, steps=7).steps.tolist() == [0, 1, 3, 7]


def test_diverged_replicas_are_left_out():
    """|w − z|² + |w|⁴/4 from 0 and from 100: the third replica's steps are longer than the valley is wide."""
    data = np.random.default_rng(0).normal(size=(12, 2))
    risk = EmpiricalRisk(lambda w, z: jnp.sum((w - z) ** 2) + jnp.sum(w**4) / 4, data, init=np.zeros(2))
    sgd = SGD(risk, learning_rate=0.05, batch_size=4)
    study = noise_spectrum(sgd, np.array([[0.0, 0.0], [0.1, 0.0], [100.0, 0.0]]), key=KEY, steps=20)
    assert study.left_out == 1 == study.ranks.left_out and study.eigenvalues.shape[1] == 2
    assert np.all(np.isfinite(study.losses.value))
    wild = SGD(sgd.problem, learning_rate=1e200, batch_size=4)
    with pytest.raises(ValueError, match="learning_rate must let two replicas survive at least, got 0 of 2"):
        noise_spectrum(wild, key=KEY, steps=10)


POTENTIAL = NoisyPotential(potentials.Quadratic(np.eye(2)), GaussianNoise(1.0))
TINY = EmpiricalRisk(lambda w, z: jnp.sum((w - z) ** 2), np.zeros((3, 2)), init=np.zeros(2))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sgd": POTENTIAL}, TypeError, "sgd must be an SGD process, got NoisyPotential"),
        ({"sgd": SGD(POTENTIAL, learning_rate=0.1, batch_size=1)}, TypeError, "must descend an EmpiricalRisk"),
        ({"sgd": SGD(TINY, learning_rate=0.1, batch_size=1)}, ValueError, "data must hold 4 examples at least, got 3"),
        ({"replicas": 1}, ValueError, "replicas must be a whole number of at least 2, got 1"),
        ({"steps": 0}, ValueError, "steps must be a positive whole number, got 0"),
        ({"at": [5, -1]}, ValueError, "at must be whole numbers from 0 to steps = 3000"),
        ({"tile": 0, "steps": 1}, ValueError, "tile must be a positive whole number of examples, got 0"),
        ({"key": 0}, TypeError, "key must be one typed key"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"sgd": factor_regression(12), "key": KEY} | change
    with pytest.raises(error, match=message):
        noise_spectrum(arguments.pop("sgd"), **arguments)
