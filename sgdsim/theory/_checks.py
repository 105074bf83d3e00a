"""What the laws ask of their arguments: each function passes or returns what is right and names what is not."""

import math

import numpy as np
from jaxtyping import Array, Float

Matrix = Float[np.ndarray | Array, "d d"]
Vector = Float[np.ndarray | Array, " d"]


def require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def require_not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def require_momentum(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")


def require_batch_size(name: str, value: int) -> None:
    if not value >= 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def require_stable(name: str, value: float, bound: str, limit: float) -> None:
    """A learning rate's name and value, and the bound that it must stay below, in symbols and as a number."""
    require_positive(name, value)
    if value >= limit:
        raise ValueError(f"{name} must stay below {bound} = {limit:g}, got {value}: the chain diverges")


def as_vector(name: str, vector: Vector, dim: int) -> Float[np.ndarray, " d"]:
    host = np.asarray(vector, dtype=np.float64)
    if host.shape != (dim,) or not np.all(np.isfinite(host)):
        raise ValueError(f"{name} must be finite and of shape {(dim,)}, got {host.tolist()}")
    return host


def as_square(name: str, matrix: Matrix) -> Float[np.ndarray, "d d"]:
    host = np.asarray(matrix, dtype=np.float64)
    if host.ndim != 2 or host.shape[0] != host.shape[1] or not np.all(np.isfinite(host)):
        raise ValueError(f"{name} must be a finite square matrix (d, d), got shape {host.shape}")
    return host


def as_covariance(name: str, matrix: Matrix, shape: tuple[int, ...]) -> Float[np.ndarray, "d d"]:
    host = as_square(name, matrix)
    size = float(np.max(np.abs(host), initial=0.0))
    if host.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {host.shape}")
    if not np.allclose(host, host.T, rtol=0, atol=1e-6 * size):  # float32 input is symmetric to 1e-7
        raise ValueError(f"{name} must be symmetric, got {host.tolist()}")
    smallest = float(np.linalg.eigvalsh(symmetric_part(host))[0])
    if smallest < -1e-6 * size:
        raise ValueError(f"{name} must be positive semidefinite, got a smallest eigenvalue of {smallest:g}")
    return symmetric_part(host)


def as_positive_definite(name: str, matrix: Matrix, shape: tuple[int, ...]) -> Float[np.ndarray, "d d"]:
    host = as_covariance(name, matrix, shape)
    values = np.linalg.eigvalsh(host)
    if values[0] <= len(host) * np.finfo(np.float64).eps * values[-1]:  # zero, up to rounding
        raise ValueError(f"{name} must be positive definite, got a smallest eigenvalue of {values[0]:g}")
    return host


def symmetric_part(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    return (matrix + matrix.T) / 2
