"""The problem: a loss together with the noise of its gradient."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.draws import Draws


class Problem(eqx.Module):
    """What is descended: a loss f and the covariance D(x) of **one example's** gradient around ∇f.

    A particle is a vector x of shape (d,); everything is dimensionless. Methods that the time loop calls act on a whole
    cloud, coordinates first, (d, P); the others act on one particle and are `vmap`ped by whoever needs more.

    To add one: give `dim`, `loss`, `noise_covariance`, and `minibatch_gradient`; override the rest where it can be
    done faster.
    """

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Number of coordinates, d."""

    @property
    def num_examples(self) -> int | None:
        """Number of examples N that the loss averages; None where examples never end (modelled noise)."""
        return None

    @property
    def noise_size(self) -> int:
        """How many normals `noise` takes for one particle."""
        return self.dim

    @property
    def has_dense_root(self) -> bool:
        """Whether `noise` applies a d × d root of D."""
        return True

    @property
    def has_additive_noise(self) -> bool:
        """Whether D is known not to depend on x."""
        return False

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        """σ² where D(x) = σ²I for every x, so that the limit has a Gibbs state; None otherwise."""
        return None

    @abc.abstractmethod
    def loss(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The mean loss f(x), weight decay inside it."""

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless loss and gradient are finite at x, a concrete point where a cloud starts."""
        loss, gradient = jax.device_get(loss_and_gradient(self, x))
        if not (np.isfinite(loss) and np.all(np.isfinite(gradient))):
            raise ValueError(f"loss must be finite with a finite gradient where the cloud starts, got f = {loss}")

    def require_covariance(self) -> None:
        """Raise ValueError where the gradient's noise has no covariance, so that there is no D(x) and no diffusion."""

    def gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """∇f(x)."""
        return jax.grad(self.loss)(x)

    def cloud_gradient(self, x: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """∇f at each particle."""
        return jax.vmap(self.gradient, 1, 1)(x)

    @abc.abstractmethod
    def noise_covariance(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """D(x), 1/N-normalised and centred."""

    def noise_trace(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """Tr D(x)."""
        return jnp.trace(self.noise_covariance(x))

    @abc.abstractmethod
    def noise(self, x: Float[Array, "d P"], xi: Float[Array, "m P"]) -> Float[Array, "d P"]:
        """√D(x) ξ for each particle: a vector of covariance D(x) when ξ holds `noise_size` standard normals."""

    def langevin_increment(
        self,
        x: Float[Array, "d P"],
        xi: Float[Array, "m P"],
        drift_scale: Float[Array, ""],
        noise_scale: Float[Array, ""],
    ) -> Float[Array, "d P"]:
        """−drift_scale·∇f(x) + noise_scale·√D(x) ξ, in one pass over the examples where that is possible."""
        return noise_scale * self.noise(x, xi) - drift_scale * self.cloud_gradient(x)

    @abc.abstractmethod
    def minibatch_gradient(
        self, x: Float[Array, "d P"], draws: Draws, batch_size: int, sampling: str
    ) -> Float[Array, "d P"]:
        """The gradient g_B of each particle's own minibatch: mean ∇f(x), covariance s_B D(x)/B."""


@eqx.filter_jit
def loss_and_gradient(problem: Problem, x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, " d"]]:
    """f(x) and ∇f(x), compiled once for each kind of problem."""
    return jax.value_and_grad(problem.loss)(x)


def check_scalar(name: str, function: Callable, *arguments: Any) -> None:
    """Raise ValueError unless the function returns one real number for such arguments; nothing is computed."""
    try:
        out = jax.eval_shape(function, *arguments)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name} must be a JAX function of its arguments, but it raised {reason}") from error
    if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"{name} must return one real number, got {out}")
