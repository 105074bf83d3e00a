"""Discrete SGD: the chain that people train with."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.draws import Draws
from sgdsim.problems.minibatches import sampling_factor
from sgdsim.problems.problem import Problem


class SGD(eqx.Module):
    """Stochastic gradient descent, with heavy-ball momentum as in PyTorch and optax without dampening:

        v ← μ v + g_B(x),    x ← x − η v.

    Its clock is t = η_e k with the effective learning rate η_e = η/(1 − μ), and its temperature T = s_B η_e/(2B)
    multiplies the covariance D(x) of one example's gradient (Mandt, Hoffman, Blei 2017; s_B from sampling without
    replacement).

    Args:
        problem: what is descended.
        learning_rate: η > 0.
        batch_size: B ≥ 1.
        momentum: 0 ≤ μ < 1.
        sampling: `"with-replacement"`, `"without-replacement"` within each batch, or `"epoch"` (reshuffled passes; the
            last partial batch is dropped).

    Raises:
        ValueError: on numbers out of their range, or a batch that the sampling cannot draw.
    """

    problem: Problem
    learning_rate: Float[Array, ""]
    momentum: Float[Array, ""]
    batch_size: int = eqx.field(static=True)
    sampling: str = eqx.field(static=True)
    has_momentum: bool = eqx.field(static=True)

    def __init__(
        self,
        problem: Problem,
        *,
        learning_rate: float,
        batch_size: int | np.integer,
        momentum: float = 0.0,
        sampling: str = "with-replacement",
    ):
        check_batches(problem, batch_size, sampling)
        if callable(learning_rate):
            raise TypeError("learning_rate must be a number; a schedule goes to ScheduledSGD(sgd, learning_rate=…)")
        if not 0 < float(learning_rate) < float("inf"):
            raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
        if not 0 <= float(momentum) < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
        self.problem = problem
        self.learning_rate = jnp.asarray(learning_rate, dtype=float)
        self.momentum = jnp.asarray(momentum, dtype=float)
        self.batch_size, self.sampling, self.has_momentum = int(batch_size), sampling, float(momentum) > 0

    def with_rate(self, learning_rate: float | Float[Array, ""]) -> "SGD":
        """The same chain at another learning rate, which is not checked: it may be traced."""
        return eqx.tree_at(lambda s: s.learning_rate, self, jnp.asarray(learning_rate, self.learning_rate.dtype))

    def with_batch_size(self, batch_size: int) -> "SGD":
        """The same chain with other batches.

        Raises:
            ValueError: on a batch that the sampling cannot draw.
        """
        return SGD(
            self.problem,
            learning_rate=float(self.learning_rate),
            batch_size=batch_size,
            momentum=float(self.momentum),
            sampling=self.sampling,
        )

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.problem.dim

    @property
    def effective_learning_rate(self) -> Float[Array, ""]:
        """η_e = η/(1 − μ)."""
        return self.learning_rate / (1 - self.momentum)

    @property
    def time_step(self) -> Float[Array, ""]:
        """One step's share of the common clock, η_e."""
        return self.effective_learning_rate

    @property
    def sampling_factor(self) -> float:
        """s_B; for `"epoch"` that of one batch, which is not the long run's."""
        return sampling_factor(self.problem.num_examples, self.batch_size, self.sampling)

    @property
    def temperature(self) -> Float[Array, ""]:
        """T = s_B η_e/(2B), which multiplies D(x). For `"epoch"` the long run is colder than this."""
        return self.sampling_factor * self.effective_learning_rate / (2 * self.batch_size)

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless the loss and its gradient are finite at x."""
        self.problem.check(x)

    def init(self, x: Float[Array, "d P"]) -> tuple[Float[Array, "d P"], ...]:
        """The state (x,), or (x, v) with v = 0 where there is momentum."""
        return (x, jnp.zeros_like(x)) if self.has_momentum else (x,)

    def step(self, state: tuple[Float[Array, "d P"], ...], draws: Draws) -> tuple[Float[Array, "d P"], ...]:
        """One update from each particle's own minibatch."""
        x = state[0]
        gradient = self.problem.minibatch_gradient(x, draws, self.batch_size, self.sampling)
        if not self.has_momentum:
            return (x - self.learning_rate * gradient,)
        velocity = self.momentum * state[1] + gradient
        return (x - self.learning_rate * velocity, velocity)

    def position(self, state: tuple[Any, ...]) -> Float[Array, "d P"]:
        """x."""
        return state[0]


def check_batches(problem: Problem, batch_size: int | np.integer, sampling: str) -> None:
    """Raise TypeError on what is no problem, and ValueError on batches that the sampling cannot draw from it."""
    if not isinstance(problem, Problem):
        raise TypeError(
            f"problem must be a Problem such as NoisyPotential or EmpiricalRisk, got {type(problem).__name__}"
        )
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive whole number, got {batch_size!r}")
    sampling_factor(problem.num_examples, int(batch_size), sampling)
