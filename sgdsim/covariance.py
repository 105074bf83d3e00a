"""Covariances as users give them, a variance (), variances (d,) or a matrix (d, d), and their square roots."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def check_covariance(name: str, value: np.ndarray) -> None:
    """Raise ValueError unless `value` is a finite variance (), variances (d,) or covariance matrix (d, d)."""
    if value.ndim > 2 or (value.ndim == 2 and value.shape[0] != value.shape[1]):
        raise ValueError(f"{name} must be a scalar, (d,), (d, d) or a callable x -> (d, d), got shape {value.shape}")
    if not np.all(np.isfinite(value)):
        raise ValueError(f"{name} must be finite, got {value.tolist()}")
    if value.ndim < 2:
        smallest = float(np.min(value, initial=0.0))
    else:
        if not np.allclose(value, value.T, rtol=1e-6, atol=1e-12 * max(1.0, float(np.max(np.abs(value))))):
            raise ValueError(f"{name} must be symmetric, got {value.tolist()}")
        smallest = float(np.linalg.eigvalsh(value)[0])
    if smallest < -1e-6 * max(1.0, float(np.max(np.abs(value)))):
        raise ValueError(f"{name} must be positive semidefinite, got a smallest eigenvalue of {smallest:g}")


def check_matrix(name: str, value: Array, dim: int) -> None:
    """Raise ValueError unless a field's value at a point is a covariance matrix (d, d)."""
    matrix = np.asarray(value, dtype=float)
    if matrix.shape != (dim, dim):
        raise ValueError(f"{name} must map ({dim},) to ({dim}, {dim}), got shape {matrix.shape}")
    check_covariance(name, matrix)


def host_root(value: np.ndarray) -> np.ndarray:
    """The symmetric square root of a checked covariance, in the form it was given in, in float64."""
    if value.ndim < 2:
        return np.asarray(np.sqrt(np.maximum(value, 0)))
    values, vectors = np.linalg.eigh(value)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def apply_matrix_root(
    root: Float[Array, ""] | Float[Array, " d"] | Float[Array, "d d"], xi: Float[Array, "d *P"]
) -> Float[Array, "d *P"]:
    """A root in any of the three forms, applied to one vector or to a cloud of them, coordinates first."""
    if root.ndim == 2:
        return root @ xi
    return root * xi if xi.ndim == 1 else root[..., None] * xi


def symmetric_absolute(matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """|M| of a symmetric M: its eigenvectors, with the absolute values of its eigenvalues.

    Closed in 1-D and 2-D: ±M where det M ≥ 0, else (M² + |det M| I)/√(Tr M² + 2|det M|). No small eigenvalue is lost
    beside a large one, as it would be in √(M²).
    """
    dim = matrix.shape[0]
    if dim == 1:
        return jnp.abs(matrix)
    if dim == 2:
        determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
        square, size = matrix @ matrix, jnp.abs(determinant)
        scale = jnp.sqrt(jnp.trace(square) + 2 * size)
        mixed = (square + size * jnp.eye(2, dtype=matrix.dtype)) / jnp.where(scale > 0, scale, 1)
        return jnp.where(determinant >= 0, jnp.where(jnp.trace(matrix) >= 0, matrix, -matrix), mixed)
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.abs(values)) @ vectors.T


def symmetric_square_root(matrix: Float[Array, "d d *P"]) -> Float[Array, "d d *P"]:
    """The positive semidefinite S with S S = M, for a symmetric positive semidefinite M, or for a cloud of them.

    Closed in 1-D and 2-D, where it is elementwise and so fuses into a cloud's step: S = (M + √det M · I)/√(Tr M + 2√det
    M). By eigenvectors beyond. Unlike Cholesky's factor it exists, and is continuous, where M is singular.
    """
    dim = matrix.shape[0]
    if dim == 1:
        return jnp.sqrt(jnp.maximum(matrix, 0))
    if dim == 2:
        determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]
        root = jnp.sqrt(jnp.maximum(determinant, 0))
        scale = jnp.sqrt(matrix[0, 0] + matrix[1, 1] + 2 * root)
        identity = jnp.eye(2, dtype=matrix.dtype).reshape(2, 2, *[1] * (matrix.ndim - 2))
        return (matrix + root * identity) / jnp.where(scale > 0, scale, 1)
    values, vectors = jnp.linalg.eigh(jnp.moveaxis(matrix, (0, 1), (-2, -1)))
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0))[..., None, :]) @ vectors.mT
    return jnp.moveaxis(root, (-2, -1), (0, 1))


def apply_own_root(matrix: Float[Array, "d d P"], xi: Float[Array, "d P"]) -> Float[Array, "d P"]:
    """S ξ for each particle, S being the root of its own matrix: a sum over columns, particles last throughout."""
    root = symmetric_square_root(matrix)
    return sum((root[:, i] * xi[i] for i in range(1, len(xi))), root[:, 0] * xi[0])
