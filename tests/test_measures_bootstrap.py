"""The bootstrap against formulas, and against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.measures.bootstrap import bootstrap
from sgdsim.measures.moments import covariance, mean

KEY = jax.random.key(0)


def test_error_of_moments_is_their_formula() -> None:
    x = np.random.default_rng(0).gamma(2.0, size=(500, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    for statistic, formula in ((lambda x: x.mean(axis=0), mean(x)), (lambda x: np.cov(x.T), covariance(x))):
        found = bootstrap(statistic, x, key=KEY, resamples=2_000)
        np.testing.assert_allclose(found.value, formula.value)
        np.testing.assert_allclose(found.standard_error, formula.standard_error, rtol=0.08)  # 5 of its errors, 1.6 %
        assert found.floor == 0


def test_error_of_the_median_is_scipys_and_nearly_the_normal_laws() -> None:
    x = np.random.default_rng(1).normal(size=(2_001, 1))
    found = bootstrap(np.median, x, key=KEY, resamples=1_000)
    theirs = scipy.stats.bootstrap((x[:, 0],), np.median, n_resamples=1_000, method="percentile", batch=100)
    assert found.value == np.median(x)
    assert found.standard_error == pytest.approx(theirs.standard_error, rel=0.13)  # 4 errors of a ratio of spreads
    assert found.standard_error == pytest.approx(np.sqrt(np.pi / 2 / len(x)), rel=0.3)  # the density at one point


def test_clouds_are_resampled_by_themselves_and_rows_whole() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(400, 1)), rng.normal(size=(100, 1)) * 3
    found = bootstrap(lambda a, b: a.mean() - b.mean(), x, y, key=KEY, resamples=2_000)
    assert found.standard_error == pytest.approx(np.sqrt(x.var() / 400 + y.var() / 100), rel=0.08)
    twice = np.hstack([x, x])
    assert bootstrap(lambda a: np.mean(a[:, 0] - a[:, 1]), twice, key=KEY).standard_error == 0
    assert bootstrap(np.mean, x, key=KEY) == bootstrap(np.mean, x, key=KEY)
    assert bootstrap(np.mean, x, key=KEY) != bootstrap(np.mean, x, key=jax.random.key(1))


def test_it_is_too_large_where_the_statistic_is_degenerate() -> None:
    # the square of a mean about 0: its spread is √2/n, over resamples √6/n on average, whatever n
    for n in (50, 1_000):
        rng, repeats = np.random.default_rng(3), 100
        squares = [
            bootstrap(lambda x: np.mean(x) ** 2, rng.normal(size=(n, 1)), key=jax.random.key(i)).standard_error ** 2
            for i in range(repeats)
        ]
        assert np.mean(squares) * n**2 == pytest.approx(6, rel=0.6)  # 4 errors: χ²₁ weighs two thirds of it


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_diverged_particles_are_left_out_and_counted(dtype: type) -> None:
    x = np.random.default_rng(4).normal(size=(50, 2)).astype(dtype)
    dirty = np.concatenate([x, [[np.nan, 0.0]]]).astype(dtype)
    found = bootstrap(lambda a, b: a.mean() - b.mean(), jnp.asarray(dirty), dirty, key=KEY)
    clean = bootstrap(lambda a, b: a.mean() - b.mean(), x, x, key=KEY)
    assert found.left_out == 2
    assert (found.value, found.standard_error) == (clean.value, clean.standard_error)
    with pytest.raises(ValueError, match="all 51 particles"):
        bootstrap(np.mean, dirty * dtype(np.nan), key=KEY)


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument() -> None:
    x = np.zeros((5, 1))
    with pytest.raises(ValueError, match=r"clouds must hold at least two finite particles each, got \[5, 1\]"):
        bootstrap(np.mean, x, x[:1], key=KEY)
    with pytest.raises(ValueError, match="clouds must"):
        bootstrap(np.mean, key=KEY)
    with pytest.raises(ValueError, match="resamples must be at least 2, got 1"):
        bootstrap(np.mean, x, key=KEY, resamples=1)
    with pytest.raises(TypeError, match="key must be one typed key"):
        bootstrap(np.mean, x, key=0)
