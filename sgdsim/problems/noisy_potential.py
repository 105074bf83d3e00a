"""A toy landscape with modelled gradient noise."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim.draws import Draws
from sgdsim.problems.noise import GradientNoise
from sgdsim.problems.problem import Problem, check_scalar


class NoisyPotential(Problem):
    """A potential f and a model of the noise of one example's gradient.

    A minibatch of B examples is drawn as its mean, g_B = ∇f(x) − ξ_B, with ξ_B = √(D(x)/B) ξ where the noise has a
    covariance: the sign makes a step move along +ξ, as a step of the Langevin limit does on the same draw. Examples
    never end, so sampling is always with replacement.

    Args:
        potential: any callable x → f(x), (d,) → scalar.
        noise: the gradient noise of one example.
        dim: d; needed only where neither the potential nor the noise knows it.

    Raises:
        ValueError: if the dimension is not known or two sources disagree, or f does not return a real scalar.
    """

    potential: Callable
    gradient_noise: GradientNoise
    dimension: int = eqx.field(static=True)

    def __init__(self, potential: Callable, noise: GradientNoise, dim: int | None = None):
        if not callable(potential):
            raise TypeError(f"potential must be a callable x -> scalar, got {type(potential).__name__}")
        if not isinstance(noise, GradientNoise):
            raise TypeError(f"noise must be a noise model such as GaussianNoise(1.0), got {type(noise).__name__}")
        sources = {"dim": dim, "potential": getattr(potential, "dim", None), "noise": noise.dim}
        known = {name: d for name, d in sources.items() if d is not None}
        if not known:
            raise ValueError("dim must be given: neither the potential nor the noise fixes the dimension")
        if len(set(known.values())) > 1:
            raise ValueError(f"dim must be the same for potential and noise, got {known}")
        self.potential, self.gradient_noise, self.dimension = potential, noise, known.popitem()[1]
        check_scalar("potential", potential, jax.ShapeDtypeStruct((self.dimension,), jnp.result_type(float)))

    @property
    def dim(self) -> int:
        return self.dimension

    @property
    def has_additive_noise(self) -> bool:
        return self.gradient_noise.is_constant

    @property
    def has_dense_root(self) -> bool:
        return self.gradient_noise.has_dense_root

    @property
    def noise_size(self) -> int:
        return self.gradient_noise.noise_size(self.dimension)

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        return self.gradient_noise.isotropic_variance

    def check(self, x: Float[Array, " d"]) -> None:
        super().check(x)
        self.gradient_noise.check(x)

    def require_covariance(self) -> None:
        self.gradient_noise.require_covariance()

    def loss(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.potential(x)

    def cloud_gradient(self, x: Float[Array, "d P"]) -> Float[Array, "d P"]:
        # Of one sum, particles last in memory throughout: a gradient for each would have them first, and transpose.
        return jax.grad(lambda y: jnp.sum(jax.vmap(self.loss, 1)(y)))(x)

    def noise_covariance(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self.gradient_noise.matrix(x)

    def noise_trace(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.gradient_noise.trace(x)

    def noise(self, x: Float[Array, "d P"], xi: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return self.gradient_noise.apply_root(x, xi)

    def minibatch_gradient(
        self, x: Float[Array, "d P"], draws: Draws, batch_size: int, sampling: str
    ) -> Float[Array, "d P"]:
        return self.cloud_gradient(x) - self.gradient_noise.minibatch(x, draws, batch_size)
