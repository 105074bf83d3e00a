"""KL from particles: its partition, bias, spread, floor and interval."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.density.grid import Grid
from sgdsim.measures import KLEstimate, kl, kl_between_densities, merge, score_interval

LINE = Grid([-4.0], [4.0], [64])
COARSE = Grid([-5.0, -5.0], [5.0, 5.0], [32, 32])
FINE = Grid([-5.0, -5.0], [5.0, 5.0], [128, 128])


def normal_masses(grid: Grid, mean: float = 0.0) -> np.ndarray:
    """Exact cell masses of N(mean, I), closed to one."""
    masses = np.ones(())
    for axis in range(grid.dim):
        masses = np.multiply.outer(masses, np.diff(scipy.stats.norm.cdf(grid.edges(axis), mean)))
    return masses / masses.sum()


def readings(grid: Grid, n: int, shift: list[float], repeats: int, seed: int) -> list[KLEstimate]:
    rng, masses = np.random.default_rng(seed), normal_masses(grid)
    partition = merge(grid, masses, n)
    return [
        kl(rng.normal(size=(n, grid.dim)) + np.array(shift), grid, masses, partition=partition) for _ in range(repeats)
    ]


def mean_and_error(found: list[KLEstimate]) -> tuple[float, float]:
    values = np.array([e.value for e in found])
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize(
    "grid", [LINE, COARSE, FINE, Grid([-5.0, -4.0], [5.0, 6.0], [37, 100]), Grid([-5] * 3, [5] * 3, [20] * 3)]
)
@pytest.mark.parametrize("n", [10, 200, 20_000])
def test_every_merged_cell_expects_ten(grid: Grid, n: int) -> None:
    masses = normal_masses(grid)
    partition = merge(grid, masses, n)
    assert partition.labels.shape == (grid.num_cells,)
    assert set(partition.labels) == set(range(partition.num_merged))
    assert partition.masses.sum() == pytest.approx(1.0)
    assert np.all(n * partition.masses >= 10 * (1 - 1e-6))
    assert partition.num_merged <= n / 10 + 1e-6
    np.testing.assert_allclose(partition.masses, np.bincount(partition.labels, masses.ravel()), rtol=1e-12)


def test_the_first_blocks_hold_most_of_the_mass_and_are_square_in_standard_deviations() -> None:
    grid = Grid([-5.0, -50.0], [5.0, 50.0], [128, 128])
    masses = np.outer(
        np.diff(scipy.stats.norm.cdf(grid.edges(0))), np.diff(scipy.stats.norm.cdf(grid.edges(1), scale=10))
    )
    labels = merge(grid, masses / masses.sum(), 20_000).labels.reshape(grid.cells)
    middle = np.argwhere(labels == labels[64, 64])
    sides = np.ptp(middle, axis=0) + 1
    assert len(middle) == sides.prod()  # a solid block
    assert sides.max() <= 2 * sides.min()


def test_particles_outside_the_box_go_to_the_lowest_level() -> None:
    masses = normal_masses(LINE)
    partition = merge(LINE, masses, 1000)
    density = partition.masses / np.bincount(partition.labels)
    assert partition.lowest == np.argmin(density)
    counts = partition.count(np.array([-1, -1, 32]))
    assert counts[partition.lowest] == 2
    assert counts.sum() == 3


@pytest.mark.parametrize(
    ("grid", "n", "repeats", "bound"), [(LINE, 10_000, 400, 1e-4), (COARSE, 1_000, 400, 2e-3), (FINE, 20_000, 60, 5e-4)]
)
def test_unbiased_at_agreement(grid: Grid, n: int, repeats: int, bound: float) -> None:
    found = readings(grid, n, [0.0] * grid.dim, repeats, seed=1)
    value, error = mean_and_error(found)
    assert abs(value) <= bound  # at least 4 errors of the mean
    assert 4 * error <= bound * 1.1
    spread = error * np.sqrt(repeats)
    null = math.sqrt((found[0].merged_cells - 1) / 2) / n
    assert spread == pytest.approx(null, rel=5 / np.sqrt(2 * repeats))  # 5 standard errors of a standard deviation
    assert np.mean([e.above_floor for e in found]) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / repeats) + 0.01


@pytest.mark.parametrize("shift", [[0.1, 0.0], [0.0, -0.1], [0.0707107, 0.0707107]])
def test_sees_a_shift_on_a_fine_grid_in_every_direction(shift: list[float]) -> None:
    # true KL .005; rings of the level sets alone would read nearly nothing
    value, error = mean_and_error(readings(FINE, 20_000, shift, 60, seed=2))
    assert 0.0045 - 3 * error <= value <= 0.005 + 4 * error


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1])
def test_standard_error_is_right_away_from_agreement_and_cautious_at_it(shift: float) -> None:
    found = readings(LINE, 10_000, [shift], 300, seed=3)
    value, error = mean_and_error(found)
    spread = error * np.sqrt(300)
    assert value == pytest.approx(shift**2 / 2, abs=4 * error + 0.03 * shift**2 / 2)
    assert 0.8 * spread <= np.mean([e.standard_error for e in found]) <= 1.6 * spread


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1])
@pytest.mark.parametrize(("n", "repeats"), [(10_000, 2000), (100_000, 500)])
def test_score_interval_covers(shift: float, n: int, repeats: int) -> None:
    intervals = [score_interval(e) for e in readings(LINE, n, [shift], repeats, seed=4)]
    covered = np.mean([low <= shift**2 / 2 <= high for low, high in intervals])
    assert 0.90 <= covered <= 0.98


def own_truth(grid: Grid, shift: list[float], n: int) -> float:
    """KL of N(shift, 1) from the reference after merging, exactly; what lies outside the box is in the lowest cell."""
    cells = np.ones(())
    for axis in range(grid.dim):
        cells = np.multiply.outer(cells, np.diff(scipy.stats.norm.cdf(grid.edges(axis), shift[axis])))
    partition = merge(grid, normal_masses(grid), n)
    merged = np.bincount(partition.labels, cells.ravel())
    merged[partition.lowest] += 1 - cells.sum()
    return float(np.sum(merged * np.log(merged / partition.masses)))


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1])
@pytest.mark.parametrize(
    ("n", "repeats", "bound"), [(10_000, 500, 1e-4), pytest.param(100_000, 400, 2e-5, marks=pytest.mark.slow)]
)
def test_reads_the_merged_cells_own_truth(shift: float, n: int, repeats: int, bound: float) -> None:
    truth, found = own_truth(LINE, [shift], n), readings(LINE, n, [shift], repeats, seed=6)
    assert truth == pytest.approx(shift**2 / 2, rel=0.03, abs=2e-5)  # 6e-5 of the mass lies outside the box
    value, error = mean_and_error(found)
    assert abs(value - truth) <= 4 * error  # one of 6
    if shift == 0:
        assert abs(value - truth) <= bound
    covered = np.mean([low <= truth <= high for low, high in map(score_interval, found)])
    assert 0.90 <= covered <= 0.98


def test_reads_the_merged_cells_own_truth_in_the_plane() -> None:
    found = readings(COARSE, 1_000, [0.0, 0.0], 200, seed=7)
    value, _ = mean_and_error(found)
    assert abs(value - own_truth(COARSE, [0.0, 0.0], 1_000)) <= 2e-3  # 4 errors of the mean


def test_score_interval_solves_its_equation() -> None:
    value, cells, n, z = 0.004, 50, 10_000, 1.959964
    for edge in score_interval((value, cells, n)):
        assert abs(value - edge) == pytest.approx(z * math.sqrt((cells - 1) / (2 * n**2) + 2 * edge / n), rel=1e-6)
    assert score_interval((0.0, 50, 10_000))[0] == 0.0
    assert score_interval((-1.0, 50, 10_000)) == (0.0, 0.0)
    narrow, wide = score_interval((value, cells, n), 0.5), score_interval((value, cells, n), 0.99)
    assert wide[0] < narrow[0] < value < narrow[1] < wide[1]
    with pytest.raises(ValueError, match="confidence"):
        score_interval((value, cells, n), 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_diverged_particles_are_left_out_and_counted(dtype: type) -> None:
    x = np.random.default_rng(5).normal(size=(5000, 2)).astype(dtype)
    bad = np.concatenate([x, [[np.nan, 0.0]], [[0.0, np.inf]]]).astype(dtype)
    masses = normal_masses(COARSE).astype(dtype)
    clean, dirty = kl(x, COARSE, masses), kl(jnp.asarray(bad), COARSE, jnp.asarray(masses))
    assert dirty.left_out == 2
    assert (clean.value, clean.standard_error) == (dirty.value, dirty.standard_error)
    assert (dirty.merged_cells, dirty.sample_size) == (clean.merged_cells, 5000)
    assert "2 diverged left out" in str(dirty)
    with pytest.raises(ValueError, match="all 3 particles"):
        kl(np.full((3, 2), np.nan), COARSE, masses)


def test_too_few_particles_read_nan() -> None:
    assert math.isnan(kl(np.zeros((15, 1)), LINE, normal_masses(LINE)).value)


@pytest.mark.usefixtures("as_users_run")
def test_shape_and_mass_errors_name_the_argument() -> None:
    x = np.zeros((100, 1))
    with pytest.raises(ValueError, match="particles must have the grid's 2"):
        kl(x, COARSE, normal_masses(COARSE))
    with pytest.raises(ValueError, match="reference_masses must have shape"):
        kl(x, LINE, np.full(32, 1 / 32))
    with pytest.raises(ValueError, match="sum to one"):
        kl(x, LINE, np.full(64, 1.0))
    with pytest.raises(ValueError, match="not negative"):
        kl(x, LINE, np.concatenate([[-0.5, 1.5], np.zeros(62)]))
    masses = normal_masses(LINE)
    with pytest.raises(ValueError, match="q must have"):
        kl_between_densities(masses, masses[:32])
    with pytest.raises(ValueError, match="log_q"):
        kl_between_densities(masses, masses, log_q=np.zeros(3))


def test_between_densities() -> None:
    p, q = normal_masses(LINE, 0.1), normal_masses(LINE)
    assert kl_between_densities(p, p) == 0.0
    assert kl_between_densities(p, q) == pytest.approx(0.005, rel=0.01)
    assert kl_between_densities(p.astype(np.float32), q.astype(np.float32)) == pytest.approx(0.005, rel=0.01)
    assert kl_between_densities(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))
    assert kl_between_densities(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == math.inf
    # q underflows; its logarithm does not
    found = kl_between_densities(np.array([0.5, 0.5]), np.array([1.0, 0.0]), log_q=np.array([0.0, -800.0]))
    assert found == pytest.approx(400 - math.log(2))
