"""A density at one far time, by a contour integral of the resolvent; for detailed balance only."""

import numpy as np
from jaxtyping import Complex, Float

from sgdsim.density.generator import Generator
from sgdsim.density.resolvent import net_inflow, resolvent

_POINTS = 24  # of which 12 are solved for; fewer are less exact, more amplify rounding by e^{0.17 points}
_FEWER = 16  # points whose error is 3.89⁸ = 5e4 times as large
_AGREEMENT = 1e-8  # in L1, between the two
_NEGATIVE = -1e-15  # smallest mass of a cell that is rounding


def talbot(
    generator: Generator, masses: Float[np.ndarray, "*cells"], duration: float, steady: Float[np.ndarray, "*cells"]
) -> tuple[Float[np.ndarray, "*cells"], int]:
    """e^{tL} p = (1/2πi) ∮ eᶻ (zI − tL)^{−1} p dz over Talbot's cotangent contour around the negative real axis.

    24 points leave 7e-15 of a smooth or rough p alike, at any t; conjugate points are one solve. The contour must hold
    the spectrum of tL, so that it must be real: detailed balance. Solved for the increment: with

        (zI − tL)^{−1} p = p/z + y,    (zI − tL) y = t L p / z,

    y sums to zero. What rounding (of 1e-16 q t) puts into its sum lies along the steady state, and is taken off there.

    The 7e-15 are relative to the norm Σ p²/π, and a start hundreds of temperatures up has one of e^{300}. So the sum is
    done with 16 points as well, whose error is 5e4 times as large, and must agree with it to 1e-8.

    Source: Weideman 2006; Trefethen, Weideman, Schmelzer 2006, eq. 3.1.

    Args:
        generator: L, in detailed balance (`asymmetry`), float64.
        masses: p, (*cells,).
        duration: t > 0.
        steady: π, (*cells,).

    Returns:
        The masses t later, (*cells,), and the number of linear systems solved.

    Raises:
        ArithmeticError: if 16 and 24 points do not agree, or a cell is negative by more than rounding.
    """
    p, pi = (np.asarray(m, dtype=np.float64).reshape(-1) for m in (masses, steady))
    source = duration * net_inflow(generator)(p)
    factor = resolvent(generator)

    def increment(count: int) -> np.ndarray:  # jaxtyping would evaluate a shape at every call
        total = np.zeros_like(p)
        for z, weight in zip(*talbot_contour(count), strict=True):
            y = factor(z, duration)(source / z)
            total += np.real(weight * (y - np.sum(y) * pi))
        return total

    change = increment(_POINTS)
    moved, apart = p + change, float(np.sum(np.abs(change - increment(_FEWER))))
    if not (apart <= _AGREEMENT and np.min(moved) >= _NEGATIVE):
        raise ArithmeticError(
            "Talbot's contour is not exact for this start, which is far above the steady state: its answers from "
            f"{_FEWER} and {_POINTS} points differ by {apart:.1e}, and the smallest cell is {np.min(moved):.1e}; use "
            "'uniformization' or 'tr-bdf2' until it has come down"
        )
    return moved.reshape(masses.shape), (_POINTS + _FEWER) // 2


def talbot_contour(count: int) -> tuple[Complex[np.ndarray, " m"], Complex[np.ndarray, " m"]]:
    """Points z above the real axis and weights w with (1/2πi) ∮ eᶻ f(z) dz ≈ Re Σ w f(z) for f(z̄) = conj f(z)."""
    angle = np.pi * (2 * np.arange(count // 2) + 1) / count
    a, b, c, d = 0.5017, 0.6407, 0.6122, 0.2645
    z = count * (a * angle / np.tan(b * angle) - c + 1j * d * angle)
    slope = count * (a / np.tan(b * angle) - a * b * angle / np.sin(b * angle) ** 2 + 1j * d)
    return z, 2 / (1j * count) * np.exp(z) * slope
