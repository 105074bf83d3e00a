"""Drift, diffusion and temperature read off steps of processes whose answer is known."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.density.grid import Grid
from sgdsim.measures import (
    binned,
    kinetic_temperature,
    regress_diffusion,
    regress_drift,
    virial_temperature,
)

DT = 0.05


def drift(x: np.ndarray) -> np.ndarray:
    return -np.stack([x[:, 0] ** 3 - x[:, 0], x[:, 1] + 0.5 * x[:, 0]], axis=1)


def diffusion(x: np.ndarray) -> np.ndarray:
    """A(x) = RRᵀ, off the diagonal and dependent on x."""
    root = np.zeros((len(x), 2, 2))
    root[:, 0, 0], root[:, 1, 0], root[:, 1, 1] = 0.5 + 0.2 * x[:, 1] ** 2, 0.3, 0.4
    return root @ np.swapaxes(root, 1, 2)


def euler_steps(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    root = np.linalg.cholesky(diffusion(x))
    return x, drift(x) * DT + np.sqrt(2 * DT) * np.einsum("pij,pj->pi", root, rng.normal(size=(n, 2)))


def test_regressions_read_one_where_the_prediction_is_exact() -> None:
    x, dx = euler_steps(50_000, seed=0)
    a = diffusion(x)
    slope, size = regress_drift(x, dx, DT, drift(x)), regress_diffusion(dx, DT, drift(x), a)
    assert slope.agrees_with(1.0, sigmas=4)  # 2 comparisons
    assert size.agrees_with(1.0, sigmas=4)
    assert slope.standard_error < 0.02
    assert size.standard_error < 0.01
    assert regress_drift(x, dx, DT, 2 * drift(x)).agrees_with(slope.value / 2, sigmas=1e-6)
    assert regress_diffusion(dx, DT, drift(x), np.trace(a, axis1=1, axis2=2) / 3).value == pytest.approx(3 * size.value)


@pytest.mark.parametrize(
    "read",
    [
        lambda x, dx: regress_drift(x, dx, DT, drift(x)),
        lambda x, dx: regress_diffusion(dx, DT, drift(x), diffusion(x)),
    ],
)
def test_regression_errors_are_the_spread_over_fresh_clouds(read: Callable) -> None:
    found = [read(*euler_steps(1000, seed)) for seed in range(400)]
    spread = np.std([e.value for e in found], ddof=1)  # known to 4 %
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.15)


def test_binned_in_two_dimensions() -> None:
    x, dx = euler_steps(200_000, seed=1)
    grid = Grid([-1.6, -1.6], [1.6, 1.6], [8, 8])
    found = binned(x, dx, DT, grid)
    cells = grid.locate(x)
    assert found.counts.sum() + found.outside == 200_000
    assert found.outside == np.sum(cells < 0)

    def by_cell(values: np.ndarray) -> np.ndarray:  # what the particles of a cell expect
        total = np.stack([np.bincount(cells[cells >= 0], v[cells >= 0], 64) for v in values.reshape(len(x), -1).T], 1)
        return (total / found.counts.reshape(-1, 1)).reshape(*grid.cells, *values.shape[1:])

    for measured, error, truth, slack in (
        (found.drift, found.drift_error, by_cell(drift(x)), 0.0),
        (found.diffusion, found.diffusion_error, by_cell(diffusion(x)), 0.01),  # Δt/2 Cov(b) within a cell
    ):
        z = (measured - truth) / error
        assert np.all(np.abs(measured - truth) <= 5 * error + slack)  # 128 and 256 comparisons
        assert 0.8 <= np.std(z) <= 1.2


def test_binned_in_one_dimension_and_thin_cells() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(20_000, 1))
    dx = -x * DT + np.sqrt(2 * DT * 0.3) * rng.normal(size=x.shape)
    grid = Grid([-6.0], [6.0], [24])
    found = binned(jnp.asarray(x), jnp.asarray(dx), DT, grid, fewest=50)
    assert found.drift.shape == (24, 1)
    assert found.diffusion.shape == (24, 1, 1)
    thin = found.counts < 50
    assert thin.any()
    assert np.all(np.isnan(found.drift[thin]) & np.isnan(found.diffusion_error[thin, 0]))
    seen = ~thin
    centres = -grid.centres[seen]
    assert np.all(np.abs(found.drift[seen] - centres) <= 4.5 * found.drift_error[seen] + 0.05)
    assert np.all(np.abs(found.diffusion[seen, 0] - 0.3) <= 4.5 * found.diffusion_error[seen, 0] + 0.001)


def test_noise_thermometer_reads_any_state_any_momentum() -> None:
    # heavy ball far from its steady state, D(x) = 1 + x²: the temperature is η/(2B(1−μ)) all the same
    rng, eta, mu = np.random.default_rng(3), 0.3, 0.8
    x, v = 3 + rng.normal(size=(100_000, 2)), rng.normal(size=(100_000, 2))
    d = 1 + x**2
    noise = np.sqrt(d) * rng.normal(size=x.shape)
    dx = -eta * (mu * v + x + noise)
    found = kinetic_temperature(dx, eta * (1 - mu), -(mu * v + x) / (1 - mu), d.sum(axis=1))
    assert found.agrees_with(eta / 2 / (1 - mu), sigmas=4)
    assert found.standard_error < 0.01 * found.value
    plain = kinetic_temperature(-eta * (x + noise), eta, -x, d.sum(axis=1))
    assert plain.agrees_with(eta / 2, sigmas=4)


def discrete_steady_state(n: int, eta: float, k: np.ndarray, d: np.ndarray, seed: int) -> np.ndarray:
    """SGD's exact steady state on ½Σk x² with Gaussian noise, η S(2 − ηk)k = η²d."""
    return np.random.default_rng(seed).normal(size=(n, len(k))) * np.sqrt(eta * d / (k * (2 - eta * k)))


