"""A density under an equation that changes in time: piecewise-constant learning rate, batch size or temperature."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float, Int

from sgdsim.density.fokker_planck import FokkerPlanck, checked_times
from sgdsim.density.grid import Grid, Numbers, merge_cells
from sgdsim.density.grid_estimate import grid_errors
from sgdsim.density.propagate import Propagation, propagate, warn_of_cut_off
from sgdsim.ensemble import Gaussian
from sgdsim.processes.scheduled import ScheduledSGD

_ROUNDING = 1e-12  # of a sum of durations


def propagate_schedule(
    phases: Sequence[tuple[FokkerPlanck, float]],
    p0: Float[Array | np.ndarray, "*cells"],
    times: Numbers,
    *,
    method: str = "auto",
    grid_error: bool = True,
) -> Propagation:
    """The masses at each time when one equation follows another, each constant in time: p ← e^{ΔₙLₙ} … e^{Δ₁L₁} p₀.

    On the common clock t = Σ η_e a phase of k steps lasts k η_e, so a learning rate that decays in stages is exact, and
    one that changes at every step is as exact as its cutting into stages, to second order in their length where each
    takes the rate at its middle.

        hot, cold = (FokkerPlanck.limit_of(SGD(problem, learning_rate=eta, batch_size=1), grid) for eta in (0.1, 0.01))
        propagate_schedule([(hot, 5.0), (cold, 20.0)], hot.density_of(start), [5.0, 10.0, 25.0])

    Args:
        phases: (equation, duration) one after another, on one grid; the last may last for ever (`math.inf`).
        p0: cell masses at t = 0, (*cells,).
        times: (T,), strictly increasing, ≥ 0, up to the end of the last phase.
        method: as in `FokkerPlanck.propagate`, for every phase.
        grid_error: propagate on a coarser grid as well and report the difference.

    Raises:
        ValueError: if there is no phase, a duration is not positive, the grids differ, a time lies beyond the last
            phase, or as `FokkerPlanck.propagate`.
    """
    when = checked_times(times)
    _check(phases, when)
    start = phases[0][0].checked_masses("p0", p0)
    answer = _through(phases, start, when, method)
    warn_of_cut_off(answer)
    coarser = [(fp.coarser, duration) for fp, duration in phases] if grid_error else []
    coarse = [(fp, duration) for fp, duration in coarser if fp is not None]
    if len(coarse) < len(phases):
        return answer
    merged = merge_cells(start, phases[0][0].grid.ratio_to(coarse[0][0].grid))
    rough = _through(coarse, merged, when, "auto")
    return dataclasses.replace(answer, grid_error=grid_errors(answer.masses, rough.masses))


def propagate_scheduled(
    scheduled: ScheduledSGD,
    grid: Grid,
    start: Gaussian,
    steps: Sequence[int] | Int[np.ndarray, " T"],
    *,
    tolerance: float = 0.02,
    method: str = "auto",
    grid_error: bool = True,
) -> Propagation:
    """The density of the first-order limit of SGD along its schedule, after these numbers of steps.

    On the clock the drift −∇f is the same throughout, and only A = T(t) D(x) changes. The steps are cut into pieces
    within which T changes by no more than the tolerance, each with the learning rate Σ η_k²/Σ η_k, which leaves ∫T dt
    as it is: an error of second order in the tolerance where a piece is short beside the relaxation, and at most half
    of it, relative, in the width of a cloud that relaxes within a piece. A schedule in stages is exact, and a cycle
    that comes back to the same rates needs no more equations than its first turn.

        propagate_scheduled(annealed, grid, start, cloud.steps)

    Args:
        scheduled: SGD with its schedule.
        grid: where the density lives.
        start: the cloud's start.
        steps: (T,), numbers of steps, increasing, such as a trajectory's `steps`.
        tolerance: how far T may change within a piece, relative, > 0.
        method, grid_error: as in `propagate_schedule`.

    Raises:
        TypeError: if `scheduled` is no ScheduledSGD.
        ValueError: as `FokkerPlanck.limit_of` and `propagate_schedule`, or if the tolerance is not positive.
    """
    if not isinstance(scheduled, ScheduledSGD):
        raise TypeError(f"scheduled must be a ScheduledSGD, got {type(scheduled).__name__}")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance must be positive and finite, got {tolerance}")
    wanted = np.asarray(steps)
    is_list = wanted.ndim == 1 and len(wanted) > 0 and np.issubdtype(wanted.dtype, np.integer)
    if not is_list or wanted[0] < 0 or np.any(np.diff(wanted) <= 0):
        raise ValueError(f"steps must be whole numbers of steps, not negative and increasing, got {steps!r}")
    last = int(wanted[-1])
    rates, stages = scheduled.learning_rates(last), scheduled.phases(last)
    level = np.floor(np.log(rates) / np.log1p(tolerance))
    turns = np.flatnonzero((np.diff(level) != 0) | (np.diff(stages) != 0)) + 1
    cuts = np.unique(np.concatenate([[0], turns, wanted, [last]]))
    clock, equations, phases = scheduled.times(cuts), {}, []
    for begin, end, duration in zip(cuts[:-1], cuts[1:], np.diff(clock), strict=True):
        rate = float(np.sum(rates[begin:end] ** 2) / np.sum(rates[begin:end]))
        kind = (int(stages[begin]), float(f"{rate:.9g}"))  # rounding apart, a cycle's rates come back
        if kind not in equations:
            equations[kind] = FokkerPlanck.limit_of(scheduled.stretches[kind[0]].with_rate(rate), grid)
        phases.append((equations[kind], float(duration)))
    if not phases:  # only the start was asked for
        phases = [(FokkerPlanck.limit_of(scheduled.stretches[0], grid), math.inf)]
    masses = phases[0][0].density_of(start)
    return propagate_schedule(phases, masses, scheduled.times(wanted), method=method, grid_error=grid_error)


def _check(phases: Sequence[tuple[FokkerPlanck, float]], times: Float[np.ndarray, " T"]) -> None:
    if len(phases) == 0 or any(fp.grid != phases[0][0].grid for fp, _ in phases):
        raise ValueError(f"phases must be at least one, all on one grid, got {[fp.grid for fp, _ in phases]}")
    durations = [float(duration) for _, duration in phases]
    if not all(d > 0 for d in durations) or not all(math.isfinite(d) for d in durations[:-1]):
        raise ValueError(f"phases must last a positive time, and only the last for ever, got durations {durations}")
    if times[-1] > sum(durations) * (1 + _ROUNDING):
        raise ValueError(f"times must lie within the phases, which last {sum(durations):g}, got {times[-1]:g}")


def _through(
    phases: Sequence[tuple[FokkerPlanck, float]],
    masses: Float[np.ndarray, "*cells"],
    times: Float[np.ndarray, " T"],
    method: str,
) -> Propagation:
    """One phase after another, each from where the one before ended; the answers joined to one."""
    ends = np.cumsum([float(duration) for _, duration in phases])
    ends[-1] = np.inf  # a last time that lies beyond it by rounding belongs to it
    phase_of = np.searchsorted(ends * (1 + _ROUNDING), times)  # a time on a seam belongs to the phase that ends there
    parts, kept, begin = [], [], 0.0
    for number, (fp, _) in enumerate(phases[: phase_of[-1] + 1]):
        inside = times[phase_of == number]
        ahead = phase_of[-1] > number  # the phase's end is needed, to hand on
        stops = np.append(inside[inside < ends[number] * (1 - _ROUNDING)], ends[number]) if ahead else inside
        part = propagate(fp, masses, stops - begin, method)
        masses, begin = np.asarray(part.masses[-1], dtype=np.float64), ends[number]
        parts.append(part)
        kept.append(part.masses[: len(inside)])
    outputs = np.concatenate(kept)
    return Propagation(
        times=times,
        masses=outputs,
        method="; ".join(dict.fromkeys(p.method for p in parts)),
        mass_defect=sum(p.mass_defect for p in parts),
        smallest=min(p.smallest for p in parts),
        matvecs=sum(p.matvecs for p in parts),
        exit_rate=max(p.exit_rate for p in parts),
        grid_error=np.full(len(times), np.nan),
        boundary_mass=phases[0][0].grid.boundary_mass(outputs),
        regularisation=max(fp.regularisation for fp, _ in phases),
    )
