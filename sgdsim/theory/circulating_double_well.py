"""Example 19 of Chaudhari and Soatto: a known steady state under a drift that circulates."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.integrate
import scipy.optimize
from jaxtyping import Float


@dataclass(frozen=True)
class CirculatingDoubleWellLaw:
    """What is known of dX = (j − ∇Φ) dt + √2 dW, Φ = (x₁²−1)²/4 + x₂²/2, j = λ e^{Φ − |x|⁴/4} (−x₂, x₁).

    Attributes:
        partition_function: Z = ∫ e^{−Φ} dx; the steady state is e^{−Φ}/Z for every λ.
        circulation: ∫ x × J dx = 2πλ/Z in the steady state, counterclockwise, in x²/time.
        critical_strength: e^{−1/4}, the |λ| at which the zeros of the drift off the origin vanish.
        zeros: these zeros, (2, 2), the left one first; (0, 2) from the critical strength on.
    """

    partition_function: float
    circulation: float
    critical_strength: float
    zeros: Float[np.ndarray, "m 2"]


def circulating_double_well(strength: float) -> CirculatingDoubleWellLaw:
    """The law of `potentials.CirculatingDoubleWell` at a strength λ.

    Z = √(2π) ∫ e^{−(x²−1)²/4} dx by quadrature. The steady current is J = jρ_ss = λ e^{−|x|⁴/4} (−x₂, x₁)/Z, of
    ∫ x × J dx = (2πλ/Z) ∫ r³ e^{−r⁴/4} dr = 2πλ/Z.

    The drift vanishes where x₂ = a x₁ and x₁(x₁² − 1) = −a x₂ with a = λ e^{Φ − |x|⁴/4}: at the origin, and at
    x₁ = ±√(1−a²), x₂ = ±a√(1−a²), where |x|² = 1 − a⁴ and Φ = a²/2 − a⁴/4. So a is the root of

        a = λ exp(a²/2 − a⁴/4 − (1−a⁴)²/4),    0 < |a| < 1,

    of which there is one for |λ| < e^{−1/4} and none beyond: log of the right side less log a falls from ∞ at 0 to
    log λ + ¼ at 1. At λ = ½ the zeros are ±(.902, .389).

    Args:
        strength: λ, finite; negative turns clockwise and mirrors the zeros.

    Raises:
        ValueError: if λ is not finite.

    Source: Chaudhari and Soatto (2018), example 19; root and circulation derived.
    """
    if not math.isfinite(strength):
        raise ValueError(f"strength must be finite, got {strength}")
    well, _ = scipy.integrate.quad(lambda x: math.exp(-((x * x - 1) ** 2) / 4), 0, math.inf, epsabs=0, epsrel=1e-12)
    partition_function = math.sqrt(2 * math.pi) * 2 * well
    return CirculatingDoubleWellLaw(
        partition_function=partition_function,
        circulation=2 * math.pi * strength / partition_function,
        critical_strength=math.exp(-1 / 4),
        zeros=_zeros(strength),
    )


def _zeros(strength: float) -> Float[np.ndarray, "m 2"]:
    """The zeros of the drift off the origin."""

    def mismatch(a: float) -> float:
        return a - abs(strength) * math.exp(a**2 / 2 - a**4 / 4 - (1 - a**4) ** 2 / 4)

    if mismatch(1.0) <= 0:
        return np.empty((0, 2))
    slope = math.copysign(scipy.optimize.root_scalar(mismatch, bracket=(0.0, 1.0), xtol=1e-15).root, strength)
    right = math.sqrt(1 - slope**2) * np.array([1.0, slope])
    return np.stack([-right, right])
