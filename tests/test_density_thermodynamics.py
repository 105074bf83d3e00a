"""Currents, entropy, free energy and dissipation, against Gaussians and against the density's own time derivative."""

import jax.numpy as jnp
import numpy as np
import pytest
from equations import ROTATION, double_well, rotated_ou, turned
from scipy.linalg import solve_continuous_lyapunov

from sgdsim.density import FokkerPlanck, Grid
from sgdsim.ensemble import Gaussian
from sgdsim.measures import kl_between_densities
from sgdsim.theory import gaussian_kl, ou_mean_covariance

TENSOR = turned((0.5, 0.1))
STEADY = solve_continuous_lyapunov(ROTATION, 2 * TENSOR)
FLOW = -ROTATION + TENSOR @ np.linalg.inv(STEADY)  # J = FLOW x ρ in the steady state
START = Gaussian([-1.0, 0.5], 0.06)


def kl_to_steady(fp: FokkerPlanck, masses: np.ndarray) -> float:
    return kl_between_densities(masses, fp.stationary(), log_q=fp.log_stationary())


def test_the_steady_current_of_a_rotation() -> None:
    """J = (A S⁻¹ − F) x ρ, ∫ x × J dx and Tr FLOWᵀ A⁻¹ FLOW S: each of second order."""
    circulation = (FLOW @ STEADY)[1, 0] - (FLOW @ STEADY)[0, 1]
    production = np.trace(FLOW.T @ np.linalg.solve(TENSOR, FLOW) @ STEADY)
    errors = []
    for cells in (64, 128):
        fp = rotated_ou(cells, (0.5, 0.1))
        masses, x = fp.stationary(), fp.grid.centres
        density = fp.density_of(Gaussian(np.zeros(2), STEADY)) / fp.grid.cell_volume
        current = np.abs(fp.current(masses) - x @ FLOW.T * density[..., None]).sum() * fp.grid.cell_volume
        made = fp.entropy_production(masses)
        assert made.excess == pytest.approx(0, abs=1e-9) and made.total == pytest.approx(made.housekeeping)
        errors.append([current, abs(fp.circulation(masses) - circulation), abs(made.total - production)])
    size = np.array([1.0, abs(circulation), production])
    assert np.all(errors[1] / size < 0.03)
    assert np.all(np.array(errors[0]) / errors[1] > 3.5)


def test_circulation_does_not_depend_on_where_it_is_seen_from() -> None:
    fp = rotated_ou(64, (0.5, 0.1))
    masses = fp.stationary()
    assert fp.circulation(masses, [1.0, -2.0]) == pytest.approx(fp.circulation(masses), rel=1e-9)
    with pytest.raises(ValueError, match="two axes"):
        double_well(64, 0.2).circulation(double_well(64, 0.2).stationary())
    with pytest.raises(ValueError, match="masses must have the grid's shape"):
        fp.current(masses[1:])


def test_balance_has_no_current() -> None:
    fp = double_well(128, 0.2)
    made = fp.entropy_production(fp.stationary())
    assert np.max(np.abs(fp.current(fp.stationary()))) <= 1e-15 * fp.generator.max_exit_rate
    assert made.housekeeping == pytest.approx(0, abs=1e-10) and fp.dissipation(fp.stationary()) < 1e-10


@pytest.mark.parametrize("cells", [128])
def test_dissipation_identity_with_rotation(cells: int) -> None:
    """dKL/dt = −∫ ρ ∇log(ρ/ρ_ss)ᵀ A ∇log(ρ/ρ_ss): against central differences of KL, and the Gaussian's own."""
    fp, step = rotated_ou(cells, (0.5, 0.1)), 1e-3
    for time in (0.2, 0.6, 1.5):
        before, here, after = fp.propagate(
            fp.density_of(START), [time - step, time, time + step], grid_error=False
        ).masses
        slope = (kl_to_steady(fp, after) - kl_to_steady(fp, before)) / (2 * step)
        dissipated = fp.dissipation(here)
        assert slope == pytest.approx(-fp.entropy_production(here).excess, rel=1e-5)  # exact on the grid
        assert slope == pytest.approx(-dissipated, rel=1e-3)
        laws = [ou_mean_covariance(ROTATION, TENSOR, START.mean, START.covariance, time + s) for s in (-step, step)]
        exact = (gaussian_kl(*laws[1], np.zeros(2), STEADY) - gaussian_kl(*laws[0], np.zeros(2), STEADY)) / (2 * step)
        assert dissipated == pytest.approx(-exact, rel=0.05)


def test_dissipation_identity_in_balance() -> None:
    fp, step = double_well(512, 0.2), 1e-4
    before, here, after = fp.propagate(
        fp.density_of(Gaussian([-1.5], [[0.02]])), [0.1 - step, 0.1, 0.1 + step], grid_error=False
    ).masses
    slope = (kl_to_steady(fp, after) - kl_to_steady(fp, before)) / (2 * step)
    assert fp.dissipation(here) == pytest.approx(-slope, rel=1e-5)
    assert fp.entropy_production(here).excess == pytest.approx(fp.dissipation(here), rel=1e-9)


