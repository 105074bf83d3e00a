"""Continuum limits of SGD: Itô diffusions dX = b(X) dt + √(2A(X)) dW."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim.covariance import apply_own_root, check_matrix
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
    def noise(self, x: Float[Array, "d P"], dw: Float[Array, "m P"]) -> Float[Array, "d P"]:
        """√(2A(x)) dw for each particle."""

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
        # its numbers are leaves, so that another temperature does not compile again
        return jax.tree_util.Partial(_scaled_loss, self.problem, self.temperature * variance)

    def drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return -self.problem.gradient(x)

    def diffusion(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self.temperature * self.problem.noise_covariance(x)

    def increment(self, x: Float[Array, "d P"], dt: Float[Array, ""], dw: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return self.problem.langevin_increment(x, dw, jnp.asarray(dt, x.dtype), jnp.sqrt(2 * self.temperature))

    def noise(self, x: Float[Array, "d P"], dw: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return jnp.sqrt(2 * self.temperature) * self.problem.noise(x, dw)

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
        _require_plain(sgd, "the second-order limit")
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


class BackwardErrorLimit(FirstOrderLimit):
    """The diffusion whose law at the chain's steps is the chain's own to O(η²), in the steady state too; D constant.

        dX = −[∇f + (η/2)(∇²f ∇f − T D:∇∇∇f)] dt + √(2A) dW,    A = T [D + (η/2)(D∇²f + ∇²f D)].

    Expanding one step, E φ(x₁) = φ + ηLφ + (η²/2)(L²φ − (b·∇b + A:∇∇b)·∇φ − 2(A∇b):∇∇φ) + O(η³) with b = −∇f and
    A = TD: what the chain has beyond e^{ηL} is undone by adding −(η/2) of it to the generator L. Temperature is held
    fixed here, so the noise's own corrections count as much as the drift's; the second-order limit of Li, Tai and E,
    where noise is itself O(η), leaves them out, and with them the O(η) correction of the steady state. On a quadratic
    S = (ηC/2k)(1 + ηk)/(1 + ηk/2), where the chain has (ηC/2k)/(1 − ηk/2): alike to O(η²) relative.

    A is positive for small η; where D and ∇²f commute as long as ηk > −1 for every curvature k. Noise that is not
    Gaussian moves the law by its third cumulant as well, which is not in here.

    A depends on x, so that Langevin's solver is of weak order 1: its bias is of the order of the correction unless it
    takes many sub-steps. `FokkerPlanck.limit_of(sgd, grid, order="backward-error")` has no such error.

    Source: Zygalakis, "On the existence and the applications of modified equations for stochastic differential
    equations", SIAM J. Sci. Comput. 33 (2011), §3.1: for D(x) there is in general no such diffusion.
    """

    learning_rate: Float[Array, ""]

    @classmethod
    def of(cls, sgd: SGD) -> "BackwardErrorLimit":
        """The limit of this chain.

        Raises:
            ValueError: if the chain has momentum or reshuffled passes, or a D(x) that depends on x.
        """
        _require_plain(sgd, "the backward-error limit")
        if not sgd.problem.has_additive_noise:
            raise ValueError(
                "problem must have a constant noise covariance for the backward-error limit: where D depends on x "
                "there is in general no diffusion of that order"
            )
        return cls(problem=sgd.problem, temperature=jnp.asarray(sgd.temperature), learning_rate=sgd.learning_rate)

    @property
    def gibbs_potential(self) -> None:
        """None: the drift's own potential is not f."""
        return None

    @property
    def has_additive_noise(self) -> bool:
        return False  # A follows the Hessian

    @property
    def noise_size(self) -> int:
        return self.dim

    def drift(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        gradient = self.problem.gradient(x)
        turned = jax.jvp(self.problem.gradient, (x,), (gradient,))[1]
        covariance = self.problem.noise_covariance(x)
        bent = jax.grad(lambda y: jnp.sum(covariance * jax.jacfwd(self.problem.gradient)(y)))(x)  # D:∇∇∇f
        return -gradient - self.learning_rate / 2 * (turned - self.temperature * bent)

    def diffusion(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        covariance = self.problem.noise_covariance(x)
        product = covariance @ jax.jacfwd(self.problem.gradient)(x)
        return self.temperature * (covariance + self.learning_rate / 2 * (product + product.T))

    def increment(self, x: Float[Array, "d P"], dt: Float[Array, ""], dw: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return jax.vmap(self.drift, 1, 1)(x) * dt + self.noise(x, dw)

    def noise(self, x: Float[Array, "d P"], dw: Float[Array, "d P"]) -> Float[Array, "d P"]:
        return _dense_noise(self, x, dw)

    def check(self, x: Float[Array, " d"]) -> None:
        super().check(x)
        lowest = float(jnp.linalg.eigvalsh(self.diffusion(x))[0])
        if lowest < 0:
            raise ValueError(
                "learning_rate must be small enough for the backward-error limit's diffusion to be positive where the "
                f"cloud starts, got an eigenvalue of {lowest:.3g}"
            )


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
        return jax.vmap(self.drift, 1, 1)(x) * dt + self.noise(x, dw)

    def noise(self, x: Float[Array, "d P"], dw: Float[Array, "d P"]) -> Float[Array, "d P"]:
        return _dense_noise(self, x, dw)

    def check(self, x: Float[Array, " d"]) -> None:
        drift = self.drift(x)
        if drift.shape != (self.dim,) or not bool(jnp.all(jnp.isfinite(drift))):
            raise ValueError(f"drift must map ({self.dim},) to a finite ({self.dim},), got {drift.tolist()}")
        check_matrix("diffusion", self.diffusion(x), self.dim)


def limit_of_order(sgd: SGD, order: int | str = 1) -> FirstOrderLimit:
    """The limit of a chain: 1 or 2 for that weak order in η, or "backward-error".

    Raises:
        TypeError: if `sgd` is no SGD process.
        ValueError: on another order, or a chain for which that limit is not derived.
    """
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    limits = {1: FirstOrderLimit, 2: SecondOrderLimit, "backward-error": BackwardErrorLimit}
    if isinstance(order, bool) or order not in limits:
        raise ValueError(f"order must be 1, 2 or 'backward-error', got {order!r}")
    return limits[order].of(sgd)


def _scaled_loss(problem: Problem, scale: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, ""]:
    return problem.loss(x) / scale


def _require_plain(sgd: SGD, name: str) -> None:
    """Raise ValueError where the chain has momentum or batches that depend on each other."""
    if sgd.has_momentum:
        raise ValueError(f"momentum must be 0 for {name}, got {float(sgd.momentum):g}")
    if sgd.sampling == "epoch":
        raise ValueError(f"sampling must draw each batch independently for {name}, got 'epoch'")


def _dense_noise(diffusion: AbstractDiffusion, x: Float[Array, "d P"], dw: Float[Array, "d P"]) -> Float[Array, "d P"]:
    """√(2A) dw by a root of each particle's own A."""
    return apply_own_root(2 * jax.vmap(diffusion.diffusion, 1, -1)(x), dw)
