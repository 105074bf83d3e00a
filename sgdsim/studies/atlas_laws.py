"""What the exact laws expect an atlas to read: the distance between SGD and each of its limits near a minimum.

Around a minimum x* of Hessian K, with minibatch noise of covariance C = s_B D(x*)/B, the chain and its limits are
linear, and Gaussian where the noise is. On a quadratic with constant noise that is all of it, at every time.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sgdsim import theory
from sgdsim.ensemble import Gaussian
from sgdsim.measures import curvature
from sgdsim.problems import NoisyPotential, Problem, potentials
from sgdsim.processes import SGD
from sgdsim.studies.steady_grid import loss_minima

GRID_DIMENSIONS = 3  # minima are looked for from a lattice up to here, and from the start beyond


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean (d,) and covariance (d, d) of a Gaussian law."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]


@dataclasses.dataclass(frozen=True)
class Well:
    """The sharpest minimum of the loss.

    Attributes:
        minimum: x*, (d,).
        hessian: K = ∇²f(x*), (d, d).
        noise: D(x*), (d, d).
        count: how many minima were found, which share the cloud.
        is_exact: whether the loss is a quadratic with constant noise, so that the linear laws hold at every time.
    """

    minimum: Float[np.ndarray, " d"]
    hessian: Float[np.ndarray, "d d"]
    noise: Float[np.ndarray, "d d"]
    count: int
    is_exact: bool

    @property
    def top_curvature(self) -> float:
        """k, the largest eigenvalue of K."""
        return float(np.linalg.eigvalsh(self.hessian)[-1])


def sharpest_well(sgd: SGD, start: Float[np.ndarray, "n d"]) -> Well | None:
    """The minimum of the largest top curvature that BFGS finds; None where it finds none.

    Args:
        sgd: any chain on the problem.
        start: points to start from above three dimensions, (n, d).
    """
    problem = sgd.problem
    minima = loss_minima(sgd) if sgd.dim <= GRID_DIMENSIONS else curvature.minima(problem, start)
    if len(minima) == 0:
        return None
    hessians = [curvature.hessian(problem, x) for x in minima]
    sharpest = int(np.argmax([np.linalg.eigvalsh(k)[-1] for k in hessians]))
    noise = np.asarray(problem.noise_covariance(jnp.asarray(minima[sharpest])), dtype=float)
    return Well(minima[sharpest], hessians[sharpest], noise, len(minima), _is_linear(problem))


def _is_linear(problem: Problem) -> bool:
    is_quadratic = isinstance(problem, NoisyPotential) and isinstance(problem.potential, potentials.Quadratic)
    return is_quadratic and problem.has_additive_noise


def expected_distance(
    sgd: SGD, well: Well | None, limit: str, start: Gaussian | np.ndarray, steps: int, distance: str, *, is_late: bool
) -> float:
    """The distance of the chain's law from the limit's after so many steps; NaN where no law gives it.

    On a quadratic it is exact at any step. Elsewhere it is that of two clouds that start at the minimum and stay in
    reach of it, for the late time alone. KL between Gaussians for `"moments"`; for `"energy"` in one dimension the
    energy distance of two Gaussians, over the number of wells: for a share w of the cloud in each of 1/w wells far
    apart it is w times one well's, as 2∫(F − G)² dx says.
    """
    if well is None or not (well.is_exact or is_late):
        return math.nan
    begin = Moments(np.zeros(sgd.dim), np.zeros((sgd.dim, sgd.dim)))
    if well.is_exact:
        begin = _moments_of(start, well.minimum)
    chain, other = chain_moments(sgd, well, begin, steps), limit_moments(sgd, well, begin, steps, limit)
    try:
        if distance == "moments":
            return theory.gaussian_kl(chain.mean, chain.covariance, other.mean, other.covariance)
    except ValueError:  # a singular covariance has no KL
        return math.nan
    return gaussian_energy(chain, other) / well.count if sgd.dim == 1 else math.nan


def chain_moments(sgd: SGD, well: Well, begin: Moments, steps: int) -> Moments:
    """Mean and covariance of x − x* after so many steps of heavy ball, exact for linear gradients at any η.

    By `theory.heavy_ball_recursion`, S_{j+k} = S_j + Mʲ S_k (Mʲ)ᵀ, so that n steps take log n doublings.
    """
    dim, noise = sgd.dim, sgd.sampling_factor / sgd.batch_size * well.noise
    power, spread = theory.heavy_ball_recursion(well.hessian, noise, float(sgd.learning_rate), float(sgd.momentum))
    done, gained = np.eye(2 * dim), np.zeros((2 * dim, 2 * dim))
    while steps:
        if steps % 2:
            done, gained = power @ done, spread + power @ gained @ power.T
        power, spread, steps = power @ power, spread + power @ spread @ power.T, steps // 2
    decay = done[:dim, :dim]
    return Moments(decay @ begin.mean, decay @ begin.covariance @ decay.T + gained[:dim, :dim])


def limit_moments(sgd: SGD, well: Well, begin: Moments, steps: int, limit: str) -> Moments:
    """Mean and covariance of x − x* under the limit at the time of that step.

    All are Ornstein–Uhlenbeck. First order: drift −K and diffusion TD; second: −(K + ηK²/2) and TD. Underdamped, in a
    time s = t(1−μ)/√η of its own: dX = V ds, dV = −(γV + KX) ds + √(2γTD) dW with γ = (1−μ)/√η, from rest.
    """
    time, eta, hessian = steps * float(sgd.time_step), float(sgd.learning_rate), well.hessian
    diffusion = float(sgd.temperature) * well.noise
    if limit != "underdamped":
        pull = hessian if limit == "first-order" else hessian + eta / 2 * hessian @ hessian
        return Moments(*theory.ou_mean_covariance(pull, diffusion, begin.mean, begin.covariance, time))
    dim, friction = sgd.dim, (1 - float(sgd.momentum)) / math.sqrt(eta)
    unit, zero = np.eye(dim), np.zeros((dim, dim))
    mean, covariance = theory.ou_mean_covariance(
        np.block([[zero, -unit], [hessian, friction * unit]]),
        np.block([[zero, zero], [zero, friction * diffusion]]),
        np.concatenate([begin.mean, np.zeros(dim)]),
        np.block([[begin.covariance, zero], [zero, zero]]),
        time * friction,
    )
    return Moments(mean[:dim], covariance[:dim, :dim])


def _moments_of(start: Gaussian | np.ndarray, origin: Float[np.ndarray, " d"]) -> Moments:
    """The start's moments, counted from the minimum."""
    if isinstance(start, Gaussian):
        return Moments(start.mean - origin, start.covariance)
    points = np.atleast_2d(np.asarray(start, dtype=float))
    covariance = np.cov(points, rowvar=False, ddof=0).reshape(len(origin), -1)
    return Moments(points.mean(axis=0) - origin, covariance)


def gaussian_energy(one: Moments, other: Moments) -> float:
    """2E|X−Y| − E|X−X'| − E|Y−Y'| of two Gaussians on a line."""
    a, b = float(one.covariance[0, 0]), float(other.covariance[0, 0])
    gap = float(one.mean[0] - other.mean[0])
    return 2 * _mean_size(gap, a + b) - _mean_size(0.0, 2 * a) - _mean_size(0.0, 2 * b)


def _mean_size(mean: float, variance: float) -> float:
    """E|Z| of Z ~ N(mean, variance)."""
    width = math.sqrt(variance)
    if width == 0:
        return abs(mean)
    z = mean / width
    return width * math.sqrt(2 / math.pi) * math.exp(-(z**2) / 2) + mean * math.erf(z / math.sqrt(2))
