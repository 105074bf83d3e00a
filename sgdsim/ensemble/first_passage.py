"""When each particle first enters a target."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from sgdsim.draws import Draws, Stream
from sgdsim.ensemble.process import Clocked, Process

NEVER = np.uint32(2**32 - 1)


class FirstPassage(eqx.Module):
    """The first step after which a particle lies in the target, a tally; `measures.passage_time` reads it.

    Watched at steps only, a diffusion is found to have crossed too late, by O(√h): it may have been in the target and
    back between two looks. Where `diffusion` is given, each step from x to y is therefore taken for a Brownian
    bridge, which crosses a flat boundary between them with the probability

        exp(−2 ℓ(x) ℓ(y) / (|∇ℓ(x)|²_{2A} h)),    |v|²_{2A} = 2 vᵀA(x)v,

    exact in one dimension for constant coefficients, and right to O(h) otherwise. Discrete SGD *is* its steps: give
    none there.

    Args:
        level: ℓ, a JAX function (d,) → scalar; the target is where ℓ ≤ 0, such as `lambda x: 1 - x[0]`.
        diffusion: A, a JAX function (d,) → (d, d) such as `Langevin.limit_of(sgd).limit.diffusion`, for the bridge.

    Source: Gobet, "Weak approximation of killed diffusion using Euler schemes", 2000.
    """

    level: Callable[[Float[Array, " d"]], Float[Array, ""]]
    diffusion: Callable[[Float[Array, " d"]], Float[Array, "d d"]] | None = None

    def __check_init__(self) -> None:
        given = {"level": self.level} if self.diffusion is None else {"level": self.level, "diffusion": self.diffusion}
        for name, function in given.items():
            if not callable(function):
                raise TypeError(f"{name} must be a JAX function of a point (d,), got {type(function).__name__}")

    def init(self, process: Process, state: Any) -> UInt32[Array, " P"]:
        """0 for the particles that start in the target, `NEVER` for the others."""
        x = process.position(state)
        level = jax.vmap(self.level, 1)(x)
        if level.shape != x.shape[1:]:
            raise ValueError(f"level must return one number, got shape {level.shape[1:]}")
        if isinstance(process, Clocked):
            raise ValueError("process must not follow a schedule: passages are kept as steps, which tell no time there")
        if self.diffusion is not None:
            point = jax.ShapeDtypeStruct(x.shape[:1], x.dtype)
            tensor = jax.eval_shape(self.diffusion, point).shape
            if tensor != 2 * x.shape[:1]:
                raise ValueError(f"diffusion must return a matrix {2 * x.shape[:1]}, got shape {tensor}")
        return jnp.where(level <= 0, np.uint32(0), NEVER)

    def update(
        self, kept: UInt32[Array, " P"], process: Process, before: Any, after: Any, draws: Draws
    ) -> UInt32[Array, " P"]:
        """The number of this step, from 1, for the particles that it has led into the target as the first."""
        x, y = process.position(before), process.position(after)
        end = jax.vmap(self.level, 1)(y)
        entered = (end <= 0) & jnp.all(jnp.isfinite(y), axis=0)  # what has run off to infinity has not arrived
        if self.diffusion is not None:
            start, variance = jax.vmap(self._level_and_variance, 1)(x)
            chance = jnp.exp(-2 * start * end / (variance * process.time_step.astype(x.dtype)))
            entered |= draws.uniforms(1, stream=Stream.TALLY, dtype=x.dtype)[0] <= chance
        return jnp.where((kept == NEVER) & entered, draws.step + np.uint32(1), kept)

    def _level_and_variance(self, x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """ℓ(x) and the variance that a path gains along its gradient in a unit of time."""
        assert self.diffusion is not None
        level, slope = jax.value_and_grad(self.level)(x)
        return level, 2 * slope @ self.diffusion(x) @ slope
