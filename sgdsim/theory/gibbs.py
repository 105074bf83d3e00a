"""The Gibbs density: the steady state where the noise is isotropic."""

import numpy as np
import scipy.special
from jaxtyping import Array, Float

from sgdsim.theory._checks import require_positive


def log_gibbs(
    loss_values: Float[np.ndarray | Array, "*cells"], temperature: float, variance: float = 1.0
) -> Float[np.ndarray, "*cells"]:
    """Logarithm of the Gibbs masses exp(−f/(Tσ²))/Z on equal cells: the steady state for D = σ²I, free of underflow.

    Point values of f at the centres are the midpoint rule: right to O(h²) as cell masses.

    Args:
        loss_values: f at the cells, of any shape; +inf is a wall.
        temperature: T > 0.
        variance: σ² > 0.

    Raises:
        ValueError: if T or σ² is not positive, or f is NaN, −inf, or +inf everywhere.
    """
    require_positive("temperature", temperature)
    require_positive("variance", variance)
    f = np.asarray(loss_values, dtype=np.float64)
    if f.size == 0 or np.any(np.isnan(f)) or not np.isfinite(np.min(f)):
        raise ValueError("loss_values must be numbers or +inf, and finite somewhere")
    logs = -(f - np.min(f)) / (temperature * variance)
    return logs - scipy.special.logsumexp(logs)


def gibbs(
    loss_values: Float[np.ndarray | Array, "*cells"], temperature: float, variance: float = 1.0
) -> Float[np.ndarray, "*cells"]:
    """The Gibbs masses exp(−f/(Tσ²))/Z on equal cells, which sum to one; arguments and errors as in `log_gibbs`."""
    return np.exp(log_gibbs(loss_values, temperature, variance))
