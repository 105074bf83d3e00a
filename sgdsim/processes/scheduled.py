"""SGD along a schedule: a learning rate and a batch size that change with the step, and the limit that follows them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from sgdsim.draws import COUNTER_LIMIT, Draws
from sgdsim.problems.problem import check_scalar
from sgdsim.processes.langevin import Langevin
from sgdsim.processes.limits import limit_of_order
from sgdsim.processes.sgd import SGD

Schedule = Callable[[Any], Any]


class ScheduledSGD(eqx.Module):
    """SGD whose learning rate η_k and batch size B_k change with the step k.

    The clock is t_k = Σ_{j<k} η_j/(1 − μ), and along it the temperature is T_k = s_B η_k/(2B_k(1 − μ)): raising B by a
    factor does to T what cutting η by it does (Smith, Kindermans, Ying, Le, ICLR 2018). Momentum is the heavy ball of
    PyTorch, whose velocity does not know η: v ← μv + g, x ← x − η_k v.

        annealed = ScheduledSGD(sgd, learning_rate=optax.cosine_decay_schedule(0.1, 1_000, alpha=0.01))
        staged = ScheduledSGD(sgd, batch_size=[(500, 8), (500, 64)])     # 64 from step 500 on, for ever
        simulate(annealed, …); simulate(annealed.langevin(), …); density.propagate_scheduled(annealed, grid, start, …)

    Args:
        sgd: the chain, with the settings that the schedule does not change.
        learning_rate: η as an optax schedule, or any JAX function of the number of steps done, k ↦ η_k > 0; by default
            the chain's own throughout.
        batch_size: phases, (steps, B) one after another; the last B stays. By default the chain's own throughout.

    Raises:
        ValueError: if neither is given, the schedule does not start at a positive finite number, or a phase is empty or
            has a batch that the sampling cannot draw.
        TypeError: if `learning_rate` is no function or `sgd` no SGD process.
    """

    stretches: tuple[SGD, ...]
    ends: UInt32[Array, " ends"]
    schedule: Schedule | None

    def __init__(
        self,
        sgd: SGD,
        *,
        learning_rate: Schedule | None = None,
        batch_size: Sequence[tuple[int, int]] | None = None,
    ):
        if not isinstance(sgd, SGD):
            raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
        if learning_rate is None and batch_size is None:
            raise ValueError("learning_rate or batch_size must be given as a schedule; got neither")
        if learning_rate is not None and not callable(learning_rate):
            raise TypeError(f"learning_rate must be a schedule, a function of the step; got {learning_rate!r}")
        if learning_rate is not None:
            check_scalar("learning_rate", learning_rate, jax.ShapeDtypeStruct((), jnp.int32))
            _check_rates(np.asarray(learning_rate(jnp.asarray(0)))[None])
        if batch_size is not None and sgd.sampling == "epoch":
            raise ValueError("sampling must draw each batch independently for phases of the batch size, got 'epoch'")
        phases = [(1, sgd.batch_size)] if batch_size is None else _checked_phases(batch_size)
        self.stretches = tuple(sgd.with_batch_size(size) for _, size in phases)
        # arrays, so that other ends do not compile again
        self.ends = jnp.asarray(np.cumsum([steps for steps, _ in phases])[:-1], dtype=jnp.uint32)
        self.schedule = learning_rate

    @property
    def problem(self) -> Any:
        """What is descended."""
        return self.stretches[0].problem

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.stretches[0].dim

    @property
    def time_step(self) -> Float[Array, ""]:
        """NaN: no one number moves this clock; `times` has it."""
        return jnp.asarray(jnp.nan)

    def learning_rates(self, steps: int) -> Float[np.ndarray, " steps"]:
        """η_k of the first steps.

        Raises:
            ValueError: if one of them is not positive and finite.
        """
        if self.schedule is None:
            return np.full(steps, float(self.stretches[0].learning_rate))
        rates = np.asarray(jax.vmap(lambda k: jnp.asarray(self.schedule(k)))(jnp.arange(steps)), dtype=np.float64)
        _check_rates(rates)
        return rates

    def temperatures(self, steps: int) -> Float[np.ndarray, " steps"]:
        """T_k of the first steps, in the units of `SGD.temperature`."""
        per_rate = [float(one.temperature / one.learning_rate) for one in self.stretches]
        return self.learning_rates(steps) * np.asarray(per_rate)[self.phases(steps)]

    def phases(self, steps: int) -> Int[np.ndarray, " steps"]:
        """Which phase of the batch size each of the first steps belongs to."""
        return np.searchsorted(np.asarray(self.ends), np.arange(steps), side="right")

    def times(self, steps: Int[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """The clock t = Σ η_j/(1 − μ) after these numbers of steps, summed in float64."""
        clock = np.concatenate([[0.0], np.cumsum(self.learning_rates(int(np.max(steps, initial=0))))])
        return clock[steps] / (1 - float(self.stretches[0].momentum))

    def langevin(self, **settings: Any) -> "ScheduledLangevin":
        """The limit along the schedule: step k has the length η_k/(1 − μ) and the temperature T_k.

        Args:
            settings: `order`, `substeps`, `solver` and `increments`, as of `Langevin.limit_of`.
        """
        return ScheduledLangevin(self, **settings)

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless the loss and its gradient are finite at x."""
        self.stretches[0].check(x)

    def init(self, x: Float[Array, "d P"]) -> tuple[Float[Array, "d P"], ...]:
        """The state of SGD."""
        return self.stretches[0].init(x)

    def step(self, state: tuple[Float[Array, "d P"], ...], draws: Draws) -> tuple[Float[Array, "d P"], ...]:
        """SGD's update with the settings of this step."""
        return self.step_of([lambda sgd: sgd] * len(self.stretches), state, draws)

    def step_of(self, describe: Sequence[Callable[[SGD], Any]], state: Any, draws: Draws) -> Any:
        """The step of what describes the chain as it is at this step, one description for each phase."""
        steps = [
            lambda state, one=one, process=process: process(one.with_rate(self._rate(one, draws))).step(state, draws)
            for one, process in zip(self.stretches, describe, strict=True)
        ]
        if len(steps) == 1:
            return steps[0](state)
        phase = jnp.searchsorted(self.ends, draws.step, side="right")
        return jax.lax.switch(phase, steps, state)

    def _rate(self, sgd: SGD, draws: Draws) -> Float[Array, ""]:
        """η of this step, in the particles' own dtype."""
        if self.schedule is None:
            return sgd.learning_rate
        count = draws.step.astype(jnp.int32)  # a schedule may subtract from it
        return jnp.asarray(self.schedule(count)).astype(sgd.learning_rate.dtype)

    def position(self, state: tuple[Any, ...]) -> Float[Array, "d P"]:
        """x."""
        return self.stretches[0].position(state)


