"""How long it takes to leave a well: Kramers' law, and the exact mean first passage time in 1-D."""

import math
from collections.abc import Callable

import numpy as np
import scipy.special
from jaxtyping import Float

from sgdsim.theory._checks import require_positive

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
# [i, j]: the integral of node j's Lagrange polynomial from −1 to node i, through ∫P_k = (P_{k+1} − P_{k−1})/(2k+1)
_LEGENDRE = np.polynomial.legendre.legvander(_NODES, 16)
_RISES = np.column_stack([1 + _NODES, _LEGENDRE[:, 2:] - _LEGENDRE[:, :-2]])
_CUMULATIVE = _RISES @ _LEGENDRE[:, :16].T * _WEIGHTS / 2

_TAIL = 60.0  # temperatures above the lowest loss at which the boundary is taken to lie: e^−60 of the mass
_OCTAVES = 60  # how often the way to the boundary is doubled before it is given up
_TOLERANCE = 1e-7  # in log τ, between one number of panels and twice as many; the latter is right to far more
_MOST_PANELS = 2**15

Loss = Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]


def kramers_time(
    curvature_at_minimum: float,
    curvature_at_saddle: float,
    barrier: float,
    temperature: float,
    variance: float = 1.0,
) -> float:
    """τ = 2π/√(f''_min |f''_saddle|) · exp(Δf/(Tσ²)): the mean time from a well to the next one over one barrier, 1-D.

    The leading order as Tσ²/Δf → 0, in time of dX = −f' dt + √(2Tσ²) dW. To the top of the barrier it is half of that.

    Args:
        curvature_at_minimum: f'' > 0 at the bottom of the well.
        curvature_at_saddle: f'' < 0 at the top of the barrier.
        barrier: Δf > 0, the loss at the top less that at the bottom.
        temperature: T > 0.
        variance: σ² > 0, the variance D of one example's gradient.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Kramers (1940).
    """
    require_positive("curvature_at_minimum", curvature_at_minimum)
    if not (math.isfinite(curvature_at_saddle) and curvature_at_saddle < 0):
        raise ValueError(f"curvature_at_saddle must be negative and finite, got {curvature_at_saddle}")
    require_positive("barrier", barrier)
    require_positive("temperature", temperature)
    require_positive("variance", variance)
    prefactor = 2 * math.pi / math.sqrt(-curvature_at_minimum * curvature_at_saddle)
    return _exp(math.log(prefactor) + barrier / (temperature * variance))


def mean_passage_time(
    loss: Loss,
    start: float,
    target: float,
    temperature: float,
    variance: float = 1.0,
) -> float:
    """The mean time of dX = −f' dt + √(2θ) dW, θ = Tσ², from `start` to `target`, with nothing beyond but the loss.

        τ = (1/θ) ∫_start^target e^{f(y)/θ} ∫_{−∞}^y e^{−f(z)/θ} dz dy    (start < target; else mirrored).

    Both integrals by 16-point Gauss–Legendre on panels, the inner one within a panel by the integral of the
    interpolating polynomial, all of them summed as logarithms: e^{±f/θ} may be as large as it likes. Panels are doubled
    until τ stays within 1e-7 of itself. For −∞ stands a place from which on, 64 times as far as it lies from `start`, f
    is seen to stay 60 θ above its lowest value on the way there; what is lower still further out is not seen.

    Args:
        loss: f, from an array of places (n,) to their losses (n,), smooth; `lambda x: (x**2 - 1) ** 2 / 4`.
        start: where the particle starts.
        target: where the clock stops.
        temperature: T > 0.
        variance: σ² > 0, the variance D of one example's gradient, constant.

    Raises:
        ValueError: if an argument is out of its range, f does not confine the particle on the far side of `start`, or
            it is not finite.
        ArithmeticError: if the quadrature does not converge, or the time exceeds 1e308.

    Source: Gardiner, Handbook of Stochastic Methods, 3rd edition, §5.2.7.
    """
    require_positive("temperature", temperature)
    require_positive("variance", variance)
    if not (math.isfinite(start) and math.isfinite(target)):
        raise ValueError(f"start and target must be finite, got {start} and {target}")
    if start == target:
        return 0.0
    theta, direction = temperature * variance, math.copysign(1.0, target - start)

    def energy(distance: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """f/θ at a signed distance from the start, the target on the right."""
        values = np.asarray(loss(start + direction * distance), dtype=np.float64)
        if values.shape != distance.shape:
            raise ValueError(f"loss must map places (n,) to losses (n,), got shape {values.shape} for {distance.shape}")
        return values / theta

    span = abs(target - start)
    left, panels, change = _boundary(energy, span), 64, math.inf
    log_integral = _log_double_integral(energy, left, span, panels)
    while not change < _TOLERANCE:
        panels *= 2
        if panels > _MOST_PANELS:
            raise ArithmeticError("the mean passage time's quadrature does not converge: is the loss smooth?")
        finer = _log_double_integral(energy, left, span, panels)
        log_integral, change = finer, abs(finer - log_integral)
    return _exp(log_integral - math.log(theta))


def _boundary(energy: Loss, span: float) -> float:
    """A signed distance beyond which the energy stays high, so that nothing of the inner integral comes from there."""
    for octave in range(_OCTAVES):
        reach = span * 2.0**octave
        with np.errstate(over="ignore"):  # +inf is high
            lowest = np.min(energy(-np.linspace(0, reach, 400)))
            beyond = np.min(energy(-np.geomspace(reach, 64 * reach, 400)))
        if beyond >= lowest + _TAIL:
            return -reach
    raise ValueError("loss must rise without end on the far side of start: nothing confines the particle there")


def _log_double_integral(energy: Loss, left: float, span: float, panels: int) -> float:
    """log ∫₀^span e^{E(y)} ∫_left^y e^{−E(z)} dz dy with so many panels on either side of 0."""
    edges = np.concatenate([np.linspace(left, 0, panels + 1)[:-1], np.linspace(0, span, panels + 1)])
    half = np.diff(edges)[:, None] / 2
    energies = energy((edges[:-1, None] + half * (1 + _NODES)).reshape(-1)).reshape(-1, len(_NODES))
    if not np.all(np.isfinite(energies)):
        raise ValueError("loss must be finite between target and where it has risen by 60 temperatures")
    lowest = np.min(energies, axis=1, keepdims=True)
    scaled = np.exp(lowest - energies)  # in (0, 1], 1 somewhere on each panel
    whole = np.log(half * (scaled @ _WEIGHTS)[:, None]) - lowest
    with np.errstate(divide="ignore"):  # a part that rounding makes zero or less is nothing beside what lies before it
        part = np.log(np.maximum(half * (scaled @ _CUMULATIVE.T), 0)) - lowest
    before = np.concatenate([[-np.inf], np.logaddexp.accumulate(whole[:-1, 0])])
    inner = np.logaddexp(before[:, None], part)
    outer = (energies + inner)[panels:]
    return float(scipy.special.logsumexp(outer, b=half[panels:] * _WEIGHTS))


def _exp(logarithm: float) -> float:
    try:
        return math.exp(logarithm)
    except OverflowError as error:
        raise ArithmeticError(f"the mean time is e^{logarithm:.0f}, which exceeds 1e308") from error
