"""Noise shapes: another noise of one example's gradient in the place of a problem's own, with the same trace.

Zhu, Wu, Yu, Wu, Ma ("The anisotropic noise in stochastic gradient descent", ICML 2019) ask what of D(x) it is that
matters by putting noise of another shape and the same trace in its place; so do these.
"""

import abc
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.covariance import symmetric_absolute
from sgdsim.draws import Draws
from sgdsim.problems.noise import AlphaStableNoise, GaussianNoise, GradientNoise
from sgdsim.problems.noisy_potential import NoisyPotential
from sgdsim.problems.problem import Problem

Shape = Literal["true", "diagonal", "isotropic", "constant", "hessian", "alpha-stable", "none"]
NOISE_SHAPES: tuple[str, ...] = get_args(Shape)


def reshape_noise(
    problem: Problem,
    shape: Shape,
    *,
    at: Float[np.ndarray | Array, " d"] | list | None = None,
    alpha: float | None = None,
) -> NoisyPotential:
    """The problem's loss with noise of another shape and the same trace Tr D(x), Gaussian where nothing else is said.

    | shape | covariance of one example's gradient |
    |---|---|
    | `"true"` | D(x) itself: what is left of true minibatches in their diffusion limit |
    | `"diagonal"` | diag D(x) |
    | `"isotropic"` | (Tr D(x)/d) I |
    | `"constant"` | D(a) everywhere, a = `at`: its trace is matched there alone |
    | `"hessian"` | ∣∇²f(x)∣ Tr D(x)/Tr ∣∇²f(x)∣, where ∣·∣ takes the absolute values of eigenvalues |
    | `"alpha-stable"` | none: independent α-stable coordinates of scale c(x), 2c² = Tr D(x)/d, the trace as α → 2 |
    | `"none"` | 0: gradient descent, whose limit is gradient flow |

    Examples then never end, whatever the problem's own: batches are drawn with replacement, so that s_B = 1. Hold such
    a run against one of the problem itself with `sampling="with-replacement"`, which has the same T.

    `"isotropic"`, `"alpha-stable"` and `"none"` form no d × d matrix, and `"true"` none where the problem forms none;
    `"hessian"` takes eigenvectors for every particle beyond two dimensions.

    Args:
        problem: whose loss and D(x) are meant; its noise must have a covariance.
        shape: one of `NOISE_SHAPES`.
        at: a, (d,); for `"constant"` and for nothing else.
        alpha: α, 0 < α < 2; for `"alpha-stable"` and for nothing else.

    Raises:
        ValueError: on an unknown shape, an argument that is missing, not wanted or out of range, or a problem whose
            noise has no covariance.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a Problem such as EmpiricalRisk, got {type(problem).__name__}")
    if shape not in NOISE_SHAPES:
        raise ValueError(f"shape must be one of {', '.join(NOISE_SHAPES)}; got {shape!r}")
    for name, value, wanted in (("at", at, "constant"), ("alpha", alpha, "alpha-stable")):
        if (value is None) == (shape == wanted):
            raise ValueError(f"{name} must be given for shape {wanted!r} and for no other, got {value} for {shape!r}")
    problem.require_covariance()
    if shape == "none":
        return NoisyPotential(problem.loss, GaussianNoise(0.0), problem.dim)
    if at is not None:
        return NoisyPotential(problem.loss, GaussianNoise(_covariance_at(problem, at)), problem.dim)
    if alpha is not None:
        return NoisyPotential(problem.loss, ShapedStableNoise(problem, alpha), problem.dim)
    return NoisyPotential(problem.loss, _MODELS[shape](problem), problem.dim)


def _covariance_at(problem: Problem, at: Float[np.ndarray | Array, " d"] | list) -> Float[np.ndarray, "d d"]:
    point = np.asarray(at, dtype=float)
    if point.shape != (problem.dim,) or not np.all(np.isfinite(point)):
        raise ValueError(f"at must be a finite point ({problem.dim},), got {point.tolist()}")
    return np.asarray(problem.noise_covariance(jnp.asarray(point)), dtype=float)


class ShapedNoise(GradientNoise):
    """Gaussian noise whose covariance is made of a problem's own D(x) and has its trace.

    Args:
        problem: whose D(x) is meant.
    """

    problem: Problem

    @property
    def dim(self) -> int:
        return self.problem.dim

    def trace(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The problem's own Tr D(x), which may need no matrix."""
        return self.problem.noise_trace(x)

    @property
    def is_constant(self) -> bool:
        return self.problem.has_additive_noise

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        return self.problem.isotropic_variance

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless Tr D(x) is finite; the shapes made of it are then covariances."""
        trace = float(self.trace(x))
        if not (math.isfinite(trace) and trace >= 0):
            raise ValueError(f"problem must have a finite noise where the cloud starts, got Tr D = {trace:g}")

    @abc.abstractmethod
    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """The covariance of one example's gradient."""


