"""Discrete SGD against the exact laws of its stationary state."""

import jax
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import theory

RNG = np.random.default_rng(5)
A, C = RNG.normal(size=(2, 3, 3))
HESSIAN = A @ A.T / 3 + 0.5 * np.eye(3)
NOISE = C @ C.T / 3 + 0.2 * np.eye(3)


def quadratic(hessian, noise):
    return ss.NoisyPotential(ss.potentials.Quadratic(hessian), ss.GaussianNoise(noise))


def covariance_errors(x):
    """Empirical covariance about the known mean 0, and its standard error by entry."""
    products = x[:, :, None] * x[:, None, :]
    return products.mean(0), products.std(0) / np.sqrt(len(x))


def test_steady_covariance_meets_the_discrete_law_and_not_the_continuous_one():
    """Quadratic in 3-D, random Hessian and noise: 6 entries at 4 standard errors, from 200,000 particles."""
    learning_rate = 0.5 / np.linalg.eigvalsh(HESSIAN)[-1]
    sgd = ss.SGD(quadratic(HESSIAN, NOISE), learning_rate=learning_rate, batch_size=2)
    discrete = theory.sgd_stationary_covariance(HESSIAN, NOISE / 2, learning_rate)
    continuous = theory.ou_stationary_covariance(HESSIAN, NOISE / 2, learning_rate)
    start = ss.Gaussian(np.zeros(3), discrete * 0.5)
    cloud = ss.simulate(sgd, start, particles=200_000, steps=150, key=jax.random.key(11)).particles[-1]
    measured, error = covariance_errors(cloud)
    assert np.all(np.abs(measured - discrete) < 4 * error)
    assert np.max(np.abs(measured - continuous) / error) > 20


@pytest.mark.parametrize(("momentum", "learning_rate", "variance"), [(0.9, 0.5, 2.8788), (0.5, 1.5, 3.0)])
def test_heavy_ball_variance(momentum, learning_rate, variance):
    """S = ηC/[k(1−μ)(2 − ηk/(1+μ))] with k = C = 1; one comparison each at 4 standard errors."""
    sgd = ss.SGD(quadratic([[1.0]], 1.0), learning_rate=learning_rate, batch_size=1, momentum=momentum)
    cloud = ss.simulate(sgd, np.zeros(1), particles=100_000, steps=300, key=jax.random.key(2)).particles[-1]
    measured, error = covariance_errors(cloud)
    assert theory.heavy_ball_variance(1.0, 1.0, learning_rate, momentum) == pytest.approx(variance, rel=1e-4)
    assert abs(measured[0, 0] - variance) < 4 * error[0, 0]


@pytest.mark.slow
def test_without_replacement_variance_has_its_factor():
    """N = 50, B = 10, f = mean ½(x − aᵢ)²: S = η s_B D/(B(2 − η)) with s_B = 40/49, at 4 standard errors."""
    centres = RNG.normal(size=50)
    risk = ss.EmpiricalRisk(lambda x, a: (x[0] - a[0]) ** 2 / 2, (centres,), init=np.zeros(1))
    sgd = ss.SGD(risk, learning_rate=0.5, batch_size=10, sampling="without-replacement")
    assert sgd.sampling_factor == pytest.approx(40 / 49)
    assert float(sgd.temperature) == pytest.approx(40 / 49 * 0.5 / 20)
    cloud = ss.simulate(sgd, np.zeros(1), particles=200_000, steps=60, key=jax.random.key(4)).particles[-1]
    measured, error = covariance_errors(cloud - centres.mean())
    assert abs(measured[0, 0] - 0.5 * 40 / 49 * centres.var() / (10 * 1.5)) < 4 * error[0, 0]
    assert abs(measured[0, 0] - 0.5 * centres.var() / (10 * 1.5)) > 20 * error[0, 0]


def test_reshuffling_is_colder_than_its_temperature_says():
    """N = 20, B = 2, η = 0.1, k = 1: at the end of an epoch the variance is about a tenth of independent batches'."""
    centres = RNG.normal(size=20)
    risk = ss.EmpiricalRisk(lambda x, a: (x[0] - a[0]) ** 2 / 2, (centres,), init=np.zeros(1))
    sgd = ss.SGD(risk, learning_rate=0.1, batch_size=2, sampling="epoch")
    cloud = ss.simulate(sgd, np.zeros(1), particles=20_000, steps=300, key=jax.random.key(4)).particles[-1]
    independent = 0.1 * sgd.sampling_factor * centres.var() / (2 * 1.9)
    assert cloud.var() < 0.15 * independent


def test_clock_and_temperature():
    sgd = ss.SGD(quadratic([[1.0]], 1.0), learning_rate=0.1, batch_size=4, momentum=0.75)
    assert float(sgd.effective_learning_rate) == pytest.approx(0.4)
    assert float(sgd.temperature) == pytest.approx(0.05)
    run = ss.simulate(sgd, np.zeros(1), particles=2, steps=10, save_every=4, key=jax.random.key(0))
    assert np.allclose(run.times, [0, 1.6, 3.2, 4.0])
    assert np.array_equal(run.steps, [0, 4, 8, 10])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"batch_size": 0}, "batch_size must be a positive whole number"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"sampling": "shuffled"}, "sampling must be one of"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        ss.SGD(quadratic([[1.0]], 1.0), **{"learning_rate": 0.1, "batch_size": 1} | arguments)
