"""Mean and spread of the gradient: a quadratic whose law is exact, pure drift and pure diffusion, and digits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential, datasets, networks, potentials
from sgdsim.processes import SGD
from sgdsim.studies.phases import TWO_PHASES_FILES
from sgdsim.studies.two_phases import two_phases

KEY = jax.random.key(0)
CURVATURES, WIDTHS, RATE, BATCH = (1.0, 0.3), (30, 60), 0.1, 5


def two_bowls(count=50):
    """ℓ = ½|a − u|² + 0.15|b − v|²: each layer's noise is the same everywhere, and known."""
    rng = np.random.default_rng(0)
    data = tuple(rng.normal(size=(count, width)) for width in WIDTHS)

    def loss(p, z):
        return sum(
            k * jnp.sum((p[name]["w"] - part) ** 2) / 2 for k, name, part in zip(CURVATURES, "ab", z, strict=True)
        )

    init = {name: {"w": np.full(width, 8.0)} for name, width in zip("ab", WIDTHS, strict=True)}
    return EmpiricalRisk(loss, data, init=init), data


@pytest.fixture(scope="module")
def bowls():
    risk, _ = two_bowls()
    sgd = SGD(risk, learning_rate=RATE, batch_size=BATCH, sampling="without-replacement")
    return two_phases(sgd, key=KEY, steps=600, replicas=24, name="bowls")


def exact_square(layer, steps):
    """⟨|∇f|²⟩/(s_B Tr D/B) at step n, from xₙ − z̄ = (1 − ηk)ⁿ(x₀ − z̄) + noise of variance S(1 − (1 − ηk)²ⁿ)."""
    part = two_bowls()[1][layer]
    k, start = CURVATURES[layer], np.sum((8.0 - part.mean(axis=0)) ** 2)
    noise = np.sum(part.var(axis=0)) * (50 - BATCH) / 49 / BATCH
    left = (1 - RATE * k) ** (2 * np.asarray(steps, float))
    return left * start / noise + (1 - left) * RATE * k / (2 - RATE * k)


def test_ratio_keeps_its_law_at_every_look(bowls):
    """56 comparisons within 4.5 standard errors of 24 replicas; the steady ratio is √(ηk/(2 − ηk)), far below 1."""
    square = bowls.over_replicas((bowls.means / bowls.spreads)[:, :, :2] ** 2)
    truth = np.column_stack([exact_square(layer, bowls.steps) for layer in (0, 1)])
    np.testing.assert_allclose(square.value[0], truth[0], rtol=1e-10)
    assert len(bowls.steps) > 25 and np.all(np.abs(square[1:].z(truth[1:])) < 4.5)
    steady = np.sqrt(RATE / (2 - RATE))
    assert bowls.ratios.value[-1, 0] == pytest.approx(steady, rel=0.1) and steady < 0.25


def test_crossing_where_the_law_has_it(bowls):
    """Within 2 %: replicas cross at times of their own, and log ratio is nearly straight between looks."""
    steps = np.arange(600)
    for layer in (0, 1):
        truth = np.interp(0, -np.log(exact_square(layer, steps)), steps)
        found = bowls.crossing(layer)
        assert 0 < found.standard_error < 0.02 * found.value
        assert found.value == pytest.approx(truth, rel=0.02)
    assert np.all(np.isfinite(bowls.crossings))
    assert bowls.crossing(0).value < bowls.crossing(2).value < bowls.crossing(1).value


def test_layers_add_up_to_all_weights(bowls):
    assert bowls.layers == ("layer 1", "layer 2", "all weights") and bowls.sizes == (30, 60, 90)
    for each in (bowls.means, bowls.spreads, bowls.weights, bowls.distances):
        np.testing.assert_allclose(each[..., 2] ** 2, each[..., 0] ** 2 + each[..., 1] ** 2, rtol=1e-10)
    even = bowls.settings["batch_size"] / bowls.settings["sampling_factor"] / exact_square(0, 0)
    assert bowls.even_batches.value[0, 0] == pytest.approx(even)


def slope(mean, replicas=24):
    """ℓ = z·w: a constant gradient and constant noise, so drift and diffusion are exact for all times."""
    z = np.random.default_rng(0).normal(size=(40, 50))
    risk = EmpiricalRisk(lambda w, z: z @ w, z - z.mean(axis=0) + mean, init=np.full(50, 3.0))
    return two_phases(SGD(risk, learning_rate=0.1, batch_size=4), key=KEY, steps=400, replicas=replicas)


def test_free_diffusion_and_pure_drift():
    """Distance to the powers ½ and 1; common share 0 and 1; from the start, and never, below 1."""
    free = slope(0.0)
    assert free.growth(1, 0).agrees_with(0.5, sigmas=4) and free.growth(1, 0).standard_error < 0.02
    assert free.shared[0].value < 2 * free.shared[0].floor + 3 * free.shared[0].standard_error
    assert np.all(free.crossings == 0) and "is below 1 from the start" in free.reading
    assert "so most of it is diffusion" in free.reading
    steady = slope(5.0)
    assert steady.growth(0, 0).value == pytest.approx(1, abs=0.01)
    assert np.all(np.isnan(steady.crossings)) and "never falls below 1 for good" in steady.reading
    assert "never" in str(steady) and np.isnan(steady.shared.value[0])


def test_drift_that_slows_down_is_no_diffusion(bowls):
    """After the crossing in the slower bowl, the replicas still share most of their way to the minimum."""
    moved = exact_common_share()
    assert bowls.shared[1].agrees_with(moved, sigmas=4) and bowls.shared[1].standard_error < 0.01
    assert "in common (drift: 1, diffusion: 0)" in bowls.reading


