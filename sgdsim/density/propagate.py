"""A density forward in time: which method, and how well it did."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from sgdsim.density.balance import reversible_part
from sgdsim.density.chebyshev import chebyshev
from sgdsim.density.generator import Generator
from sgdsim.density.grid import Grid
from sgdsim.density.resolvent import is_tridiagonal
from sgdsim.density.spectrum import slow_modes
from sgdsim.density.talbot import talbot
from sgdsim.density.tr_bdf2 import tr_bdf2
from sgdsim.density.uniformization import event_rate, uniformize

METHODS = ("auto", "uniformization", "chebyshev", "talbot", "tr-bdf2")
NEED_BALANCE = ("chebyshev", "talbot")

CUT_OFF = 1e-4  # mass in the outermost cells from which a box is said to cut some off

_WORTH = {"talbot": 1_000, "tr-bdf2": 50_000}  # events for each output time from which a method beats uniformization
_FEW = 500.0  # events up to which nothing beats uniformization
_IMPLICIT = 2e6  # events from which sparse LU beats products with L in 2-D
_LONG = 2e5  # events from which it is worth asking whether the steady state is reached


@runtime_checkable
class Equation(Protocol):
    """What a density is propagated by; a `FokkerPlanck`."""

    @property
    def generator(self) -> Generator:
        """L."""
        ...

    @property
    def grid(self) -> Grid:
        """The cells that L is on."""
        ...

    @property
    def regularisation(self) -> float:
        """ε of the εI that was added to the diffusion."""
        ...

    @property
    def is_balanced(self) -> bool:
        """Whether L is in detailed balance."""
        ...

    def log_stationary(self) -> Float[np.ndarray, "*cells"]:
        """The log masses of L's steady state."""
        ...


@dataclass(frozen=True)
class Propagation:
    """A density at given times, and how well it was computed.

    Attributes:
        times: when, (T,).
        masses: the mass of every cell at each time, (T, *cells).
        method: how it was stepped.
        mass_defect: the largest |Σp(t) − Σp(0)| over the outputs.
        smallest: the smallest cell over all outputs; uniformization never makes it negative, nothing is ever clipped.
        matvecs: products with the generator, or linear systems solved.
        exit_rate: the rate of events q, a thousandth above the largest exit rate, in 1/time; q·t is a run's length.
        grid_error: Σ|Δmass| at each time that the cells' width makes, (T,), from a grid of coarser cells; NaN where
            that was not asked for or the cells cannot be merged.
        boundary_mass: mass in the cells at the walls at each time, (T,).
        regularisation: ε of the εI that was added to the diffusion, in x²/time; 0 unless asked for.
    """

    times: Float[np.ndarray, " T"] = field(repr=False)
    masses: Float[np.ndarray, "T *cells"] = field(repr=False)
    method: str
    mass_defect: float
    smallest: float
    matvecs: int
    exit_rate: float
    grid_error: Float[np.ndarray, " T"]
    boundary_mass: Float[np.ndarray, " T"]
    regularisation: float

    @property
    def cuts_off_mass(self) -> bool:
        """Whether over 1e-4 of the mass ever lay in the cells at the walls: the box is then too small."""
        return bool(np.max(self.boundary_mass) > CUT_OFF)

    def __repr__(self) -> str:
        cells = "×".join(map(str, self.masses.shape[1:]))
        notes = [f"grid error {np.max(self.grid_error):.1e}"] if np.all(np.isfinite(self.grid_error)) else []
        if self.cuts_off_mass:
            notes.append(f"THE BOX CUTS OFF MASS: {np.max(self.boundary_mass):.1e} in its outermost cells")
        if self.regularisation:
            notes.append(f"regularised by {self.regularisation:g} I")
        return (
            f"Propagation({len(self.times)} times to t = {self.times[-1]:g}, {cells} cells {self.masses.dtype}, "
            f"{self.masses.nbytes / 2**20:.1f} MB, {self.method}: {self.matvecs} products, "
            f"mass defect {self.mass_defect:.1e}, smallest cell {self.smallest:.1e}{''.join(', ' + n for n in notes)})"
        )


