"""Continuum limits of SGD: Itô diffusions dX = b(X) dt + √(2A(X)) dW."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim.covariance import check_matrix, symmetric_square_root
from sgdsim.problems.problem import Problem
from sgdsim.processes.sgd import SGD


class AbstractDiffusion(eqx.Module):
    """dX = b(X) dt + √(2A(X)) dW (Itô), the one object from which Langevin and Fokker–Planck are both derived.

    Its density obeys ∂ρ/∂t = −∇·(bρ) + ∇·∇·(Aρ), A inside both derivatives.
    """

    @property
    @abc.abstractmethod
    def dim(self) -> int:
        """Number of coordinates, d."""

    @property
    @abc.abstractmethod
    def noise_size(self) -> int:
        """How many Brownian motions drive one particle."""

    @property
    @abc.abstractmethod
    def has_additive_noise(self) -> bool:
        """Whether A is known not to depend on x."""

    @abc.abstractmethod
    def drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """b(x)."""

    @abc.abstractmethod
    def diffusion(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """A(x) = σσᵀ/2."""

    @abc.abstractmethod
    def increment(self, x: Float[Array, "d P"], dt: Float[Array, ""], dw: Float[Array, "m P"]) -> Float[Array, "d P"]:
        """b(x) dt + √(2A(x)) dw for each particle."""

    @abc.abstractmethod
    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless the fields are finite at x."""


class FirstOrderLimit(AbstractDiffusion):
    """dX = −∇f dt + √(2T D(X)) dW, the limit of SGD to first weak order in η (Li, Tai, E 2017; Mandt et al. 2017).

    With momentum this is the overdamped limit, on the clock t = η_e k.
    """

    problem: Problem
    temperature: Float[Array, ""]

    def __check_init__(self) -> None:
        self.problem.require_covariance()

    @classmethod
    def of(cls, sgd: SGD) -> "FirstOrderLimit":
        """The limit of this chain, at its temperature."""
        return cls(problem=sgd.problem, temperature=jnp.asarray(sgd.temperature))

    @property
    def dim(self) -> int:
        return self.problem.dim

    @property
    def noise_size(self) -> int:
        return self.problem.noise_size

    @property
    def has_additive_noise(self) -> bool:
        return self.problem.has_additive_noise

    @property
    def gibbs_potential(self) -> Callable[[Float[Array, " d"]], Float[Array, ""]] | None:
        """ψ = f/(Tσ²) where D = σ²I, so that b = −A∇ψ and ρ_ss ∝ e^{−ψ}; None elsewhere.

        A constant but anisotropic D has no Gibbs state in f: −∇f is then not −A∇ψ for any ψ ∝ f.
        """
        variance = self.problem.isotropic_variance
        if variance is None:
            return None
        return lambda x: self.problem.loss(x) / (self.temperature * variance)

    def drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return -self.problem.gradient(x)

    def diffusion(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self.temperature * self.problem.noise_covariance(x)

    def increment(self, x: Float[Array, "d P"], dt: Float[Array, ""], dw: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return self.problem.langevin_increment(x, dw, jnp.asarray(dt, x.dtype), jnp.sqrt(2 * self.temperature))

    def check(self, x: Float[Array, " d"]) -> None:
        self.problem.check(x)


class SecondOrderLimit(FirstOrderLimit):
    """dX = −∇(f + (η/4)|∇f|²) dt + √(2T D(X)) dW: the limit of SGD to second weak order in η, for μ = 0.

    The drift's correction (η/2)∇²f ∇f is what a finite step leaves behind of a curved path, one Hessian-vector product.
    At a finite time the error falls as η²; in the steady state of a quadratic it is *worse* than the first order's,
    S = ηC/(2k(1 + ηk/2)) where the chain has ηC/(2k(1 − ηk/2)).

    Source: Li, Tai, E, "Stochastic modified equations and adaptive stochastic gradient algorithms", 2017, theorem 1.
    """

    learning_rate: Float[Array, ""]

    @classmethod
    def of(cls, sgd: SGD) -> "SecondOrderLimit":
        """The limit of this chain, at its temperature and learning rate.

        Raises:
            ValueError: if the chain has momentum or reshuffled passes, for which this limit is not derived.
        """
        if sgd.has_momentum:
            raise ValueError(f"momentum must be 0 for the second-order limit, got {float(sgd.momentum):g}")
        if sgd.sampling == "epoch":
            raise ValueError("sampling must draw each batch independently for the second-order limit, got 'epoch'")
        return cls(problem=sgd.problem, temperature=jnp.asarray(sgd.temperature), learning_rate=sgd.learning_rate)

    @property
    def gibbs_potential(self) -> None:
        """None: the drift's own potential f + (η/4)|∇f|² is not f."""
        return None

    def _correction(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """(η/2)∇²f ∇f."""
        gradient = self.problem.gradient(x)
        return self.learning_rate / 2 * jax.jvp(self.problem.gradient, (x,), (gradient,))[1]

    def drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return super().drift(x) - self._correction(x)

    def increment(self, x: Float[Array, "d P"], dt: Float[Array, ""], dw: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return super().increment(x, dt, dw) - jnp.asarray(dt, x.dtype) * jax.vmap(self._correction, 1, 1)(x)


class ItoDiffusion(AbstractDiffusion):
    """The Itô diffusion of a drift and a diffusion tensor, with nothing of SGD in it.

    Args:
        drift: b, a JAX function (d,) → (d,).
        diffusion: A = σσᵀ/2, a JAX function (d,) → (d, d), symmetric positive semidefinite.
        dim: d ≥ 1.
    """

    drift_field: Callable
    diffusion_field: Callable
    dimension: int = eqx.field(static=True)

    def __init__(self, *, drift: Callable, diffusion: Callable, dim: int):
        if not callable(drift) or not callable(diffusion):
            raise TypeError("drift and diffusion must be callables x -> (d,) and x -> (d, d)")
        if not isinstance(dim, int) or dim < 1:
            raise ValueError(f"dim must be a positive whole number, got {dim!r}")
        self.drift_field, self.diffusion_field, self.dimension = drift, diffusion, dim

    @property
    def dim(self) -> int:
        return self.dimension

    @property
    def noise_size(self) -> int:
        return self.dimension

    @property
    def has_additive_noise(self) -> bool:
        return False  # a callable may depend on x; nothing is claimed for it

    def drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.drift_field(x)

    def diffusion(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self.diffusion_field(x)

    def increment(self, x: Float[Array, "d P"], dt: Float[Array, ""], dw: Float[Array, "m P"]) -> Float[Array, "d P"]:
        def one(y: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
            return self.drift(y) * dt + symmetric_square_root(2 * self.diffusion(y)) @ z

        return jax.vmap(one, (1, 1), 1)(x, dw)

    def check(self, x: Float[Array, " d"]) -> None:
        drift = self.drift(x)
        if drift.shape != (self.dim,) or not bool(jnp.all(jnp.isfinite(drift))):
            raise ValueError(f"drift must map ({self.dim},) to a finite ({self.dim},), got {drift.tolist()}")
        check_matrix("diffusion", self.diffusion(x), self.dim)
