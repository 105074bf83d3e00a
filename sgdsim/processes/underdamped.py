"""Underdamped Langevin: the continuum limit of SGD with heavy-ball momentum that keeps the momentum."""

import dataclasses
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.covariance import apply_matrix_root, host_root
from sgdsim.draws import Draws
from sgdsim.problems.problem import Problem
from sgdsim.processes.brownian import CloudBrownianPath, Pieces, brownian_pieces, check_substeps, over_substeps
from sgdsim.processes.langevin import DEFAULT_SUBSTEPS
from sgdsim.processes.sgd import SGD
from sgdsim.processes.solvers import UNDERDAMPED, pieces_of

State = tuple[Float[Array, "d *P"], Float[Array, "d *P"]]


class Underdamped(eqx.Module):
    """dX = V ds,  dV = −γV ds − ∇f(X) ds + √(2γT D(X)) dW: a particle of mass 1, the limit of heavy-ball SGD.

    **Derivation.** With h = √η and V = −hv, the chain v ← μv + g, x ← x − ηv reads

        V ← V − (1−μ) V − h g,    x ← x + h V,

    an Euler step of length h, in a time s of its own, of a particle of mass 1 in the potential f, with the friction
    γ = (1−μ)/√η. The gradient's noise adds a covariance h² s_B D/B to V, which is 2γT D h for the temperature

        T = s_B η/(2B(1−μ)) = s_B η_e/(2B),

    that of the overdamped limit. One step is √η of the time s and η_e of the common clock, t = s√η/(1−μ).

    **Why γ = (1−μ)/√η and not −log μ/√η.** The second lets V decay by exactly μ in a step, but a particle on a slope
    then moves by η/(−log μ) a step, where SGD moves by η_e: as η → 0 at fixed μ it does not tend to the overdamped
    limit, as SGD does. Errors in E x² on a quadratic (k = C = B = 1, x₀ = 1, η_e = .05, t = 1), computed exactly: for
    μ = .9 +.024 against +.036 (and −.091 for the overdamped limit), for μ = .5 +.008 against +.113 (overdamped +.006).

    As η → 0 at fixed γ its weak error is O(√η). It has a steady state of its own: on a quadratic the overdamped
    limit's variance ηC/(2k(1−μ)), where the chain has ηC/(k(1−μ)(2 − ηk/(1+μ))).

    **Stepping.** Where D = LLᵀ is constant and regular, L its symmetric root, diffrax's own solvers step y = L⁻¹x:
    noise is isotropic there, of friction γ and u = T, and L⁻¹∇f(Ly)/T takes the place of their ∇f. For D(x), a singular
    D, or T = 0 the step is Strang's splitting, of one gradient and one noise a sub-step, in one pass over the data:

        x += (h/2)V,    V ← e^{−γh} V − (1 − e^{−γh})/γ ∇f(x) + √(T(1 − e^{−2γh})) √D(x) ξ,    x += (h/2)V.

    Each part is exact by itself, so that the weak order is 2; V alone feels noise, while x rests, so Itô's and
    Stratonovich's equation are the same.

    `halved()` takes twice as many sub-steps **on the same Brownian path**. W of a whole step is SGD's own normal, which
    couples this limit with the chain under the same key.

    Build with `Underdamped.limit_of(sgd)`.

    Source: Kovachki and Stuart, "Continuous time analysis of momentum methods", JMLR 22 (2021), for the limit without
    noise; Foster, Lyons, Oberhauser, "The shifted ODE method for underdamped Langevin MCMC" (2021), for the solvers;
    Melchionna, J. Chem. Phys. 127, 044108 (2007), for the splitting, "stochastic position Verlet".
    """

    problem: Problem
    learning_rate: Float[Array, ""]
    momentum: Float[Array, ""]
    temperature: Float[Array, ""]
    root: Float[Array, " d"] | Float[Array, "d d"]  # L and its inverse; ones for the splitting
    inverse: Float[Array, " d"] | Float[Array, "d d"]
    substeps: int = eqx.field(static=True)
    solver: diffrax.AbstractSolver | None  # None for the splitting

    @classmethod
    def limit_of(
        cls, sgd: SGD, *, substeps: int = DEFAULT_SUBSTEPS, solver: diffrax.AbstractSolver | str | None = None
    ) -> "Underdamped":
        """The limit of a chain with momentum, one step here for one step there.

        Args:
            sgd: the chain, μ > 0.
            substeps: sub-steps of one step, a power of two.
            solver: `diffrax.ALIGN()`, `ShOULD()` or `QUICSORT()` where D is constant and regular and T > 0, or
                `"splitting"`; by default ALIGN where it can be, and the splitting elsewhere.

        Raises:
            ValueError: on a chain without momentum or noise without covariance, or a solver that cannot step this.
        """
        if not isinstance(sgd, SGD):
            raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
        if not sgd.has_momentum:
            raise ValueError("momentum must be positive for the underdamped limit, got 0: use Langevin.limit_of(sgd)")
        check_substeps(substeps)
        sgd.problem.require_covariance()
        root, wanting = _noise_root(sgd)
        if solver is None:
            solver = "splitting" if wanting else diffrax.ALIGN()
        if isinstance(solver, str):
            if solver != "splitting":
                raise ValueError(f"solver must be 'splitting' or a solver of diffrax, got {solver!r}")
            root, solver = np.ones(sgd.dim), None
        elif not isinstance(solver, UNDERDAMPED):
            raise ValueError(f"solver must be ALIGN, ShOULD or QUICSORT of diffrax, got {type(solver).__name__}")
        elif wanting:
            raise ValueError(f"solver must be 'splitting' here: {type(solver).__name__} needs {wanting}")
        return cls(
            problem=sgd.problem,
            learning_rate=sgd.learning_rate,
            momentum=sgd.momentum,
            temperature=jnp.asarray(sgd.temperature),
            root=jnp.asarray(root),
            inverse=jnp.asarray(1 / root if root.ndim == 1 else np.linalg.inv(root)),
            substeps=substeps,
            solver=solver,
        )

    def halved(self) -> "Underdamped":
        """The same process in twice as many sub-steps, on the same Brownian path when it is run with the same key."""
        return dataclasses.replace(self, substeps=2 * self.substeps)

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.problem.dim

    @property
    def time_step(self) -> Float[Array, ""]:
        """One step's share of the common clock, η_e."""
        return self.learning_rate / (1 - self.momentum)

    @property
    def own_time_step(self) -> Float[Array, ""]:
        """One step's share of the particle's own time s, √η."""
        return jnp.sqrt(self.learning_rate)

    @property
    def friction(self) -> Float[Array, ""]:
        """γ = (1−μ)/√η."""
        return (1 - self.momentum) / self.own_time_step

    @property
    def weak_order(self) -> int:
        """2 for ALIGN and the splitting, 3 for ShOULD and QUICSORT, whose strong orders are as high."""
        return 3 if isinstance(self.solver, diffrax.ShOULD | diffrax.QUICSORT) else 2

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless the loss and its gradient are finite at x."""
        self.problem.check(x)

    def init(self, x: Float[Array, "d P"]) -> State:
        """The state (L⁻¹x, L⁻¹V), or (x, V) for the splitting; V = 0 at the start, as SGD's v."""
        return apply_matrix_root(self.inverse, x), jnp.zeros_like(x)

    def step(self, state: State, draws: Draws) -> State:
        """All the sub-steps of one step, the whole cloud at once."""
        dtype = state[0].dtype
        if self.solver is None:
            increments = brownian_pieces(draws, self.problem.noise_size, self.substeps, 1, dtype)
            return over_substeps(self._split, state, increments)
        increments = brownian_pieces(draws, self.dim, self.substeps, pieces_of(self.solver), dtype)
        # Particle by particle: diffrax would make the solver's coefficients, functions of γ and h, for each of a cloud.
        return jax.vmap(lambda *one: self._solve(self.solver, *one), -1, -1)(state, increments)

    def position(self, state: State) -> Float[Array, "d P"]:
        """x."""
        return apply_matrix_root(self.root, state[0])

    def _split(self, state: State, pieces: Pieces) -> State:
        """One sub-step of the splitting, of the whole cloud."""
        (x, v), h, friction = state, self.own_time_step / self.substeps, self.friction
        lost, spread = -jnp.expm1(-friction * h), -jnp.expm1(-2 * friction * h)
        x = x + h / 2 * v
        kick = self.problem.langevin_increment(x, pieces[0], lost / friction, jnp.sqrt(self.temperature * spread))
        v = v - lost * v + kick
        return x + h / 2 * v, v

    def _solve(self, solver: Any, state: State, increments: list[Pieces]) -> State:
        """All the sub-steps of one particle by a solver of diffrax."""
        h, friction, temperature = self.own_time_step / self.substeps, self.friction, self.temperature
        start = jnp.zeros_like(h)
        drift = diffrax.UnderdampedLangevinDriftTerm(friction, temperature, self._field)

        def terms(pieces: Pieces) -> diffrax.MultiTerm:
            path = CloudBrownianPath(pieces, h)
            return diffrax.MultiTerm(drift, diffrax.UnderdampedLangevinDiffusionTerm(friction, temperature, path))

        def advance(carry: Any, pieces: Pieces) -> Any:
            after, _, _, kept, _ = solver.step(terms(pieces), start, h, carry[0], None, carry[1], False)
            return after, kept

        # begun anew at each step, so that nothing of γ and h is carried over from the step before
        kept = solver.init(terms(increments[0]), start, h, state, None)
        return over_substeps(advance, (state, kept), increments)[0]

    def _field(self, y: Float[Array, " d"], args: Any) -> Float[Array, " d"]:
        """L⁻¹∇f(Ly)/T, which takes the place of ∇f."""
        return (
            apply_matrix_root(self.inverse, self.problem.gradient(apply_matrix_root(self.root, y))) / self.temperature
        )


def _noise_root(sgd: SGD) -> tuple[np.ndarray, str]:
    """The symmetric root of a constant, regular D, (d,) where it is diagonal; or ones, and what is wanting."""
    ones = np.ones(sgd.dim)
    if not sgd.problem.has_additive_noise:
        return ones, "a D that does not depend on x"
    if float(sgd.temperature) == 0:
        return ones, "a positive temperature"
    matrix = np.asarray(sgd.problem.noise_covariance(jnp.zeros(sgd.dim)), dtype=np.float64)
    values = np.linalg.eigvalsh(matrix)
    if values[0] <= 1e-6 * values[-1]:
        return ones, f"a regular D, and its eigenvalues go from {values[0]:g} to {values[-1]:g}"
    diagonal = np.array_equal(matrix, np.diag(np.diag(matrix)))
    return host_root(np.diag(matrix) if diagonal else matrix), ""
