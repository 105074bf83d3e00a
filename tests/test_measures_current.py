"""Currents and circulations of clouds, against Gaussians at finite steps, a closed form, and the density's own."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from equations import ROTATION, rotated_ou, turned
from scipy.linalg import expm, solve_continuous_lyapunov

import sgdsim as ss
from sgdsim.density.grid import Grid, merge_cells
from sgdsim.measures import Estimate
from sgdsim.measures.current import (
    binned_current,
    circulation,
    circulation_matrix,
    run_circulation,
    swept_area,
)
from sgdsim.measures.kramers_moyal import finite_step_moments

EIGENVALUES = (0.5, 0.1)
STEADY = solve_continuous_lyapunov(ROTATION, 2 * turned(EIGENVALUES))
TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])  # x @ TURN = (−x₂, x₁)
Steps = tuple[np.ndarray, np.ndarray]


@functools.cache
def ou_transition(dt: float) -> tuple[np.ndarray, np.ndarray]:
    """e^{−FΔt} and a root of what the noise adds in a step."""
    decay = expm(-ROTATION * dt)
    return decay, np.linalg.cholesky(STEADY - decay @ STEADY @ decay.T)


def ou_steps(particles: int, steps: int, dt: float, seed: int) -> Steps:
    """Exact steps of the rotation in its steady state: positions and increments, (steps, P, 2)."""
    rng, decay, kick = np.random.default_rng(seed), *ou_transition(dt)
    path = [rng.normal(size=(particles, 2)) @ np.linalg.cholesky(STEADY).T]
    for _ in range(steps):
        path.append(path[-1] @ decay.T + rng.normal(size=(particles, 2)) @ kick.T)
    return np.array(path[:-1]), np.diff(path, axis=0)


def ou_circulation(dt: float) -> float:
    """⟨x₁Δx₂ − x₂Δx₁⟩/Δt of those steps."""
    product = STEADY @ (expm(-ROTATION * dt) - np.eye(2)).T / dt
    return product[0, 1] - product[1, 0]


def merged(current: np.ndarray, factor: int) -> np.ndarray:
    """The average over blocks of factor × factor cells."""
    return np.stack([merge_cells(current[..., i], factor) for i in range(2)], axis=-1) / factor**2


def ou_current(grid: Grid, dt: float) -> np.ndarray:
    """E[Δx | midpoint] ρ(midpoint)/Δt of those steps, all of it Gaussian, averaged over each cell."""
    crossed = expm(-ROTATION * dt) @ STEADY
    middle = STEADY / 2 + (crossed + crossed.T) / 4
    inverse = np.linalg.inv(middle)
    y = Grid(grid.lower, grid.upper, [8 * n for n in grid.cells]).centres
    density = np.exp(-np.einsum("...i,ij,...j->...", y, inverse, y) / 2) / (2 * np.pi * np.sqrt(np.linalg.det(middle)))
    return merged(y @ ((crossed - crossed.T) / 2 @ inverse / dt).T * density[..., None], 8)


def test_circulation_by_hand() -> None:
    x = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    dx, wind, unbiased = 0.1 * x @ TURN, np.array([0.3, -0.1]), 4 / 3
    assert circulation(x, dx, 0.5).value == pytest.approx(0.2 * unbiased)
    blown = circulation(x + 7, dx + wind, 0.5)
    assert blown.value == pytest.approx(0.2 * unbiased) and blown.standard_error < 1e-12  # as all four turn alike
    for centre in (np.zeros(2), np.array([2.0, 5.0])):
        assert circulation(x, dx, 0.5, centre).value == pytest.approx(0.2)
    # wind blows past (2, 1): −c ∧ wind
    assert circulation(x, dx + wind, 0.5, np.array([2.0, 1.0])).value == pytest.approx(0.2 + (2 * 0.1 + 0.3) / 0.5)


def test_circulation_of_sgd_is_that_of_the_drift_in_the_chains_own_law() -> None:
    """⟨x ∧ b⟩ at a learning rate at which the limit's own is another; 0 where D commutes with the Hessian."""
    hessian, eta = np.array([[1.0, 0.5], [0.5, 2.0]]), 0.4
    for noise, commutes in ((np.diag([1.0, 0.2]), False), (np.eye(2), True)):
        chain = ss.theory.sgd_stationary_covariance(hessian, noise, eta)
        limit = ss.theory.ou_stationary_covariance(hessian, noise, eta)
        problem = ss.NoisyPotential(ss.potentials.Quadratic(hessian), ss.GaussianNoise(noise))
        sgd, start = ss.SGD(problem, learning_rate=eta, batch_size=1), ss.Gaussian([0.0, 0.0], chain)
        path = ss.simulate(sgd, start, particles=20_000, steps=100, save_every=1, key=jax.random.key(0)).particles
        found = circulation(path[:-1], np.diff(path, axis=0), eta)
        exact, other = ((hessian @ s - s @ hessian)[0, 1] for s in (chain, limit))
        assert abs(found.z(exact)) < 4  # 2 comparisons
        assert commutes == (abs(exact) < 1e-12) and commutes == (abs(found.z(other)) < 6)


