"""Where a cloud starts."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sgdsim.covariance import apply_matrix_root, check_covariance, host_root
from sgdsim.draws import Draws, Stream


class Gaussian(eqx.Module):
    """A Gaussian start N(m, S): each particle drawn by itself, and a density known exactly.

    Args:
        mean: m, (d,).
        covariance: S as a scalar variance, (d,) variances or a matrix (d, d).

    Raises:
        ValueError: if the mean is not a finite vector or the covariance is not positive semidefinite or does not fit
            it.
    """

    mean: Float[np.ndarray, " d"]
    given_covariance: Float[np.ndarray, "..."]
    root: Float[np.ndarray, "..."]

    def __init__(self, mean: list | np.ndarray | Array, covariance: float | list | np.ndarray | Array):
        self.mean = np.asarray(mean, dtype=float)
        if self.mean.ndim != 1 or self.mean.size == 0 or not np.all(np.isfinite(self.mean)):
            raise ValueError(f"mean must be a finite vector (d,), got {self.mean.tolist()}")
        self.given_covariance = np.asarray(covariance, dtype=float)
        check_covariance("covariance", self.given_covariance)
        if self.given_covariance.ndim and len(self.given_covariance) != self.dim:
            raise ValueError(f"covariance must fit the mean's {self.dim} entries, got {self.given_covariance.shape}")

        self.root = host_root(self.given_covariance)

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.mean.size

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """S as a matrix, (d, d)."""
        if self.given_covariance.ndim == 2:
            return self.given_covariance
        return np.diag(np.broadcast_to(self.given_covariance, self.mean.shape))

    def sample(self, draws: Draws, dtype: DTypeLike) -> Float[Array, "d P"]:
        """One position for each of the draws' particles, coordinates first."""
        normals = draws.normals(self.dim, stream=Stream.START, dtype=dtype)
        return jnp.asarray(self.mean, dtype=dtype)[:, None] + apply_matrix_root(jnp.asarray(self.root, dtype), normals)
