"""Closed-form laws against published numbers and against brute force."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim import theory

K, C = np.diag([2.0, 0.5]), np.array([[1.0, 0.8], [0.8, 1.0]])


def random_spd(rng: np.random.Generator, dim: int) -> np.ndarray:
    root = rng.normal(size=(dim, dim))
    return root @ root.T / dim + 0.1 * np.eye(dim)


def test_temperature() -> None:
    assert theory.temperature(0.1, 1) == pytest.approx(0.05)
    assert theory.temperature(0.1, 4, momentum=0.9) == pytest.approx(0.125)
    assert theory.temperature(0.1, 10, sampling_factor=theory.sampling_factor(50, 10)) == pytest.approx(0.005 * 40 / 49)


def test_sampling_factor_is_the_variance_of_a_mean_without_replacement() -> None:
    values = np.array([0.0, 1.0, 5.0, 7.0])
    pairs = [np.mean([a, b]) for i, a in enumerate(values) for b in values[i + 1 :]]
    assert np.var(pairs) == pytest.approx(theory.sampling_factor(4, 2) * np.var(values) / 2)
    assert theory.sampling_factor(4, 1) == 1.0
    assert theory.sampling_factor(4, 4) == 0.0
    assert theory.sampling_factor(1, 1) == 0.0


def test_without_replacement_matches_the_notes() -> None:
    # N = 50, B = 10; the exact factor gives .05452, (1−B/N) gives .05343
    assert 0.05343 * theory.sampling_factor(50, 10) / (1 - 10 / 50) == pytest.approx(0.05452, abs=1e-5)


def test_gibbs() -> None:
    f = np.array([[0.0, 1.0], [2.0, np.inf]])
    weights = np.exp(-f / (0.5 * 3.0))
    np.testing.assert_allclose(theory.gibbs(f, 0.5, 3.0), weights / weights.sum())
    assert theory.gibbs(f - 1e6, 1e-3).sum() == pytest.approx(1.0)
    assert theory.log_gibbs(jnp.array([0.0, 10.0]), 1e-3)[1] == pytest.approx(-10_000.0)  # its mass underflows
    for bad in (np.array([np.nan]), np.array([np.inf]), np.array([-np.inf, 0.0])):
        with pytest.raises(ValueError, match="loss_values"):
            theory.gibbs(bad, 1.0)


def test_stationary_covariances_match_the_notes() -> None:
    np.testing.assert_allclose(theory.ou_stationary_covariance(K, C, 0.3), [[0.075, 0.096], [0.096, 0.3]], rtol=1e-12)
    np.testing.assert_allclose(
        theory.sgd_stationary_covariance(K, C, 0.3), [[0.10714, 0.10909], [0.10909, 0.32432]], atol=5e-6
    )


@pytest.mark.parametrize("dim", [1, 3, 12])
def test_stationary_covariances_solve_their_equations(dim: int) -> None:
    rng, eta = np.random.default_rng(dim), 0.2
    k, c = random_spd(rng, dim), random_spd(rng, dim)
    s = theory.ou_stationary_covariance(k, c, eta)
    np.testing.assert_allclose(k @ s + s @ k, eta * c, atol=1e-12)
    s = theory.sgd_stationary_covariance(jnp.asarray(k), c, eta)
    np.testing.assert_allclose(k @ s + s @ k - eta * k @ s @ k, eta * c, atol=1e-12)
    step, chain = np.eye(dim) - eta * k, np.zeros((dim, dim))
    for _ in range(3000):
        chain = step @ chain @ step.T + eta**2 * c
    np.testing.assert_allclose(s, chain, rtol=1e-8, atol=1e-12)


def test_small_steps_meet_the_continuum() -> None:
    eta = 1e-6
    np.testing.assert_allclose(
        theory.sgd_stationary_covariance(K, C, eta), theory.ou_stationary_covariance(K, C, eta), rtol=2e-6
    )


@pytest.mark.parametrize(("eta", "mu", "k", "c"), [(0.5, 0.9, 1.0, 1.0), (1.5, 0.5, 1.0, 1.0), (0.3, 0.0, 2.0, 0.7)])
def test_heavy_ball_is_its_chain(eta: float, mu: float, k: float, c: float) -> None:
    # z = (x, v): v ← μv + kx + ξ, x ← x − ηv
    step, noise = np.array([[1 - eta * k, -eta * mu], [k, mu]]), c * np.array([[eta**2, -eta], [-eta, 1.0]])
    chain = np.zeros((2, 2))
    for _ in range(2000):
        chain = step @ chain @ step.T + noise
    assert theory.heavy_ball_variance(k, c, eta, mu) == pytest.approx(chain[0, 0])


def test_heavy_ball_matches_the_notes() -> None:
    assert theory.heavy_ball_variance(1.0, 1.0, 0.5, 0.9) == pytest.approx(2.8788, abs=5e-5)
    assert theory.heavy_ball_variance(1.0, 1.0, 1.5, 0.5) == pytest.approx(3.0)
    one = theory.sgd_stationary_covariance(np.array([[2.0]]), np.array([[0.7]]), 0.3)
    assert theory.heavy_ball_variance(2.0, 0.7, 0.3, 0.0) == pytest.approx(one[0, 0])


def ou_case() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rotating case of DESIGN §6."""
    turn = np.array([[math.cos(math.pi / 6), -0.5], [0.5, math.cos(math.pi / 6)]])
    f = np.array([[1.0, 0.8], [-0.6, 1.5]])
    return f, turn @ np.diag([0.5, 0.05]) @ turn.T, np.array([-1.0, 0.5]), 0.04 * np.eye(2)


