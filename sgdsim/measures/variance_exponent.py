"""How variance depends on curvature, as the exponent of a power law."""

import numpy as np
from jaxtyping import Array, Float

from sgdsim.measures.diverged import finite_rows
from sgdsim.measures.estimate import Estimate


def variance_exponent(
    squares: Float[np.ndarray | Array, "P m"], curvatures: Float[np.ndarray | Array, " m"]
) -> Estimate:
    """d log σ²/d log k: the least-squares slope of log σᵢ² against log kᵢ over m directions, each counting alike.

    −1 is equilibrium at one temperature (σ² = T/k), 0 is noise in proportion to the curvature (σ² = ηC/2k, C ∝ k), and
    above 0 sharper directions are the *wider* ones: the inverse variance–flatness relation, σ² ∝ F^−ψ with ψ twice it.

    The slope is Σ wᵢ log σᵢ², wᵢ = (log kᵢ − mean)/Σ(…)², so that a particle moves it by Σ wᵢ (yᵢ²/σᵢ² − 1)/P: its
    error is the spread of these over particles, however the directions depend on each other. The bias of a logarithm,
    O(1/P), drops out where it is the same in all directions, as for Gaussian deviations.

    Args:
        squares: each particle's squared deviation along each direction, or its mean over times, (P, m): σ² is the mean
            over particles. Those that are not finite are left out and counted.
        curvatures: k of each direction, (m,), > 0.

    Raises:
        ValueError: if shapes differ, there are fewer than two particles or directions of different curvature, or a
            curvature or variance is not positive.
    """
    if np.ndim(squares) != 2 or np.shape(curvatures) != np.shape(squares)[1:]:
        raise ValueError(
            f"squares (P, m) and curvatures (m,) must fit, got {np.shape(squares)}, {np.shape(curvatures)}"
        )
    k = np.asarray(curvatures, dtype=np.float64)
    if not np.all(np.isfinite(k) & (k > 0)) or np.ptp(k) == 0:
        raise ValueError("curvatures must be positive and differ")
    (rows,), left_out = finite_rows(squares)
    variances = np.mean(rows, axis=0)
    if len(rows) < 2 or not np.all(variances > 0):
        raise ValueError(f"squares must give a positive variance from two particles or more, got {len(rows)}")
    weights = slope_weights(k)
    influence = (rows / variances - 1) @ weights
    error = np.std(influence, ddof=1) / np.sqrt(len(rows))
    return Estimate(float(weights @ np.log(variances)), float(error), left_out=left_out)


def slope_weights(x: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """w with slope = Σ wᵢ yᵢ for the least-squares line of y against log x."""
    logs = np.log(x)
    centred = logs - np.mean(logs)
    return centred / np.sum(centred**2)
