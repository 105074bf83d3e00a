"""The leading eigenvalues of a cloud's covariance."""

import numpy as np
from jaxtyping import Float

from sgdsim.measures.diverged import Cloud, finite_cloud
from sgdsim.measures.estimate import Estimate


def principal_variances(particles: Cloud, count: int) -> Estimate:
    """λ₁ ≥ … ≥ λ_k of the covariance S of a cloud, in units of x², in any dimension; (k,).

    With v the eigenvector, λ = vᵀSv = Σ (v·(x − x̄))²/(n−1): its standard error is that of this mean, since to first
    order a particle that turns v does not move λ. That holds where neighbouring eigenvalues lie further apart than
    their errors.

    Directions that were fitted to the cloud are those along which it happens to be wide: λ₁ is too large, by much where
    d is not small against n, and beyond the n−1 first all are 0. Compare clouds of one size, or take variances along
    directions that were not fitted to the cloud.

    Args:
        particles: independent particles, (P, d).
        count: k ≤ d.

    Raises:
        ValueError: if fewer than two particles are finite, or count is not from 1 to d.

    Source: Anderson (1963) for the law of sample eigenvalues.
    """
    x, left_out = finite_cloud("particles", particles)
    n, d = x.shape
    if n < 2:
        raise ValueError(f"particles must hold at least two that are finite, got {n}")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= d:
        raise ValueError(f"count must be a whole number from 1 to d = {d}, got {count!r}")
    scores: Float[np.ndarray, "n k"] = _scores(x - np.mean(x, axis=0), count)
    values = np.sum(scores**2, axis=0) / (n - 1)
    return Estimate(values, np.std(scores**2, axis=0, ddof=1) / np.sqrt(n), left_out=left_out)


def _scores(y: Float[np.ndarray, "n d"], count: int) -> Float[np.ndarray, "n k"]:
    """The rows' coordinates along their leading directions, zero where there are none left."""
    left, sizes, _ = np.linalg.svd(y, full_matrices=False)
    scores = (left * sizes)[:, :count]
    return np.pad(scores, ((0, 0), (0, count - scores.shape[1])))
