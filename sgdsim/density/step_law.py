"""The law of one step of SGD from a point, where it can be written down: a Gaussian, or one for each minibatch."""

import abc
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.density.fields import diffusion_at, drift_at
from sgdsim.problems.noise import GradientNoise
from sgdsim.problems.noisy_potential import NoisyPotential
from sgdsim.problems.perturbed import Perturbed
from sgdsim.problems.problem import Problem
from sgdsim.problems.risk import EmpiricalRisk
from sgdsim.processes.limits import FirstOrderLimit
from sgdsim.processes.sgd import SGD

MOST_BATCHES = 10_000
_BATCH = 1_024  # points evaluated side by side

Points = Float[np.ndarray, "n d"]


@dataclasses.dataclass(frozen=True, eq=False)
class StepLaw(abc.ABC):
    """x' = x − η g_B(x) as a mixture Σ_a p_a N(m_a(x), S(x)).

    Attributes:
        sgd: the chain, without momentum and with independent batches.
    """

    sgd: SGD

    @property
    def learning_rate(self) -> float:
        """η."""
        return float(self.sgd.learning_rate)

    @property
    @abc.abstractmethod
    def probabilities(self) -> Float[np.ndarray, " m"]:
        """p_a, (m,)."""

    @abc.abstractmethod
    def means(self, points: Points, some: slice = slice(None)) -> Float[np.ndarray, "m n d"]:
        """m_a(x) of all or some a, (m, n, d)."""

    @abc.abstractmethod
    def covariances(self, points: Points) -> Float[np.ndarray, "n d d"]:
        """S(x), (n, d, d); zero where the step is one of finitely many."""

    @abc.abstractmethod
    def precisions(self, points: Points) -> Float[np.ndarray, "n d"]:
        """The diagonal of S⁻¹ + I, (n, d), I_ab = ∂_a m·S⁻¹∂_b m + ½ Tr S⁻¹∂_aS S⁻¹∂_bS the step's Fisher information.

        S⁻¹ bounds how narrow a density is after a step, I how narrow the step's law is as a function of where it began:
        their sum is the inverse width of the integrand of the next step.
        """

    @property
    @abc.abstractmethod
    def is_smooth(self) -> bool:
        """Whether S is positive."""


class GaussianStep(StepLaw):
    """m = x − η∇f, S = η² s_B D/B: one Euler step of the first-order limit, m = x + ηb and S = 2ηA."""

    @property
    def is_smooth(self) -> bool:
        return True

    @property
    def probabilities(self) -> Float[np.ndarray, " m"]:
        return np.ones(1)

    def means(self, points: Points, some: slice = slice(None)) -> Float[np.ndarray, "m n d"]:
        return (points + self.learning_rate * drift_at(FirstOrderLimit.of(self.sgd).drift, points))[None][some]

    def covariances(self, points: Points) -> Float[np.ndarray, "n d d"]:
        return 2 * self.learning_rate * diffusion_at(FirstOrderLimit.of(self.sgd).diffusion, points)

    def precisions(self, points: Points) -> Float[np.ndarray, "n d"]:
        limit = FirstOrderLimit.of(self.sgd)
        return _at(jax.tree_util.Partial(_gaussian_precision, limit, self.sgd.learning_rate), points)


class BatchStep(StepLaw):
    """One m_a = x − η∇f_a for each minibatch a that can be drawn from a finite sum; S = η² s_B ε²/B I if perturbed."""

    @property
    def risk(self) -> EmpiricalRisk:
        """The finite sum, without a perturbation."""
        risk = _unperturbed(self.sgd)
        assert isinstance(risk, EmpiricalRisk)
        return risk

    @property
    def variance(self) -> float:
        """S = variance × I."""
        if not isinstance(self.sgd.problem, Perturbed):
            return 0.0
        noise = self.sgd.sampling_factor * float(self.sgd.problem.variance) / self.sgd.batch_size
        return self.learning_rate**2 * noise

    @property
    def is_smooth(self) -> bool:
        return self.variance > 0

    @property
    def probabilities(self) -> Float[np.ndarray, " m"]:
        return self._batches[1]

    @functools.cached_property
    def _batches(self) -> tuple[Float[np.ndarray, "m N"], Float[np.ndarray, " m"]]:
        """How often each batch holds each example, over B, and how probable it is."""
        count, size = self.risk.num_examples, self.sgd.batch_size
        choose = itertools.combinations
        if self.sgd.sampling == "with-replacement":
            choose = itertools.combinations_with_replacement
        counts = np.stack([np.bincount(batch, minlength=count) for batch in choose(range(count), size)])
        orders = np.array([math.factorial(size) / math.prod(math.factorial(c) for c in row if c > 1) for row in counts])
        return counts / size, orders / np.sum(orders)

    def means(self, points: Points, some: slice = slice(None)) -> Float[np.ndarray, "m n d"]:
        gradients = _at(self.risk.example_gradients, points)
        decay = float(self.risk.weight_decay) * points
        return points - self.learning_rate * (np.einsum("mk,nkd->mnd", self._batches[0][some], gradients) + decay)

    def covariances(self, points: Points) -> Float[np.ndarray, "n d d"]:
        return np.broadcast_to(self.variance * np.eye(points.shape[1]), (*points.shape, points.shape[1]))

    def precisions(self, points: Points) -> Float[np.ndarray, "n d"]:
        slope = _at(jax.tree_util.Partial(_steepest_slope, self.risk, self.sgd.learning_rate), points)
        return (1 + slope) / self.variance


