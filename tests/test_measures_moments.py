"""Mean, covariance and kurtosis."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.measures import covariance, excess_kurtosis, mean, mean_distance, total_variance

ROOT = np.array([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [0.0, -0.3, 0.2]])


def gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Independent variates of variance 1 and excess kurtosis 3: Laplace."""
    return rng.laplace(size=shape) / np.sqrt(2)


def test_they_are_numpys() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(mean(x).value, x.mean(axis=0))
    np.testing.assert_allclose(covariance(x).value, np.cov(x, rowvar=False))
    assert covariance(x[:, :1]).value.shape == (1, 1)
    assert total_variance(x).value == pytest.approx(np.trace(np.cov(x, rowvar=False)))


@pytest.mark.slow
def test_standard_errors_are_the_spread_over_fresh_clouds() -> None:
    # Laplace variates, for which the Gaussian formula is wrong; 2,000 repeats, spreads known to about 2–3 %
    rng = np.random.default_rng(1)
    clouds = heavy(rng, (2000, 400, 3)) @ ROOT.T
    truths = ((mean, np.zeros(3)), (covariance, ROOT @ ROOT.T), (total_variance, np.trace(ROOT @ ROOT.T)))
    for measure, truth in truths:
        found = [measure(x) for x in clouds]
        values = np.array([e.value for e in found])
        spread = values.std(axis=0, ddof=1)
        np.testing.assert_allclose(np.mean([e.standard_error for e in found], axis=0), spread, rtol=0.1)
        assert np.all(np.abs(values.mean(axis=0) - truth) <= 4.5 * spread / np.sqrt(2000))  # 13 comparisons in all


def test_float32_far_from_the_origin_is_summed_centred() -> None:
    x = (1000 + np.random.default_rng(2).normal(size=(100_000, 2))).astype(np.float32)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean(jnp.asarray(x)).value, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance(jnp.asarray(x)).value, np.cov(exact, rowvar=False), rtol=1e-9)


@pytest.mark.parametrize("measure", [mean, covariance, total_variance])
def test_diverged_particles_are_left_out_and_counted(measure: Callable) -> None:
    x = np.random.default_rng(3).normal(size=(30, 2))
    dirty = measure(np.vstack([x, [[np.nan, 1.0]], [[1.0, -np.inf]]]))
    assert dirty.left_out == 2
    np.testing.assert_array_equal(dirty.value, measure(x).value)
    with pytest.raises(ValueError, match="diverged"):
        measure(x * np.nan)
    with pytest.raises(ValueError, match="at least two"):
        measure(x[:1])


@pytest.mark.parametrize(("draw", "truth"), [(gaussian, 0.0), (heavy, 3.0)])
def test_kurtosis_of_known_laws(draw: Callable, truth: float) -> None:
    rng = np.random.default_rng(4)
    scales = np.array([[1.0, 100.0, 1e-3], [5.0, 0.1, 1e4]])
    found = [excess_kurtosis(7 + scales * draw(rng, (2000, 2, 3))) for _ in range(200)]
    values = np.array([e.value for e in found])
    spread = values.std(ddof=1)  # known to 5 %, and G₂ of a heavy tail is biased low by O(1/n)
    assert values.mean() == pytest.approx(truth, abs=4 * spread / np.sqrt(200) + 0.02 * truth)
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.25)
    above = np.mean([e.above_floor for e in found])
    assert above == 1.0 if truth else above <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


def test_kurtosis_is_unbiased_for_few_gaussian_draws() -> None:
    found = excess_kurtosis(np.random.default_rng(5).normal(size=(6, 20_000, 2)))
    spread = np.sqrt(24 * 6 * 25 / (3 * 4 * 9 * 11) / 40_000)  # exact variance of G₂ of 6 normals
    assert abs(found.value) <= 4 * spread


def test_kurtosis_counts_dependent_axes_once() -> None:
    # the same axis ten times over says no more than once
    x = np.random.default_rng(6).normal(size=(5000, 1))
    once, often = excess_kurtosis(x), excess_kurtosis(np.repeat(x, 10, axis=1))
    assert often.value == pytest.approx(once.value)
    assert often.standard_error == pytest.approx(once.standard_error, rel=0.25)


def test_kurtosis_leaves_out_diverged_draws() -> None:
    x = np.random.default_rng(7).normal(size=(100, 4, 2))
    dirty = x.copy()
    dirty[3, 1, 0] = np.nan
    dirty[9, 2, 1] = np.inf
    found = excess_kurtosis(jnp.asarray(dirty))
    assert found.left_out == 2
    assert found.agrees_with(excess_kurtosis(x), sigmas=1)
    places = [np.delete(x[:, 0], [], 0), np.delete(x[:, 1], 3, 0), np.delete(x[:, 2], 9, 0), x[:, 3]]
    pooled = sum(2 * len(p) * excess_kurtosis(p).value for p in places) / sum(2 * len(p) for p in places)
    assert found.value == pytest.approx(pooled)
    constant = excess_kurtosis(np.concatenate([x[:, 0], np.ones((100, 1))], axis=1))
    assert constant.value == pytest.approx(excess_kurtosis(x[:, 0]).value)
    with pytest.raises(ValueError, match="4 finite draws"):
        excess_kurtosis(np.ones((100, 2)))
    with pytest.raises(ValueError, match="4 finite draws"):
        excess_kurtosis(x[:3])


@pytest.mark.parametrize("dim", [2, 60])
def test_distance_of_means(dim: int) -> None:
    """200 repeats: a shift is read within its spread, and agreement exceeds the floor about 1 time in 20."""
    rng = np.random.default_rng(dim)
    scale = np.linspace(0.5, 2.0, dim)
    shift = np.full(dim, 2 / np.sqrt(dim))
    readings = [
        mean_distance(rng.normal(size=(40, dim)) * scale, rng.normal(size=(30, dim)) * scale) for _ in range(200)
    ]
    assert 1 <= sum(r.value > r.floor for r in readings) <= 25
    shifted = [
        mean_distance(rng.normal(size=(40, dim)) * scale + shift, rng.normal(size=(30, dim)) * scale)
        for _ in range(200)
    ]
    spread = np.std([r.value for r in shifted])
    assert np.mean([r.standard_error for r in shifted]) == pytest.approx(spread, rel=0.25)
    trace = np.sum(scale**2) * (1 / 40 + 1 / 30)
    assert np.mean([r.value**2 for r in shifted]) == pytest.approx(4 + trace, rel=0.1)
    both = mean_distance(np.vstack([rng.normal(size=(40, dim)), np.full(dim, np.nan)]), rng.normal(size=(30, dim)))
    assert both.left_out == 1
