"""Stationary covariances on a quadratic: the limit's, the chain's, with momentum, with true minibatches."""

import jax
import numpy as np
from jaxtyping import Array, Key

from sgdsim import theory
from sgdsim.ensemble import Gaussian
from sgdsim.measures import covariance, mean
from sgdsim.problems import EmpiricalRisk, GaussianNoise, GaussianRegression, NoisyPotential
from sgdsim.problems.potentials import Quadratic
from sgdsim.processes import SGD, SVAG, Langevin
from sgdsim.studies.laws.law import Check, covariance_checks, late_cloud, law, scaled

HESSIAN, NOISE = np.diag([2.0, 0.5]), np.array([[1.0, 0.8], [0.8, 1.0]])
TIME = 24.0  # e^{−2·½·24} = 4e-11 of the start is left


def quadratic(
    eta: float, *, hessian: np.ndarray = HESSIAN, noise: np.ndarray | float = NOISE, momentum: float = 0.0
) -> SGD:
    """SGD with batches of one on ½xᵀKx."""
    problem = NoisyPotential(Quadratic(hessian), GaussianNoise(noise))
    return SGD(problem, learning_rate=eta, batch_size=1, momentum=momentum)


@law("ou", "Langevin limit on a quadratic: K S + S K = η C", "Mandt, Hoffman, Blei 2017, eq. 12")
def langevin_covariance(key: Key[Array, ""], effort: float) -> list[Check]:
    """The limit's cloud, long after a start in a narrow Gaussian."""
    eta = 0.3
    limit = Langevin.limit_of(quadratic(eta), substeps=16)  # Heun's own bias is then 4e-4 of S
    start, truth = Gaussian([0.0, 0.0], 0.05), theory.ou_stationary_covariance(HESSIAN, NOISE, eta)
    particles = scaled(100_000, effort)
    return covariance_checks(limit, start, truth, f"η = {eta}", particles=particles, time=TIME, key=key)


@law("sgd", "SGD on a quadratic, any η: K S + S K − η K S K = η C", "Liu, Ziyin, Ueda 2021, thm 1")
def sgd_covariance(key: Key[Array, ""], effort: float) -> list[Check]:
    """The chain's cloud, at a rate for which the limit is 40 % off, and near the edge of stability."""
    checks = []
    for eta, k in zip((0.3, 0.9), jax.random.split(key), strict=True):
        start, truth = Gaussian([0.0, 0.0], 0.05), theory.sgd_stationary_covariance(HESSIAN, NOISE, eta)
        particles = scaled(200_000, effort)
        checks += covariance_checks(quadratic(eta), start, truth, f"η = {eta}", particles=particles, time=TIME, key=k)
    return checks


@law("heavy-ball", "heavy ball: S = ηC / [k(1−μ)(2 − ηk/(1+μ))]", "Liu, Ziyin, Ueda 2021")
def heavy_ball(key: Key[Array, ""], effort: float) -> list[Check]:
    """Two pairs of rate and momentum, for which the continuum would have 2.5 and 1.5."""
    checks = []
    for (eta, momentum), k in zip(((0.5, 0.9), (1.5, 0.5)), jax.random.split(key), strict=True):
        sgd = quadratic(eta, hessian=np.eye(1), noise=1.0, momentum=momentum)
        time = 25 / -np.log(momentum) * float(sgd.time_step)  # S forgets its start as |z|² = μ, z² − (1+μ−ηk)z + μ = 0
        start, truth = Gaussian([0.0], 0.5), np.array([[theory.heavy_ball_variance(1.0, 1.0, eta, momentum)]])
        settings, particles = f"η = {eta}, μ = {momentum}", scaled(200_000, effort)
        checks += covariance_checks(sgd, start, truth, settings, particles=particles, time=time, key=k)
    return checks


@law(
    "linear-regression",
    "fresh Gaussian inputs: C = (G S G + Tr[GS] G + σ²G)/B in the chain's law",
    "Ziyin, Liu, Mori, Ueda 2022",
)
def linear_regression(key: Key[Array, ""], effort: float) -> list[Check]:
    """Noise that grows with the distance from the minimum; for d = 5 the covariance is a multiple of the identity."""
    checks = []
    for (dim, batch_size, eta), k in zip(((1, 1, 0.2), (5, 10, 0.5)), jax.random.split(key), strict=True):
        sgd = SGD(GaussianRegression(np.ones(dim), 1.0), learning_rate=eta, batch_size=batch_size)
        start = Gaussian(np.zeros(dim), 0.05)
        truth = theory.linear_regression_covariance(np.eye(dim), 1.0, batch_size, eta)
        settings, particles = f"d = {dim}, B = {batch_size}, η = {eta}", scaled(100_000, effort)
        checks += covariance_checks(sgd, start, truth, settings, particles=particles, time=TIME, key=k)[:1]
    return checks


