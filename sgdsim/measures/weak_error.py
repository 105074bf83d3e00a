"""The bias that a solver's step leaves in the law of a cloud, in KL units, from a run at h and a run at h/2."""

import itertools
import math

import jax
import numpy as np
import scipy.stats
from jaxtyping import Array, Float, Key

from sgdsim.measures.diverged import Cloud, finite_rows
from sgdsim.measures.estimate import Estimate


def paired_kl(
    coarse: Cloud, fine: Cloud, *, order: int, degree: int = 4, key: Key[Array, ""] | None = None
) -> Estimate:
    """KL, in nats, between the law of a solver at step h and its limit at h → 0, from clouds at h and h/2.

    Both clouds are run on **one Brownian path**: row i of one belongs to row i of the other, and most noise drops out
    of their differences.

    1. *Second order.* If the coarse law is ρ(1 + g) with g small, KL = ½ ∫ρ g² + O(g³).
    2. *Projection.* With features φ of covariance G under ρ, the coarse law moves their mean by δ = Cov_ρ(φ, g). Among
       all g with that δ, ∫ρ g² is least at δᵀ G⁻¹ δ. So ½ δᵀ G⁻¹ δ is a **lower bound** on the second-order KL: what
       shows in the features, here all monomials up to `degree`. A Gaussian bias needs degree 2.
    3. *Richardson.* A bias C h^p gives ⟨φ⟩_h − ⟨φ⟩_{h/2} = C h^p (1 − 2⁻ᵖ), so Δ = 2ᵖ/(2ᵖ−1) × the mean paired
       difference estimates δ.
    4. *Noise.* Δ carries the covariance V of that mean. With W = G^{-½} V G^{-½}, E ½ΔᵀG⁻¹Δ = ½δᵀG⁻¹δ + ½ Tr W; the
       last is subtracted. The variance is ½ Tr W² at agreement; away from it Var(aᵀm − ½(aᵀφ)²)/n joins it, with
       a = G⁻¹δ, m and φ one pair's scaled difference and centred features, for G was estimated from the same pairs.
       The floor is the 95 % quantile of ½(Σ w_i χ²_i − Σ w_i), w the eigenvalues of W, by the χ² of the same mean and
       variance (Satterthwaite).

    The bound does not depend on the coordinates in which the monomials are written. Above d = 3 the features are taken
    along at most eight random directions, to degree 2. The degree, and then the number of directions, is lowered until
    there are ten pairs for each feature. Directions in which the fine cloud has no width drop out; where it has none at
    all (every particle at one place) the value is 0 if the clouds are the same, infinite if not.

    Args:
        coarse: the cloud at step h, (P, d).
        fine: the cloud at step h/2 on the same path, (P, d).
        order: the solver's weak order p.
        degree: highest total degree of the monomials, at least 1.
        key: a typed `jax.random.key` for the directions; needed only above d = 3.

    Returns:
        The estimate; pairs of which either has diverged are left out and counted.

    Raises:
        ValueError: if the clouds differ in shape, order or degree is below 1, the key is missing above d = 3, or there
            are fewer than ten pairs for each feature even at degree 1.

    Source: second-order KL as in Chentsov's theorem; Talay and Tubaro (1990) for the expansion of the bias in h.
    """
    if np.shape(coarse) != np.shape(fine):
        raise ValueError(f"coarse and fine must be paired, got shapes {np.shape(coarse)} and {np.shape(fine)}")
    if order < 1 or degree < 1:
        raise ValueError(f"order and degree must be at least 1, got {order} and {degree}")
    (x, y), left_out = finite_rows(coarse, fine)
    x, y, degree = _few_features(x, y, degree, key)
    if np.all(y == y[0]):
        return Estimate(0.0 if np.array_equal(x, y) else math.inf, 0.0, left_out=left_out)
    x, y = _standardised(x, y)
    base = _monomials(y, degree)
    moved = 2.0**order / (2.0**order - 1) * (_monomials(x, degree) - base)
    root = _inverse_root(np.atleast_2d(np.cov(base, rowvar=False)))
    moved, base = moved @ root, (base - np.mean(base, axis=0)) @ root  # features of unit covariance
    shift, w = np.mean(moved, axis=0), np.atleast_2d(np.cov(moved, rowvar=False)) / len(moved)
    trace, square = float(np.trace(w)), float(np.sum(w**2))
    influence = moved @ shift - (base @ shift) ** 2 / 2
    variance = max(float(np.var(influence)) / len(moved) - square, 0.0) + square / 2  # the noise in a counts W² again
    floor = 0.0
    if trace > 0:
        floor = (float(scipy.stats.chi2.ppf(0.95, trace**2 / square)) * square / trace - trace) / 2
    return Estimate((float(shift @ shift) - trace) / 2, math.sqrt(variance), floor, left_out)


def _few_features(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], degree: int, key: Key[Array, ""] | None
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"], int]:
    """Both clouds along few enough coordinates, and a degree low enough, for ten pairs to each feature."""
    pairs, dim = x.shape
    if dim > 3 and key is None:
        raise ValueError(f"key must be given above three dimensions, got none for d = {dim}")
    choices = [(dim, p) for p in range(degree, 0, -1)]
    if dim > 3:
        choices = [(k, min(degree, 2)) for k in range(min(dim, 8), 0, -1)]
    fitting = [(k, p) for k, p in choices if 10 * (math.comb(k + p, p) - 1) <= pairs]
    if not fitting:
        raise ValueError(f"coarse and fine must hold ten pairs for each feature, got {pairs} pairs in d = {dim}")
    kept, degree = fitting[0]
    if key is None or dim <= 3:
        return x, y, degree
    normals = np.asarray(jax.random.normal(key, (8, dim)), dtype=np.float64)[:kept]
    directions = np.linalg.qr(normals.T)[0]
    return x @ directions, y @ directions, degree


def _standardised(
    x: Float[np.ndarray, "n k"], y: Float[np.ndarray, "n k"]
) -> tuple[Float[np.ndarray, "n r"], Float[np.ndarray, "n r"]]:
    """Both clouds in coordinates in which the fine one has mean 0 and covariance 1: for conditioning only."""
    middle, root = np.mean(y, axis=0), _inverse_root(np.atleast_2d(np.cov(y, rowvar=False)))
    return (x - middle) @ root, (y - middle) @ root


def _monomials(x: Float[np.ndarray, "n k"], degree: int) -> Float[np.ndarray, "n m"]:
    """All monomials of total degree 1 … `degree`, one column each."""
    axes = range(x.shape[1])
    powers = [c for total in range(1, degree + 1) for c in itertools.combinations_with_replacement(axes, total)]
    return np.stack([np.prod(x[:, list(c)], axis=1) for c in powers], axis=1)


def _inverse_root(matrix: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "m r"]:
    """R with RᵀMR = 1 on the range of M; directions in which the cloud has no width (1e-12 of the largest) drop out."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-12 * max(values[-1], np.finfo(float).tiny)
    return vectors[:, kept] / np.sqrt(values[kept])
