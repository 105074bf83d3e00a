"""What is kept of every step of a cloud, where its saved snapshots are too few and its whole path is too much."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt32

from sgdsim.draws import Draws
from sgdsim.ensemble.process import Process

Sums = tuple[Float[Array, "m P"], Float[Array, "m P"], UInt32[Array, " P"]]


@runtime_checkable
class Tally(Protocol):
    """A running record of every particle, carried through the time loop beside the process's own state.

    It is a pytree (an Equinox module). What it keeps is a pytree of arrays that end in the particle axis, (…, P); a
    trajectory holds it at the saved steps, as `tallied`. It must treat particles independently, and takes its random
    numbers from `Stream.TALLY` only, so that the particles move as they would without it.
    """

    def init(self, process: Process, state: Any) -> PyTree[Array]:
        """What is kept of a cloud that has not moved yet."""
        ...

    def update(self, kept: PyTree[Array], process: Process, before: Any, after: Any, draws: Draws) -> PyTree[Array]:
        """What is kept once a step has led from the state `before` to the state `after`, with the draws of the step."""
        ...


class Previous(eqx.Module):
    """Where each particle was one step ago, (d, P): with the position, one increment at every saved step."""

    def init(self, process: Process, state: Any) -> Float[Array, "d P"]:
        """The start itself: at step 0 the increment reads 0."""
        return process.position(state)

    def update(
        self, kept: Float[Array, "d P"], process: Process, before: Any, after: Any, draws: Draws
    ) -> Float[Array, "d P"]:
        """The position before the step."""
        return process.position(before)


class Totals(eqx.Module):
    """The sum over all steps so far of an observable of one particle's step; `block_means` reads it.

    Sums are compensated (Kahan 1965) and kept as a pair, the total and what rounding took off it: added in float64
    they are right in float32 as well, so that the difference of two saved totals is the sum over the steps between.

    Args:
        observable: (x, Δx) → (m,), of one particle's position before a step and the step itself, each (d,); a JAX
            function, or an Equinox module where its numbers should be leaves.
        every: look at each `every`-th step only, where the observable costs more than the step.
    """

    observable: Callable[[Float[Array, " d"], Float[Array, " d"]], Float[Array, " m"]]
    every: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if not callable(self.observable):
            raise TypeError(f"observable must be a callable (x, Δx) -> (m,), got {type(self.observable).__name__}")
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"every must be a positive whole number, got {self.every!r}")

    def init(self, process: Process, state: Any) -> Sums:
        """Zeros."""
        x = process.position(state)
        point = jax.ShapeDtypeStruct(x.shape[:1], x.dtype)
        out = jax.eval_shape(self.observable, point, point)
        shape = getattr(out, "shape", None)
        if shape is None or len(shape) != 1:
            raise ValueError(f"observable must return a vector (m,), got {out}")
        zero = jnp.zeros((*shape, x.shape[1]), x.dtype)
        return zero, zero, jnp.zeros(x.shape[1], jnp.uint32)

    def update(self, kept: Sums, process: Process, before: Any, after: Any, draws: Draws) -> Sums:
        """The sums with this step's term added to them."""

        def add() -> Sums:
            x = process.position(before)
            term = jax.vmap(self.observable, (1, 1), 1)(x, process.position(after) - x).astype(x.dtype)
            total, lost, count = kept
            owed = term + lost
            new = total + owed
            return new, owed - (new - total), count + 1

        if self.every == 1:
            return add()
        return jax.lax.cond(draws.step % self.every == 0, add, lambda: kept)


def block_means(tallied: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Float[np.ndarray, "blocks P m"]:
    """The mean of a `Totals`' observable between one saved time and the next, for each particle, in float64.

    Args:
        tallied: what a trajectory holds of the `Totals`: totals and their roundings, (T, P, m), and counts, (T, P).

    Raises:
        ValueError: if it is not that, fewer than two times were saved, or some block holds no term.
    """
    if not (isinstance(tallied, tuple) and len(tallied) == 3):
        raise ValueError(f"tallied must be what a run with a Totals holds, got {type(tallied).__name__}")
    total, lost, count = (np.asarray(part, dtype=np.float64) for part in tallied)
    terms = np.diff(count, axis=0)
    if terms.size == 0 or np.min(terms) < 1:
        raise ValueError(f"tallied must hold a term between any two saved times, got {len(total)} times")
    return (np.diff(total, axis=0) + np.diff(lost, axis=0)) / terms[..., None]


class Tallied(eqx.Module):
    """A process that carries a tally: the same steps, and a record of them."""

    process: Process
    tally: Tally

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.process.dim

    @property
    def time_step(self) -> Float[Array, ""]:
        """How far one step moves the common clock."""
        return self.process.time_step

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError where the process cannot start at x."""
        self.process.check(x)

    def init(self, x: Float[Array, "d P"]) -> tuple[Any, PyTree[Array]]:
        """The state of the process, and an empty record."""
        state = self.process.init(x)
        return state, self.tally.init(self.process, state)

    def step(self, state: tuple[Any, PyTree[Array]], draws: Draws) -> tuple[Any, PyTree[Array]]:
        """The process's step, recorded."""
        after = self.process.step(state[0], draws)
        return after, self.tally.update(state[1], self.process, state[0], after, draws)

    def position(self, state: tuple[Any, PyTree[Array]]) -> Float[Array, "d P"]:
        """Where the particles are."""
        return self.process.position(state[0])
