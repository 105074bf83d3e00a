"""Mean and covariance of a cloud."""

import numpy as np

from sgdsim.measures.diverged import Cloud, finite_rows
from sgdsim.measures.estimate import Estimate


def mean(particles: Cloud) -> Estimate:
    """⟨x⟩ with standard error √(Var x_i / n) for each coordinate; value of shape (d,), in units of x.

    Sums run in float64 whatever the dtype of the particles. Diverged ones are left out and counted.

    Args:
        particles: independent particles, (P, d).

    Raises:
        ValueError: if fewer than two particles are finite.
    """
    x, left_out = _at_least_two(particles)
    return Estimate(np.mean(x, axis=0), np.std(x, axis=0, ddof=1) / np.sqrt(len(x)), left_out=left_out)


def covariance(particles: Cloud) -> Estimate:
    """S_ij = Σ (x−x̄)_i (x−x̄)_j / (n−1), unbiased; value of shape (d, d), in units of x².

    The standard error of each entry comes from the fourth moments, without assuming a Gaussian:
    Var S_ij = (⟨(x−x̄)_i² (x−x̄)_j²⟩ − S_ij²)/n + O(1/n²); for a Gaussian that is (S_ii S_jj + S_ij²)/n.

    Sums run centred, in float64, whatever the dtype of the particles. Diverged ones are left out and counted.

    Args:
        particles: independent particles, (P, d).

    Raises:
        ValueError: if fewer than two particles are finite.
    """
    x, left_out = _at_least_two(particles)
    n, y = len(x), x - np.mean(x, axis=0)
    second, fourth = y.T @ y / n, (y**2).T @ y**2 / n
    error = np.sqrt(np.maximum(fourth - second**2, 0.0) / n)  # a variance, so below zero by rounding only
    return Estimate(second * n / (n - 1), error, left_out=left_out)


def _at_least_two(particles: Cloud) -> tuple[np.ndarray, int]:
    (x,), left_out = finite_rows(particles)
    if len(x) < 2:
        raise ValueError(f"particles must hold at least two that are finite, got {len(x)}")
    return x, left_out
