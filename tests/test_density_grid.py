"""The grid: cells, edges, numbering and refusals."""

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.density import Grid


def test_geometry() -> None:
    grid = Grid([-1.0, 0.0], [1.0, 3.0], [4, 6])
    assert grid.dim == 2 and grid.num_cells == 24 and grid.cells == (4, 6)
    np.testing.assert_allclose(grid.widths, [0.5, 0.5])
    assert grid.cell_volume == pytest.approx(0.25)
    assert grid.centres.shape == (4, 6, 2)
    np.testing.assert_allclose(grid.centres[1, 2], [-0.25, 1.25])
    np.testing.assert_allclose(grid.edges(1), np.linspace(0, 3, 7))
    np.testing.assert_allclose(grid.axis_centres(0), [-0.75, -0.25, 0.25, 0.75])
    assert "cells=4×6" in repr(grid)


@pytest.mark.parametrize("cells", [(7,), (5, 4), (3, 4, 5)])
def test_locate_numbers_the_centres_in_c_order(cells: tuple[int, ...]) -> None:
    grid = Grid([-1.0] * len(cells), [2.0] * len(cells), cells)
    np.testing.assert_array_equal(grid.locate(grid.centres).reshape(-1), np.arange(grid.num_cells))
    np.testing.assert_array_equal(grid.locate(jnp.asarray(grid.centres)).reshape(-1), np.arange(grid.num_cells))


def test_locate_at_the_faces_and_beyond() -> None:
    grid = Grid([0.0], [1.0], [10])
    x = np.array([[0.0], [np.nextafter(1.0, 0.0)], [1.0], [-1e-300], [np.nan], [np.inf]])
    np.testing.assert_array_equal(grid.locate(x), [0, 9, -1, -1, -1, -1])
    with pytest.raises(ValueError, match="last axis of length 1"):
        grid.locate(np.zeros((3, 2)))


def test_boundary_is_the_outermost_cells() -> None:
    assert Grid([0.0, 0.0], [1.0, 1.0], [5, 4]).boundary.sum() == 20 - 3 * 2
    assert Grid([0.0], [1.0], [2]).boundary.all()


def test_coarsen() -> None:
    grid = Grid([0.0, 0.0], [1.0, 2.0], [8, 12])
    assert grid.coarsen() == Grid([0.0, 0.0], [1.0, 2.0], [4, 6])
    with pytest.raises(ValueError, match="factor"):
        grid.coarsen(3)
    with pytest.raises(ValueError, match="factor"):
        Grid([0.0], [1.0], [2]).coarsen()


def test_a_grid_is_a_value() -> None:
    lower = np.array([0.0])
    grid = Grid(lower, [1.0], [4])
    lower[0] = -5.0
    assert grid == Grid([0.0], [1.0], [4]) and hash(grid) == hash(Grid([0.0], [1.0], [4]))
    assert grid != Grid([0.0], [1.0], [5]) and grid != "grid"
    with pytest.raises(ValueError, match="read-only"):
        grid.upper[0] = 2.0


@pytest.mark.parametrize(
    ("lower", "upper", "cells", "match"),
    [
        ([0.0], [0.0], [4], "below upper"),
        ([1.0], [0.0], [4], "below upper"),
        ([0.0], [np.inf], [4], "finite"),
        ([np.nan], [1.0], [4], "finite"),
        ([0.0], [1.0], [1], "cells"),
        ([0.0], [1.0], [4.5], "cells"),
        ([0.0], [1.0, 2.0], [4], "one length"),
        ([0.0], [1.0], [4, 4], "one length"),
        ([0.0] * 4, [1.0] * 4, [2] * 4, "d ≤ 3"),
        ([], [], [], "1, 2 or 3"),
    ],
)
def test_bad_boxes(lower: list, upper: list, cells: list, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Grid(lower, upper, cells)