def propagate(
    equation: Equation,
    start: Float[np.ndarray, "*cells"],
    times: Float[np.ndarray, " T"],
    method: str = "auto",
    progress: bool = False,
) -> Propagation:
    """The masses e^{tL} p₀ at each of `times`, from p₀ at t = 0.

    Args:
        equation: L and what is known of it.
        start: p₀, (*cells,).
        times: increasing, ≥ 0.
        method: "auto", or one of
            "uniformization", for any drift, strictly positive;
            "chebyshev", several times fewer products, where detailed balance holds;
            "talbot", 20 linear systems for each time however far it is, where detailed balance holds, in float64;
            "tr-bdf2", implicit steps, for any drift.
            "auto" takes Talbot (float32: TR-BDF2) in 1-D, Chebyshev or uniformization beyond and for short times,
            TR-BDF2 where products would be over two million, and the steady state itself once it must be reached.
        progress: show a bar over the output times.

    Raises:
        ValueError: if `method` is not known, or needs a detailed balance or a float64 that is not there.
        ArithmeticError: if a method that was asked for by name finds that it is not exact here.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    rate = event_rate(equation.generator)
    settled, chosen = math.inf, method == "auto"
    if not chosen:
        _require_balance(equation, method)
    elif rate * times[-1] > _LONG:
        settled = settling_time(equation, start)
    before = times[times < settled]
    if chosen:
        method = _fitting_method(equation, before, rate) if len(before) else "the steady state"
    stepped, matvecs, used = _stepped(equation, start, before, method, chosen, progress, rate)
    if len(before):
        method = " and ".join(used)
    if len(stepped) < len(times):
        steady = np.exp(equation.log_stationary()).astype(equation.generator.rates_forward.dtype) * np.sum(start)
        stepped += [steady] * (len(times) - len(stepped))
        method = method if matvecs == 0 else f"{method}, the steady state from t = {settled:.3g}"
    stacked = np.stack(stepped)
    sums = np.sum(stacked.reshape(len(stacked), -1), axis=1, dtype=np.float64)
    return Propagation(
        times=times,
        masses=stacked,
        method=method,
        mass_defect=float(np.max(np.abs(sums - np.sum(start.astype(stacked.dtype), dtype=np.float64)))),
        smallest=float(np.min(stacked)),
        matvecs=matvecs,
        exit_rate=rate,
        grid_error=np.full(len(times), np.nan),
        boundary_mass=equation.grid.boundary_mass(stacked),
        regularisation=equation.regularisation,
    )


def _stepped(
    equation: Equation,
    start: Float[np.ndarray, "*cells"],
    times: Float[np.ndarray, " T"],
    method: str,
    may_change: bool,
    progress: bool,
    rate: float,
) -> tuple[list[Float[np.ndarray, "*cells"]], int, list[str]]:
    """The masses at each time, how many products or solves that took, and the methods that took part.

    Where a method finds that it is not exact and may be changed, uniformization, which nothing can upset, takes over
    for that stretch of time.
    """
    generator = equation.generator
    masses = origin = np.asarray(start, dtype=generator.rates_forward.dtype)
    now, since, outputs, products, used = 0.0, 0.0, [], 0, {}
    steady = np.exp(equation.log_stationary()) if method == "talbot" else origin
    for time in _watched(times, progress):
        if time > now:
            try:
                if method == "talbot":  # always from the start: 20 systems, whatever the distance
                    masses, count = talbot(generator, origin, float(time) - since, steady)
                elif method == "tr-bdf2":
                    masses, count = tr_bdf2(generator, masses, float(time) - now)
                else:
                    step = chebyshev if method == "chebyshev" else uniformize
                    masses, count = step(generator, jnp.asarray(masses), float(time) - now, rate)
                used[method] = None
            except ArithmeticError:
                if not may_change:
                    raise
                masses, count = uniformize(generator, jnp.asarray(masses), float(time) - now, rate)
                origin, since, used["uniformization"] = np.asarray(masses), float(time), None
            products, now = products + count, float(time)
        outputs.append(np.asarray(masses))
    return outputs, products, list(used) or [method]


def _fitting_method(equation: Equation, times: Float[np.ndarray, " T"], rate: float) -> str:
    """What "auto" takes."""
    generator, events = equation.generator, rate * float(times[-1])
    if is_tridiagonal(generator):
        implicit = "talbot" if generator.rates_forward.dtype == jnp.float64 else "tr-bdf2"
        return implicit if events > _WORTH[implicit] * len(times) else "uniformization"
    if events > _IMPLICIT and len(generator.cells) < 3:
        return "tr-bdf2"
    return "chebyshev" if events > _FEW and equation.is_balanced else "uniformization"


def _require_balance(equation: Equation, method: str) -> None:
    """Raise ValueError where this method would be wrong."""
    if method not in NEED_BALANCE:
        return
    if method == "talbot" and equation.generator.rates_forward.dtype != jnp.float64:
        raise ValueError("method 'talbot' amplifies rounding, so that it needs float64 (jax_enable_x64)")
    if not equation.is_balanced:
        raise ValueError(
            f"method {method!r} needs detailed balance, which this generator has not (a current circulates): its "
            "spectrum is complex, and the method would blow up in silence; take 'uniformization'"
        )


def settling_time(equation: Equation, start: Float[np.ndarray, "*cells"]) -> float:
    """A time from which Σ|p − π| is certainly below rounding, whatever the drift; infinite where that cannot be told.

    With χ² = Σ p₀²/π − 1, Σ|p_t − π| ≤ χ e^{−λt}, where λ is the spectral gap of L's reversible part (for a
    reversible L its own): the antisymmetric part of L moves χ² neither up nor down.

    Source: Diaconis and Saloff-Coste 1996, §2; Fill 1991.
    """
    generator = equation.generator
    try:
        logs, held = equation.log_stationary(), start > 0
        log_chi = logsumexp(2 * np.log(start[held]) - logs[held]) / 2
        if not np.isfinite(log_chi):  # mass where the steady state has none, cut off from the rest
            return math.inf
        gap = slow_modes(generator if equation.is_balanced else reversible_part(generator, logs), logs, 1).gap
    except (ValueError, ArithmeticError):  # too many cells for a direct solution, or a gap below rounding
        return math.inf
    rounding = float(jnp.finfo(generator.rates_forward.dtype).eps)
    return (log_chi - math.log(rounding)) / gap if gap > 0 else math.inf


def warn_of_cut_off(answer: Propagation) -> None:
    """Warn where the walls have mass."""
    if answer.cuts_off_mass:
        warnings.warn(
            f"the box cuts off mass: up to {np.max(answer.boundary_mass):.1e} of it is in outermost cells; widen it",
            stacklevel=3,
        )


def _watched(
    times: Float[np.ndarray, " T"], progress: bool
) -> Iterable[Any]:  # Any: a type checker that looked at an item would use up the bar
    if not progress:
        return times
    from tqdm import tqdm

    return tqdm(times, desc="density", unit=" times")
