"""Excess kurtosis: how far minibatch noise is from Gaussian."""

import math

import numpy as np
from jaxtyping import Array, Float

from sgdsim.measures.estimate import Estimate


def excess_kurtosis(residuals: Float[np.ndarray | Array, "M *groups k"]) -> Estimate:
    """Pooled excess kurtosis ⟨z⁴⟩ − 3 of residuals along projection axes: 0 for Gaussian noise.

    Each trailing place is a sample of its own, centred and standardised over the M draws (so axes may differ in scale,
    places in covariance). The unbiased G₂ = (n−1)/((n−2)(n−3)) [(n+1)(m₄/m₂² − 3) + 6] is averaged over all of them:
    0 in the mean for Gaussian noise at any n. For one axis pass `residuals[..., i:i + 1]`.

    The standard error is the larger of √(24/N), N the number of residuals pooled, which is right for Gaussian noise
    (correlations ρ between places change it by terms in ρ⁴ only, which are neglected),
    and the delta method's over draws: kurtosis κ moves with a draw by z⁴ − 2κz² + κ − 4γz, γ the skewness, summed over
    the places of that draw, which may depend on each other. The floor is 1.645 √(24/N).

    A vector (k,) that is not finite is left out and counted; a place with fewer than 4 draws, or without spread, is
    not used.

    Args:
        residuals: e.g. g_B − ∇f along k axes, for M minibatches at any number of places, (M, ..., k).

    Raises:
        ValueError: if `residuals` has fewer than two axes, or no place has 4 draws with a spread.

    Source: Joanes and Gill (1998) for G₂.
    """
    x = np.asarray(residuals, dtype=np.float64)
    if x.ndim < 2:
        raise ValueError(f"residuals must have shape (M, ..., k), got {x.shape}")
    finite = np.all(np.isfinite(x), axis=-1, keepdims=True)
    kept = np.broadcast_to(finite, x.shape).reshape(len(x), -1)
    x = np.where(kept, x.reshape(len(x), -1), 0.0)
    n = np.maximum(np.sum(kept, axis=0), 1)
    scale = np.max(np.abs(x), axis=0, initial=0.0)  # a constant place has no kurtosis, only rounding
    x = np.where(kept, x - np.sum(x, axis=0) / n, 0.0)
    variance = np.sum(x**2, axis=0) / n
    used = (n >= 4) & (variance > (1e-12 * scale) ** 2)
    if not np.any(used):
        raise ValueError(
            f"residuals must hold 4 finite draws with a spread at some place, got shape {np.shape(residuals)}"
        )
    z, n = x[:, used] / np.sqrt(variance[used]), n[used]
    skewness, kurtosis = np.sum(z**3, axis=0) / n, np.sum(z**4, axis=0) / n
    unbiased = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (kurtosis - 3) + 6)
    total = int(np.sum(n))
    influence = np.where(kept[:, used], z**4 - 2 * kurtosis * z**2 + kurtosis - 4 * skewness * z, 0.0)
    gaussian = math.sqrt(24 / total)
    sandwich = math.sqrt(np.sum(np.sum(influence, axis=1) ** 2)) / total
    return Estimate(n @ unbiased / total, max(gaussian, sandwich), 1.645 * gaussian, int(np.sum(~finite)))
