"""Entropy of clouds by nearest neighbours, and of densities on a grid, against exact values."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from sgdsim.density.grid import Grid
from sgdsim.measures.entropy import entropy, entropy_of_masses
from sgdsim.measures.neighbours import log_density, neighbourhoods


def gaussian_entropy(dim: int) -> float:
    return dim / 2 * np.log(2 * np.pi * np.e)


def two_wells(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two Gaussians of width 0.1 that do not overlap: H = log 2 + that of one."""
    return np.stack([rng.choice([-1.0, 1.0], n) + 0.1 * rng.normal(size=n)], axis=1)


def test_log_density_by_hand() -> None:
    x = np.array([[0.0], [1.0], [3.0], [7.0]])
    digamma = scipy.special.digamma
    expected = digamma(2) - digamma(4) - np.log(2 * np.array([3.0, 2.0, 3.0, 6.0]))
    np.testing.assert_allclose(log_density(x, 2), expected)
    np.testing.assert_array_equal(neighbourhoods(x, 2).inside, [[1], [0], [1], [2]])
    square = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(log_density(square, 1), digamma(1) - digamma(2) - np.log(25 * np.pi))


@pytest.mark.parametrize(("dim", "neighbours"), [(1, 1), (1, 4), (2, 1), (2, 4), (3, 1)])
def test_gaussians(dim: int, neighbours: int) -> None:
    x = np.random.default_rng(dim).normal(size=(20_000, dim))
    found = entropy(x, neighbours)
    assert found.agrees_with(gaussian_entropy(dim), sigmas=4)  # 5 comparisons
    assert found.standard_error < 0.02
    moved = entropy(x @ np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))[0] * 3 - 5, neighbours)
    assert moved.value == pytest.approx(found.value + dim * np.log(3), abs=1e-9)


@pytest.mark.parametrize(("dim", "bias"), [(1, -0.001), (2, -0.003), (3, -0.016)])
def test_the_bias_is_what_the_docstring_says(dim: int, bias: float) -> None:
    """Over 20 clouds of 10⁴, less the exact −log ρ at the same particles, at 4 standard errors of about 0.0015."""
    rng, apart = np.random.default_rng(8), []
    for _ in range(20):
        x = rng.normal(size=(10_000, dim))
        apart.append(entropy(x).value + np.mean(scipy.stats.norm.logpdf(x).sum(axis=1)))
    assert abs(np.mean(apart) - bias) < 4 * np.std(apart, ddof=1) / np.sqrt(20)


def test_uniform_and_two_wells() -> None:
    rng = np.random.default_rng(3)
    assert entropy(3 * rng.random(size=(20_000, 1))).agrees_with(np.log(3), sigmas=4)  # 2 comparisons
    assert entropy(two_wells(rng, 20_000)).agrees_with(gaussian_entropy(1) + np.log(0.2), sigmas=4)


@pytest.mark.parametrize(
    ("draw", "neighbours"),
    [
        (lambda rng: rng.normal(size=(1000, 1)), 4),
        (lambda rng: rng.normal(size=(1000, 2)), 1),
        (lambda rng: rng.normal(size=(1000, 2)), 4),
        (lambda rng: rng.random(size=(1000, 1)), 4),  # nothing but the neighbours' own scatter
        (lambda rng: two_wells(rng, 1000), 8),
    ],
)
@pytest.mark.slow
def test_standard_error_is_the_spread_over_fresh_clouds(draw: Callable, neighbours: int) -> None:
    rng = np.random.default_rng(4)
    found = [entropy(draw(rng), neighbours) for _ in range(500)]
    spread = np.std([e.value for e in found], ddof=1)  # known to 3 %
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.12)


def test_of_masses_is_exact_on_cells_and_second_order_between_them() -> None:
    box = Grid([-1.0, 0.0], [1.0, 5.0], [4, 10])
    assert entropy_of_masses(box, np.full(box.cells, 1 / 40)) == pytest.approx(np.log(10.0))
    one = np.zeros(box.cells)
    one[1, 2] = 1.0
    assert entropy_of_masses(box, one) == pytest.approx(np.log(box.cell_volume))  # and no NaN from empty cells
    errors = []
    for cells in (50, 100):
        line = Grid([-8.0], [8.0], [cells])
        masses = np.diff(scipy.stats.norm.cdf(line.edges(0)))
        errors.append(entropy_of_masses(line, masses / masses.sum()) - gaussian_entropy(1))
    assert 0 < errors[1] < 0.002
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)


def test_cloud_and_density_agree() -> None:
    rng, line = np.random.default_rng(5), Grid([0.0], [1.0], [4])
    masses = np.array([0.1, 0.5, 0.3, 0.1])
    x = (rng.choice(4, p=masses, size=20_000) + rng.random(20_000)) / 4
    assert entropy(x[:, None]).agrees_with(entropy_of_masses(line, masses), sigmas=4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_diverged_particles_are_left_out_and_counted(dtype: type) -> None:
    x = np.random.default_rng(6).normal(size=(500, 2)).astype(dtype)
    dirty = entropy(jnp.asarray(np.vstack([x, [[np.nan, 0.0]], [[0.0, np.inf]]]).astype(dtype)))
    assert dirty.left_out == 2
    assert dirty.value == entropy(x).value


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument() -> None:
    x = np.random.default_rng(7).normal(size=(10, 2))
    with pytest.raises(ValueError, match="neighbours must be a positive whole number, got 0"):
        entropy(x, 0)
    with pytest.raises(ValueError, match=r"neighbours must be a positive whole number, got 1\.5"):
        log_density(x, 1.5)
    with pytest.raises(ValueError, match="number more than neighbours = 10"):
        entropy(x, 10)
    with pytest.raises(ValueError, match="particles must be finite"):
        log_density(np.full((10, 2), np.nan))
    with pytest.raises(ValueError, match=r"particles must not coincide.*: 5 of 11 lie on 4 others"):
        entropy(np.vstack([x[:6], np.zeros((5, 2))]), 4)
    with pytest.raises(ValueError, match="masses must have shape"):
        entropy_of_masses(Grid([0.0], [1.0], [4]), np.full(3, 1 / 3))
    with pytest.raises(ValueError, match="sum to one"):
        entropy_of_masses(Grid([0.0], [1.0], [4]), np.ones(4))