class ScheduledLangevin(eqx.Module):
    """The Langevin limit of SGD along its schedule, dX = −∇f dt + √(2T(t) D(X)) dW; made by `ScheduledSGD.langevin`.

    Run with the same key it is coupled to the chain, as `Langevin` is.
    """

    scheduled: ScheduledSGD
    limits: tuple[Langevin, ...]
    order: int | str = eqx.field(static=True)

    def __init__(self, scheduled: ScheduledSGD, *, order: int | str = 1, **settings: Any):
        self.scheduled, self.order = scheduled, order
        self.limits = tuple(Langevin.limit_of(sgd, order=order, **settings) for sgd in scheduled.stretches)

    def halved(self) -> "ScheduledLangevin":
        """The same process in twice as many sub-steps, as `Langevin.halved`."""
        return eqx.tree_at(lambda s: s.limits, self, tuple(limit.halved() for limit in self.limits))

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.scheduled.dim

    @property
    def time_step(self) -> Float[Array, ""]:
        """NaN: no one number moves this clock."""
        return self.scheduled.time_step

    def times(self, steps: Int[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """SGD's clock."""
        return self.scheduled.times(steps)

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless the loss and its gradient are finite at x."""
        self.scheduled.check(x)

    def init(self, x: Float[Array, "d P"]) -> Any:
        """The state of Langevin."""
        return self.limits[0].init(x)

    def step(self, state: Any, draws: Draws) -> Any:
        """One step of the limit as it is at this step of the chain."""

        def follow(limit: Langevin, sgd: SGD) -> Langevin:
            now = (limit_of_order(sgd, self.order), sgd.time_step)
            return eqx.tree_at(lambda one: (one.limit, one.step_size), limit, now)

        return self.scheduled.step_of([partial(follow, limit) for limit in self.limits], state, draws)

    def position(self, state: Any) -> Float[Array, "d P"]:
        """x."""
        return self.limits[0].position(state)


def _check_rates(rates: Float[np.ndarray, " n"]) -> None:
    """Raise ValueError unless every learning rate is positive and finite."""
    if rates.ndim != 1:
        raise ValueError(f"learning_rate must be a schedule of one number a step, got shape {rates.shape[1:]}")
    bad = np.nonzero(~(np.isfinite(rates) & (rates > 0)))[0]
    if bad.size:
        raise ValueError(
            f"learning_rate must be positive and finite at every step, got {rates[bad[0]]:g} at step {bad[0]}; let a "
            "schedule start from and end at small positive numbers"
        )


def _checked_phases(phases: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The phases of the batch size; the batches themselves are checked by SGD."""
    wrong = ValueError(f"batch_size must be phases [(steps, B), …] of at least one step each, got {phases!r}")
    if not isinstance(phases, Sequence) or not all(isinstance(p, Sequence) and len(p) == 2 for p in phases):
        raise wrong
    found = [tuple(phase) for phase in phases]
    if not found or any(not isinstance(p[0], int | np.integer) or p[0] < 1 for p in found):
        raise wrong
    if sum(int(steps) for steps, _ in found[:-1]) >= COUNTER_LIMIT:
        raise ValueError(f"batch_size must have phases of fewer than 2³² steps in all, got {phases!r}")
    return [(int(steps), size) for steps, size in found]
