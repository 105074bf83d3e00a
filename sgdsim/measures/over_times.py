"""One measure of a cloud, read at each of its saved times."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float

from sgdsim.measures.estimate import Estimate


def over_times(
    measure: Callable[[Float[np.ndarray, "P d"]], Estimate], particles: Float[np.ndarray | Array, "T P d"]
) -> Estimate:
    """A measure of each snapshot as one estimate with a leading axis of times, such as

        over_times(lambda x: energy_distance(x, reference, key=key), cloud.particles)

    Snapshots share particles, so readings at different times are correlated; each error is right by itself. What a
    measure compiles it compiles once, as all snapshots have one shape.

    Args:
        measure: from a cloud (P, d) to an estimate.
        particles: the snapshots, (T, P, d).

    Returns:
        Values, errors and floors of shape (T, …). `left_out` is the most particles left out at any one time.

    Raises:
        ValueError: if there is no snapshot, or the measure refuses one.
    """
    snapshots = np.asarray(particles)
    if snapshots.ndim != 3 or len(snapshots) == 0:
        raise ValueError(f"particles must be snapshots (T, P, d), got shape {snapshots.shape}")
    readings = [measure(x) for x in snapshots]
    parts = {
        name: np.array([getattr(reading, name) for reading in readings])
        for name in ("value", "standard_error", "floor")
    }
    return Estimate(**parts, left_out=max(reading.left_out for reading in readings))
