"""Autocorrelation, integrated time and effective sample size against AR(1) and heavy ball, which are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

import sgdsim as ss
from sgdsim import theory
from sgdsim.measures.autocorrelation import autocorrelation, effective_sample_size, integrated_time

MEASURES = [autocorrelation, integrated_time, effective_sample_size]


def ar1(rng, phi, times, particles):
    """y_{t+1} = φ y_t + noise, stationary from the start: SGD on a quadratic with ηk = 1 − φ."""
    noise = rng.normal(size=(times, particles))
    noise[0] /= np.sqrt(1 - phi**2)
    return scipy.signal.lfilter([1.0], [1.0, -phi], noise, axis=0)


def test_products_are_those_of_the_definition():
    y = ar1(np.random.default_rng(0), 0.5, 7, 5)
    z = y - y.mean(axis=1, keepdims=True)
    by_hand = [np.sum(z[: 7 - lag] * z[lag:]) / (7 - lag) for lag in range(7)]
    np.testing.assert_allclose(autocorrelation(y).value, np.array(by_hand) / by_hand[0], rtol=1e-12)
    np.testing.assert_allclose(autocorrelation(y, 2).value, autocorrelation(y).value[:3], rtol=1e-12)
    assert autocorrelation(y).value[0] == 1 and autocorrelation(y).standard_error[0] == 0


@pytest.mark.parametrize("eta", [0.1, 0.5, 1.5])
def test_sgd_on_a_quadratic(eta):
    """ρ(l) = (1−ηk)^l and τ = (2−ηk)/(ηk) with k = 1; 20 lags and a time in each case, 4 sigmas."""
    problem = ss.NoisyPotential(ss.potentials.Quadratic([[1.0]]), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=eta, batch_size=1)
    start = ss.Gaussian([0.0], theory.sgd_stationary_covariance(np.eye(1), np.eye(1), eta))
    run = ss.simulate(sgd, start, particles=2000, steps=299, save_every=1, key=jax.random.key(3))
    series = run.particles[..., 0]
    rho = autocorrelation(series, max_lag=20)
    assert np.max(np.abs(rho.z((1 - eta) ** np.arange(21)))) < 4
    time = integrated_time(series)
    exact = (2 - eta) / eta
    assert abs(time.z(exact)) < 4
    assert time.standard_error < 0.1 * exact
    size = effective_sample_size(series)
    assert size.value == pytest.approx(300 * 2000 / time.value)
    assert size.standard_error / size.value == pytest.approx(time.standard_error / time.value)


@pytest.mark.parametrize(("phi", "times", "particles"), [(0.8, 160, 50), (0.5, 60, 20), (0.3, 200, 4), (-0.5, 100, 50)])
@pytest.mark.slow
def test_errors_are_the_spread_over_fresh_ensembles(phi, times, particles):
    # 400 ensembles: spreads are known to 4 %; three means are compared at 4 sigmas (τ beside 2 % for its window)
    rng = np.random.default_rng(1)
    found = [ar1(rng, phi, times, particles) for _ in range(400)]
    rhos, taus = [autocorrelation(y, 4) for y in found], [integrated_time(y) for y in found]
    for lag in (1, 4):
        values = np.array([e.value[lag] for e in rhos])
        errors = np.array([e.standard_error[lag] for e in rhos])
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.15)
        assert abs(values.mean() - phi**lag) < 4 * values.std() / 20 + 1 / (times * particles)
    values, errors = np.array([e.value for e in taus]), np.array([e.standard_error for e in taus])
    exact = (1 + phi) / (1 - phi)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.15)
    assert abs(values.mean() - exact) < 4 * values.std() / 20 + 0.02 * exact


@pytest.mark.parametrize("phi", [0.8, -0.6])
def test_the_effective_sample_size_is_that_of_the_mean(phi):
    """The variance of the mean over T·P samples is σ² over it: known to 5 % from 800 ensembles, 4 sigmas."""
    rng = np.random.default_rng(2)
    means = np.array([ar1(rng, phi, 500, 4).mean() for _ in range(800)])
    size = effective_sample_size(ar1(rng, phi, 500, 2000)).value * 4 / 2000
    assert means.var() * (1 - phi**2) * size == pytest.approx(1, abs=4 * 0.05)


def test_the_window_outlasts_a_sign_that_changes():
    """Heavy ball, ηk = 0.1, μ = 0.9: x is AR(2), τ = S(0)/Var x with S(0) = 1/k², where Sokal's own rule reads 1.1."""
    rng, ek, mu = np.random.default_rng(3), 0.1, 0.9
    noise = ek * rng.normal(size=(1300, 400))
    series = scipy.signal.lfilter([1.0], [1.0, ek - 1 - mu, mu], noise, axis=0)[300:]
    exact = 1 / theory.heavy_ball_variance(1.0, 1.0, ek, mu)
    time = integrated_time(series)
    assert abs(time.z(exact)) < 4
    assert time.standard_error < 0.1 * exact


def test_a_mean_that_moves_is_no_memory():
    """All particles share a drift of ten widths: nothing of it is left, whatever the precision."""
    y = ar1(np.random.default_rng(4), 0.5, 200, 100)
    moved = y + np.linspace(0, 10, 200)[:, None]
    np.testing.assert_allclose(autocorrelation(moved).value, autocorrelation(y).value, atol=1e-12)
    single = integrated_time(jnp.asarray(moved, jnp.float32))
    assert single.value == pytest.approx(integrated_time(y).value, rel=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_diverged_particles_are_left_out_and_counted(measure):
    y = ar1(np.random.default_rng(5), 0.5, 100, 20)
    dirty = np.column_stack([y, y[:, 0], y[:, 1]])
    dirty[60:, 20], dirty[99, 21] = np.nan, np.inf
    assert measure(dirty).left_out == 2
    np.testing.assert_array_equal(measure(dirty).value, measure(y).value)
    np.testing.assert_array_equal(measure(dirty).standard_error, measure(y).standard_error)
    with pytest.raises(ValueError, match="diverged"):
        measure(y * np.nan)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("series", "message"),
    [
        (np.ones((50, 2)), "three particles or more"),
        (np.ones((1, 5)), "two times or more"),
        (np.tile(0.1 * np.arange(50.0)[:, None], (1, 7)), "series must differ between particles"),
    ],
)
def test_bad_series(measure, series, message):
    with pytest.raises(ValueError, match=message):
        measure(series)


def test_bad_lags_and_a_series_that_is_too_short():
    y = ar1(np.random.default_rng(6), 0.95, 60, 100)
    for lag in (-1, 60):
        with pytest.raises(ValueError, match="max_lag must be a whole number"):
            autocorrelation(y, lag)
    with pytest.raises(ValueError, match="series must hold a window"):  # τ = 39
        integrated_time(y)
