"""The loss's curvature: Hessians, minima and the widths of the steady state around them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Key

from sgdsim import theory
from sgdsim.draws import Draws, Words
from sgdsim.problems.problem import Problem, loss_and_gradient

ROWS = 32  # Hessian-vector products held at a time


def hessian(problem: Problem, x: Float[np.ndarray | Array, " d"]) -> Float[np.ndarray, "d d"]:
    """∇²f(x) from d Hessian-vector products, a few at a time so that memory stays O(d) passes over the data."""
    return np.asarray(_hessian(problem, jnp.asarray(x, dtype=float)), dtype=float)


@eqx.filter_jit
def _hessian(problem: Problem, x: Float[Array, " d"]) -> Float[Array, "d d"]:
    def row(v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jax.jvp(problem.gradient, (x,), (v,))[1]

    return jax.lax.map(row, jnp.eye(x.size, dtype=x.dtype), batch_size=ROWS)


def minima(problem: Problem, starts: Float[np.ndarray, "n d"], tolerance: float = 1e-3) -> Float[np.ndarray, "m d"]:
    """The distinct minima of the loss that BFGS finds from the starting points, (m, d); none where it stops elsewhere.

    Two ends are one minimum when they are closer than `tolerance` of the starts' spread; an end where the Hessian is
    not positive definite is no minimum.
    """

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = loss_and_gradient(problem, jnp.asarray(x, dtype=float))
        return float(loss), np.asarray(gradient, dtype=float)

    scale = max(float(np.ptp(starts, axis=0).max(initial=0)), 1e-6)
    found: list[np.ndarray] = []
    for start in np.asarray(starts, dtype=float):
        end = scipy.optimize.minimize(objective, start, jac=True, method="BFGS").x
        is_new = all(np.linalg.norm(end - other) > tolerance * scale for other in found)
        if is_new and np.all(np.isfinite(end)) and np.linalg.eigvalsh(hessian(problem, end))[0] > 0:
            found.append(end)
    return np.array(found).reshape(-1, starts.shape[1])


def steady_widths(problem: Problem, minimum: Float[np.ndarray, " d"], temperature: float) -> Float[np.ndarray, " d"]:
    """Width of the limit's steady state at a minimum along each axis with the others held, (d,), in units of x.

    With S the solution of K S + S K = 2T D(x*), this is 1/√(S⁻¹)ᵢᵢ: √(T D/k) in one dimension, and the narrowest that a
    grid's cells must resolve along axis i. Zero where D is singular there.
    """
    covariance = theory.ou_stationary_covariance(
        hessian(problem, minimum),
        np.asarray(problem.noise_covariance(jnp.asarray(minimum)), dtype=float),
        2 * temperature,
    )
    values, vectors = np.linalg.eigh(covariance)
    if values[0] <= 1e-12 * values[-1]:
        return np.zeros(len(minimum))
    return 1 / np.sqrt(np.sum(vectors**2 / values, axis=1))


def noise_curvature(
    problem: Problem, x: Float[np.ndarray | Array, "*batch d"], *, key: Key[Array, ""] | None = None
) -> Float[np.ndarray, "*batch"]:
    """Tr(D(x)∇²f(x)) at one particle or at many: how fast noise lifts the loss, d⟨f⟩ = … + T ⟨Tr(D∇²f)⟩ dt.

    Exact, by d Hessian-vector products, where the noise has a dense root. Elsewhere (a network) one unbiased estimate
    zᵀ∇²f z for each particle, with z = √D ξ and ξ standard normals: E zᵀ∇²f z = Tr(D∇²f), of variance 2 Tr((D∇²f)²).

    Args:
        problem: the loss and its noise.
        x: where, (d,) or (..., d). A particle that has diverged reads NaN.
        key: a typed `jax.random.key` for ξ; needed only where the root is not dense.

    Raises:
        ValueError: if the noise has no covariance, or the key is missing where the root is not dense.

    Source: Hutchinson (1990) for the estimate.
    """
    problem.require_covariance()
    points = jnp.asarray(x, dtype=float).reshape(-1, problem.dim)
    if problem.has_dense_root:
        values = _noise_curvature(problem, points)
    elif key is None:
        raise ValueError(f"key must be given where the noise has no dense root, got none for d = {problem.dim}")
    else:
        values = _sampled_noise_curvature(problem, points, Draws.of(key, np.arange(len(points))))
    return np.asarray(values, dtype=float).reshape(np.shape(x)[:-1])


@eqx.filter_jit
def _noise_curvature(problem: Problem, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    def trace(y: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.sum(problem.noise_covariance(y) * _hessian(problem, y))

    return jax.lax.map(trace, x, batch_size=ROWS)


@eqx.filter_jit
def _sampled_noise_curvature(problem: Problem, x: Float[Array, "n d"], draws: Draws) -> Float[Array, " n"]:
    def sample(place: tuple[Float[Array, " d"], tuple[Words, ...]]) -> Float[Array, ""]:
        y, keys = place
        xi = Draws(jax.tree.map(lambda word: word[None], keys), draws.step).normals(problem.noise_size, dtype=y.dtype)
        z = problem.noise(y[:, None], xi)[:, 0]
        return jnp.sum(z * jax.jvp(problem.gradient, (y,), (z,))[1])

    return jax.lax.map(sample, (x, draws.keys), batch_size=ROWS)
