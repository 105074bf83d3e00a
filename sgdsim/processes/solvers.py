"""diffrax's SDE solvers on a whole cloud: which may step it, what they ask of its path, and how good they are."""

from functools import partial
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.covariance import symmetric_square_root
from sgdsim.processes.brownian import VARIANCES, CloudBrownianPath
from sgdsim.processes.limits import AbstractDiffusion

PROBES = 64  # places at which noise is looked at for whether it commutes
UNDERDAMPED = diffrax.ALIGN | diffrax.ShOULD | diffrax.QUICSORT


def check_solver(solver: diffrax.AbstractSolver, additive: bool, gaussian: bool = True) -> None:
    """Raise ValueError, with the reason, unless the solver converges to the Itô solution on a whole cloud."""
    if not isinstance(solver, diffrax.AbstractSolver):
        raise TypeError(f"solver must be a diffrax solver, got {type(solver).__name__}")
    name = type(solver).__name__
    if isinstance(solver, diffrax.AbstractWrappedSolver):  # before all else: it passes for the solver that it wraps
        raise ValueError(f"solver must take a sub-step as one; {name} asks for the path inside it: halve the sub-steps")
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        raise ValueError(f"solver must be explicit: the root finder of {name} would make particles depend on others")
    if isinstance(solver, UNDERDAMPED):
        raise ValueError(f"solver must be one for the overdamped equation; {name} is for Underdamped.limit_of(sgd)")
    ito, stratonovich = (
        isinstance(solver, kind) for kind in (diffrax.AbstractItoSolver, diffrax.AbstractStratonovichSolver)
    )
    if not (ito or stratonovich or isinstance(solver, diffrax.AbstractERK)):
        raise ValueError(f"solver must be one for stochastic differential equations; {name} is for ordinary ones")
    if not (ito or additive):
        raise ValueError(f"solver must converge to the Itô solution where the noise depends on x; {name} does not")
    if not gaussian and pieces_of(solver) > 1:
        raise ValueError(f"increments must be 'gaussian' for {name}: it needs Lévy areas, and three-point has none")


def pieces_of(solver: diffrax.AbstractSolver) -> int:
    """How much the solver must know of a sub-step: 1 for W, 2 for W and H, 3 for W, H and K."""
    kind = getattr(solver, "minimal_levy_area", diffrax.AbstractBrownianIncrement)
    if issubclass(kind, diffrax.AbstractSpaceTimeTimeLevyArea):
        return 3
    return 2 if issubclass(kind, diffrax.AbstractSpaceTimeLevyArea) else 1


def noise_size(solver: diffrax.AbstractSolver, limit: AbstractDiffusion) -> int:
    """How many Brownian motions drive one particle: for Milstein's method one for each coordinate."""
    return limit.dim if isinstance(solver, diffrax.ItoMilstein) else limit.noise_size


def weak_order(solver: diffrax.AbstractSolver, additive: bool) -> int:
    """The solver's weak order on such a diffusion, 1 or 2.

    With additive noise let a Runge–Kutta method be x₁ = x + h Σ b_i f_i + σW with the stages f_i = f(x + h c_i f + σN_i
    + …). Its weak order is 2 if the moments of x₁ − x fit those of the solution to h²: E = hf + h²/2 (f'f + σ²f''/2),
    and Var = hσ² + h²f'σ². These ask for

        Σ b_i c_i = 1/2,    Σ b_i E[N_i W] = h/2,    Σ b_i E[N_i²] = h/2.

    With W alone N_i = c_i W, and the last reads Σ b_i c_i² = 1/2: true of Heun's method, but no method of ODE order 3
    or more can have it (there it is 1/3), nor has Midpoint or Ralston: they are of weak order 1 unless f is linear.
    """
    if not additive:
        return 1
    if isinstance(solver, diffrax.ReversibleHeun):
        return 2  # Heun's weights, from a companion that lies O(h) away
    if isinstance(solver, diffrax.AbstractSRK):
        tableau = solver.tableau
        levels = [tableau.coeffs_w, tableau.coeffs_hh, tableau.coeffs_kk]
        noise = np.array([_stage_sums(level.a) for level in levels if level is not None])
    elif (tableau := explicit_tableau(solver)) is not None:
        noise = _stage_sums(tableau.a_lower)[None]
    else:
        return 1
    b, c = np.asarray(tableau.b_sol), np.concatenate([[0.0], tableau.c])
    squares = np.asarray(VARIANCES[: len(noise)]) @ noise**2
    return 2 if np.allclose([b @ c, b @ noise[0], b @ squares], 0.5, rtol=1e-6) else 1


