"""The linear scaling rule η = η₀ B/B₀, which holds the temperature, and the batch size at which it breaks."""

from sgdsim.theory._checks import require_batch_size, require_positive, require_stable


def linear_scaling(batch_size: int, base_batch_size: int, base_learning_rate: float, k: float) -> float:
    """S/S₀ = (2 − η₀k)/(2 − ηk) = (1 − B₀/B*)/(1 − B/B*): the stationary variance at η = η₀B/B₀ over that at η₀, B₀.

    On ½kx² with noise D/B, S = ηD/(Bk(2 − ηk)), where ηD/B is what the rule holds constant. In the limit's terms the
    law is S/S_∞ = 1/(1 − B/B*), S_∞ = η₀D/(2kB₀) being the continuum's variance for every B: doubled at B*/2,
    divergent at B* = 2B₀/(kη₀) (`critical_batch_size`). It is S/S₀ as well where B₀ ≪ B*.

    Args:
        batch_size: B in [1, B*).
        base_batch_size: B₀ ≥ 1.
        base_learning_rate: η₀ in (0, 2/k).
        k: curvature > 0; of several, the largest.

    Raises:
        ValueError: if an argument is out of its range; from B* on the chain diverges.

    Source: the rule is Goyal et al. (2017); the ratio is derived from Liu, Ziyin, Ueda (2021).
    """
    require_batch_size("batch_size", batch_size)
    critical = critical_batch_size(base_batch_size, base_learning_rate, k)
    require_stable("base_learning_rate", base_learning_rate, "2/k", 2 / k)
    if batch_size >= critical:
        raise ValueError(
            f"batch_size must stay below B* = 2 B₀/(k η₀) = {critical:g}, got {batch_size}: the chain diverges"
        )
    return (1 - base_batch_size / critical) / (1 - batch_size / critical)


def critical_batch_size(base_batch_size: int, base_learning_rate: float, k: float) -> float:
    """B* = 2B₀/(kη₀): where η = η₀B/B₀ meets the edge of stability, η = 2/k; not rounded to a whole number.

    Args:
        base_batch_size: B₀ ≥ 1.
        base_learning_rate: η₀ > 0.
        k: curvature > 0; of several, the largest.

    Raises:
        ValueError: if an argument is out of its range.

    Source: derived.
    """
    require_batch_size("base_batch_size", base_batch_size)
    require_positive("base_learning_rate", base_learning_rate)
    require_positive("k", k)
    return 2 * base_batch_size / (k * base_learning_rate)
