"""Perturbed SGD: a problem with extra isotropic gradient noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim.covariance import apply_own_root
from sgdsim.draws import Draws, Stream
from sgdsim.problems.minibatches import sampling_factor
from sgdsim.problems.problem import Problem


class Perturbed(Problem):
    """A problem with isotropic Gaussian noise added to its gradient, seen by every description of it.

    D(x) becomes D(x) + ε²I, and a minibatch's gradient gets a normal of covariance s_B ε²/B, so the clock, the
    temperature and the three descriptions stay what they were. It is the honest cure where D(x) is singular (the
    symmetry lines of a network, a model that fits every example): Jin et al., "How to escape saddle points
    efficiently", ICML 2017.

    Args:
        problem: the problem to perturb.
        variance: ε² > 0, on the scale of **one example's** gradient.
    """

    problem: Problem
    variance: Float[Array, ""]

    def __init__(self, problem: Problem, variance: float | Float[Array, ""]):
        if not 0 < float(variance) < float("inf"):
            raise ValueError(f"variance must be positive and finite, got {variance}")
        total = jnp.asarray(variance, dtype=float)
        if isinstance(problem, Perturbed):  # two perturbations are one: they would read the same draws
            problem, total = problem.problem, total + problem.variance
        self.problem, self.variance = problem, total

    @property
    def dim(self) -> int:
        return self.problem.dim

    @property
    def num_examples(self) -> int | None:
        return self.problem.num_examples

    @property
    def has_dense_root(self) -> bool:
        return self.problem.has_dense_root

    @property
    def noise_size(self) -> int:
        return self.dim if self.has_dense_root else self.problem.noise_size + self.dim

    @property
    def has_additive_noise(self) -> bool:
        return self.problem.has_additive_noise

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        inner = self.problem.isotropic_variance
        return None if inner is None else inner + self.variance

    def require_covariance(self) -> None:
        self.problem.require_covariance()

    def loss(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.problem.loss(x)

    def noise_covariance(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self.problem.noise_covariance(x) + self.variance * jnp.eye(self.dim, dtype=x.dtype)

    def noise_trace(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self.problem.noise_trace(x) + self.dim * self.variance

    def noise(self, x: Float[Array, "d P"], xi: Float[Array, "m P"]) -> Float[Array, "d P"]:
        if self.has_dense_root:  # the two noises then share one set of normals
            return apply_own_root(jax.vmap(self.noise_covariance, 1, -1)(x), xi)
        inner = self.problem.noise_size
        return self.problem.noise(x, xi[:inner]) + jnp.sqrt(self.variance) * xi[inner:]

    def langevin_increment(
        self,
        x: Float[Array, "d P"],
        xi: Float[Array, "m P"],
        drift_scale: Float[Array, ""],
        noise_scale: Float[Array, ""],
    ) -> Float[Array, "d P"]:
        if self.has_dense_root:
            return super().langevin_increment(x, xi, drift_scale, noise_scale)
        inner = self.problem.noise_size
        own = noise_scale * jnp.sqrt(self.variance) * xi[inner:]
        return self.problem.langevin_increment(x, xi[:inner], drift_scale, noise_scale) + own

    def minibatch_gradient(
        self, x: Float[Array, "d P"], draws: Draws, batch_size: int, sampling: str
    ) -> Float[Array, "d P"]:
        factor = sampling_factor(self.num_examples, batch_size, sampling)
        normals = draws.normals(self.dim, stream=Stream.PERTURBATION, dtype=x.dtype)
        inner = self.problem.minibatch_gradient(x, draws, batch_size, sampling)
        return inner + jnp.sqrt(factor * self.variance / batch_size) * normals
