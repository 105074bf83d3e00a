"""Any optax optimizer as a discrete process."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sgdsim.draws import Draws
from sgdsim.problems.minibatches import sampling_factor
from sgdsim.problems.problem import Problem


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
        TypeError: if the optimizer is no optax transformation.
        ValueError: on numbers out of their range, or a batch that the sampling cannot draw.
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
        if not isinstance(problem, Problem):
            raise TypeError(
                f"problem must be a Problem such as NoisyPotential or EmpiricalRisk, got {type(problem).__name__}"
            )
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(f"optimizer must be an optax transformation, got {type(optimizer).__name__}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive whole number, got {batch_size!r}")
        if not 0 < float(time_step) < float("inf"):
            raise ValueError(f"time_step must be positive and finite, got {time_step}")
        sampling_factor(problem.num_examples, int(batch_size), sampling)
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
