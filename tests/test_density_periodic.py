"""Boxes that close on themselves: currents round a ring, heat on a torus."""

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.drift_zeros import drift_zeros
from sgdsim.density.gaussian import wrapped_gaussian_masses
from sgdsim.ensemble import Gaussian

LENGTH = 2 * np.pi


def tilted(cells: int, temperature: float, force: float) -> FokkerPlanck:
    """V = −cos x − ½ sin 2x, pushed round by a constant force."""
    return FokkerPlanck(
        lambda x: -jnp.sin(x) + jnp.cos(2 * x) + force,
        lambda x: temperature * jnp.eye(1),
        Grid([0.0], [LENGTH], [cells], periodic=True),
    )


def exact_current(temperature: float, force: float, count: int = 2_000) -> float:
    """J = T (1 − e^{Δψ}) / ∫₀^ℓ e^{−ψ(x)} ∫_x^{x+ℓ} e^{ψ(y)} dy dx, ψ = (V − Fx)/T (Risken, eq. 11.37)."""
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def psi(x: np.ndarray) -> np.ndarray:
        return (-np.cos(x) - np.sin(2 * x) / 2 - force * x) / temperature

    x = np.arange(count) * LENGTH / count  # the integrand is periodic: the trapezoidal rule converges exponentially
    pieces = np.linspace(0, LENGTH, 41)
    y = ((pieces[1:] + pieces[:-1])[:, None] / 2 + LENGTH / 80 * nodes).reshape(-1)
    weight = np.tile(LENGTH / 80 * weights, 40)
    inner = np.exp(psi(x[:, None] + y) - psi(x)[:, None]) @ weight
    return float(temperature * (1 - np.exp(-force * LENGTH / temperature)) / (np.sum(inner) * LENGTH / count))


@pytest.mark.parametrize(("temperature", "force"), [(0.5, 0.3), (0.2, 0.8), (0.1, -0.4)])
def test_the_current_of_a_tilted_potential(temperature: float, force: float) -> None:
    fp = tilted(512, temperature, force)
    current = fp.current(fp.stationary())[:, 0]
    exact = exact_current(temperature, force)
    np.testing.assert_allclose(current, exact, rtol=0, atol=1e-10)
    np.testing.assert_allclose(current, exact, rtol=1e-8)


def test_without_a_tilt_the_ring_is_gibbs() -> None:
    fp = tilted(128, 0.3, 0.0)
    x = fp.grid.axis_centres(0)
    gibbs = np.exp((np.cos(x) + np.sin(2 * x) / 2) / 0.3)
    np.testing.assert_allclose(fp.stationary(), gibbs / gibbs.sum(), rtol=1e-10)
    assert np.max(np.abs(fp.current(fp.stationary()))) < 1e-13
    declared = FokkerPlanck(fp.drift, fp.diffusion, fp.grid, lambda x: -(jnp.cos(x[0]) + jnp.sin(2 * x[0]) / 2) / 0.3)
    np.testing.assert_allclose(declared.generator.rates_forward, fp.generator.rates_forward, rtol=1e-8)


def test_work_is_dissipated() -> None:
    """Steady: entropy is produced at the rate F ⟨v⟩/T = F J ℓ/T."""
    fp = tilted(256, 0.5, 0.3)
    made = fp.entropy_production(fp.stationary())
    assert made.total == pytest.approx(0.3 * exact_current(0.5, 0.3) * LENGTH / 0.5, rel=1e-3)
    assert made.excess == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("cells", [(16, 48), (48, 16)])
def test_heat_on_a_torus_drifts_and_winds_round(cells: tuple[int, int]) -> None:
    """Constant drift and full tensor: a wrapped Gaussian stays one; order 2."""
    tensor = np.array([[0.3, 0.12], [0.12, 0.2]])
    drift = np.array([2.0, -1.3])

    def error(scale: int) -> float:
        grid = Grid([0.0, -1.0], [LENGTH, 2.0], np.array(cells) * scale, periodic=True)
        fp = FokkerPlanck(lambda x: jnp.asarray(drift), lambda x: jnp.asarray(tensor), grid)
        answer = fp.propagate(fp.density_of(Gaussian([1.0, 1.5], 0.1)), [1.5], grid_error=False)
        assert answer.smallest >= 0 and answer.mass_defect < 1e-12 and answer.boundary_mass[0] == 0
        exact = wrapped_gaussian_masses(grid, np.array([1.0, 1.5]) + 1.5 * drift, 0.1 * np.eye(2) + 3 * tensor)
        assert np.sum(exact) == pytest.approx(1, abs=1e-12)
        return float(np.abs(answer.masses[0] - exact).sum())

    assert error(2) / error(4) == pytest.approx(4, abs=0.4)


