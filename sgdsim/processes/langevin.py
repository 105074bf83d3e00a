"""The Langevin description: the continuum limit as a stochastic differential equation, stepped by diffrax."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim.draws import Draws
from sgdsim.processes.brownian import (
    CloudBrownianPath,
    Pieces,
    brownian_pieces,
    check_substeps,
    over_substeps,
    three_point_pieces,
)
from sgdsim.processes.limits import AbstractDiffusion, limit_of_order
from sgdsim.processes.sgd import SGD
from sgdsim.processes.solvers import (
    check_commutes,
    check_solver,
    noise_size,
    pieces_of,
    start_solver,
    substep,
    weak_order,
)

DEFAULT_SUBSTEPS, FINE_SUBSTEPS = 4, 64
INCREMENTS = ("gaussian", "three-point")


class Langevin(eqx.Module):
    """dX = b dt + √(2A) dW, advanced by one step of the common clock in several sub-steps of a diffrax solver.

    **One Euler step of size η is SGD with Gaussian noise, in law**, so stepping as SGD does would show nothing. The
    default is stochastic Heun where A is constant (weak order 2 there, and Itô and Stratonovich agree) and
    Euler–Maruyama where it depends on x, both with four sub-steps. `halved()` is the same process with twice as many
    **on the same Brownian path**, so that the solver's own bias can be measured by a paired difference.

    Where A is constant, any explicit SDE solver of diffrax will do, Itô or Stratonovich, with or without Lévy areas.
    Where it depends on x only an Itô solver will: `Euler`, and `ItoMilstein` where the noise commutes. Milstein's
    method takes one Brownian motion for each coordinate.

    Weak increments (`increments="three-point"`: ±√(3h) with probability 1/6 each, 0 with 2/3) have a normal's moments
    up to the fifth, so that **laws** are right to the same weak order 2, at less than half the time. There is no path:
    they share nothing with SGD's draws under the same key, and `halved()` draws increments of its own, so that its
    cloud is an independent one and not a pair for a paired difference. Functions that see single increments, such as
    a density on the scale of one sub-step, see three points.

    `Langevin.limit_of(sgd)` is the limit of a chain; `Langevin(ItoDiffusion(drift=b, diffusion=A, dim=d), step_size=h)`
    is any Itô diffusion.

    Args:
        limit: the diffusion.
        step_size: time h of one step, > 0.
        substeps: sub-steps of one step, a power of two.
        solver: a diffrax solver.
        increments: `"gaussian"`, or `"three-point"` for a solver that needs no Lévy areas.

    Raises:
        ValueError: on numbers out of their range, or a solver that cannot step this diffusion's cloud; the reason is
            given.

    Source: Kloeden and Platen, Numerical Solution of Stochastic Differential Equations (1992), section 14.2, for weak
    increments.
    """

    limit: AbstractDiffusion
    step_size: Float[Array, ""]
    substeps: int = eqx.field(static=True)
    solver: diffrax.AbstractSolver
    increments: str = eqx.field(static=True)

    def __init__(
        self,
        limit: AbstractDiffusion,
        *,
        step_size: float | Float[Array, ""],
        substeps: int = DEFAULT_SUBSTEPS,
        solver: diffrax.AbstractSolver | None = None,
        increments: str = "gaussian",
    ):
        if not 0 < float(step_size) < float("inf"):
            raise ValueError(f"step_size must be positive and finite, got {step_size}")
        check_substeps(substeps)
        if increments not in INCREMENTS:
            raise ValueError(f"increments must be 'gaussian' or 'three-point', got {increments!r}")
        default = diffrax.Heun() if limit.has_additive_noise else diffrax.Euler()
        self.solver = default if solver is None else solver
        check_solver(self.solver, limit.has_additive_noise, increments == "gaussian")
        self.limit, self.step_size, self.substeps = limit, jnp.asarray(step_size, dtype=float), substeps
        self.increments = increments

    @classmethod
    def limit_of(
        cls,
        sgd: SGD,
        *,
        order: int | str = 1,
        substeps: int | None = None,
        solver: diffrax.AbstractSolver | None = None,
        increments: str = "gaussian",
    ) -> "Langevin":
        """The limit of a chain on its clock, one step here for one step there: `limit_of_order` says which `order`.

        With s_B = 0 (the whole data in each batch) the temperature is 0 and this is gradient flow. Sub-steps are four
        by default, and 64 where the solver's weak order is below the limit's (noise that depends on x in an `order`
        beyond 1), whose correction the solver's own bias would hide.
        """
        limit = limit_of_order(sgd, order)
        if substeps is None:
            is_fine = order == 1 or (limit.has_additive_noise and solver is None)
            substeps = DEFAULT_SUBSTEPS if is_fine else FINE_SUBSTEPS
        return cls(limit, step_size=sgd.time_step, substeps=substeps, solver=solver, increments=increments)

    def halved(self) -> "Langevin":
        """The same process in twice as many sub-steps.

        With Gaussian increments and the same key it is on the same Brownian path; with three-point increments its
        draws are independent.
        """
        return Langevin(
            self.limit,
            step_size=self.step_size,
            substeps=2 * self.substeps,
            solver=self.solver,
            increments=self.increments,
        )

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
        """The solver's weak order on this diffusion: 2 for Heun's method and its like with additive noise, or 1."""
        return weak_order(self.solver, self.limit.has_additive_noise)

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless drift and diffusion are finite at x, and the noise commutes where it has to."""
        self.limit.check(x)
        if isinstance(self.solver, diffrax.ItoMilstein):
            check_commutes(self.limit, x)

    def init(self, x: Float[Array, "d P"]) -> tuple[Float[Array, "d P"], Any]:
        """The position, and what the solver keeps from one sub-step to the next: None for most."""
        return x, start_solver(self.solver, self.limit, x, self.step_size / self.substeps)

    def step(self, state: tuple[Float[Array, "d P"], Any], draws: Draws) -> tuple[Float[Array, "d P"], Any]:
        """All the sub-steps of one step, the whole cloud at once."""
        dt = self.step_size / self.substeps
        size, dtype = noise_size(self.solver, self.limit), state[0].dtype
        if self.increments == "gaussian":
            increments = brownian_pieces(draws, size, self.substeps, pieces_of(self.solver), dtype)
        else:
            increments = three_point_pieces(draws, size, self.substeps, dtype)

        def advance(state: tuple[Float[Array, "d P"], Any], pieces: Pieces) -> tuple[Float[Array, "d P"], Any]:
            return substep(self.solver, self.limit, state, CloudBrownianPath(pieces, dt))

        return over_substeps(advance, state, increments)

    def position(self, state: tuple[Float[Array, "d P"], Any]) -> Float[Array, "d P"]:
        """x."""
        return state[0]