def exact_common_share():
    """From the first look past the median crossing to the steady state, in the slower bowl."""
    part, k = two_bowls()[1][1], CURVATURES[1]
    crossing = np.interp(0, -np.log(exact_square(1, np.arange(600))), np.arange(600))
    begin = next(look for look in (68, 79, 100, 130) if look >= crossing)
    left = (1 - RATE * k) ** begin
    drift = left**2 * np.sum((8.0 - part.mean(axis=0)) ** 2)
    steady = RATE * np.sum(part.var(axis=0)) * k * (50 - BATCH) / 49 / BATCH / (2 - RATE * k)
    return drift / (drift + steady * (2 - left**2))


@pytest.fixture(scope="module")
def digits():
    inputs, labels = datasets.digits()
    model = networks.mlp((64, 8, 10), key=jax.random.key(1))
    risk = EmpiricalRisk(networks.cross_entropy, (inputs[:300], labels[:300]), init=model, weight_decay=1e-3)
    return two_phases(SGD(risk, learning_rate=0.2, batch_size=150), key=KEY, steps=1_000, replicas=6, name="digits")


def test_each_layer_of_digits_goes_from_drift_to_diffusion(digits):
    ratios = digits.ratios
    assert np.all(ratios.value[0] > 1.2)
    assert np.all(ratios.value[-1] + 4 * ratios.standard_error[-1] < 0.8)
    assert np.all((digits.crossings > 10) & (digits.crossings < 900))
    # what the paper does not ask: the second phase is common to all replicas
    assert np.all(digits.shared.value > 0.9) and "drift that slows down" in digits.reading
    assert "Compression" in digits.reading and "not measured here" in digits.reading


def test_batches_of_another_size_cross_elsewhere(digits):
    """At step 0 the ratio is √B times one example's, so that small batches start below 1."""
    inputs, labels = datasets.digits()
    model = networks.mlp((64, 8, 10), key=jax.random.key(1))
    risk = EmpiricalRisk(networks.cross_entropy, (inputs[:300], labels[:300]), init=model, weight_decay=1e-3)
    small = two_phases(SGD(risk, learning_rate=0.2, batch_size=6), key=KEY, steps=10, replicas=2)
    np.testing.assert_allclose(small.ratios.value[0], digits.ratios.value[0] / 5, rtol=1e-6)
    np.testing.assert_allclose(small.even_batches.value[0], digits.even_batches.value[0], rtol=1e-6)
    assert np.all(small.crossings == 0)


def test_files(digits, tmp_path):
    assert [p.name for p in digits.save(tmp_path)] == list(TWO_PHASES_FILES)
    content = json.loads((tmp_path / "two_phases.json").read_text())
    assert content["reading"] == digits.reading and content["layers"] == ["layer 1", "layer 2", "all weights"]
    assert content["paths"] == [".layers[0]", ".layers[2]", ""] and content["steps"] == digits.steps.tolist()
    with np.load(tmp_path / "two_phases.npz") as arrays:
        assert arrays["means"].shape == (len(digits.steps), 6, 3) and arrays["exponents"].shape == (3, 6, 3)
    assert digits.reading in str(digits) and "all weights" in str(digits)


def test_diverged_replicas_are_left_out():
    """|w − z|² + |w|⁴/4 from 0 and from 100: the third replica's steps are longer than the valley is wide."""
    data = np.random.default_rng(0).normal(size=(12, 2))
    risk = EmpiricalRisk(lambda w, z: jnp.sum((w - z) ** 2) + jnp.sum(w**4) / 4, data, init=np.zeros(2))
    start = np.array([[0.0, 0.0], [0.1, 0.0], [100.0, 0.0]])
    study = two_phases(SGD(risk, learning_rate=0.05, batch_size=4), start, key=KEY, steps=20)
    assert study.left_out == 1 == study.ratios.left_out and study.means.shape[1] == 2
    assert "1 replicas diverged" in study.reading
    wild = SGD(risk, learning_rate=1e200, batch_size=4)
    with pytest.raises(ValueError, match="learning_rate must let two replicas survive at least, got 0 of 3"):
        two_phases(wild, start, key=KEY, steps=10)


POTENTIAL = NoisyPotential(potentials.Quadratic(np.eye(2)), GaussianNoise(1.0))
TINY = EmpiricalRisk(lambda w, z: jnp.sum((w - z) ** 2), np.zeros((3, 2)), init=np.zeros(2))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sgd": POTENTIAL}, TypeError, "sgd must be an SGD process, got NoisyPotential"),
        ({"sgd": SGD(POTENTIAL, learning_rate=0.1, batch_size=1)}, TypeError, "must descend an EmpiricalRisk"),
        (
            {"sgd": SGD(TINY, learning_rate=0.1, batch_size=3, sampling="without-replacement")},
            ValueError,
            "batch_size must leave some noise: 3 examples are the whole data",
        ),
        ({"replicas": 1}, ValueError, "replicas must be a whole number of at least 2, got 1"),
        ({"steps": 5}, ValueError, "steps must be a whole number of at least 10, got 5"),
        ({"key": 0}, TypeError, "key must be one typed key"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"sgd": SGD(TINY, learning_rate=0.1, batch_size=1), "key": KEY} | change
    with pytest.raises(error, match=message):
        two_phases(arguments.pop("sgd"), **arguments)