def test_a_torus_has_no_middle() -> None:
    """Start and answer shifted by some cells are the same, across the seam too; full tensor, one axis with walls."""
    tensor = jnp.array([[0.3, 0.15], [0.15, 0.2]])
    grid = Grid([0.0, 0.0], [3.0, 4.0], [24, 20], periodic=(True, False))
    fp = FokkerPlanck(lambda x: jnp.array([0.4, -0.2]), lambda x: tensor, grid)
    p0 = np.zeros(grid.cells)
    p0[11, 9] = 1.0
    here = fp.propagate(p0, [0.4], grid_error=False).masses[0]
    there = fp.propagate(np.roll(p0, 12, axis=0), [0.4], grid_error=False).masses[0]
    np.testing.assert_allclose(np.roll(here, 12, axis=0), there, atol=1e-15)
    marginal = fp.stationary().sum(axis=0)  # along the walls' axis: e^{b y/A}, by detailed balance in y alone
    assert np.max(np.abs(fp.stationary() - marginal / 24)) < 1e-12


def test_edges_round_the_seam() -> None:
    fp = FokkerPlanck(lambda x: 0 * x, lambda x: jnp.eye(2), Grid([0.0] * 2, [1.0] * 2, [6, 5], periodic=(True, False)))
    assert fp.generator.offsets == ((0, 1), (1, 0), (5, 0))
    matrix = fp.generator.as_sparse().toarray()
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix).reshape(6, 5)[:, 1:4], -2 * 36 - 2 * 25)  # nobody is at the edge


def test_periodic_grids() -> None:
    grid = Grid([0.0, -1.0], [2.0, 1.0], [4, 8], periodic=(True, False))
    assert grid.periodic == (True, False) and grid.coarsen(2).periodic == (True, False)
    assert grid != Grid([0.0, -1.0], [2.0, 1.0], [4, 8]) and hash(grid) != hash(Grid([0.0, -1.0], [2.0, 1.0], [4, 8]))
    assert repr(grid) == "Grid([0, 2) × [-1, 1], cells=4×8)"
    assert grid.boundary.sum() == 8  # the walls of the second axis only
    cells = grid.locate(np.array([[0.1, 0.0], [2.1, 0.0], [-1.9, 0.0], [0.1, 1.5], [np.nan, 0.0], [2.0, 0.0]]))
    np.testing.assert_array_equal(cells, [4, 4, 4, -1, -1, 4])
    with pytest.raises(ValueError, match="periodic must be one bool, or one for each of 2 axes"):
        Grid([0.0, 0.0], [1.0, 1.0], [4, 4], periodic=(True,))


def test_fields_must_close() -> None:
    grid = Grid([0.0], [1.0], [16], periodic=True)
    with pytest.raises(ValueError, match=r"drift must be periodic along axis 0.*at x = \[0.0\].*at x = \[1.0\]"):
        FokkerPlanck(lambda x: -x, lambda x: jnp.eye(1), grid)
    with pytest.raises(ValueError, match="diffusion must be periodic along axis 0"):
        FokkerPlanck(lambda x: 0 * x, lambda x: jnp.eye(1) * (1 + x[0]), grid)
    fp = FokkerPlanck(lambda x: 0 * x, lambda x: jnp.eye(2), Grid([0.0] * 2, [1.0] * 2, [6, 6], periodic=True))
    with pytest.raises(ValueError, match="neither periodic"):
        fp.circulation(np.full((6, 6), 1 / 36))


def test_a_potential_must_close_too() -> None:
    """A constant force round a ring is periodic, and its potential is not."""
    with pytest.raises(ValueError, match="potential must be periodic along axis 0"):
        FokkerPlanck(
            lambda x: jnp.ones(1), lambda x: jnp.eye(1), Grid([0.0], [LENGTH], [64], periodic=True), lambda x: -x[0]
        )


def test_interpolation_and_zeros_across_the_seam() -> None:
    fp = FokkerPlanck(lambda x: jnp.sin(x - 0.01), lambda x: jnp.eye(1), Grid([0.0], [LENGTH], [64], periodic=True))
    assert fp.interpolate(np.sin(fp.grid.axis_centres(0)), [0.0]) == pytest.approx(0, abs=1e-12)
    zeros = drift_zeros(fp.grid, fp.drift)
    np.testing.assert_allclose([zero.position[0] for zero in zeros], [0.01, 0.01 + np.pi], atol=1e-9)
    assert not zeros[0].is_stable and zeros[1].is_stable
    np.testing.assert_allclose(fp.grid.separation(np.array([[LENGTH - 0.1], [0.3]]), np.array([0.1])), [[-0.2], [0.2]])
