"""The loss's curvature: Hessians, minima and the widths of the steady state around them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float

from sgdsim import theory
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
