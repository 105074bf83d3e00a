"""The Langevin description: the continuum limit as a stochastic differential equation, stepped by diffrax."""

from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sgdsim.draws import Draws
from sgdsim.processes.limits import AbstractDiffusion, FirstOrderLimit, SecondOrderLimit
from sgdsim.processes.sgd import SGD

DEFAULT_SUBSTEPS = 4
UNROLLED = 8  # sub-steps written out in the compiled step; beyond, compiling costs more than it saves


class Langevin(eqx.Module):
    """dX = b dt + √(2A) dW, advanced by one step of the common clock in several sub-steps of a diffrax solver.

    **One Euler step of size η is SGD with Gaussian noise, in law**, so stepping as SGD does would show nothing. The
    default is stochastic Heun where A is constant (weak order 2 there, and Itô and Stratonovich agree) and
    Euler–Maruyama where it depends on x, both with four sub-steps. `halved()` is the same process with twice as many
    **on the same Brownian path**, so that the solver's own bias can be measured by a paired difference.

    `Langevin.limit_of(sgd)` is the limit of a chain; `Langevin(ItoDiffusion(drift=b, diffusion=A, dim=d), step_size=h)`
    is any Itô diffusion.

    Args:
        limit: the diffusion.
        step_size: time h of one step, > 0.
        substeps: sub-steps of one step, a power of two.
        solver: a diffrax solver that takes drift and noise as one term.

    Raises:
        ValueError: on numbers out of their range, or a solver that does not converge to the Itô solution.
    """

    limit: AbstractDiffusion
    step_size: Float[Array, ""]
    substeps: int = eqx.field(static=True)
    solver: diffrax.AbstractSolver

    def __init__(
        self,
        limit: AbstractDiffusion,
        *,
        step_size: float | Float[Array, ""],
        substeps: int = DEFAULT_SUBSTEPS,
        solver: diffrax.AbstractSolver | None = None,
    ):
        if not 0 < float(step_size) < float("inf"):
            raise ValueError(f"step_size must be positive and finite, got {step_size}")
        if not isinstance(substeps, int) or substeps < 1 or substeps & (substeps - 1):
            raise ValueError(f"substeps must be a power of two (the Brownian path is halved), got {substeps!r}")
        default = diffrax.Heun() if limit.has_additive_noise else diffrax.Euler()
        self.solver = default if solver is None else solver
        _check_solver(self.solver, limit.has_additive_noise)
        self.limit, self.step_size, self.substeps = limit, jnp.asarray(step_size, dtype=float), substeps

    @classmethod
    def limit_of(
        cls,
        sgd: SGD,
        *,
        order: int = 1,
        substeps: int = DEFAULT_SUBSTEPS,
        solver: diffrax.AbstractSolver | None = None,
    ) -> "Langevin":
        """The limit of a chain to first or second weak order in η, on its clock: one step here is one step there.

        With s_B = 0 (the whole data in each batch) the temperature is 0 and this is gradient flow.
        """
        if not isinstance(sgd, SGD):
            raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order!r}")
        limit = FirstOrderLimit.of(sgd) if order == 1 else SecondOrderLimit.of(sgd)
        return cls(limit, step_size=sgd.time_step, substeps=substeps, solver=solver)

    def halved(self) -> "Langevin":
        """The same process in twice as many sub-steps, on the same Brownian path when it is run with the same key."""
        return Langevin(self.limit, step_size=self.step_size, substeps=2 * self.substeps, solver=self.solver)

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.limit.dim

    @property
    def time_step(self) -> Float[Array, ""]:
        """One step's share of the common clock, h."""
        return self.step_size

    @property
    def weak_order(self) -> int:
        """The solver's weak order on this diffusion: its ODE order up to 2 with additive noise, 1 otherwise."""
        order = self.solver.order(diffrax.ODETerm(lambda t, y, args: y))
        return min(2, int(order or 1)) if self.limit.has_additive_noise else 1

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless drift and diffusion are finite at x."""
        self.limit.check(x)

    def init(self, x: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """The state is the position."""
        return x

    def step(self, state: Float[Array, "d P"], draws: Draws) -> Float[Array, "d P"]:
        """All the sub-steps of one step, the whole cloud at once."""
        dt = self.step_size / self.substeps
        increments = brownian_increments(draws, self.limit.noise_size, self.substeps, state.dtype)

        def substep(x: Float[Array, "d P"], normals: Float[Array, "m P"]) -> tuple[Float[Array, "d P"], None]:
            term = _CloudTerm(self.limit, CloudBrownianPath(normals * jnp.sqrt(dt)))
            # The fields do not depend on time, so every sub-step may call its own interval [0, dt].
            x, *_ = self.solver.step(term, jnp.zeros_like(dt), dt, x, None, None, False)
            return x, None

        if self.substeps > UNROLLED:
            return jax.lax.scan(substep, state, jnp.stack(increments))[0]
        for normals in increments:  # written out, a toy's sub-steps fuse with their draws into one loop
            state, _ = substep(state, normals)
        return state

    def position(self, state: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """x."""
        return state


def brownian_increments(draws: Draws, size: int, substeps: int, dtype: DTypeLike) -> list[Float[Array, "m P"]]:
    """Normals ξ_j, one for each sub-step of a step, read from a Brownian path that does not depend on the sub-steps.

    The path is refined by Lévy and Ciesielski's bridges: the step's whole increment is z₀ (SGD's own normal, where its
    noise is Gaussian), and each increment ξ on an interval splits into (ξ + z)/√2 and (ξ − z)/√2 on its halves, with a
    fresh z for each interval. Coarse draws are the same however fine the step is cut, so a run with twice the
    sub-steps follows the same path. Normal i of the draw numbered c is draw c·m' + i of the step, with m' the size
    rounded up to even, since draws come in pairs.
    """
    stride = size + size % 2
    if substeps > UNROLLED:  # one call: it compiles once, where many would not
        drawn = draws.normals(stride * substeps, dtype=dtype)
        fresh = [drawn[c * stride : c * stride + size] for c in range(substeps)]
    else:
        fresh = [draws.normals(size, first=c * stride, dtype=dtype) for c in range(substeps)]
    increments = fresh[:1]
    half = np.asarray(0.5**0.5, dtype)
    while len(increments) < substeps:
        pairs = zip(increments, fresh[len(increments) :], strict=False)
        increments = [sign for whole, z in pairs for sign in ((whole + z) * half, (whole - z) * half)]
    return increments


class CloudBrownianPath(diffrax.AbstractBrownianPath):
    """One sub-step of a cloud's Brownian path: its increment, drawn from counters before the solver asks for it."""

    increment: Float[Array, "m P"]
    levy_area: type[diffrax.BrownianIncrement | diffrax.SpaceTimeLevyArea] = eqx.field(static=True)
    t0: ClassVar[float] = 0.0
    t1: ClassVar[float] = float("inf")

    def __init__(self, increment: Float[Array, "m P"]):
        self.increment, self.levy_area = increment, diffrax.BrownianIncrement

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Float[Array, "m P"]:
        """W(t1) − W(t0) over the whole sub-step, the only interval that a one-step solver asks for."""
        return self.increment


