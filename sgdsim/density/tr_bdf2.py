"""A density forward in time by TR-BDF2, an implicit method whose steps need not resolve the fastest rate."""

import numpy as np
from jaxtyping import Float

from sgdsim.density.generator import Generator
from sgdsim.density.resolvent import Factor, Flow, net_inflow, resolvent

_GAMMA = 2 - np.sqrt(2)  # both stages then share one matrix
_TOLERANCE = {8: 1e-11, 4: 1e-6}  # in L1, by the bytes of a float
_FIRST, _MOST = 8, 2**15  # steps of the coarsest and of the finest attempt
_HOPELESS = 512  # steps from which twice as many must bring answers twice as near


def tr_bdf2(
    generator: Generator, masses: Float[np.ndarray, "*cells"], duration: float
) -> tuple[Float[np.ndarray, "*cells"], int]:
    """e^{tL} p by steps of TR-BDF2, extrapolated until two answers agree to 1e-11 (float32: 1e-6) in L1.

    One step of Δ is the trapezoidal rule over γΔ, γ = 2 − √2, then BDF2 over the rest; L-stable, of order 2. Solved for
    the increments, with right-hand sides in flux form, three orders of magnitude more exact in float32:

        (I − γΔ/2 L) δ₁ = γΔ L p,    (I − γΔ/2 L) δ₂ = β δ₁ + γΔ/2 L (p + δ₁),    p ← p + δ₁ + δ₂,

    β = (1−γ)²/(γ(2−γ)). With 8, 16, 32, … equal steps the error is a series in Δ², Δ³, …, which Richardson's
    extrapolation takes off one by one.

    Sources: Bank et al. 1985; Hosea and Shampine 1996.

    Args:
        generator: L; any drift.
        masses: p, (*cells,).
        duration: t > 0.

    Returns:
        The masses t later, and the number of linear systems solved.

    Raises:
        ArithmeticError: if answers stop coming nearer to each other: the tolerance is under the rounding of q·t.
    """
    dtype = np.dtype(generator.rates_forward.dtype)
    p, inflow, factor = np.asarray(masses, dtype=dtype).reshape(-1), net_inflow(generator), resolvent(generator)
    tolerance = _TOLERANCE[dtype.itemsize]
    rows: list[Float[np.ndarray, " n"]] = []  # the last row of the extrapolation table, as increments of p
    steps, solves, apart = _FIRST, 0, np.inf
    while steps <= _MOST:
        row = [_increment(factor, inflow, p, duration, steps)]
        solves += 2 * steps
        for order, before in enumerate(rows, start=2):
            row.append(row[-1] + (row[-1] - before) / dtype.type(2**order - 1))
        if rows:
            before, apart = apart, float(np.sum(np.abs(row[-1] - rows[-1]), dtype=np.float64))
            if apart <= tolerance:
                return (p + row[-1]).reshape(masses.shape), solves
            if steps >= _HOPELESS and apart > before / 2:  # what is left is rounding
                break
        rows, steps = row[:4], 2 * steps  # orders above 5 gain nothing on rough starts
    raise ArithmeticError(
        f"TR-BDF2 did not settle to {tolerance:g} over a time of {duration:g}, its last two answers differ by "
        f"{apart:.1e}: use another method"
    )


def _increment(
    factor: Factor, inflow: Flow, p: Float[np.ndarray, " n"], duration: float, steps: int
) -> Float[np.ndarray, " n"]:
    """p(t) − p after equal steps."""
    real = p.dtype.type
    half = real(_GAMMA * duration / steps / 2)
    carry = real((1 - _GAMMA) ** 2 / (_GAMMA * (2 - _GAMMA)))
    solve = factor(1.0, float(half))
    total = np.zeros_like(p)
    for _ in range(steps):
        here = p + total
        first = solve(2 * half * inflow(here))
        second = solve(carry * first + half * inflow(here + first))
        total = total + (first + second)
    return total
