"""Moments of SGD and of its two limits on a 1-D quadratic at a finite time: where the weak order shows."""

import math
from typing import Literal

from sgdsim.theory._checks import require_not_negative, require_positive


def quadratic_moments(
    k: float,
    c: float,
    eta: float,
    x0: float,
    steps: int,
    description: Literal["sgd", "first-order", "second-order"],
) -> tuple[float, float]:
    """⟨x⟩ and ⟨x²⟩ after n steps of η on ½kx² from x₀, for the chain or for a limit of it at the time t = nη.

        chain          ⟨x⟩ = (1−ηk)ⁿ x₀,    Var x = η²C (1 − (1−ηk)²ⁿ)/(1 − (1−ηk)²)
        first order    ⟨x⟩ = e^{−kt} x₀,    Var x = ηC (1 − e^{−2kt})/(2k)
        second order   the same with k + ηk²/2 for k

    Over a fixed time the first order's errors in both fall as η, the second order's as η². In the steady state, where
    the mean is zero, both err at order η² in ⟨x²⟩ (at order η relative to it), and the second order by twice as much.

    Args:
        k: curvature > 0.
        c: C, the variance of the minibatch gradient ≥ 0.
        eta: η > 0; the chain may diverge, and its moments are still these.
        x0: where it starts, finite.
        steps: n ≥ 0, a whole number.
        description: "sgd", "first-order" or "second-order".

    Returns:
        ⟨x⟩ and ⟨x²⟩.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Li, Tai, E (2017), theorem 1, for the equations.
    """
    require_positive("k", k)
    require_not_negative("c", c)
    require_positive("eta", eta)
    if not math.isfinite(x0):
        raise ValueError(f"x0 must be finite, got {x0}")
    if not (isinstance(steps, int) and steps >= 0):
        raise ValueError(f"steps must be a whole number ≥ 0, got {steps!r}")
    if description == "sgd":
        factor = 1 - eta * k
        spread = eta**2 * c * (steps if abs(factor) == 1 else (1 - factor ** (2 * steps)) / (1 - factor**2))
        mean = factor**steps * x0
    elif description in ("first-order", "second-order"):
        rate = k if description == "first-order" else k + eta * k**2 / 2
        spread = -eta * c * math.expm1(-2 * rate * eta * steps) / (2 * rate)
        mean = math.exp(-rate * eta * steps) * x0
    else:
        raise ValueError(f"description must be 'sgd', 'first-order' or 'second-order', got {description!r}")
    return mean, mean**2 + spread
