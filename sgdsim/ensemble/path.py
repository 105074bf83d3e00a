"""A cloud's whole path, seen along a few directions: what needs every step of a cloud too wide to save each."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.draws import Draws
from sgdsim.ensemble.process import Process
from sgdsim.ensemble.trajectory import Trajectory


class ProjectedPath(eqx.Module):
    """y = V(x − c) of each particle after each of the last `every` steps, (every, m, P): a tally; `path_of` reads it.

    Args:
        directions: V, one direction a row, (m, d).
        centre: c, (d,).
        every: the run's `save_every`, which must divide its number of steps.

    Raises:
        ValueError: on shapes that do not fit, numbers that are not finite, or a count that is not positive.
    """

    directions: Float[Array, "m d"]
    centre: Float[Array, " d"]
    every: int = eqx.field(static=True)

    def __init__(
        self,
        directions: Float[np.ndarray | Array, "m d"],
        centre: Float[np.ndarray | Array, " d"],
        *,
        every: int,
    ):
        rows, point = np.asarray(directions, dtype=float), np.asarray(centre, dtype=float)
        if rows.ndim != 2 or not np.all(np.isfinite(rows)):
            raise ValueError(f"directions must be finite, of shape (m, d), got shape {rows.shape}")
        if point.shape != rows.shape[1:] or not np.all(np.isfinite(point)):
            raise ValueError(f"centre must be finite, of shape {rows.shape[1:]}, got shape {point.shape}")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a positive whole number, got {every!r}")
        self.directions, self.centre, self.every = jnp.asarray(rows), jnp.asarray(point), every

    def init(self, process: Process, state: Float[Array, "d P"] | tuple) -> Float[Array, "every m P"]:
        """Zeros."""
        x = process.position(state)
        return jnp.zeros((self.every, len(self.directions), x.shape[1]), x.dtype)

    def update(
        self,
        kept: Float[Array, "every m P"],
        process: Process,
        before: Float[Array, "d P"] | tuple,
        after: Float[Array, "d P"] | tuple,
        draws: Draws,
    ) -> Float[Array, "every m P"]:
        """The path with one more place in it, and one less of old."""
        seen = self.directions @ (process.position(after) - self.centre[:, None])
        return kept.at[draws.step % self.every].set(seen)


def path_of(trajectory: Trajectory) -> Float[np.ndarray, "K P m"]:
    """Where each particle was after 0, 1, … K − 1 steps, seen along a `ProjectedPath`'s directions; float64.

    A particle that has diverged by the end is NaN throughout.

    Raises:
        ValueError: if the run carried no such tally, or was not saved every `every` steps to the last.
    """
    tally = trajectory.tally
    if not isinstance(tally, ProjectedPath):
        raise ValueError("trajectory must have been run with tally=ProjectedPath(directions, centre, every=save_every)")
    if not np.all(np.diff(trajectory.steps) == tally.every) or len(trajectory.steps) < 2:
        raise ValueError(f"trajectory must be saved every {tally.every} steps to its last, got {trajectory.steps}")
    directions, centre = np.asarray(tally.directions, np.float64), np.asarray(tally.centre, np.float64)
    kept = np.asarray(trajectory.tallied, dtype=np.float64)[1:]  # (T, P, every, m)
    path = np.moveaxis(kept, 1, 2).reshape(-1, kept.shape[1], kept.shape[3])
    start = (np.asarray(trajectory.particles[0], dtype=np.float64) - centre) @ directions.T
    path = np.concatenate([start[None], path])
    path[:, trajectory.diverged[-1]] = np.nan
    return path
