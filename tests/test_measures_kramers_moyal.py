"""Drift, diffusion and temperature read off steps of processes whose answer is known."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import enable_x64
from scipy.linalg import expm, solve_continuous_lyapunov

import sgdsim as ss
from sgdsim.density.grid import Grid
from sgdsim.measures import (
    BinnedKramersMoyal,
    binned,
    kinetic_temperature,
    regress_diffusion,
    regress_drift,
    virial_temperature,
)
from sgdsim.measures.kramers_moyal import finite_step_moments

DT = 0.05
Moments = tuple[np.ndarray, np.ndarray]


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
@pytest.mark.slow
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
    np.testing.assert_array_equal(found.cell_of, cells)
    for z in scores(found, (drift(x), diffusion(x))):
        assert np.all(np.abs(z) <= 5)  # 128 and 256 comparisons
        assert 0.8 <= np.std(z) <= 1.2


def scores(found: BinnedKramersMoyal, moments: Moments) -> Moments:
    """How far each cell is from what its particles expect, in standard errors."""
    b, a = found.expected(*moments)
    return (found.drift - b) / found.drift_error, (found.diffusion - a) / found.diffusion_error


def share_of_cells(found: BinnedKramersMoyal, moments: Moments) -> tuple[float, float]:
    """The shares of cells whose drift, and whose diffusion, lies within 4 standard errors in all entries."""
    return tuple(
        float(np.mean(np.abs(z).reshape(found.grid.num_cells, -1).max(axis=1) <= 4)) for z in scores(found, moments)
    )


@pytest.mark.slow
def test_expected_is_the_mean_over_fresh_noise() -> None:
    """b̄ and Ā + Δt/2 Cov(b) over the 4 particles of each wide cell, where the spread of b within it is not small."""
    rng, dt = np.random.default_rng(8), 6.0
    x = rng.uniform(0, 1, size=(16, 2)) * np.tile([[1, 1], [1, -1], [-1, 1], [-1, -1]], (4, 1))
    root, grid = np.linalg.cholesky(diffusion(x)), Grid([-1.0, -1.0], [1.0, 1.0], [2, 2])
    noise = np.sqrt(2 * dt) * np.einsum("pij,rpj->rpi", root, rng.normal(size=(2000, 16, 2)))
    found = [binned(x, drift(x) * dt + each, dt, grid, fewest=2) for each in noise]
    expected = found[0].expected(drift(x), diffusion(x))
    for values, exact in zip(zip(*((f.drift, f.diffusion) for f in found), strict=True), expected, strict=True):
        error = np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
        assert np.all(np.abs(np.mean(values, axis=0) - exact) < 4.5 * error)  # 8 and 12 comparisons
    assert np.max(np.abs(expected[1] - found[0].expected(0 * x, diffusion(x))[1]) / error) > 10


def potential(x: jax.Array) -> jax.Array:
    return x[0] ** 4 / 8 + x[0] ** 2 / 4 + x[1] ** 2 / 4 + x[0] * x[1] / 4


def covariance(x: jax.Array) -> jax.Array:
    """D(x), off the diagonal and dependent on x."""
    root = jnp.array([[1 + 0.3 * jnp.sin(x[1]), 0.0], [0.4 * x[0], 0.8 + 0.1 * x[1] ** 2]])
    return root @ root.T


def one_step(process: ss.SGD | ss.Langevin, particles: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions and increments of a cloud that covers the box."""
    start = ss.Gaussian(np.zeros(process.dim), 0.7)
    before, after = ss.simulate(process, start, particles=particles, steps=1, key=jax.random.key(seed)).particles
    return before, after - before


def chain(eta: float, dim: int = 2) -> ss.SGD:
    noise = covariance if dim == 2 else lambda x: (1 + 0.4 * jnp.sin(x[0])) * jnp.eye(1)
    landscape = potential if dim == 2 else lambda x: x[0] ** 4 / 8 + x[0] ** 2 / 4
    return ss.SGD(ss.NoisyPotential(landscape, ss.GaussianNoise(noise), dim=dim), learning_rate=eta, batch_size=1)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.slow
def test_binned_recovers_sgd_with_state_dependent_noise_at_any_learning_rate(dim: int) -> None:
    """b = −∇f and A = T D(x) in every cell, with no correction, at η = 0.5."""
    sgd = chain(0.5, dim)
    limit = ss.Langevin.limit_of(sgd).limit
    x, dx = one_step(sgd, 100_000)
    found = binned(x, dx, 0.5, Grid([-1.5] * dim, [1.5] * dim, [10] * dim), fewest=100)
    exact = np.asarray(jax.vmap(limit.drift)(x)), np.asarray(jax.vmap(limit.diffusion)(x))
    assert min(share_of_cells(found, exact)) >= 0.95  # measured: 1.00 for ten keys of ten
    for same, field in zip(finite_step_moments(limit.drift, limit.diffusion, x, 0.5, substeps=1), exact, strict=True):
        np.testing.assert_allclose(same, field, atol=1e-14)


