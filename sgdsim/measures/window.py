"""What a tally summed over the last part of a run, for each particle."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from sgdsim.ensemble import Totals, Trajectory, block_means
from sgdsim.measures.diverged import finite_rows


def window_means(
    trajectory: Trajectory, since: float | None, is_wanted: Callable[[Any], bool], observable: str
) -> tuple[Float[np.ndarray, "n m"], int]:
    """The mean of a `Totals`' observable over the steps since a time, for each finite particle; how many were left out.

    Args:
        trajectory: the run.
        since: the time at which the window starts, up to the next saved time; by default half of the run.
        is_wanted: whether an observable is the one that is asked for.
        observable: how it is made, for the error message.

    Raises:
        ValueError: if the run carried no such tally, no two saved times lie in the window, or all particles diverged.
    """
    tally, times = trajectory.tally, trajectory.times
    if not (isinstance(tally, Totals) and is_wanted(tally.observable)):
        raise ValueError(f"trajectory must have been run with tally=Totals({observable})")
    first = int(np.searchsorted(times, times[-1] / 2 if since is None else since))
    if first >= len(times) - 1:
        raise ValueError(f"since must leave two saved times, got {since} with times {times.tolist()}")
    means = block_means(tuple(part[[first, -1]] for part in trajectory.tallied))[0]
    (rows, _), left_out = finite_rows(means, trajectory.particles[-1])
    return rows, left_out
