"""Stationary laws beyond one chain and its limit: second order, SVAG, heavy ball, regression, scaling, fluctuations."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from sgdsim import theory

K, C = np.array([[2.0, 0.3], [0.3, 0.5]]), np.array([[1.0, 0.8], [0.8, 1.0]])


def kron_steady(step: np.ndarray, kicks: np.ndarray) -> np.ndarray:
    """Z = M Z Mᵀ + N as one linear system in the entries of Z."""
    size = len(step)
    return np.linalg.solve(np.eye(size**2) - np.kron(step, step), kicks.reshape(-1)).reshape(size, size)


def test_second_order_is_its_equation() -> None:
    eta = 0.3
    s = theory.second_order_stationary_covariance(K, C, eta)
    pull = K + eta * K @ K / 2
    np.testing.assert_allclose(pull @ s + s @ pull, eta * C, atol=1e-14)
    one = theory.second_order_stationary_covariance(np.array([[2.0]]), np.array([[0.7]]), eta)
    assert one[0, 0] == pytest.approx(eta * 0.7 / (2 * 2.0 * (1 + eta * 2.0 / 2)))


def test_second_order_is_worse_than_first_in_the_steady_state() -> None:
    """The excess of the chain over ηC/(2k) is 1 + ηk/2 + …; the second order has 1 − ηk/2."""
    k, c = np.array([[1.0]]), np.array([[1.0]])
    for eta in (0.2, 0.05):
        chain = theory.sgd_stationary_covariance(k, c, eta)[0, 0]
        first = theory.ou_stationary_covariance(k, c, eta)[0, 0]
        second = theory.second_order_stationary_covariance(k, c, eta)[0, 0]
        assert (chain - second) / (chain - first) == pytest.approx(2, abs=eta)


@pytest.mark.parametrize("parts", [1, 2, 16, 2.5])
def test_svag_is_its_chain(parts: float) -> None:
    k, c, eta = 1.5, 0.7, 0.8
    weights = np.array([1 + math.sqrt(2 * parts - 1), 1 - math.sqrt(2 * parts - 1)]) / 2
    variance = 0.0
    for _ in range(2000):  # both batches have the mean kx and are independent
        variance = (1 - eta / parts * k * np.sum(weights)) ** 2 * variance + (eta / parts) ** 2 * np.sum(weights**2) * c
    assert theory.svag_variance(k, c, eta, parts) == pytest.approx(variance, rel=1e-12)


def test_svag_goes_from_sgd_to_its_limit() -> None:
    assert theory.svag_variance(1.5, 0.7, 0.8, 1) == pytest.approx(theory.heavy_ball_variance(1.5, 0.7, 0.8, 0.0))
    assert theory.svag_variance(1.5, 0.7, 0.8, 1e9) == pytest.approx(0.8 * 0.7 / (2 * 1.5))


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_heavy_ball_covariance_is_its_chain(mu: float) -> None:
    eta, dim = 0.6, 2  # z = (x, v)
    unit = np.eye(dim)
    step = np.block([[unit - eta * K, -eta * mu * unit], [K, mu * unit]])
    kicks = np.kron([[eta**2, -eta], [-eta, 1.0]], C)
    s = theory.heavy_ball_covariance(K, C, eta, mu)
    np.testing.assert_allclose(s, kron_steady(step, kicks)[:dim, :dim], rtol=1e-10)
    if mu == 0:
        np.testing.assert_allclose(s, theory.sgd_stationary_covariance(K, C, eta), rtol=1e-12)
    values, vectors = np.linalg.eigh(K)
    for k, direction in zip(values, vectors.T, strict=True):  # along K's axes, the scalar law
        scalar = theory.heavy_ball_variance(float(k), float(direction @ C @ direction), eta, mu)
        assert direction @ s @ direction == pytest.approx(scalar, rel=1e-12)


def test_heavy_ball_covariance_in_many_dimensions() -> None:
    """Beyond nine dimensions SciPy solves by another method."""
    root = np.random.default_rng(0).normal(size=(8, 8))
    k, c = root @ root.T / 8 + 0.1 * np.eye(8), np.diag(np.arange(8.0))
    values, vectors = np.linalg.eigh(k)
    s = vectors.T @ theory.heavy_ball_covariance(k, c, 0.2, 0.8) @ vectors
    noise = np.diag(vectors.T @ c @ vectors)
    scalar = [theory.heavy_ball_variance(float(a), float(b), 0.2, 0.8) for a, b in zip(values, noise, strict=True)]
    np.testing.assert_allclose(np.diag(s), scalar, rtol=1e-9)


def regression_step(g: np.ndarray, batch_size: int, eta: float) -> np.ndarray:
    """S → (1−ηG)S(1−ηG) + (η²/B)(GSG + Tr[GS]G) on vec S."""
    dim = len(g)
    step = np.eye(dim) - eta * g
    noise = np.kron(g, g) + np.outer(g.reshape(-1), g.reshape(-1))
    return np.kron(step, step) + eta**2 / batch_size * noise


def test_linear_regression_matches_the_notes() -> None:
    assert theory.linear_regression_covariance(np.eye(1), 1.0, 1, 0.2)[0, 0] == pytest.approx(0.1429, abs=5e-5)
    s = theory.linear_regression_covariance(np.eye(5), 1.0, 10, 0.5)
    np.testing.assert_allclose(s, 0.0417 * np.eye(5), atol=5e-5)


@pytest.mark.parametrize(("batch_size", "eta"), [(1, 0.2), (4, 0.5)])
def test_linear_regression_solves_its_equation(batch_size: int, eta: float) -> None:
    g, sigma2 = np.array([[1.0, 0.4, 0.0], [0.4, 0.6, 0.1], [0.0, 0.1, 0.3]]), 0.7
    s = theory.linear_regression_covariance(g, sigma2, batch_size, eta)
    noise = (g @ s @ g + np.trace(g @ s) * g + sigma2 * g) / batch_size
    np.testing.assert_allclose(g @ s + s @ g - eta * g @ s @ g, eta * noise, atol=1e-14)
    np.testing.assert_allclose(s, theory.sgd_stationary_covariance(g, noise, eta), rtol=1e-10)
    kicks = eta**2 * sigma2 / batch_size * g
    fixed = np.linalg.solve(np.eye(9) - regression_step(g, batch_size, eta), kicks.reshape(-1)).reshape(3, 3)
    np.testing.assert_allclose(s, fixed, rtol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_linear_regression_raises_where_its_chain_diverges(batch_size: int) -> None:
    g = np.diag([1.0, 0.5, 0.2])
    seen = set()
    for eta in np.linspace(0.05, 2.0, 40):
        converges = np.max(np.abs(np.linalg.eigvals(regression_step(g, batch_size, eta)))) < 1
        seen.add(bool(converges))
        if converges:
            theory.linear_regression_covariance(g, 1.0, batch_size, eta)
        else:
            with pytest.raises(ValueError, match="eta must"):
                theory.linear_regression_covariance(g, 1.0, batch_size, eta)
    assert seen == {True, False}


def regression_cloud(seed: int) -> np.ndarray:
    """z of the three second moments of 20,000 particles that descend real examples, G = diag(1, .4), σ = 1, B = 3."""
    rng, scale, eta, batch = np.random.default_rng(seed), np.sqrt([1.0, 0.4]), 0.3, 3
    x = np.zeros((20_000, 2))
    for _ in range(60):  # (1 − .3·.4)^120 = 2e-7
        inputs = rng.normal(size=(batch, *x.shape)) * scale
        residuals = np.sum(inputs * x, axis=-1) - rng.normal(size=(batch, len(x)))
        x = x - eta * np.mean(inputs * residuals[..., None], axis=0)
    exact = theory.linear_regression_covariance(np.diag([1.0, 0.4]), 1.0, batch, eta)
    products = np.stack([x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2])
    error = np.std(products, axis=1) / math.sqrt(len(x))
    return (np.mean(products, axis=1) - exact[[0, 0, 1], [0, 1, 1]]) / error


def test_linear_regression_is_simulated() -> None:
    assert np.all(np.abs(regression_cloud(0)) < 3.5)  # 3 comparisons


def test_linear_scaling_is_the_ratio_of_two_chains() -> None:
    k, base, rate, noise = 2.0, 4, 0.1, 3.0

    def variance(batch_size: int) -> float:
        eta = rate * batch_size / base
        return theory.heavy_ball_variance(k, noise / batch_size, eta, 0.0)

    critical = theory.critical_batch_size(base, rate, k)
    assert critical == pytest.approx(40)
    for batch_size in (1, 4, 20, 39):
        ratio = theory.linear_scaling(batch_size, base, rate, k)
        assert ratio == pytest.approx(variance(batch_size) / variance(base), rel=1e-12)
        continuum = variance(base) / (rate * noise / base / (2 * k))  # S₀ over the limit's variance
        assert ratio * continuum == pytest.approx(1 / (1 - batch_size / critical), rel=1e-12)
    assert theory.linear_scaling(500, 1, 1e-3, 2.0) == pytest.approx(2, rel=2e-3)  # doubled at B*/2
    with pytest.raises(ValueError, match=r"batch_size must stay below B\* .* 40"):
        theory.linear_scaling(40, base, rate, k)


@pytest.mark.parametrize(("eta", "mu"), [(0.7, 0.0), (0.3, 0.5), (1.2, 0.9)])
def test_fluctuation_dissipation_on_a_quadratic(eta: float, mu: float) -> None:
    unit = np.eye(2)
    step = np.block([[unit - eta * K, -eta * mu * unit], [K, mu * unit]])
    joint = kron_steady(step, np.kron([[eta**2, -eta], [-eta, 1.0]], C))
    force = np.trace(K @ joint[:2, :2])
    assert theory.fluctuation_dissipation(eta**2 * np.trace(joint[2:, 2:]), eta, mu) == pytest.approx(force, rel=1e-10)
    if mu == 0:  # g_B = Kx + noise
        assert force == pytest.approx(eta / 2 * (np.trace(K @ joint[:2, :2] @ K) + np.trace(C)))


def fluctuation_z(seed: int, mu: float) -> float:
    """x f' against the prediction on f = x⁴/4 − x²/2 with skewed multiplicative noise, over 10,000 particles."""
    rng, eta = np.random.default_rng(seed), 0.1
    x, v = np.full(10_000, 0.5), np.zeros(10_000)
    for _ in range(400):  # the slowest rate is ≈ 1/4 per unit of time, of which 40 and more pass
        v = mu * v + x**3 - x + (1 + 0.3 * x) * (rng.exponential(size=len(x)) - 1)
        x = x - eta * v
    difference = x * (x**3 - x) - theory.fluctuation_dissipation(1.0, eta, mu) * (eta * v) ** 2
    return float(np.mean(difference) / np.std(difference) * math.sqrt(len(x)))