@pytest.mark.parametrize(("temperature", "start"), [(0.2, -1.0), (0.02, -2.0), (0.02, 2.2)])
def test_kl_falls_at_every_step(temperature: float, start: float) -> None:
    """From −2 at T = .02 the start is 450 temperatures up, from 2.2 737: the steady state is e^{−737} there.

    At T = .02 the wells exchange mass at 1e-22, so that KL ends on a plateau at log 2: looked at until it is near.
    """
    fp = double_well(512, temperature)
    p0 = fp.density_of(Gaussian([start], [[0.002]]))
    answer = fp.propagate(p0, np.geomspace(1e-4, 20.0 if temperature > 0.1 else 1.0, 60), grid_error=False)
    falling = np.array([kl_to_steady(fp, p) for p in (p0, *answer.masses)])
    assert np.all(np.isfinite(falling)) and np.all(np.diff(falling) < 0)
    if temperature < 0.1:
        assert falling[0] > 300


def test_late_slope_of_kl_is_twice_the_gap() -> None:
    fp = double_well(256, 0.2)
    gap = fp.slow_modes(1).gap
    times = np.array([3.0, 3.2]) / gap
    late = [kl_to_steady(fp, p) for p in fp.propagate(fp.density_of(Gaussian([-1.0], [[0.04]])), times).masses]
    assert np.log(late[0] / late[1]) / (times[1] - times[0]) == pytest.approx(2 * gap, rel=1e-2)


def test_free_energy_of_a_gaussian() -> None:
    """ρ_ss = N(0, T), Φ = x²/2 + T log √(2πT): E[Φ] = (m² + v)/2 + …, H = ½ log 2πev."""
    temperature, mean, variance = 0.3, 0.5, 0.1
    fp = FokkerPlanck(
        lambda x: -x, lambda x: temperature * jnp.eye(1), Grid([-5.0], [5.0], [1000]), lambda x: x @ x / 2 / temperature
    )
    masses = fp.density_of(Gaussian([mean], [[variance]]))
    free = fp.free_energy(masses, temperature)
    assert free.entropy == pytest.approx(np.log(2 * np.pi * np.e * variance) / 2, rel=1e-3)
    assert free.energy == pytest.approx(
        (mean**2 + variance + temperature * np.log(2 * np.pi * temperature)) / 2, rel=1e-3
    )
    assert free.value == pytest.approx(free.energy - temperature * free.entropy)
    assert free.value == pytest.approx(temperature * kl_to_steady(fp, masses), rel=1e-10)


def test_masses_that_a_method_left_are_taken_back() -> None:
    """Talbot and Chebyshev leave cells of −1e-29: no measure may answer NaN to that."""
    fp = FokkerPlanck(lambda x: -4 * x * (x**2 - 1), lambda x: 5e-4 * jnp.eye(1), Grid([-2.0], [2.0], [512]))
    masses = fp.propagate(fp.density_of(Gaussian([-1.0], [[1e-3]])), [0.5], grid_error=False).masses[-1]
    assert np.isfinite(fp.free_energy(masses, 5e-4).value) and np.isfinite(fp.dissipation(masses))
    with pytest.raises(ValueError, match="temperature must be positive"):
        fp.free_energy(masses, -1.0)


def test_cells_that_are_cut_off_do_not_spoil_the_rest() -> None:
    """Edges (1, 1), (1, 2), (2, 3) leave corners of the box alone: what lies there stays, and makes no entropy."""
    axes = np.array([[np.cos(0.54), -np.sin(0.54)], [np.sin(0.54), np.cos(0.54)]])
    tensor, grid = axes @ np.diag([1.0, 3e-3]) @ axes.T, Grid([-4.0] * 2, [4.0] * 2, [12, 12])
    fp = FokkerPlanck(lambda x: -x, lambda x: tensor, grid)
    made = fp.entropy_production(fp.density_of(Gaussian([0.0, 0.0], 0.5)))
    assert np.all(np.isfinite([made.total, made.excess])) and made.total > 0
    flat = FokkerPlanck(lambda x: 0 * x, lambda x: tensor, grid, lambda x: 0.0 * x[0])
    alone = np.isneginf(flat.log_stationary())
    assert 0 < alone.sum() < 20 and np.sum(flat.stationary()) == pytest.approx(1)
    p0 = np.zeros(grid.cells)
    p0[alone] = 0.5 / alone.sum()
    p0[6, 6] = 0.5
    late = flat.propagate(p0, [1e6], grid_error=False)
    assert late.masses[0][alone].sum() == pytest.approx(0.5, abs=1e-6)