def _stage_sums(rows: Any) -> Float[np.ndarray, " s"]:
    """Each stage's sum of a tableau's rows; a plain array holds the sums already."""
    if isinstance(rows, np.ndarray):
        return rows
    return np.array([0.0, *(np.sum(row) for row in rows)])


def start_solver(
    solver: diffrax.AbstractSolver, limit: AbstractDiffusion, x: Float[Array, "d P"], dt: Float[Array, ""]
) -> Any:
    """The solver's own state for a cloud at x; None where it has none."""
    if isinstance(solver, diffrax.Euler | diffrax.ItoMilstein) or explicit_tableau(solver) is not None:
        return None
    size = noise_size(solver, limit)
    path = CloudBrownianPath(tuple(jnp.zeros((size, 1), x.dtype) for _ in range(pieces_of(solver))), dt)
    return solver.init(_terms(solver, limit, path, x), jnp.zeros_like(dt), dt, x, None)


# Compiled into the step that calls it; as a function of its own it is traced once, and not for each sub-step.
@partial(eqx.filter_jit, inline=True)
def substep(
    solver: diffrax.AbstractSolver,
    limit: AbstractDiffusion,
    state: tuple[Float[Array, "d P"], Any],
    path: CloudBrownianPath,
) -> tuple[Float[Array, "d P"], Any]:
    """One sub-step of a whole cloud. The fields do not depend on time, so each may call its own interval [0, h]."""
    x, kept = state
    start = jnp.zeros_like(path.dt)
    if isinstance(solver, diffrax.ItoMilstein):
        after = _milstein(solver, limit, x, path)
    elif (tableau := explicit_tableau(solver)) is not None:
        after = _runge_kutta(tableau, limit, x, path)
    else:
        after, _, _, kept, _ = solver.step(_terms(solver, limit, path, x), start, path.dt, x, None, kept, False)
    return after.astype(x.dtype), kept


def explicit_tableau(solver: diffrax.AbstractSolver) -> diffrax.ButcherTableau | None:
    """The tableau of an explicit Runge–Kutta method that has a single one, such as `Heun`; None of all others."""
    tableau = solver.tableau if isinstance(solver, diffrax.AbstractERK) else None
    return tableau if isinstance(tableau, diffrax.ButcherTableau) else None


def _runge_kutta(
    tableau: diffrax.ButcherTableau, limit: AbstractDiffusion, x: Float[Array, "d P"], path: CloudBrownianPath
) -> Float[Array, "d P"]:
    """x + Σ bᵢ kᵢ, with kᵢ the increment at x + Σ aᵢⱼ kⱼ: diffrax's tableau and its arithmetic, written out.

    diffrax loops over the stages and keeps them in a buffer, which on a toy takes 2.4 times as long. Fields here do not
    depend on time, so every stage has the whole control (h, W).
    """
    control = path.dt, path.evaluate(0, path.dt)
    stages = [limit.increment(x, *control)]
    for row in tableau.a_lower:
        stages.append(limit.increment(x + _combined(row, stages), *control))
    return x + _combined(tableau.b_sol, stages)


def _combined(weights: Any, stages: list[Float[Array, "d P"]]) -> Float[Array, "d P"]:
    terms = [float(weight) * stage for weight, stage in zip(weights, stages, strict=True) if weight]
    return sum(terms[1:], terms[0])


def _terms(
    solver: diffrax.AbstractSolver, limit: AbstractDiffusion, path: CloudBrownianPath, x: Float[Array, "d P"]
) -> diffrax.AbstractTerm:
    """Drift and noise in one pass where the solver only multiplies fields with controls; as two terms elsewhere."""
    if isinstance(solver, diffrax.Euler | diffrax.AbstractERK):
        return _OneTerm(limit, path)
    return diffrax.MultiTerm(_DriftTerm(limit), _NoiseTerm(limit, path, x))


