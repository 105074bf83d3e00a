"""Models of gradient noise."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.covariance import apply_matrix_root, check_covariance, host_root, symmetric_square_root


@runtime_checkable
class GradientNoise(Protocol):
    """What a problem asks of a model of one example's gradient noise."""

    @property
    def dim(self) -> int | None:
        """The dimension d that the model fixes; None where it fits any."""
        ...

    @property
    def is_constant(self) -> bool:
        """Whether D is the same everywhere."""
        ...

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        """σ² where D = σ²I; None elsewhere."""
        ...

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """D(x)."""
        ...

    def apply_root(self, x: Float[Array, "d P"], xi: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """√D(x) ξ for each particle."""
        ...


class GaussianNoise(eqx.Module):
    """Gaussian noise of one example's gradient, with covariance D.

    Args:
        covariance: D as a scalar σ² (D = σ²I), a vector (d,) of variances, a matrix (d, d), or a callable x → (d, d).

    Raises:
        ValueError: if the covariance is not finite, not symmetric or has a negative eigenvalue.
    """

    covariance: Float[Array, ""] | Float[Array, " d"] | Float[Array, "d d"] | Callable
    root: Float[Array, ""] | Float[Array, " d"] | Float[Array, "d d"] | None

    def __init__(self, covariance: float | np.ndarray | Array | list | Callable):
        if callable(covariance):
            self.covariance, self.root = covariance, None
            return
        value = np.asarray(covariance, dtype=float)
        check_covariance("covariance", value)
        self.covariance = jnp.asarray(value)
        # the root is taken in float64 on the host, once
        self.root = jnp.asarray(host_root(value))

    @property
    def dim(self) -> int | None:
        """The dimension d that the covariance fixes; None where it fits any."""
        return None if self.root is None or self.root.ndim == 0 else self.root.shape[0]

    @property
    def is_constant(self) -> bool:
        """Whether D is the same everywhere."""
        return self.root is not None

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        """σ² where D = σ²I was given as a scalar."""
        if callable(self.covariance) or self.covariance.ndim:
            return None
        return self.covariance

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """D(x)."""
        if callable(self.covariance):
            return self.covariance(x)
        if self.covariance.ndim == 2:
            return self.covariance
        return jnp.diag(jnp.broadcast_to(self.covariance, x.shape))

    def apply_root(self, x: Float[Array, "d P"], xi: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """√D(x) ξ for each particle."""
        if self.root is None:
            return jax.vmap(lambda y, z: symmetric_square_root(self.matrix(y)) @ z, (1, 1), 1)(x, xi)
        return apply_matrix_root(self.root, xi)