@law(
    "sampling",
    "minibatches of B from N: C = s_B D/B, s_B = 1, or (N−B)/(N−1) without replacement",
    "finite-population correction; Liu, Ziyin, Ueda 2021",
)
def sampling(key: Key[Array, ""], effort: float) -> list[Check]:
    """True minibatches of a finite sum whose gradients differ by constants, so that D is the same everywhere."""
    size, batch_size, eta = 50, 10, 0.5
    data = np.random.default_rng(1).normal(size=size)
    risk = EmpiricalRisk(lambda w, z: (w[0] - z[0]) ** 2 / 2, (data,), init=np.zeros(1))
    checks = []
    for how, k in zip(("with-replacement", "without-replacement"), jax.random.split(key), strict=True):
        sgd = SGD(risk, learning_rate=eta, batch_size=batch_size, sampling=how)
        noise = sgd.sampling_factor * np.var(data) / batch_size
        truth = theory.sgd_stationary_covariance(np.eye(1), noise * np.eye(1), eta)
        start, particles = Gaussian([float(np.mean(data))], 0.01), scaled(100_000, effort)
        settings = f"{how}, N = {size}, B = {batch_size}, η = {eta}"
        checks += covariance_checks(sgd, start, truth, settings, particles=particles, time=TIME, key=k)
    return checks


@law("svag", "SVAG(l): S = ηC/(k(2 − ηk/l))", "Li, Malladi, Arora 2021")
def svag(key: Key[Array, ""], effort: float) -> list[Check]:
    """From SGD at l = 1 to nearly its limit, ηC/2k = 0.4, at l = 16."""
    eta, checks = 0.8, []
    for refinement, k in zip((1, 2, 4, 16), jax.random.split(key, 4), strict=True):
        process = SVAG(quadratic(eta, hessian=np.eye(1), noise=1.0), refinement)
        start, truth = Gaussian([0.0], 0.5), np.array([[theory.svag_variance(1.0, 1.0, eta, refinement)]])
        settings, particles = f"l = {refinement}, η = {eta}", scaled(100_000, effort)
        checks += covariance_checks(process, start, truth, settings, particles=particles, time=TIME / 2, key=k)
    return checks


@law(
    "linear-scaling",
    "η = η₀B/B₀ holds T, but S/S₀ = (1 − B₀/B*)/(1 − B/B*), divergent at B* = 2B₀/(kη₀)",
    "rule: Goyal et al. 2017; where it breaks: derived",
)
def linear_scaling(key: Key[Array, ""], effort: float) -> list[Check]:
    """Variances up to three quarters of the critical batch size, and the growth beyond it."""
    base, base_rate = 4, 0.1
    critical = theory.critical_batch_size(base, base_rate, 1.0)
    problem = NoisyPotential(Quadratic([[1.0]]), GaussianNoise(1.0))
    base_variance = base_rate / (base * (2 - base_rate))
    *own_keys, key = jax.random.split(key, 5)
    checks = []
    for batch_size, k in zip((8, 20, 40, 60), own_keys, strict=True):
        sgd = SGD(problem, learning_rate=base_rate * batch_size / base, batch_size=batch_size)
        cloud = late_cloud(sgd, Gaussian([0.0], 0.01), particles=scaled(100_000, effort), time=TIME, key=k)
        ratio = covariance(cloud)[0, 0] * (1 / base_variance)
        truth = theory.linear_scaling(batch_size, base, base_rate, 1.0)
        checks.append(Check(f"S/S₀, B = {batch_size / critical:.3g} B*", truth, ratio))
    beyond, steps = round(1.1 * critical), 10
    eta = base_rate * beyond / base
    sgd = SGD(problem, learning_rate=eta, batch_size=beyond)
    cloud = late_cloud(sgd, [1.0], particles=scaled(20_000, effort), time=steps * eta, key=key)
    truth = theory.quadratic_moments(1.0, 1 / beyond, eta, 1.0, steps, "sgd")[1]
    found = mean(cloud.astype(float) ** 2)[0]
    return [*checks, Check(f"⟨x²⟩ after {steps} steps from 1, B = {beyond / critical:.3g} B*", truth, found)]
