"""The ratio of two means over particles."""

import math

import numpy as np
from jaxtyping import Float

from sgdsim.measures.estimate import Estimate


def ratio(
    numerators: Float[np.ndarray, " P"], denominators: Float[np.ndarray, " P"], *, name: str, left_out: int = 0
) -> Estimate:
    """R = Σu/Σv over independent particles, with its delta-method standard error.

    To first order R̂ − R = Σ(u − R v)/Σv, so se = √(n/(n−1) Σ(u − R̂ v)²)/|Σv|: the sandwich error of weighted least
    squares, which asks nothing of the spread of u given v and keeps the correlation of u with v. The bias is O(1/n).

    Args:
        numerators: u, one for each particle, (P,).
        denominators: v, (P,).
        name: what v is made of, for the error message.
        left_out: diverged particles that u and v lack.

    Raises:
        ValueError: if v sums to zero.
    """
    count, total = len(numerators), float(np.sum(denominators))
    if total == 0:
        raise ValueError(f"{name} is zero on average: there is nothing to compare with")
    value = float(np.sum(numerators)) / total
    residuals = numerators - value * denominators
    spread = math.sqrt(np.sum(residuals**2) * count / (count - 1)) if count > 1 else math.nan
    return Estimate(value, spread / abs(total), left_out=left_out)
