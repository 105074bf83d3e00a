"""Linear regression on fresh Gaussian examples: its noise, and its steady state at any learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import theory

G = np.array([[1.0, 0.4], [0.4, 0.5]])


def test_minibatches_have_the_gradient_and_the_covariance_that_it_states():
    problem, x, n, batch = ss.GaussianRegression(G, 0.7, [0.5, -1.0]), jnp.array([1.5, 0.3]), 400_000, 3
    sgd = ss.SGD(problem, learning_rate=1.0, batch_size=batch)
    steps = np.asarray(x) - ss.simulate(sgd, x, particles=n, steps=1, key=jax.random.key(0)).particles[-1]
    assert ss.measures.mean(steps).agrees_with(np.asarray(problem.gradient(x)), sigmas=4)  # 2 + 4 comparisons
    covariance = np.asarray(problem.noise_covariance(x)) / batch
    assert ss.measures.covariance(steps).agrees_with(covariance, sigmas=4)
    np.testing.assert_allclose(problem.gradient(x), G @ (np.asarray(x) - [0.5, -1.0]), rtol=1e-12)
    assert problem.loss(jnp.array([0.5, -1.0])) == pytest.approx(0.35)


def test_noise_is_a_root_of_d():
    problem, x = ss.GaussianRegression(G, 0.7), jnp.array([1.5, 0.3])
    root = np.asarray(problem.noise(jnp.stack([x, x], axis=1), jnp.eye(2)))
    np.testing.assert_allclose(root @ root.T, problem.noise_covariance(x), rtol=1e-12)


@pytest.mark.parametrize(("dim", "batch", "eta"), [(1, 1, 0.2), (5, 10, 0.5)])
def test_steady_state_at_large_rates(dim, batch, eta):
    problem = ss.GaussianRegression(np.ones(dim), 1.0)
    sgd = ss.SGD(problem, learning_rate=eta, batch_size=batch)
    cloud = ss.simulate(sgd, np.zeros(dim), particles=40_000, steps=100, key=jax.random.key(1))
    found = ss.measures.covariance(cloud.particles[-1])
    assert found.agrees_with(theory.linear_regression_covariance(np.eye(dim), 1.0, batch, eta), sigmas=5)  # 1, 25


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 1.0), "weights must be given where input_covariance is a scalar"),
        ((G, -1.0), "label_noise must be finite and not negative, got -1"),
        ((G, 1.0, [0.0]), "weights must fit input_covariance, of dimension 2"),
        ((np.zeros(2), 1.0), "input_covariance must be positive definite"),
        ((-G, 1.0), "input_covariance must be positive semidefinite"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        ss.GaussianRegression(*arguments)