class TrueNoise(ShapedNoise):
    """D(x) itself, by the problem's own root."""

    @property
    def has_dense_root(self) -> bool:
        return self.problem.has_dense_root

    def noise_size(self, dim: int) -> int:
        return self.problem.noise_size

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self.problem.noise_covariance(x)

    def apply_root(self, x: Float[Array, "d P"], xi: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return self.problem.noise(x, xi)


class DiagonalNoise(ShapedNoise):
    """The diagonal of D(x): the coordinates' own variances, without their correlations."""

    def _variances(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.diagonal(self.problem.noise_covariance(x))

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return jnp.diag(self._variances(x))

    def apply_root(self, x: Float[Array, "d P"], xi: Float[Array, "d P"]) -> Float[Array, "d P"]:
        return jnp.sqrt(jax.vmap(self._variances, 1, 1)(x)) * xi


class IsotropicNoise(ShapedNoise):
    """(Tr D(x)/d) I: a thermostat's noise, as hot at x as the problem's own is on average over directions."""

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        """Tr D/d where D does not depend on x."""
        return self._variance(jnp.zeros(self.dim)) if self.is_constant else None

    def _variance(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.problem.noise_trace(x) / self.dim

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self._variance(x) * jnp.eye(self.dim, dtype=x.dtype)

    def apply_root(self, x: Float[Array, "d P"], xi: Float[Array, "d P"]) -> Float[Array, "d P"]:
        return jnp.sqrt(jax.vmap(self._variance, 1)(x)) * xi


class HessianNoise(ShapedNoise):
    """|∇²f(x)| Tr D(x)/Tr|∇²f(x)|; isotropic where the Hessian vanishes.

    D ≈ σ²∇²f at a minimum of a well-specified likelihood. Elsewhere ∇²f may be indefinite and is no covariance, so its
    eigenvalues' absolute values are taken. Where one of them changes sign there is no noise along its eigenvector.
    """

    @property
    def is_constant(self) -> bool:
        return False

    @property
    def isotropic_variance(self) -> None:
        return None

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        hessian = jax.jacfwd(self.problem.gradient)(x)
        size = jnp.max(jnp.abs(hessian))
        unit = hessian / jnp.where(size > 0, size, 1)  # so that no square overflows
        absolute = symmetric_absolute(unit)
        total = jnp.trace(absolute)
        even = jnp.eye(self.dim, dtype=x.dtype) / self.dim
        return self.problem.noise_trace(x) * jnp.where(size > 0, absolute / jnp.where(size > 0, total, 1), even)


_MODELS: dict[str, type[ShapedNoise]] = {
    "true": TrueNoise,
    "diagonal": DiagonalNoise,
    "isotropic": IsotropicNoise,
    "hessian": HessianNoise,
}


class ShapedStableNoise(GradientNoise):
    """Independent symmetric α-stable coordinates of scale c(x), 2c(x)² = Tr D(x)/d: the trace of D as α → 2.

    For α < 2 there is no covariance and so no limit; `AlphaStableNoise` says more.

    Args:
        problem: whose Tr D(x) is meant.
        alpha: α, 0 < α < 2.
    """

    problem: Problem
    unit: AlphaStableNoise

    def __init__(self, problem: Problem, alpha: float):
        self.problem, self.unit = problem, AlphaStableNoise(alpha, 1.0)

    @property
    def dim(self) -> int:
        return self.problem.dim

    @property
    def is_constant(self) -> bool:
        return self.problem.has_additive_noise

    def require_covariance(self) -> None:
        self.unit.require_covariance()

    def check(self, x: Float[Array, " d"]) -> None:
        IsotropicNoise(self.problem).check(x)

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self.unit.matrix(x)

    def minibatch(self, x: Float[Array, "d P"], draws: Draws, batch_size: int) -> Float[Array, "d P"]:
        scale = jnp.sqrt(jax.vmap(self.problem.noise_trace, 1)(x) / (2 * self.dim))
        return scale * self.unit.minibatch(x, draws, batch_size)
