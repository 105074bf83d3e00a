"""Drift, diffusion and potential on many points at once, checked before anything is built from them."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.density.grid import Grid

VectorField = Callable[[Array], Array]
TensorField = Callable[[Array], Array]
ScalarField = Callable[[Array], Array]

_BATCH = 1_024  # points evaluated side by side: bounds the memory when a field is a sum over many data examples


def drift_at(drift: VectorField, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """The drift b at every point, (n, d).

    Raises:
        ValueError: if b does not return (d,), or is not finite somewhere (the point is named).
    """
    dim = points.shape[1]
    values = _evaluate(drift, points, (dim,), "drift")
    _require_finite(values, points, "drift")
    return values


def potential_at(potential: ScalarField, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """The potential ψ at every point, (n,).

    Raises:
        ValueError: if ψ does not return a scalar, or is not finite somewhere (the point is named).
    """
    values = _evaluate(potential, points, (), "potential")
    _require_finite(values, points, "potential")
    return values


def diffusion_at(diffusion: TensorField, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d d"]:
    """The diffusion tensor A at every point, (n, d, d): symmetric and positive definite, or refused.

    Raises:
        ValueError: if A does not return (d, d), or is somewhere not finite, not symmetric, not positive semidefinite,
            or singular: smallest eigenvalue ≤ 1e-12 (8 rounding units in float32) of the largest at that point.
    """
    dim = points.shape[1]
    values = _evaluate(diffusion, points, (dim, dim), "diffusion")
    if len(values) > 1 and np.all(values == values[0]):  # a constant is checked once
        return np.broadcast_to(_checked_tensor(values[:1], points[:1]), values.shape)
    return _checked_tensor(values, points)


def _checked_tensor(values: Float[np.ndarray, "n d d"], points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d d"]:
    _require_finite(values, points, "diffusion")
    rounding = _rounding()
    transposed = np.swapaxes(values, 1, 2)
    size = np.max(np.abs(values), axis=(1, 2))
    skew = np.max(np.abs(values - transposed), axis=(1, 2))
    if np.any(skew > np.sqrt(rounding) * size):
        at = np.argmax(skew > np.sqrt(rounding) * size)
        raise ValueError(f"diffusion must be symmetric, got {values[at].tolist()} at x = {points[at].tolist()}")
    values = (values + transposed) / 2
    _require_definite(values, points, floor=max(1e-12, 8 * rounding))
    return values


def slope_at(drift: VectorField, diffusion: TensorField, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """The logarithmic slope A⁻¹(b − ∇·A) at every point, (n, d), where (∇·A)_i = Σ_j ∂_j A_ij.

    It is ∇ log ρ of the density that carries no current at that point: J = (b − ∇·A)ρ − A∇ρ.

    Raises:
        ValueError: as `drift_at` and `diffusion_at`; or if ∇·A is not finite somewhere.
    """
    tensor = diffusion_at(diffusion, points)
    divergence = divergence_at(diffusion, points)
    force = drift_at(drift, points) - divergence
    return np.linalg.solve(tensor, force[..., None])[..., 0]


def divergence_at(diffusion: TensorField, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """∇·A at every point, (n, d), (∇·A)_i = Σ_j ∂_j A_ij, by forward differentiation.

    Raises:
        ValueError: if it is not finite somewhere (the point is named).
    """
    values = _evaluate(
        jax.tree_util.Partial(_divergence, diffusion), points, (points.shape[1],), "diffusion's divergence"
    )
    _require_finite(values, points, "diffusion's divergence")
    return values


def _divergence(diffusion: TensorField, x: Array) -> Array:
    return jnp.einsum("ijj->i", jax.jacfwd(lambda y: _as_float(diffusion(y)))(x))


def require_gibbs(
    drift: VectorField, diffusion: TensorField, potential: ScalarField, points: Float[np.ndarray, "n d"]
) -> None:
    """Check the declaration b − ∇·A = −A∇ψ, without which e^{−ψ} is not the steady state, at some of the points.

    Raises:
        ValueError: if it fails by more than the square root of rounding, relative to the largest drift seen.
    """
    some = points[np.unique(np.linspace(0, len(points) - 1, 257).astype(int))]  # a declaration is wrong all over
    gradient = drift_at(jax.tree_util.Partial(_gradient, potential), some)
    gibbs = -np.einsum("nij,nj->ni", diffusion_at(diffusion, some), gradient)
    force = drift_at(drift, some) - divergence_at(diffusion, some)
    miss = np.max(np.abs(force - gibbs), axis=1)
    if np.max(miss) > 10 * np.sqrt(_rounding()) * (np.max(np.abs(force)) + np.max(np.abs(gibbs))):
        at = np.argmax(miss)
        raise ValueError(
            "potential must satisfy drift = −A∇ψ + ∇·A, otherwise exp(−ψ) is not the steady state; at x = "
            f"{some[at].tolist()} drift − ∇·A = {force[at].tolist()} but −A∇ψ = {gibbs[at].tolist()}"
        )


def _gradient(potential: ScalarField, x: Array) -> Array:
    return jax.grad(lambda y: _as_float(potential(y)))(x)


def require_periodic(
    grid: Grid, drift: VectorField, diffusion: TensorField, potential: ScalarField | None = None
) -> None:
    """Check on a few points that all fields are the same at both ends of each periodic axis.

    Raises:
        ValueError: if one differs by more than the square root of rounding, relative to its size there.
    """
    fields: list[tuple[str, Callable, Callable]] = [("drift", drift_at, drift), ("diffusion", diffusion_at, diffusion)]
    if potential is not None:  # a ring may be pushed round by a constant force, which has no potential on it
        fields.append(("potential", potential_at, potential))
    for axis in np.nonzero(np.asarray(grid.periodic))[0]:
        low = grid.centres.reshape(-1, grid.dim)[:: max(1, grid.num_cells // 64)].copy()
        low[:, axis] = grid.lower[axis]
        high = low.copy()
        high[:, axis] = grid.upper[axis]
        for name, field_at, field in fields:
            ends = [field_at(field, points).reshape(len(low), -1) for points in (low, high)]
            gap, size = np.max(np.abs(ends[0] - ends[1]), axis=1), np.max(np.abs(ends))
            if np.max(gap) > 10 * np.sqrt(_rounding()) * size:
                at = np.argmax(gap)
                raise ValueError(
                    f"{name} must be periodic along axis {axis}, as the grid is, got {ends[0][at].tolist()} at x = "
                    f"{low[at].tolist()} and {ends[1][at].tolist()} at x = {high[at].tolist()}"
                )


def _evaluate(
    function: Callable[[Array], Array], points: Float[np.ndarray, "n d"], shape: tuple[int, ...], name: str
) -> Float[np.ndarray, "n *shape"]:
    """`function` on every point in jax's default float, as float64 on the host.

    Always in batches of one size, so that a field is compiled once for all grids, lattices and temperatures.
    """
    count, dim = points.shape
    inputs = np.pad(points, ((0, -count % _BATCH), (0, 0)), mode="edge").astype(jnp.asarray(0.0).dtype)
    values = []
    for batch in inputs.reshape(-1, _BATCH, dim):
        values.append(_on_batch(function, jnp.asarray(batch)))
        if values[-1].shape[1:] != shape:
            raise ValueError(f"{name} must map x of shape {(dim,)} to shape {shape}, got {values[-1].shape[1:]}")
    return np.concatenate([np.asarray(v, dtype=np.float64) for v in values])[:count]


@eqx.filter_jit
def _on_batch(function: Callable[[Array], Array], points: Float[Array, "n d"]) -> Array:
    return jax.vmap(lambda x: _as_float(function(x)))(points)


def _as_float(value: object) -> Array:
    return jnp.asarray(value, dtype=float)


def _rounding() -> float:
    """The rounding unit of the arithmetic that fields are evaluated in."""
    return float(jnp.finfo(jnp.asarray(0.0).dtype).eps)


def _require_finite(values: Float[np.ndarray, "n *shape"], points: Float[np.ndarray, "n d"], name: str) -> None:
    finite = np.all(np.isfinite(values).reshape(len(values), -1), axis=1)
    if not np.all(finite):
        at = np.argmin(finite)
        raise ValueError(f"{name} must be finite on the grid, got {values[at].tolist()} at x = {points[at].tolist()}")


def _require_definite(values: Float[np.ndarray, "n d d"], points: Float[np.ndarray, "n d"], floor: float) -> None:
    eigenvalues = np.linalg.eigvalsh(values)
    smallest, largest = eigenvalues[:, 0], np.max(np.abs(eigenvalues), axis=1)
    if np.any(smallest < -floor * largest):
        at = np.argmax(smallest < -floor * largest)
        raise ValueError(
            f"diffusion must be positive semidefinite, got eigenvalues {eigenvalues[at].tolist()} "
            f"at x = {points[at].tolist()}"
        )
    if np.any(smallest <= floor * largest):
        at = np.argmax(smallest <= floor * largest)
        raise ValueError(
            f"diffusion is singular at x = {points[at].tolist()}: its eigenvalues are {eigenvalues[at].tolist()}. "
            "A singular diffusion has no density on a grid; the honest cure is isotropic gradient noise in the problem "
            "(`Perturbed`), which every description sees; or give regularisation=ε, which adds εI here alone"
        )
