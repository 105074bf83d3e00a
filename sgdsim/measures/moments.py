"""Mean, covariance and total variance of a cloud, and the distance of two clouds' means."""

import numpy as np
from jaxtyping import Array, Float

from sgdsim.measures.diverged import Cloud, finite_cloud
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


def total_variance(particles: Cloud) -> Estimate:
    """Tr Cov(x) = Σ |x − x̄|²/(n−1), the width of a cloud in one number, in units of x².

    Its standard error is that of a mean of |x − x̄|², in float64; to O(1/n) nothing is lost by the estimated mean.

    Args:
        particles: independent particles, (P, d).

    Raises:
        ValueError: if fewer than two particles are finite.
    """
    x, left_out = _at_least_two(particles)
    squares = np.sum((x - np.mean(x, axis=0)) ** 2, axis=1)
    return Estimate(np.sum(squares) / (len(x) - 1), np.std(squares, ddof=1) / np.sqrt(len(x)), left_out=left_out)


def mean_distance(a: Cloud, b: Float[np.ndarray | Array, "Q d"]) -> Estimate:
    """|mean(a) − mean(b)|, the distance between two clouds' means, in any dimension.

    With Δ the difference and C = S_a/n_a + S_b/n_b its covariance, |Δ|² has the mean Tr C at agreement and the variance
    4ΔᵀCΔ + 2 Tr C². The floor is √(Tr C + 1.645 √(2 Tr C²)), the 95 % quantile where many coordinates share the
    noise. C itself is never formed: its traces come from the Gram matrix of the centred particles.

    Args:
        a: one cloud, (P, d), in units of x.
        b: the other, (Q, d), independent of it.

    Raises:
        ValueError: if a cloud has fewer than two finite particles.
    """
    (x, out_a), (y, out_b) = _at_least_two(a), _at_least_two(b)
    rows = [(z - z.mean(axis=0)) / np.sqrt(len(z) * (len(z) - 1)) for z in (x, y)]
    scaled, gap = np.concatenate(rows), x.mean(axis=0) - y.mean(axis=0)
    gram = scaled @ scaled.T if len(scaled) < scaled.shape[1] else scaled.T @ scaled
    # A particle's product with itself would add (Tr C)²/n, which in many dimensions is most of the sum.
    trace_of_square = max(float(np.sum(gram**2) - np.sum(np.sum(scaled**2, axis=1) ** 2)), 0.0)
    trace, distance = float(np.trace(gram)), float(np.linalg.norm(gap))
    # The measured gap holds noise of its own, whose share of ΔᵀCΔ is Tr C².
    variance = max(4 * float(np.sum((scaled @ gap) ** 2)) - 2 * trace_of_square, 2 * trace_of_square)
    error = np.sqrt(variance) / (2 * distance) if distance > 0 else 0.0
    return Estimate(distance, error, np.sqrt(trace + 1.645 * np.sqrt(2 * trace_of_square)), out_a + out_b)


def _at_least_two(particles: Cloud) -> tuple[np.ndarray, int]:
    x, left_out = finite_cloud("particles", particles)
    if len(x) < 2:
        raise ValueError(f"particles must hold at least two that are finite, got {len(x)}")
    return x, left_out