@pytest.mark.parametrize("t", [0.3, 1.0, 5.0])
def test_ornstein_uhlenbeck_is_its_equation_integrated(t: float) -> None:
    f, a, m, s = ou_case()
    mean, cov = theory.ou_mean_covariance(f, a, m, s, t)
    steps = 2000
    h = t / steps
    for _ in range(steps):  # classical Runge–Kutta on m' = −Fm, S' = −FS − SFᵀ + 2A

        def rate(q: np.ndarray) -> np.ndarray:
            return -f @ q - q @ f.T + 2 * a

        k1 = rate(s)
        k2 = rate(s + h / 2 * k1)
        k3 = rate(s + h / 2 * k2)
        k4 = rate(s + h * k3)
        s = s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        m = m - h * f @ (m - h / 2 * f @ (m - h / 3 * f @ (m - h / 4 * f @ m)))
    np.testing.assert_allclose(mean, m, atol=1e-10)
    np.testing.assert_allclose(cov, s, atol=1e-10)


def test_ornstein_uhlenbeck_at_its_limits() -> None:
    f, a, m, s = ou_case()
    start = theory.ou_mean_covariance(f, a, m, s, 0.0)
    np.testing.assert_allclose(start[0], m)
    np.testing.assert_allclose(start[1], s)
    late = theory.ou_mean_covariance(f, a, m, s, 1e6)  # a plain Van Loan block overflows from t ≈ 700
    np.testing.assert_allclose(f @ late[1] + late[1] @ f.T, 2 * a, atol=1e-12)
    np.testing.assert_allclose(late[0], 0.0, atol=1e-12)
    steady = theory.ou_mean_covariance(K, 0.15 * C, np.zeros(2), np.zeros((2, 2)), 100.0)[1]
    np.testing.assert_allclose(steady, theory.ou_stationary_covariance(K, C, 0.3), rtol=1e-10)
    free = theory.ou_mean_covariance(np.zeros((2, 2)), a, m, s, 3.0)  # Brownian motion
    np.testing.assert_allclose(free[1], s + 6 * a)
    half = theory.ou_mean_covariance(f, a, m, s, 0.7)
    np.testing.assert_allclose(
        theory.ou_mean_covariance(f, a, *half, 0.7)[1], theory.ou_mean_covariance(f, a, m, s, 1.4)[1], rtol=1e-12
    )


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: theory.temperature(-0.1, 1), "learning_rate"),
        (lambda: theory.temperature(0.1, 0), "batch_size"),
        (lambda: theory.temperature(0.1, 1, momentum=1.0), "momentum"),
        (lambda: theory.temperature(0.1, 1, sampling_factor=2.0), "sampling_factor"),
        (lambda: theory.sampling_factor(0, 1), "num_examples"),
        (lambda: theory.sampling_factor(5, 6), "batch_size"),
        (lambda: theory.gibbs(np.zeros(2), 0.0), "temperature"),
        (lambda: theory.gibbs(np.zeros(2), 1.0, -1.0), "variance"),
        (lambda: theory.ou_stationary_covariance(-K, C, 0.1), "K must be positive"),
        (lambda: theory.ou_stationary_covariance(np.diag([1.0, 0.0]), C, 0.1), "K must be positive definite"),
        (lambda: theory.ou_stationary_covariance(K, C[:1, :1], 0.1), "C must have shape"),
        (lambda: theory.ou_stationary_covariance(K, np.array([[1.0, 2.0], [2.0, 1.0]]), 0.1), "C must be positive"),
        (lambda: theory.ou_stationary_covariance(np.array([[1.0, 0.5], [0.0, 1.0]]), C, 0.1), "K must be symmetric"),
        (lambda: theory.ou_stationary_covariance(K, C, math.nan), "eta"),
        (lambda: theory.sgd_stationary_covariance(K, C, 1.0), "eta must stay below"),
        (lambda: theory.heavy_ball_variance(1.0, 1.0, 3.8, 0.9), "eta must stay below"),
        (lambda: theory.heavy_ball_variance(1.0, -1.0, 0.1, 0.9), "c must be"),
        (lambda: theory.heavy_ball_variance(1.0, 1.0, 0.1, 1.0), "mu"),
        (lambda: theory.ou_mean_covariance(K, C, np.zeros(3), C, 1.0), "mean0"),
        (lambda: theory.ou_mean_covariance(K, C, np.zeros(2), C, -1.0), "t must"),
    ],
)
def test_errors_name_the_argument(call: Callable, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        call()