@pytest.mark.parametrize(("dim", "particles", "cells"), [(1, 100_000, 20), (2, 400_000, 10)])
@pytest.mark.slow
def test_binned_recovers_langevin_after_the_finite_step_corrections(dim: int, particles: int, cells: int) -> None:
    """Measured in 2-D for ten keys: drift in .67–.71 and diffusion in .44–.55 of cells before, in .99–1 after."""
    process = ss.Langevin.limit_of(chain(0.1, dim))
    limit = process.limit
    x, dx = one_step(process, particles)
    found = binned(x, dx, 0.1, Grid([-1.5] * dim, [1.5] * dim, [cells] * dim), fewest=100)
    plain = np.asarray(jax.vmap(limit.drift)(x)), np.asarray(jax.vmap(limit.diffusion)(x))
    corrected = finite_step_moments(limit.drift, limit.diffusion, x, 0.1, substeps=process.substeps)
    assert max(share_of_cells(found, plain)) < 0.8
    assert min(share_of_cells(found, corrected)) >= 0.95


def cubic(x: jax.Array) -> jax.Array:
    return -jnp.stack([x[0] ** 3 - x[0], x[1] + 0.5 * x[0] * x[1]])


def mixed(x: jax.Array) -> jax.Array:
    root = jnp.array([[0.5 + 0.2 * x[1] ** 2, 0.0], [0.3 * x[0], 0.4]])
    return root @ root.T


def errors_at(exact: Callable, drift: Callable, diffusion: Callable, x: np.ndarray, substeps: float) -> np.ndarray:
    """Corrected less exact moments at Δt = .04, .02 and .01."""
    found = [(finite_step_moments(drift, diffusion, x, dt, substeps=substeps), exact(dt)) for dt in (0.04, 0.02, 0.01)]
    return np.array([[np.max(np.abs(a - b)) for a, b in zip(*pair, strict=True)] for pair in found])


def test_corrections_of_a_linear_drift_leave_an_error_of_second_order() -> None:
    """dX = −FX dt + √(2A) dW: ⟨Δx⟩ = (e^{−FΔt} − 1)x, Cov(Δx) = S − e^{−FΔt} S e^{−FᵀΔt}; A from the host, constant."""
    rates, tensor = np.array([[1.0, 0.8], [-0.6, 1.5]]), np.array([[0.5, 0.2], [0.2, 0.3]])
    steady, x = solve_continuous_lyapunov(rates, 2 * tensor), np.array([[1.0, -0.5], [0.2, 2.0]])

    def exact(dt: float) -> Moments:
        decay = expm(-rates * dt)
        spread = (steady - decay @ steady @ decay.T) / (2 * dt)
        return x @ (decay - np.eye(2)).T / dt, np.stack([spread, spread])

    errors = errors_at(exact, lambda y: -rates @ y, lambda y: tensor, x, np.inf)
    assert np.all(np.abs(np.log2(errors[:-1] / errors[1:]) - 2) < 0.1)


def test_corrections_of_a_multiplicative_noise_leave_an_error_of_second_order() -> None:
    """dX = −aX dt + √(2s) X dW: ⟨X⟩ = e^{−at} x and ⟨X²⟩ = e^{2(s−a)t} x²."""
    a, s, x = 1.3, 0.4, np.array([[0.7], [-2.0]])

    def exact(dt: float) -> Moments:
        spread = (np.exp(2 * (s - a) * dt) - np.exp(-2 * a * dt)) * x**2 / (2 * dt)
        return np.expm1(-a * dt) * x / dt, spread[..., None]

    errors = errors_at(exact, lambda y: -a * y, lambda y: s * y[:, None] * y, x, np.inf)
    assert np.all(np.abs(np.log2(errors[:-1] / errors[1:]) - 2) < 0.1)


def test_corrections_of_two_euler_steps_leave_an_error_of_second_order() -> None:
    """Polynomial fields in 2-D, whose mean over the first step Gauss–Hermite quadrature gives exactly."""
    x = np.array([[0.7, -0.4], [-1.2, 0.9]])
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    normals = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    weight = np.outer(weights, weights).reshape(-1) / np.sum(weights) ** 2
    b, a = (lambda y, f=f: np.asarray(jax.vmap(f)(jnp.asarray(y))) for f in (cubic, mixed))

    def exact(dt: float) -> Moments:
        means, spreads = [], []
        for y in x:
            first = y + b(y[None]) * dt / 2 + normals @ np.linalg.cholesky(2 * a(y[None])[0] * dt / 2).T
            last = first + b(first) * dt / 2 - y  # but for the second step's own noise
            means.append(weight @ last / dt)
            noise = np.einsum("n,nij->ij", weight, a(first)) / 2
            spreads.append(
                np.einsum("n,ni,nj->ij", weight, last, last) / (2 * dt) - np.outer(*[means[-1]] * 2) * dt / 2
            )
            spreads[-1] += noise
        return np.array(means), np.array(spreads)

    errors = errors_at(exact, cubic, mixed, x, 2)
    assert np.all(np.abs(np.log2(errors[:-1] / errors[1:]) - 2) < 0.1)


