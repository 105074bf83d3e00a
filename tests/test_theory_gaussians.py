"""Gaussian laws: KL and its fall, rotation, what thermometers read, moments at a finite time."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from equations import ROTATION, rotated_ou, turned

from sgdsim import theory

TENSOR = turned((0.5, 0.1))


def test_kl_of_a_gaussian_is_its_integral() -> None:
    p, q = scipy.stats.norm(0.3, 0.7), scipy.stats.norm(-0.2, 1.1)
    integral, _ = scipy.integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -8, 8)
    exact = theory.gaussian_kl(np.array([0.3]), np.array([[0.49]]), np.array([-0.2]), np.array([[1.21]]))
    assert exact == pytest.approx(integral, rel=1e-10)


def test_kl_of_gaussians_in_two_dimensions() -> None:
    mean, own = np.array([0.5, -0.3]), turned((0.4, 1.5))
    other, reference = np.array([-0.1, 0.2]), np.array([[1.0, -0.3], [-0.3, 0.6]])
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)  # exact for quadratics: the log ratio is one
    z, w = np.array(list(itertools.product(nodes, nodes))), np.outer(weights, weights).reshape(-1) / (2 * math.pi)
    x = mean + z @ np.linalg.cholesky(own).T
    p, q = scipy.stats.multivariate_normal(mean, own), scipy.stats.multivariate_normal(other, reference)
    integral = np.sum(w * (p.logpdf(x) - q.logpdf(x)))
    assert theory.gaussian_kl(mean, own, other, reference) == pytest.approx(integral, rel=1e-12)


def test_kl_is_exact_where_it_is_small_and_where_it_is_large() -> None:
    zero, one = np.zeros(3), np.eye(3)
    assert theory.gaussian_kl(zero, one, zero, one) == 0
    small = 1e-6  # ½ · 3 · small²/2
    assert theory.gaussian_kl(zero, (1 + small) * one, zero, one) == pytest.approx(0.75 * small**2, rel=1e-3)
    narrow = theory.gaussian_kl(zero, 1e-30 * one, zero, one)
    assert narrow == pytest.approx(1.5 * (30 * math.log(10) - 1), rel=1e-12)


@pytest.mark.parametrize("drift", [ROTATION, TENSOR @ np.array([[2.0, 0.5], [0.5, 1.0]])], ids=["rotates", "balanced"])
@pytest.mark.parametrize("t", [0.0, 0.4, 3.0])
def test_kl_falls_at_the_rate_of_its_dissipation(drift: np.ndarray, t: float) -> None:
    law = theory.rotation(drift, TENSOR)
    assert (np.max(np.abs(law.antisymmetric)) > 0.1) == (drift is ROTATION)
    start, h = (np.array([-1.0, 0.5]), np.array([[0.06, 0.02], [0.02, 0.3]])), 1e-3

    def kl(time: float) -> float:
        state = theory.ou_mean_covariance(drift, TENSOR, *start, time)
        return theory.gaussian_kl(*state, np.zeros(2), law.covariance)

    mean, own = theory.ou_mean_covariance(drift, TENSOR, *start, t + 2 * h)
    slope = (8 * (kl(t + h) - kl(t + 3 * h)) - kl(t) + kl(t + 4 * h)) / (12 * h)  # minus the derivative, order 4
    assert theory.kl_dissipation(mean, own, law.covariance, TENSOR) == pytest.approx(slope, rel=1e-6)


def test_dissipation_is_its_integral() -> None:
    mean, own, reference = np.array([0.5, -0.3]), turned((0.4, 1.5)), np.array([[1.0, -0.3], [-0.3, 0.6]])
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    z, w = np.array(list(itertools.product(nodes, nodes))), np.outer(weights, weights).reshape(-1) / (2 * math.pi)
    x = mean + z @ np.linalg.cholesky(own).T
    slope = x @ np.linalg.inv(reference) - (x - mean) @ np.linalg.inv(own)
    integral = np.sum(w * np.einsum("ni,ij,nj->n", slope, TENSOR, slope))
    assert theory.kl_dissipation(mean, own, reference, TENSOR) == pytest.approx(integral, rel=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_rotation_splits_the_drift(dim: int) -> None:
    rng = np.random.default_rng(dim)
    root = rng.normal(size=(dim, dim))
    drift, tensor = rng.normal(size=(dim, dim)) + 3 * np.eye(dim), root @ root.T
    law, unit = theory.rotation(drift, tensor), np.eye(dim)
    system = np.kron(drift, unit) + np.kron(unit, drift)  # F S + S Fᵀ = 2A on vec S
    np.testing.assert_allclose(law.covariance.reshape(-1), np.linalg.solve(system, 2 * tensor.reshape(-1)), rtol=1e-9)
    np.testing.assert_allclose((tensor + law.antisymmetric) @ law.precision, drift, atol=1e-10)
    np.testing.assert_array_equal(law.antisymmetric, -law.antisymmetric.T)


def test_rotation_of_a_quadratic_in_two_dimensions() -> None:
    k, noise = np.diag([2.0, 0.5]), np.array([[1.0, 0.8], [0.8, 1.0]])
    law = theory.rotation(k, noise)
    assert law.antisymmetric[0, 1] == pytest.approx(0.8 * (2.0 - 0.5) / (2.0 + 0.5), rel=1e-12)
    np.testing.assert_allclose(law.covariance, theory.ou_stationary_covariance(k, noise, 2.0), rtol=1e-12)
    commuting = theory.rotation(k, np.diag([1.0, 0.1]))  # anisotropic, and yet no current
    np.testing.assert_allclose(commuting.antisymmetric, 0, atol=1e-15)


def test_circulation_is_that_of_the_density() -> None:
    exact = theory.ou_circulation(ROTATION, TENSOR)
    np.testing.assert_allclose(exact, 2 * theory.rotation(ROTATION, TENSOR).antisymmetric)
    errors = []
    for cells in (48, 96):
        fp = rotated_ou(cells, (0.5, 0.1))
        errors.append(fp.circulation(fp.stationary()) - exact[0, 1])
    assert abs(errors[1]) < 0.03 * abs(exact[0, 1])
    assert errors[0] / errors[1] > 3.5


def circulation_z(seed: int) -> float:
    """⟨x ∧ b⟩ of a chain of small steps, over 20,000 particles."""
    rng, h = np.random.default_rng(seed), 0.002
    law, exact = theory.rotation(ROTATION, TENSOR), theory.ou_circulation(ROTATION, TENSOR)[0, 1]
    x = rng.multivariate_normal(np.zeros(2), law.covariance, size=20_000)
    kicks = rng.normal(size=(100, *x.shape)) @ np.linalg.cholesky(2 * h * TENSOR).T
    swept = np.zeros(len(x))
    for kick in kicks:  # x × dx over a time of 0.2
        step = -h * x @ ROTATION.T + kick
        swept += x[:, 0] * step[:, 1] - x[:, 1] * step[:, 0]
        x = x + step
    rates = swept / (h * len(kicks))
    return float((np.mean(rates) - exact) / np.std(rates) * math.sqrt(len(x)))


def test_circulation_is_the_area_that_particles_sweep() -> None:
    assert abs(circulation_z(0)) < 3.5


@pytest.mark.parametrize(("eta", "mu"), [(0.4, 0.0), (0.9, 0.0), (1.0, 0.7)])
def test_thermometers_read_what_the_stationary_law_says(eta: float, mu: float) -> None:
    k, batch_size = np.array([0.2, 1.0, 2.0]), 3
    root = np.random.default_rng(0).normal(size=(3, 3))
    noise = root @ root.T  # does not commute with the Hessian
    temperature = theory.temperature(eta, batch_size, momentum=mu)
    s = np.diag(theory.heavy_ball_covariance(np.diag(k), noise / batch_size, eta, mu))
    read = theory.thermometer_readings(temperature, k, np.diag(noise), eta, mu)
    assert read.virial == pytest.approx(np.sum(k * s) / np.trace(noise), rel=1e-10)
    assert read.configurational == pytest.approx(np.sum(k**2 * s) / np.sum(k * np.diag(noise)), rel=1e-10)
    assert read.noise == temperature and read.boltzmann is None


def test_the_boltzmann_thermometer_is_a_regression() -> None:
    """Slope of −log ρ on f, weighted by ρ: exact by Gauss–Hermite, which integrates their products."""
    k, sigma2, eta, mu, temperature = np.array([0.3, 1.0, 2.5]), 1.7, 0.6, 0.3, 0.05
    widths = np.sqrt([theory.heavy_ball_variance(a, 2 * temperature * (1 - mu) / eta * sigma2, eta, mu) for a in k])
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    x = np.array(list(itertools.product(nodes, repeat=3))) * widths
    w = np.prod(list(itertools.product(weights, repeat=3)), axis=1)
    loss, surprise = np.sum(k * x**2, axis=1) / 2, np.sum((x / widths) ** 2, axis=1) / 2
    moments = np.cov(loss, surprise, aweights=w, ddof=0)
    read = theory.thermometer_readings(temperature, k, np.full(3, sigma2), eta, mu)
    assert read.boltzmann == pytest.approx(moments[0, 0] / moments[0, 1] / sigma2, rel=1e-10)


def test_thermometers_agree_where_they_must() -> None:
    read = theory.thermometer_readings(0.1, np.array([1.0, 5.0]), np.array([2.0, 2.0]), 1e-9)
    for value in (read.noise, read.virial, read.configurational, read.boltzmann):
        assert value == pytest.approx(0.1, rel=1e-8)
    one = theory.thermometer_readings(0.1, np.array([2.0]), np.array([3.0]), 0.5)  # in 1-D there is one excess, 2
    assert one.virial == pytest.approx(0.2) and one.configurational == one.boltzmann == one.virial


DESCRIPTIONS = ("sgd", "first-order", "second-order")


def brute_force_moments(description: Any, k: float, c: float, eta: float, x0: float, steps: int) -> np.ndarray:
    """The chain step by step; the limits as equations m' = −rm, q' = −2rq + ηC, integrated."""
    mean, second = x0, x0**2
    if description == "sgd":
        for _ in range(steps):
            mean, second = (1 - eta * k) * mean, (1 - eta * k) ** 2 * second + eta**2 * c
        return np.array([mean, second])
    rate = k if description == "first-order" else k + eta * k**2 / 2
    fall = scipy.integrate.solve_ivp(
        lambda _, y: [-rate * y[0], eta * c - 2 * rate * y[1]], (0, eta * steps), [mean, second], rtol=1e-10, atol=1e-12
    )
    return fall.y[:, -1]


@pytest.mark.parametrize("description", DESCRIPTIONS)
@pytest.mark.parametrize(("k", "eta", "steps"), [(1.3, 0.2, 7), (2.0, 0.5, 3), (2.0, 1.0, 4), (1.0, 0.1, 0)])
def test_quadratic_moments_are_their_equations(description: Any, k: float, eta: float, steps: int) -> None:
    moments = theory.quadratic_moments(k, 0.7, eta, -0.8, steps, description)
    np.testing.assert_allclose(
        moments, brute_force_moments(description, k, 0.7, eta, -0.8, steps), rtol=1e-7, atol=1e-10
    )


def test_weak_errors_match_the_notes() -> None:
    """At t = 1 on ½x² from 1: slope 1 and slope 2."""
    first, second = (0.0402, 0.0192, 0.0094, 0.0046, 0.0023), (0.00519, 0.00126, 0.00031, 0.000077, 0.000019)
    for steps, *noted in zip((5, 10, 20, 40, 80), first, second, strict=True):
        chain, *limits = (theory.quadratic_moments(1.0, 1.0, 1 / steps, 1.0, steps, d)[0] for d in DESCRIPTIONS)
        np.testing.assert_allclose(np.abs(np.array(limits) - chain), noted, rtol=0.05)


@pytest.mark.parametrize("moment", [0, 1])
def test_weak_errors_have_their_order(moment: int) -> None:
    errors = []
    for steps in (200, 400):
        chain, *limits = (theory.quadratic_moments(1.0, 1.0, 1 / steps, 1.0, steps, d)[moment] for d in DESCRIPTIONS)
        errors.append(np.abs(np.array(limits) - chain))
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), [1, 2], atol=0.02)


def test_quadratic_moments_end_in_the_stationary_laws() -> None:
    k, c, eta = 1.5, 0.7, 0.4
    laws = (
        theory.sgd_stationary_covariance,
        theory.ou_stationary_covariance,
        theory.second_order_stationary_covariance,
    )
    for description, law in zip(DESCRIPTIONS, laws, strict=True):
        late = theory.quadratic_moments(k, c, eta, 3.0, 500, description)
        assert late == pytest.approx((0.0, law(np.array([[k]]), np.array([[c]]), eta)[0, 0]), abs=1e-12)


I = np.eye(2)  # noqa: E741


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.gaussian_kl(np.zeros(3), I, np.zeros(2), I), r"mean must be finite and of shape \(2,\)"),
        (lambda: theory.gaussian_kl(np.zeros(2), 0 * I, np.zeros(2), I), "covariance must be positive definite"),
        (lambda: theory.gaussian_kl(np.zeros(2), I, np.zeros(2), -I), "reference_covariance must be positive"),
        (lambda: theory.gaussian_kl(np.zeros(2), np.eye(3), np.zeros(2), I), "covariance must have shape"),
        (lambda: theory.kl_dissipation(np.array([math.nan, 0]), I, I, I), "mean must be finite"),
        (lambda: theory.kl_dissipation(np.zeros(2), I, I, -I), "A must be positive semidefinite"),
        (lambda: theory.rotation(-I, I), "F must have eigenvalues of positive real part"),
        (lambda: theory.rotation(I, np.diag([1.0, 0.0])), "steady covariance of F and A must be positive definite"),
        (lambda: theory.rotation(I, np.eye(3)), "A must have shape"),
        (lambda: theory.ou_circulation(np.full((2, 2), math.inf), I), "F must be a finite square matrix"),
        (lambda: theory.thermometer_readings(0.0, np.ones(2), np.ones(2), 0.1), "temperature"),
        (lambda: theory.thermometer_readings(0.1, np.array([1.0, 0.0]), np.ones(2), 0.1), "curvatures"),
        (lambda: theory.thermometer_readings(0.1, np.ones(2), np.zeros(2), 0.1), "noise_variances"),
        (lambda: theory.thermometer_readings(0.1, np.ones(2), np.ones(3), 0.1), "noise_variances"),
        (lambda: theory.thermometer_readings(0.1, np.ones(2), np.ones(2), 2.0), "eta must stay below .* = 2"),
        (lambda: theory.thermometer_readings(0.1, np.ones(2), np.ones(2), 0.1, 1.0), "mu must lie"),
        (lambda: theory.quadratic_moments(0.0, 1.0, 0.1, 1.0, 1, "sgd"), "k must be positive"),
        (lambda: theory.quadratic_moments(1.0, -1.0, 0.1, 1.0, 1, "sgd"), "c must be"),
        (lambda: theory.quadratic_moments(1.0, 1.0, 0.0, 1.0, 1, "sgd"), "eta must be"),
        (lambda: theory.quadratic_moments(1.0, 1.0, 0.1, math.nan, 1, "sgd"), "x0 must be"),
        (lambda: theory.quadratic_moments(1.0, 1.0, 0.1, 1.0, -1, "sgd"), "steps must be"),
        (lambda: theory.quadratic_moments(1.0, 1.0, 0.1, 1.0, 1, "third-order"), "description must be"),
    ],
)
def test_errors_name_the_argument(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
