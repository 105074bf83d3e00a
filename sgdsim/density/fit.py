"""A grid fitted to a run."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sgdsim.density.grid import Grid

CELLS_PER_WIDTH = 8  # what a density needs across its narrowest steady width
STEP = 8  # numbers of cells are multiples of this, so that a grid can be coarsened
BOUNDS = {1: (512, 4096), 2: (64, 256), 3: (32, 64)}  # fewest and most cells of an axis, by dimension


def fitted_grid(
    lower: Float[np.ndarray, " d"],
    upper: Float[np.ndarray, " d"],
    widths: Float[np.ndarray, " d"],
    cells: int | Sequence[int] | None = None,
) -> Grid:
    """A grid over the box with eight cells across the narrowest steady width of each axis, within bounds.

    Args:
        lower, upper: the box to cover, (d,).
        widths: the narrowest width to resolve along each axis, (d,); zero or NaN where it is not known.
        cells: cells per axis instead, one number for all axes or one for each.
    """
    if cells is not None:
        return Grid(lower, upper, np.broadcast_to(cells, len(lower)))
    fewest, most = BOUNDS[len(lower)]
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = CELLS_PER_WIDTH * (upper - lower) / widths
    wanted = np.where(np.isfinite(wanted), wanted, most)
    return Grid(lower, upper, np.clip(STEP * np.ceil(wanted / STEP), fewest, most).astype(int))


def cells_per_width(grid: Grid, widths: Float[np.ndarray, " d"]) -> float:
    """The fewest cells that the grid has across a width, over its axes."""
    return float(np.min(widths / grid.widths))