class _CloudTerm(diffrax.AbstractTerm):
    """Drift and noise of a whole cloud as one diffrax term, so that both can share a pass over the data.

    The vector field is left unevaluated (it is x itself) until it meets its control (dt, dW) in `prod`.
    """

    limit: AbstractDiffusion
    path: CloudBrownianPath

    def vf(self, t: Any, y: Float[Array, "d P"], args: Any) -> Float[Array, "d P"]:
        return y

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> tuple[Any, Float[Array, "m P"]]:
        return t1 - t0, self.path.evaluate(t0, t1)

    def prod(self, vf: Float[Array, "d P"], control: tuple[Any, Float[Array, "m P"]]) -> Float[Array, "d P"]:
        return self.limit.increment(vf, *control)

    def is_vf_expensive(self, t0: Any, t1: Any, y: Any, args: Any) -> bool:
        return True  # solvers must combine `prod`s, not the unevaluated fields


def _check_solver(solver: diffrax.AbstractSolver, additive: bool) -> None:
    """Raise ValueError unless the solver converges to the Itô solution and takes one term."""
    name = type(solver).__name__
    if not isinstance(solver, diffrax.AbstractItoSolver) and not additive:
        raise ValueError(f"solver must converge to the Itô solution where the noise depends on x; {name} does not")
    if not isinstance(solver, diffrax.Euler | diffrax.AbstractERK):
        raise ValueError(f"solver must be diffrax.Euler or an explicit Runge-Kutta method, got {name}")
    if isinstance(solver, diffrax.AbstractSRK):
        raise ValueError(f"solver must not need Lévy areas, which the cloud's path does not draw; {name} does")
