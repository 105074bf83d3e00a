"""The leading eigenvalues of a cloud's covariance, in few and in many dimensions."""

import numpy as np
import pytest

from sgdsim.measures.principal_variances import principal_variances


@pytest.mark.parametrize(("count", "dim"), [(50, 4), (12, 40)])
def test_they_are_the_eigenvalues(count, dim):
    x = np.random.default_rng(0).normal(size=(count, dim)) * np.arange(1, dim + 1) + 100
    truth = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(principal_variances(x, dim).value, truth, atol=1e-9 * truth[0])
    np.testing.assert_allclose(principal_variances(x.astype(np.float32), 3).value, truth[:3], rtol=1e-4)


def test_the_error_is_the_spread():
    """Over 500 fresh clouds; a Gaussian's is λ√(2/n)."""
    rng = np.random.default_rng(1)
    found = [principal_variances(rng.normal(size=(400, 4)) * [3, 2, 1, 0.5], 4) for _ in range(500)]
    spread = np.std([e.value for e in found], axis=0, ddof=1)
    np.testing.assert_allclose(np.mean([e.standard_error for e in found], axis=0), spread, rtol=0.12)
    np.testing.assert_allclose(spread, np.array([9, 4, 1, 0.25]) * np.sqrt(2 / 400), rtol=0.12)


def test_diverged_particles_are_left_out_and_counted():
    x = np.random.default_rng(2).normal(size=(30, 2))
    dirty = principal_variances(np.vstack([x, [[np.nan, 0]]]), 2)
    assert dirty.left_out == 1
    np.testing.assert_array_equal(dirty.value, principal_variances(x, 2).value)
    with pytest.raises(ValueError, match="diverged"):
        principal_variances(x * np.nan, 1)
    with pytest.raises(ValueError, match="particles must hold at least two that are finite, got 1"):
        principal_variances(x[:1], 1)
    with pytest.raises(ValueError, match="count must be a whole number from 1 to d = 2, got 3"):
        principal_variances(x, 3)
