"""Where a sampled curve is lowest."""

import numpy as np
from jaxtyping import Float


def lowest_place(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """The vertex of the parabola through the lowest of the points (x, y) and its two neighbours.

    The vertex lies no further from the lowest point than halfway to either neighbour where the three are equally
    spaced. If the lowest is the first or the last one it is that point's own x: the curve may well be lower beyond.

    Args:
        x: increasing, (n,).
        y: the curve there, (n,).

    Raises:
        ValueError: if x does not increase, or an entry is not finite.
    """
    if len(x) == 0 or not np.all(np.diff(x) > 0) or not np.all(np.isfinite(x)) or not np.all(np.isfinite(y)):
        raise ValueError(f"x must increase and x and y be finite, got x = {x} and y = {y}")
    i = int(np.argmin(y))
    if i in (0, len(x) - 1):
        return float(x[i])
    left, right = x[i] - x[i - 1], x[i + 1] - x[i]
    rise, fall = (y[i + 1] - y[i]) / right, (y[i] - y[i - 1]) / left
    if rise == fall:
        return float(x[i])
    # the parabola's slope is `fall` halfway to the left neighbour, and `rise` halfway to the right one
    return float(x[i] - left / 2 - fall * (left + right) / 2 / (rise - fall))
