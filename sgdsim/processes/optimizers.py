"""Any optax optimizer as a discrete process."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sgdsim.draws import Draws
from sgdsim.problems.problem import Problem
from sgdsim.processes.sgd import check_batches


class Optimizer(eqx.Module):
    """A cloud descended by an optax optimizer, each particle with its own minibatches and its own optimizer state:

        u, s ← update(g_B(x), s, x),    x ← x + u.

    No stochastic differential equation is claimed for it, and it has no temperature: adaptive steps change both drift
    and noise. Its clock counts steps, in units of `time_step`. `optax.sgd(η, μ)` is `SGD`, step for step.

    Args:
        problem: what is descended.
        optimizer: a gradient transformation, such as `optax.adam(1e-2)`; its schedules count its own steps.
        batch_size: B ≥ 1.
        sampling: as of `SGD`.
        time_step: how far one step moves the clock, > 0: an effective learning rate, to lie beside SGD.

    Raises:
        TypeError: if the optimizer is no optax transformation, or one that wants more than a gradient, its state and x.
        ValueError: on numbers out of their range, a batch that the sampling cannot draw, or an optimizer that draws
            noise of its own, which would be the same for all particles.
    """

    problem: Problem
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    step_size: Float[Array, ""]
    batch_size: int = eqx.field(static=True)
    sampling: str = eqx.field(static=True)

    def __init__(
        self,
        problem: Problem,
        optimizer: optax.GradientTransformation,
        *,
        batch_size: int | np.integer,
        sampling: str = "with-replacement",
        time_step: float = 1.0,
    ):
        check_batches(problem, batch_size, sampling)
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(f"optimizer must be an optax transformation, got {type(optimizer).__name__}")
        _check_update(optimizer, problem.dim)
        if not 0 < float(time_step) < float("inf"):
            raise ValueError(f"time_step must be positive and finite, got {time_step}")
        self.problem, self.optimizer, self.batch_size, self.sampling = problem, optimizer, int(batch_size), sampling
        self.step_size = jnp.asarray(time_step, dtype=float)

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.problem.dim

    @property
    def time_step(self) -> Float[Array, ""]:
        """One step's share of the clock."""
        return self.step_size

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless the loss and its gradient are finite at x."""
        self.problem.check(x)

    def init(self, x: Float[Array, "d P"]) -> tuple[Float[Array, "d P"], Any]:
        """The positions, and each particle's optimizer state."""
        return x, jax.vmap(self.optimizer.init, in_axes=-1, out_axes=-1)(x)

    def step(self, state: tuple[Float[Array, "d P"], Any], draws: Draws) -> tuple[Float[Array, "d P"], Any]:
        """One update from each particle's own minibatch."""
        x, memory = state
        gradient = self.problem.minibatch_gradient(x, draws, self.batch_size, self.sampling)
        updates, memory = jax.vmap(self.optimizer.update, in_axes=-1, out_axes=-1)(gradient, memory, x)
        moved: Any = optax.apply_updates(x, updates)
        return moved, memory

    def position(self, state: tuple[Float[Array, "d P"], Any]) -> Float[Array, "d P"]:
        """x."""
        return state[0]


def _check_update(optimizer: optax.GradientTransformation, dim: int) -> None:
    """Raise TypeError or ValueError unless the optimizer updates from a gradient alone, without draws of its own."""
    x = jax.ShapeDtypeStruct((dim,), jnp.result_type(float))
    try:
        state = jax.eval_shape(optimizer.init, x)
        jax.eval_shape(optimizer.update, x, state, x)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TypeError(
            f"optimizer must update from a gradient, its state and x alone, but it raised {reason}"
        ) from error
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or (leaf.dtype == jnp.uint32 and leaf.shape == (2,)):
            raise ValueError(
                "optimizer must not draw noise of its own: its state holds a random key, which all particles would "
                "share; noise belongs to the problem"
            )
