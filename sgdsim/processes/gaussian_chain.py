"""A linear Gaussian recursion: exact at any step, unlike a solver of its diffusion."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.covariance import check_covariance, host_root
from sgdsim.draws import Draws


class GaussianChain(eqx.Module):
    """x ← E x + ξ, ξ ~ N(0, R): an Ornstein–Uhlenbeck process at the times of its steps, or any other such chain.

    Args:
        transition: E, (d, d).
        noise: R, symmetric positive semidefinite, (d, d).
        time_step: one step's share of the clock, > 0.

    Raises:
        ValueError: if E is not a finite square matrix, R no covariance of its size, or the time step not positive.
    """

    transition: Float[Array, "d d"]
    root: Float[Array, "d d"]
    time_step: Float[Array, ""]

    def __init__(
        self,
        transition: Float[np.ndarray | Array, "_ _"],
        noise: Float[np.ndarray | Array, "_ _"],
        *,
        time_step: float = 1.0,
    ):
        matrix, covariance = np.asarray(transition, dtype=float), np.asarray(noise, dtype=float)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.all(np.isfinite(matrix)):
            raise ValueError(f"transition must be a finite square matrix (d, d), got shape {matrix.shape}")
        if covariance.shape != matrix.shape:
            raise ValueError(f"noise must have shape {matrix.shape}, got {covariance.shape}")
        check_covariance("noise", covariance)
        if not 0 < float(time_step) < float("inf"):
            raise ValueError(f"time_step must be positive and finite, got {time_step}")
        self.transition, self.root = jnp.asarray(matrix), jnp.asarray(host_root(covariance))
        self.time_step = jnp.asarray(time_step, dtype=float)

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.transition.shape[0]

    def check(self, x: Float[Array, " d"]) -> None:
        """Any point will do."""

    def init(self, x: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """The state is the position."""
        return x

    def step(self, state: Float[Array, "d P"], draws: Draws) -> Float[Array, "d P"]:
        """One step from fresh normals."""
        return self.transition @ state + self.root @ draws.normals(self.dim, dtype=state.dtype)

    def position(self, state: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """x."""
        return state