def steps_of_well(strength: float, particles: int, dt: float, steps: int, seed: int = 0) -> Steps:
    """Langevin steps of the circulating double well, from independent particles of its exact steady state."""
    well, rng = ss.potentials.CirculatingDoubleWell(strength), np.random.default_rng(seed)
    t = np.linspace(-4, 4, 20_001)
    law = scipy.integrate.cumulative_simpson(np.exp(-((t**2 - 1) ** 2) / 4), x=t, initial=0)
    start = np.stack([np.interp(law[-1] * rng.random(particles), law, t), rng.normal(size=particles)], axis=1)
    process = ss.Langevin(ss.ItoDiffusion(drift=well.drift, diffusion=well.diffusion, dim=2), step_size=dt)
    path = ss.simulate(process, start, steps=steps, save_every=1, key=jax.random.key(seed)).particles
    return path[:-1], np.diff(path, axis=0)


def rate_of_well(strength: float) -> float:
    """λ/Z with Z = ∫ e^{−Φ} dx."""
    along, _ = scipy.integrate.quad(lambda x: np.exp(-((x**2 - 1) ** 2) / 4), -6, 6)
    return strength / (along * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
@pytest.mark.slow
def test_circulating_double_well(strength: float) -> None:
    """∫ x × J dx = 2πλ/Z and J = λ e^{−|x|⁴/4}(−x₂, x₁)/Z; nothing at λ = 0."""
    x, dx = steps_of_well(strength, 25_000, 0.01, 100)
    found = circulation(x, dx, 0.01)
    assert abs(found.z(2 * np.pi * rate_of_well(strength))) < 4
    assert found.standard_error < 0.014
    grid = Grid([-2.0, -2.0], [2.0, 2.0], [10, 10])
    y = Grid(grid.lower, grid.upper, [40, 40]).centres
    swirl = merged(rate_of_well(strength) * np.exp(-(np.sum(y**2, axis=-1, keepdims=True) ** 2) / 4) * (y @ TURN), 4)
    cells = binned_current(x, dx, 0.01, grid)
    z = (cells.current - swirl) / cells.current_error
    assert np.max(np.abs(z)) < 4.5 and 0.8 < np.std(z) < 1.2  # 200 comparisons
    assert strength == 0 or np.std(cells.current / cells.current_error) > 2 * np.std(z)


@pytest.mark.slow
def test_a_long_step_cuts_off_arcs_by_as_much_as_predicted() -> None:
    x, dx = steps_of_well(1.5, 80_000, 0.1, 10)
    well, box = ss.potentials.CirculatingDoubleWell(1.5), Grid([-4.0, -6.0], [4.0, 6.0], [100, 150])
    y = box.centres.reshape(-1, 2)
    masses = np.exp(-np.asarray(jax.vmap(well)(jnp.asarray(y))))
    b, _ = finite_step_moments(well.drift, well.diffusion, y, 0.1, substeps=4)
    predicted = np.sum(masses * (y[:, 0] * b[:, 1] - y[:, 1] * b[:, 0])) / np.sum(masses)
    found = circulation(x, dx, 0.1)
    assert abs(found.z(predicted)) < 4
    assert found.z(2 * np.pi * rate_of_well(1.5)) < -5


@pytest.mark.parametrize(("dt", "steps"), [(0.4, 1), (0.4, 8)])
def test_binned_current_and_circulation_of_a_rotation_at_a_long_step(dt: float, steps: int) -> None:
    x, dx = ou_steps(200_000 // steps, steps, dt, seed=2)
    grid = Grid([-1.2, -1.0], [1.2, 1.0], [10, 10])
    found = binned_current(x, dx, dt, grid, fewest=100)
    z = (found.current - ou_current(grid, dt)) / found.current_error
    assert np.sum(np.isfinite(z)) > 100  # comparisons
    assert np.nanmax(np.abs(z)) < 4.5 and 0.8 < np.nanstd(z) < 1.2
    assert abs(circulation(x, dx, dt).z(ou_circulation(dt))) < 4
    assert abs(circulation(x, dx, dt, np.array([0.5, -0.5])).z(ou_circulation(dt))) < 4
    assert found.outside == np.sum(grid.locate(x + dx / 2) < 0) > 0


def test_the_density_has_the_same_current_and_circulation() -> None:
    dt = 0.01
    x, dx = ou_steps(20_000, 100, dt, seed=3)
    fp = rotated_ou(128, EIGENVALUES)
    masses = fp.stationary()
    part = Grid([-2.0, -2.0], [2.0, 2.0], [8, 8])  # of its cells 32 to 96, by eights
    found = binned_current(x, dx, dt, part, fewest=100)
    z = (found.current - merged(fp.current(masses)[32:96, 32:96], 8)) / found.current_error
    assert np.sum(np.isfinite(z)) > 60  # comparisons
    assert np.nanmax(np.abs(z)) < 4.5 and 0.75 < np.nanstd(z) < 1.25
    assert np.nanstd(found.current / found.current_error) > 8
    assert abs(circulation(x, dx, dt).z(fp.circulation(masses))) < 4


def test_circulation_matrix_in_three_dimensions() -> None:
    rates = np.array([[1.0, 0.5, 0.0], [-0.5, 1.0, 0.3], [0.2, 0.0, 2.0]])
    steady = solve_continuous_lyapunov(rates, 2 * np.eye(3))
    rng, dt = np.random.default_rng(4), 0.2
    decay = expm(-rates * dt)
    x = rng.normal(size=(100_000, 3)) @ np.linalg.cholesky(steady).T
    kick = np.linalg.cholesky(steady - decay @ steady @ decay.T)
    dx = x @ (decay - np.eye(3)).T + rng.normal(size=x.shape) @ kick.T
    product = steady @ (decay - np.eye(3)).T / dt
    found = circulation_matrix(x, dx, dt)
    assert found.agrees_with(product - product.T, sigmas=4)  # 3 comparisons
    np.testing.assert_array_equal(found.value, -np.asarray(found.value).T)
    plane = circulation(x[:, :2], dx[:, :2], dt)
    assert (plane.value, plane.standard_error) == pytest.approx((found.value[0, 1], found.standard_error[0, 1]))


def test_current_round_a_ring() -> None:
    """A constant force on a ring of length 2: J = v/2 in every cell, by unwrapped increments."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, size=(100_000, 1))
    dx = 0.05 * 3 + np.sqrt(0.05) * rng.normal(size=x.shape)
    found = binned_current(x, dx, 0.05, Grid([-1.0], [1.0], [8], periodic=True))
    assert np.all(np.abs(found.current - 1.5) < 4 * found.current_error)  # 8 comparisons
    assert np.max(found.current_error) < 0.05 and found.outside == 0


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize("centre", [None, np.array([0.3, -0.2])])
@pytest.mark.slow
def test_circulation_error_is_the_spread_over_fresh_clouds(steps: int, centre: np.ndarray | None) -> None:
    found = [circulation(*ou_steps(100, steps, 0.1, seed), 0.1, centre) for seed in range(400)]
    spread = np.std([e.value for e in found], ddof=1)  # known to 4 %
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.12)
    assert np.mean([e.value for e in found]) == pytest.approx(ou_circulation(0.1), abs=4 * spread / 20)


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.slow
def test_current_error_is_the_spread_over_fresh_clouds(steps: int) -> None:
    grid = Grid([-0.4, -0.3], [0.4, 0.3], [3, 3])
    found = [binned_current(*ou_steps(600, steps, 0.05, seed), 0.05, grid, fewest=2) for seed in range(400)]
    spread = np.std([f.current for f in found], axis=0, ddof=1)  # known to 4 %
    ratio = np.mean([f.current_error for f in found], axis=0) / spread
    assert np.mean(ratio) == pytest.approx(1, abs=0.05)
    assert np.all(np.abs(ratio - 1) < 0.15)


def test_a_cell_that_holds_everything_reads_the_mean_velocity() -> None:
    x, dx = ou_steps(200, 5, 0.1, seed=10)
    dx = dx + np.array([1.0, 0.0])
    found = binned_current(x, dx, 0.1, Grid([-10.0, -10.0], [90.0, 90.0], [2, 2]))
    velocity = dx.mean(axis=0) / 0.1 / 50**2
    np.testing.assert_allclose(found.current[0, 0], velocity.mean(axis=0))
    np.testing.assert_allclose(found.current_error[0, 0], velocity.std(axis=0, ddof=1) / np.sqrt(200))


def test_cells_that_few_particles_have_crossed() -> None:
    x, dx = ou_steps(50, 200, 0.01, seed=6)
    grid = Grid([-4.0, -4.0], [4.0, 4.0], [16, 16])
    found = binned_current(x, dx, 0.01, grid, fewest=20)
    cells = grid.locate(x + dx / 2)
    for i in np.unique(cells):
        assert found.counts.reshape(-1)[i] == np.sum(np.any(cells == i, axis=0))  # particles, not midpoints
    assert np.max(found.counts) <= 50
    np.testing.assert_array_equal(np.isnan(found.current_error[..., 0]), found.counts < 20)
    np.testing.assert_array_equal(np.isnan(found.current[..., 1]), found.counts < 20)


@pytest.mark.parametrize(
    "read",
    [circulation, circulation_matrix, lambda x, dx, dt: binned_current(x, dx, dt, Grid([-2, -2], [2, 2], [4, 4]))],
)
def test_diverged_particles_are_left_out_and_counted(read: Callable) -> None:
    x, dx = ou_steps(500, 3, 0.1, seed=7)
    bad_x, bad_dx = (np.concatenate([a, np.zeros((3, 2, 2))], axis=1) for a in (x, dx))
    bad_x[1, 500], bad_dx[2, 501, 0] = np.nan, np.inf  # at one step of three
    clean, dirty = read(x, dx, 0.1), read(bad_x, bad_dx, 0.1)
    assert (clean.left_out, dirty.left_out) == (0, 2)
    if isinstance(clean, Estimate):
        np.testing.assert_array_equal(clean.value, dirty.value)
        np.testing.assert_array_equal(clean.standard_error, dirty.standard_error)
    else:
        np.testing.assert_array_equal(clean.current, dirty.current)
        np.testing.assert_array_equal(clean.current_error, dirty.current_error)


def test_float32_on_the_device_is_read_as_it_is() -> None:
    x, dx = (a.astype(np.float32) for a in ou_steps(2000, 5, 0.1, seed=8))
    narrow, wide = (
        circulation(jnp.asarray(x), jnp.asarray(dx), 0.1),
        circulation(x.astype(float), dx.astype(float), 0.1),
    )
    assert (narrow.value, narrow.standard_error) == (wide.value, wide.standard_error)


def test_errors_name_the_argument() -> None:
    x, dx = ou_steps(50, 2, 0.1, seed=9)
    grid = Grid([-2.0, -2.0], [2.0, 2.0], [4, 4])
    for read in (lambda dt: circulation(x, dx, dt), lambda dt: binned_current(x, dx, dt, grid)):
        with pytest.raises(ValueError, match="dt must be positive"):
            read(0.0)
    with pytest.raises(ValueError, match="x must have 2 coordinates"):
        circulation(x[..., :1], dx[..., :1], 0.1)
    with pytest.raises(ValueError, match="two finite particles"):
        circulation(x[:, :1], dx[:, :1], 0.1)
    with pytest.raises(ValueError, match="centre must be 2 finite numbers"):
        circulation(x, dx, 0.1, np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="all 50 particles have diverged"):
        circulation(x, np.nan * dx, 0.1)
    with pytest.raises(ValueError, match="x must have the grid's 1"):
        binned_current(x, dx, 0.1, Grid([-1.0], [1.0], [4]))
    with pytest.raises(ValueError, match="fewest"):
        binned_current(x, dx, 0.1, grid, fewest=1)


def test_shapes_must_agree(as_users_run: None) -> None:
    x, dx = ou_steps(50, 2, 0.1, seed=9)
    with pytest.raises(ValueError, match="one shape"):
        circulation_matrix(x, dx[0], 0.1)
    with pytest.raises(ValueError, match="one shape"):
        circulation(x[0, 0], dx[0, 0], 0.1)


def test_a_run_that_sums_swept_areas_reads_what_its_path_does() -> None:
    problem = ss.NoisyPotential(
        ss.potentials.Quadratic(np.diag([2.0, 0.5])), ss.GaussianNoise([[1.0, 0.8], [0.8, 1.0]])
    )
    sgd, start = ss.SGD(problem, learning_rate=0.2, batch_size=1), ss.Gaussian([0.0, 0.0], 0.1)
    settings = {"particles": 500, "steps": 60, "key": jax.random.key(0)}
    path = ss.simulate(sgd, start, save_every=1, **settings).particles[20:]
    summed = run_circulation(ss.simulate(sgd, start, save_every=20, tally=ss.Totals(swept_area), **settings), since=4.0)
    from_path = circulation(path[:-1], np.diff(path, axis=0), 0.2, np.zeros(2))
    assert summed.value == pytest.approx(from_path.value, rel=1e-9)
    assert summed.standard_error == pytest.approx(from_path.standard_error, rel=1e-9)
    with pytest.raises(ValueError, match=r"tally=Totals\(swept_area\)"):
        run_circulation(ss.simulate(sgd, start, **settings))