def test_virial_thermometer_has_its_known_excess() -> None:
    eta, k, d = 0.4, np.array([0.5, 2.0]), np.array([1.0, 3.0])
    x = discrete_steady_state(200_000, eta, k, d, seed=4)
    traces = np.full(len(x), d.sum())
    truth = eta / 2 * np.sum(d / (1 - eta * k / 2)) / d.sum()
    for found in (virial_temperature(x, k * x, traces), virial_temperature(x, k * x, traces, np.zeros(2))):
        assert found.agrees_with(truth, sigmas=4)
        assert found.standard_error < 0.005 * truth
        assert not found.agrees_with(eta / 2, sigmas=10)


@pytest.mark.parametrize("centre", [None, np.array([0.1, 0.0])])
def test_virial_error_is_the_spread_over_fresh_clouds(centre: np.ndarray | None) -> None:
    eta, k, d = 0.4, np.array([0.5, 2.0]), np.array([1.0, 3.0])
    clouds = [discrete_steady_state(200, eta, k, d, seed) for seed in range(1000)]
    found = [virial_temperature(x + 5 * (centre is None), k * x, np.full(len(x), 4.0), centre) for x in clouds]
    values = np.array([e.value for e in found])
    spread = values.std(ddof=1)  # known to 2–3 %
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.1)
    truth = eta / 2 * np.sum(d / (1 - eta * k / 2)) / d.sum()
    assert values.mean() == pytest.approx(truth, abs=4 * spread / np.sqrt(1000))


def test_diverged_particles_are_left_out_and_counted() -> None:
    x, dx = euler_steps(500, seed=5)
    bad_x, bad_dx = np.vstack([x, [[np.nan, 0]], [[0, 0]]]), np.vstack([dx, [[0, 0]], [[np.inf, 0]]])
    one = np.ones(len(x))
    more = np.ones(len(bad_x))
    for clean, dirty in (
        (regress_drift(x, dx, DT, drift(x)), regress_drift(bad_x, bad_dx, DT, drift(bad_x))),
        (regress_diffusion(dx, DT, drift(x), one), regress_diffusion(bad_dx, DT, drift(bad_x), more)),
        (kinetic_temperature(dx, DT, drift(x), one), kinetic_temperature(bad_dx, DT, drift(bad_x), more)),
        (virial_temperature(x, dx, one), virial_temperature(bad_x, bad_dx, more)),
    ):
        assert dirty.left_out == 2
        assert (clean.value, clean.standard_error) == (dirty.value, dirty.standard_error)
    grid = Grid([-2.0, -2.0], [2.0, 2.0], [4, 4])
    clean, dirty = binned(x, dx, DT, grid), binned(bad_x, bad_dx, DT, grid)
    assert dirty.left_out == 2
    np.testing.assert_array_equal(clean.diffusion, dirty.diffusion)


def test_errors_name_the_argument() -> None:
    x, dx = euler_steps(50, seed=6)
    with pytest.raises(ValueError, match="dt"):
        regress_drift(x, dx, 0.0, drift(x))
    with pytest.raises(ValueError, match="predicted is zero"):
        regress_drift(x, dx, DT, 0 * x)
    with pytest.raises(ValueError, match="noise_trace is zero"):
        kinetic_temperature(dx, DT, x, np.zeros(50))
    with pytest.raises(ValueError, match="x must have the grid's 1"):
        binned(x, dx, DT, Grid([-1.0], [1.0], [4]))
    with pytest.raises(ValueError, match="fewest"):
        binned(x, dx, DT, Grid([-1.0, -1.0], [1.0, 1.0], [4, 4]), fewest=1)


def test_float32_increments_are_read_as_they_are() -> None:
    x, dx = (a.astype(np.float32) for a in euler_steps(20_000, seed=7))
    narrow = regress_diffusion(jnp.asarray(dx), DT, jnp.asarray(drift(x)), jnp.asarray(diffusion(x)))
    wide = regress_diffusion(dx.astype(float), DT, drift(x).astype(float), diffusion(x).astype(float))
    assert narrow.value == pytest.approx(wide.value, rel=1e-6)