def _gaussian_precision(limit: FirstOrderLimit, eta: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
    inverse = jnp.linalg.inv(2 * eta * limit.diffusion(x))
    slope = jnp.eye(x.size) + eta * jax.jacfwd(limit.drift)(x)
    widening = jnp.einsum("ij,jka->aik", inverse, 2 * eta * jax.jacfwd(limit.diffusion)(x))
    fisher = jnp.einsum("ia,ij,ja->a", slope, inverse, slope) + jnp.einsum("aij,aji->a", widening, widening) / 2
    return jnp.diagonal(inverse) + fisher


def _steepest_slope(risk: EmpiricalRisk, eta: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
    """The largest |∂_a m|² of one example's step; a batch's is a mean of its examples', so that none is steeper."""
    bend = jax.jacfwd(risk.example_gradients)(x) + risk.weight_decay * jnp.eye(x.size)
    return jnp.max(jnp.sum((jnp.eye(x.size) - eta * bend) ** 2, axis=1), axis=0)


def step_law(sgd: SGD) -> StepLaw:
    """The law of a step of this chain.

    Raises:
        TypeError: if `sgd` is no SGD process.
        ValueError: if the law cannot be written down; `refusal` says why.
    """
    reason = refusal(sgd)
    if reason is not None:
        raise ValueError(reason) if isinstance(sgd, SGD) else TypeError(reason)
    return BatchStep(sgd) if isinstance(_unperturbed(sgd), EmpiricalRisk) else GaussianStep(sgd)


def refusal(sgd: Any) -> str | None:
    """Why a chain's own density cannot be had; None where it can. Nothing is computed."""
    if not isinstance(sgd, SGD):
        return f"sgd must be an SGD process, got {type(sgd).__name__}"
    problem = _unperturbed(sgd)
    if sgd.has_momentum:
        return f"momentum must be 0, for x alone is no Markov chain beside a velocity, got {float(sgd.momentum):g}"
    if sgd.sampling == "epoch":
        return "sampling must draw each batch independently, so that x is a Markov chain, got 'epoch'"
    if sgd.dim > 2:
        return f"problem must have one or two dimensions, got {sgd.dim}"
    if isinstance(problem, EmpiricalRisk):
        return _finite_refusal(sgd, problem)
    if isinstance(problem, NoisyPotential) and _is_gaussian(problem.gradient_noise):
        return None
    kind = type(problem.gradient_noise if isinstance(problem, NoisyPotential) else problem).__name__
    return f"problem must have Gaussian noise or be a finite sum (EmpiricalRisk), got {kind}"


def _finite_refusal(sgd: SGD, risk: EmpiricalRisk) -> str | None:
    count, size = risk.num_examples, sgd.batch_size
    batches = math.comb(count, size) if sgd.sampling != "with-replacement" else math.comb(count + size - 1, size)
    if batches > MOST_BATCHES:
        return (
            f"batch_size must leave at most {MOST_BATCHES:,} different batches to go through, and there are more of "
            f"{size} out of {count} examples"
        )
    if sgd.dim > 1 and not BatchStep(sgd).is_smooth:
        return (
            f"problem must have one dimension, or be Perturbed, where its noise is finitely many batches, got {sgd.dim}"
        )
    return None


def _is_gaussian(noise: GradientNoise) -> bool:
    """Whether a minibatch's noise is √(D/B) ξ: who means another law writes a `minibatch` of their own."""
    return type(noise).minibatch is GradientNoise.minibatch


def _unperturbed(sgd: SGD) -> Problem:
    return sgd.problem.problem if isinstance(sgd.problem, Perturbed) else sgd.problem


def _at(function: Callable[[Array], Array], points: Points) -> Float[np.ndarray, "n *shape"]:
    """`function` at every point, in float64 on the host.

    Raises:
        ValueError: if it is not finite somewhere (the point is named).
    """
    values = np.asarray(_mapped(function, jnp.asarray(points, dtype=float)), dtype=np.float64)
    finite = np.all(np.isfinite(values).reshape(len(values), -1), axis=1)
    if not np.all(finite):
        raise ValueError(
            "problem must have a finite gradient and Hessian on the grid, got none at x = "
            f"{points[np.argmin(finite)].tolist()}"
        )
    return values


@eqx.filter_jit
def _mapped(function: Callable[[Array], Array], points: Float[Array, "n d"]) -> Array:
    return jax.lax.map(function, points, batch_size=_BATCH)