def test_errors_stay_right_where_several_steps_of_the_same_particles_are_stacked() -> None:
    """Steps of one particle do not correlate given where they start, however slowly it moves: 200 clouds of 50."""
    rng, z = np.random.default_rng(9), []
    path = [rng.normal(size=(10_000, 2))]
    for _ in range(40):
        noise = np.einsum("pij,pj->pi", np.linalg.cholesky(diffusion(path[-1])), rng.normal(size=(10_000, 2)))
        path.append(path[-1] + drift(path[-1]) * DT + np.sqrt(2 * DT) * noise)
    grid = Grid([-1.2, -0.9], [1.2, 0.9], [3, 3])
    for cloud in np.split(np.array(path), 200, axis=1):
        x, dx = cloud[:-1].reshape(-1, 2), np.diff(cloud, axis=0).reshape(-1, 2)
        z.append(
            np.concatenate([s.reshape(9, -1) for s in scores(binned(x, dx, DT, grid), (drift(x), diffusion(x)))], 1)
        )
    spread = np.nanstd(z, axis=0)  # of each of 9 × 6 entries, known to 5 %
    assert np.mean(spread[:, :2]) == pytest.approx(1, abs=0.05)
    assert np.mean(spread[:, 2:]) == pytest.approx(1, abs=0.1)  # a spread of some 100 steps and its error correlate


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
@pytest.mark.slow
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
    moments, with_bad = (finite_step_moments(lambda y: jnp.ones(2), lambda y: jnp.eye(2), y, DT) for y in (x, bad_x))
    for field in with_bad:  # constant, and yet
        np.testing.assert_array_equal(np.isnan(field.reshape(502, -1)[:, 0]), np.isnan(bad_x[:, 0]))
    assert dirty.cell_of.tolist() == [*clean.cell_of, -1, -1]
    for of_clean, of_dirty in zip(clean.expected(*moments), dirty.expected(*with_bad), strict=True):
        np.testing.assert_allclose(of_clean, of_dirty, rtol=1e-12)


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
    grid = Grid([-1.0, -1.0], [1.0, 1.0], [4, 4])
    with pytest.raises(ValueError, match="fewest"):
        binned(x, dx, DT, grid, fewest=1)
    with pytest.raises(ValueError, match=r"drift must have shape \(50, 2\), as the binned particles, got \(49, 2\)"):
        binned(x, dx, DT, grid).expected(drift(x)[1:], diffusion(x)[1:])
    with pytest.raises(ValueError, match="dt must be positive"):
        finite_step_moments(cubic, mixed, x, -DT)
    with pytest.raises(ValueError, match="substeps must be at least 1, got 0"):
        finite_step_moments(cubic, mixed, x, DT, substeps=0)
    with pytest.raises(ValueError, match=r"diffusion must map x of shape \(2,\) to shape \(2, 2\), got \(2,\)"):
        finite_step_moments(cubic, cubic, x, DT)


def test_float32_increments_are_read_as_they_are() -> None:
    x, dx = (a.astype(np.float32) for a in euler_steps(20_000, seed=7))
    narrow = regress_diffusion(jnp.asarray(dx), DT, jnp.asarray(drift(x)), jnp.asarray(diffusion(x)))
    wide = regress_diffusion(dx.astype(float), DT, drift(x).astype(float), diffusion(x).astype(float))
    assert narrow.value == pytest.approx(wide.value, rel=1e-6)
    corrected = [finite_step_moments(cubic, mixed, jnp.asarray(a), DT) for a in (x, x.astype(float))]
    for of_narrow, of_wide in zip(*corrected, strict=True):
        np.testing.assert_allclose(of_narrow, of_wide)


def test_corrections_in_float32() -> None:
    x = np.random.default_rng(10).normal(size=(3000, 2))  # more than one batch
    wide = finite_step_moments(cubic, mixed, x, DT)
    with enable_x64(False):
        narrow = finite_step_moments(cubic, mixed, x, DT)
    for of_narrow, of_wide in zip(narrow, wide, strict=True):
        assert of_narrow.dtype == np.float64
        np.testing.assert_allclose(of_narrow, of_wide, rtol=1e-4, atol=1e-5)
