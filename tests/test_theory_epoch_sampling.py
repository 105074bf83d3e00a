"""Reshuffled epochs on a quadratic: the closed forms against linear algebra, and against the chain itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim import theory
from sgdsim.ensemble import simulate
from sgdsim.problems import EmpiricalRisk
from sgdsim.processes import SGD
from sgdsim.theory.epoch_sampling import epoch_crossover, epoch_mean_variance, epoch_variance, window_share


def brute_force(k, d, eta, n, b, steps):
    """Var x after each step from a point: x is linear in the gradients, and examples are drawn without replacement."""
    batches = n // b
    examples = d * (np.eye(n) - 1 / n) * n / (n - 1)  # covariance of the values at the places of a permutation
    mean = np.kron(np.eye(batches), np.full((1, b), 1 / b)) @ np.eye(batches * b, n)
    epoch = mean @ examples @ mean.T
    noise = np.kron(np.eye(-(-steps // batches)), epoch)
    variances = [0.0]
    for t in range(1, steps + 1):
        weights = eta * (1 - eta * k) ** (t - 1 - np.arange(t))
        variances.append(weights @ noise[:t, :t] @ weights)
    return np.array(variances)


@pytest.mark.parametrize(("n", "b"), [(20, 2), (23, 4), (7, 7), (9, 1)])
@pytest.mark.parametrize("eta_k", [0.02, 0.3, 1.0, 1.7])
def test_closed_forms_are_the_linear_algebra(n, b, eta_k):
    """At each of 60 steps from a point, in the steady state, and in its mean over an epoch; B | N and not."""
    k, d, eta = 2.0, 1.3, eta_k / 2.0
    exact = brute_force(k, d, eta, n, b, 60)
    steps = np.arange(61)
    np.testing.assert_allclose(epoch_variance(k, d, eta, n, b, steps), exact, rtol=1e-9, atol=1e-15)
    batches = n // b
    late = epoch_variance(k, d, eta, n, b, 10_000 * batches + np.arange(1, batches + 1))
    np.testing.assert_allclose(epoch_variance(k, d, eta, n, b), late[-1], rtol=1e-10, atol=1e-16)
    np.testing.assert_allclose(epoch_mean_variance(k, d, eta, n, b), np.mean(late), rtol=1e-9, atol=1e-16)


def test_limits():
    """Stiff: independent batches, times M/(M−1). Flat: linear in k at the end of an epoch, a bridge in its mean."""
    n, b, eta = 400, 4, 1e-3
    noise = theory.sampling_factor(n, b) / b
    stiff = theory.heavy_ball_variance(500.0, noise, eta, 0.0) * 100 / 99
    assert epoch_variance(500.0, 1.0, eta, n, b) == pytest.approx(stiff, rel=0.04)
    assert epoch_mean_variance(500.0, 1.0, eta, n, b) == pytest.approx(stiff, rel=0.04)
    flat = 1e-2
    assert epoch_variance(flat, 1.0, eta, n, b) == pytest.approx(eta**3 * flat * (100**3 - 100) / (24 * 399), rel=1e-4)
    assert epoch_mean_variance(flat, 1.0, eta, n, b) == pytest.approx(eta**2 * (100**2 - 1) / (6 * 399), rel=2e-3)
    assert epoch_crossover(eta, n, b) == pytest.approx(30.0)
    assert epoch_variance(1.0, 1.0, 0.1, 6, 6) == pytest.approx(0, abs=1e-16)  # the whole data in each batch


def test_eleven_times_colder():
    """The design's case N = 20, B = 2, η = .1, k = 1: .0116 for independent batches, .00107 at an epoch's end.

    In the mean over an epoch the ratio is 3.3: the number eleven belongs to the ends of epochs.
    """
    independent = theory.heavy_ball_variance(1.0, theory.sampling_factor(20, 2) / 2, 0.1, 0.0)
    end, mean = epoch_variance(1.0, 1.0, 0.1, 20, 2), epoch_mean_variance(1.0, 1.0, 0.1, 20, 2)
    assert independent / end == pytest.approx(10.92, abs=0.01)
    assert independent / mean == pytest.approx(3.304, abs=0.001)


def test_the_chain_itself():
    """SGD(sampling="epoch") on three curvatures at once, 4,000 particles: 12 variances within 4 standard errors."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20, 3))
    data -= data.mean(axis=0)
    k, d = np.array([0.2, 1.0, 9.0]), np.mean(data**2, axis=0)
    risk = EmpiricalRisk(lambda w, z: jnp.sum(jnp.asarray(k) * w**2) / 2 + z @ w, data, init=np.zeros(3))
    sgd = SGD(risk, learning_rate=0.1, batch_size=2, sampling="epoch")
    run = simulate(sgd, np.zeros(3), particles=4_000, steps=305, save_every=5, key=jax.random.key(0))
    for steps in (5, 10, 300, 305):
        x = run.particles[np.searchsorted(run.steps, steps)]
        squares = x**2
        error = np.std(squares, axis=0) / np.sqrt(len(x))
        expected = epoch_variance(k, d, 0.1, 20, 2, steps)
        assert np.all(np.abs(np.mean(squares, axis=0) - expected) < 4 * error)


@pytest.mark.parametrize("decay", [0.999, 0.5, 0.0, -0.6])
def test_window_share_is_the_linear_algebra(decay):
    for count in (1, 2, 40):
        lags = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
        exact = 1 - np.mean(np.power(decay, lags))
        assert window_share(decay, count) == pytest.approx(exact, abs=1e-9)
    assert window_share(1 - 1e-4, 50) == pytest.approx(1e-4 * 50 / 3, rel=0.02)  # slow: in proportion to the curvature


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (epoch_variance, (0.0, 1.0, 0.1, 20, 2), "k must be positive"),
        (epoch_variance, (1.0, -1.0, 0.1, 20, 2), "variance must be finite and not negative"),
        (epoch_variance, (1.0, 1.0, 2.0, 20, 2), "eta must stay below 2/k = 2, got 2.0"),
        (epoch_variance, (1.0, 1.0, 0.1, 1, 1), "num_examples must be at least 2, got 1"),
        (epoch_mean_variance, (1.0, 1.0, 0.1, 20, 21), "batch_size must lie between 1 and num_examples = 20"),
        (epoch_variance, (1.0, 1.0, 0.1, 20, 2, -1), "steps must be whole numbers and not negative, got -1"),
        (epoch_crossover, (0.0, 20, 2), "eta must be positive"),
        (window_share, (1.0, 5), "decay must lie between -1 and 1, got 1.0"),
        (window_share, (0.5, 0), "count must be a positive whole number, got 0"),
    ],
)
def test_bad_arguments(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