class _OneTerm(diffrax.AbstractTerm):
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


class _DriftTerm(diffrax.AbstractTerm):
    """b(x) dt of a whole cloud."""

    limit: AbstractDiffusion

    def vf(self, t: Any, y: Float[Array, "d P"], args: Any) -> Float[Array, "d P"]:
        return jax.vmap(self.limit.drift, 1, 1)(y)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return t1 - t0

    def prod(self, vf: Float[Array, "d P"], control: Any) -> Float[Array, "d P"]:
        return vf * control


class _NoiseTerm(diffrax.AbstractTerm):
    """√(2A) dW of a whole cloud, A constant: bilinear in (1, dW), whatever the solver does with fields and controls."""

    limit: AbstractDiffusion
    path: CloudBrownianPath
    at: Float[Array, "d P"]  # where the sub-step began: the noise is the same everywhere

    def vf(self, t: Any, y: Float[Array, "d P"], args: Any) -> Float[Array, "1 P"]:
        return jnp.ones((1, y.shape[1]), y.dtype)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return self.path.evaluate(t0, t1, **kwargs)

    def prod(self, vf: Float[Array, "1 P"], control: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return vf * self.limit.noise(self.at, control)


def _milstein(
    solver: diffrax.AbstractSolver, limit: AbstractDiffusion, x: Float[Array, "d P"], path: CloudBrownianPath
) -> Float[Array, "d P"]:
    """Milstein's step, particle by particle: on a whole cloud diffrax would write out the noise's (d, P, d, P)."""

    def one(y: Float[Array, " d"], w: Float[Array, " d"]) -> Float[Array, " d"]:
        drift = diffrax.ODETerm(lambda t, z, args: limit.drift(z))
        noise = diffrax.ControlTerm(lambda t, z, args: _commuting_root(limit, z), lambda t0, t1: w)
        terms = diffrax.MultiTerm(drift, noise)
        return solver.step(terms, jnp.zeros_like(path.dt), path.dt, y, None, None, False)[0]

    return jax.vmap(one, (1, 1), 1)(x, path.evaluate(0, path.dt))


def _commuting_root(limit: AbstractDiffusion, x: Float[Array, " d"]) -> Float[Array, "d d"]:
    """√(2A(x)): constant, or diagonal. A coordinate without noise has a root with a derivative, too: 0."""
    matrix = 2 * limit.diffusion(x)
    if limit.has_additive_noise:
        return symmetric_square_root(matrix)
    variance = jnp.diag(matrix)
    noisy = variance > 0
    return jnp.diag(jnp.where(noisy, jnp.sqrt(jnp.where(noisy, variance, 1)), 0))


def check_commutes(limit: AbstractDiffusion, x: Float[Array, " d"]) -> None:
    """Raise ValueError unless A is diagonal and each A_ii depends on x_i alone, at x and many places near and far.

    What it is elsewhere is not seen.

    Then the noises of two coordinates commute, Σ_k σ_ki ∂_k σ_lj = Σ_k σ_kj ∂_k σ_li, and Milstein's method has its
    strong order 1 without the Lévy areas of pairs of Brownian motions. In 1-D it is always so.
    """
    if limit.has_additive_noise or limit.dim == 1:
        return
    off = ~np.eye(limit.dim, dtype=bool)
    at = jax.jit(lambda y: (limit.diffusion(y), jax.jacfwd(lambda z: jnp.diag(limit.diffusion(z)))(y)))
    offsets = np.random.default_rng(0).uniform(-1, 1, (PROBES, limit.dim)) * np.geomspace(0.1, 10, PROBES)[:, None]
    for offset in offsets:
        for matrix in at(x + jnp.asarray(offset, x.dtype) * (1 + jnp.abs(x))):
            value = np.asarray(matrix, dtype=float)
            if not np.max(np.abs(value[off])) <= 1e-5 * np.max(np.abs(value)):
                raise ValueError(
                    "solver must not be ItoMilstein here: it needs noise that commutes, a diagonal A(x) of which each "
                    "entry depends on its own coordinate; use diffrax.Euler"
                )
