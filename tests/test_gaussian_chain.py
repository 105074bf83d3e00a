"""The equilibrium twin: reversible, of the covariance and the steps it was given, and its increments as told."""

import jax
import numpy as np
import pytest
import scipy.linalg

from sgdsim.ensemble import Gaussian, simulate
from sgdsim.measures import autocorrelation, circulation_matrix, covariance
from sgdsim.processes.gaussian_chain import GaussianChain
from sgdsim.theory import ou_mean_covariance
from sgdsim.theory.reversible_chain import reversible_chain

S = np.array([[1.0, 0.5], [0.5, 2.0]])
A = np.array([[0.3, -0.2], [-0.2, 0.9]])


def test_it_is_the_ornstein_uhlenbeck_process_at_its_steps():
    """Steps of dX = −AS⁻¹X dt + √(2A) dW over .7: the twin of S and their covariance has e^{−AS⁻¹ .7} and its noise."""
    drift = A @ np.linalg.inv(S)
    decay = scipy.linalg.expm(-0.7 * drift)
    twin = reversible_chain(S, 2 * (S - decay @ S))
    np.testing.assert_allclose(twin.transition, decay, atol=1e-12)
    np.testing.assert_allclose(twin.noise, ou_mean_covariance(drift, A, np.zeros(2), np.zeros((2, 2)), 0.7)[1])
    np.testing.assert_allclose(twin.transition @ S, (twin.transition @ S).T, atol=1e-12)  # detailed balance
    lag = decay @ decay @ S  # ⟨(x₁ − x₀)(x₃ − x₂)ᵀ⟩ = 2C(2) − C(1) − C(3)
    direct = 2 * lag - decay @ S - decay @ lag
    size = np.diag(2 * (S - decay @ S))
    np.testing.assert_allclose(twin.lagged_increments(np.array([2]))[0], np.diag(direct) / size, atol=1e-12)
    wide = twin.successive_increments(np.array([1, 400]))
    np.testing.assert_allclose(wide[0], twin.lagged_increments(np.array([1]))[0], atol=1e-12)
    np.testing.assert_allclose(wide[1], -0.5, atol=1e-12)


def test_one_dimension_by_hand():
    """SGD on ½kx²: Cov(Δx) = 2ηk S, so E = 1 − ηk."""
    twin = reversible_chain(np.array([[3.0]]), np.array([[2 * 0.2 * 3.0]]))
    lags = np.array([1, 2, 5])
    np.testing.assert_allclose(twin.lagged_increments(lags)[:, 0], -0.1 * 0.8 ** (lags - 1))
    np.testing.assert_allclose(twin.successive_increments(lags)[:, 0], -(1 - 0.8**lags) / 2)


def test_the_chain_runs_as_told():
    """600 particles, 60 steps: covariance (3), circulation (1), increments (10): 14 readings within 4 errors."""
    decay = scipy.linalg.expm(-0.3 * A @ np.linalg.inv(S))
    twin = reversible_chain(S, 2 * (S - decay @ S))
    chain = GaussianChain(twin.transition, twin.noise, time_step=0.3)
    run = simulate(chain, Gaussian(np.zeros(2), S), particles=600, steps=60, save_every=1, key=jax.random.key(0))
    assert run.times[-1] == pytest.approx(18.0)
    assert covariance(run.particles[-1]).agrees_with(S, 4)
    dx = np.diff(run.particles, axis=0)
    assert circulation_matrix(run.particles[:-1], dx, 0.3)[0, 1].agrees_with(0.0, 4)
    for i in range(2):
        told = twin.lagged_increments(np.arange(1, 6))[:, i]
        assert autocorrelation(dx[..., i], 5)[1:].agrees_with(told, 4)


@pytest.mark.usefixtures("as_users_run")
def test_bad_arguments():
    with pytest.raises(ValueError, match="step_covariance must stay below 4 S"):
        reversible_chain(np.eye(2), 4.1 * np.eye(2))
    with pytest.raises(ValueError, match="S must be positive definite"):
        reversible_chain(np.zeros((2, 2)), np.eye(2))
    with pytest.raises(ValueError, match="transition must be a finite square matrix"):
        GaussianChain(np.zeros((2, 3)), np.eye(2))
    with pytest.raises(ValueError, match=r"noise must have shape \(2, 2\), got \(3, 3\)"):
        GaussianChain(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="time_step must be positive and finite, got 0"):
        GaussianChain(np.eye(2), np.eye(2), time_step=0.0)