@pytest.mark.parametrize("mu", [0.0, 0.6])
def test_fluctuation_dissipation_on_any_loss(mu: float) -> None:
    assert abs(fluctuation_z(0, mu)) < 3.5


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.second_order_stationary_covariance(-K, C, 0.1), "K must be positive"),
        (lambda: theory.second_order_stationary_covariance(K, C, -0.1), "eta must be positive"),
        (lambda: theory.svag_variance(1.0, 1.0, 0.1, 0.5), "l must be finite and at least 1, got 0.5"),
        (lambda: theory.svag_variance(1.0, 1.0, 4.0, 2), "eta must stay below 2l/k = 4, got 4.0"),
        (lambda: theory.svag_variance(1.0, -1.0, 0.1, 2), "c must be finite and not negative"),
        (
            lambda: theory.heavy_ball_covariance(np.eye(2), C, 3.0, 0.5),
            r"eta must stay below 2\(1\+mu\)/λ_max\(K\) = 3",
        ),
        (lambda: theory.heavy_ball_covariance(K, C, 0.1, 1.0), "mu must lie"),
        (lambda: theory.linear_regression_covariance(np.zeros((2, 2)), 1.0, 1, 0.1), "G must be positive definite"),
        (lambda: theory.linear_regression_covariance(K, -1.0, 1, 0.1), "sigma2 must"),
        (lambda: theory.linear_regression_covariance(K, 1.0, 0, 0.1), "batch_size must be at least 1, got 0"),
        (lambda: theory.linear_regression_covariance(np.eye(2), 1.0, 1, 1.0), "eta must stay below .* = 1, got 1.0"),
        (lambda: theory.linear_regression_covariance(np.eye(9), 1.0, 1, 0.5), "eta must be so small"),
        (lambda: theory.fluctuation_dissipation(-1.0, 0.1), "second_moment"),
        (lambda: theory.fluctuation_dissipation(1.0, 0.0), "eta"),
        (lambda: theory.fluctuation_dissipation(1.0, 0.1, 1.0), "momentum"),
        (lambda: theory.linear_scaling(0, 1, 0.1, 1.0), "batch_size"),
        (lambda: theory.linear_scaling(1, 0, 0.1, 1.0), "base_batch_size"),
        (lambda: theory.linear_scaling(1, 2, 2.0, 1.0), "base_learning_rate must stay below 2/k"),
        (lambda: theory.critical_batch_size(1, 0.1, -1.0), "k must be positive"),
    ],
)
def test_errors_name_the_argument(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
