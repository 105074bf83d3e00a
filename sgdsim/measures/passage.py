"""Mean escape and first-passage times of a cloud, with particles that have not passed by the end of the run."""

import dataclasses
import itertools
import math

import numpy as np
from jaxtyping import Float

from sgdsim.ensemble import FirstPassage, Trajectory
from sgdsim.ensemble.first_passage import NEVER
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.moments import mean

FEWEST = 10  # passages in the tail for its rate to have an error bar


def passage_time(trajectory: Trajectory, *, tail_from: float | None = None) -> Estimate:
    """The mean first passage time of a cloud that was run with a `FirstPassage`, in units of the clock.

    Particles that have not passed by the end t_e of the run are censored. Late passages are exponential (the slowest
    mode alone is left), early ones are not: so the mean is read in two parts, split at t₀,

        ⟨τ⟩ = ⟨min(τ, t₀)⟩ + P(τ > t₀) θ,    θ = Σ_{τ>t₀} (min(τ, t_e) − t₀) / #{t₀ < τ ≤ t_e}.

    The first part is a plain mean, asking nothing of the law; θ is the maximum-likelihood estimate of an exponential
    tail from censored data, exposure over events. Where every particle has passed, this is the plain mean of τ whatever
    t₀. The standard error is the delta method's over independent particles. `tail_drift` tests the exponential.

    Args:
        trajectory: a run with `tally=FirstPassage(...)`; its last saved step ends it. Particles that have diverged are
            left out and counted, whether they had passed or not: on its way out one may overshoot the target.
        tail_from: t₀; by default a quarter of the run where some are censored. It must lie beyond the relaxation within
            the well that is left.

    Raises:
        ValueError: if the run carried no `FirstPassage`, t₀ lies outside it, fewer than two particles are finite, or
            fewer than ten passages fell into the tail while some particles had not passed.

    Source: Lawless, Statistical Models and Methods for Lifetime Data, §4.1, for the censored exponential.
    """
    times, start, end, left_out = _passages(trajectory, tail_from)
    censored, late = times > end, times > start
    moved = times
    if np.any(censored):
        exposure, events = np.where(late, np.minimum(times, end) - start, 0.0), late & ~censored
        count = int(np.sum(events))
        if count < FEWEST:
            raise ValueError(
                f"trajectory must run longer or hold more particles: {count} of {len(times)} passed between tail_from "
                f"= {start:g} and its end at {end:g}, where {FEWEST} are needed beside {np.sum(censored)} that did not"
            )
        theta = float(np.sum(exposure)) / count
        # One particle's early part, whether it was late, and its share of θ, which sums to zero.
        moved = np.minimum(times, start) + theta * late + (exposure - theta * events) * np.sum(late) / count
    return dataclasses.replace(mean(moved[:, None])[0], left_out=left_out)


def tail_drift(trajectory: Trajectory, *, tail_from: float | None = None) -> Estimate:
    """How the rate of passage changes in the tail: log of the late half's rate over the early half's, 0 if exponential.

    The tail from t₀ to the end is cut into halves of equal length; a rate is events over exposure, and the logarithm
    of one over k events has the standard error 1/√k.

    Args:
        trajectory: as in `passage_time`.
        tail_from: t₀; a quarter of the run by default.

    Raises:
        ValueError: as in `passage_time`, or if a half saw fewer than ten passages.
    """
    times, start, end, left_out = _passages(trajectory, tail_from)
    halves = itertools.pairwise(np.linspace(start, end, 3))
    seen = [(np.sum((times > low) & (times <= high)), np.sum(np.clip(times, low, high) - low)) for low, high in halves]
    events, exposure = np.transpose(seen)
    if np.min(events) < FEWEST:
        raise ValueError(
            f"trajectory must hold {FEWEST} passages in each half of the tail, got {events.astype(int).tolist()}"
        )
    rates = np.log(events / exposure)
    return Estimate(rates[1] - rates[0], math.sqrt(np.sum(1 / events)), left_out=left_out)


def _passages(trajectory: Trajectory, tail_from: float | None) -> tuple[Float[np.ndarray, " n"], float, float, int]:
    """Each particle's first passage, infinite where there was none; t₀; the end of the run; how many were left out."""
    steps, end = trajectory.tallied, float(trajectory.times[-1])
    if not isinstance(trajectory.tally, FirstPassage):
        raise ValueError("trajectory must have been run with tally=FirstPassage(...)")
    start = end / 4 if tail_from is None else float(tail_from)
    if not 0 <= start < end:
        raise ValueError(f"tail_from must lie in the run, 0 ≤ tail_from < {end:g}, got {start}")
    used = ~trajectory.diverged[-1]
    count = int(np.sum(used))
    if count < 2:
        raise ValueError(f"trajectory must hold two particles that have not diverged, got {count} of {used.size}")
    times = np.where(steps[-1] != NEVER, steps[-1] * (end / int(trajectory.steps[-1])), np.inf)[used]
    return times, start, end, used.size - count
