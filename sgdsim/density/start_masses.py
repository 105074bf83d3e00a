"""The cell masses of a start: a Gaussian, or one point."""

from typing import Any

import numpy as np
from jaxtyping import Float

from sgdsim.density.gaussian import wrapped_gaussian_masses
from sgdsim.density.grid import Grid

LEAK = 1e-6  # mass of a start that may lie outside the box


def start_masses(grid: Grid, start: Any) -> Float[np.ndarray, "*cells"]:
    """The exact cell masses of a Gaussian, divided by its mass in the box, or one in a point's cell, (*cells,).

    Args:
        grid: the cells.
        start: has `mean` (d,) and `covariance` (d, d), positive definite; or is a point (d,).

    Raises:
        ValueError: if it is neither, the covariance is not positive definite, or over 1e-6 of the mass is outside the
            box.
    """
    dim = grid.dim
    if not hasattr(start, "covariance"):
        point = np.asarray(start, dtype=np.float64)
        if point.shape != (dim,):
            raise ValueError(f"start must be a Gaussian or a point ({dim},), got shape {point.shape}")
        cell = int(grid.locate(point))
        if cell < 0:
            raise ValueError(f"start must lie in the box of {grid}, got {point.tolist()}")
        return (np.arange(grid.num_cells) == cell).astype(np.float64).reshape(grid.cells)
    return gaussian_start_masses(grid, start)


def gaussian_start_masses(grid: Grid, start: Any) -> Float[np.ndarray, "*cells"]:
    """The exact cell masses of a Gaussian, with `mean` (d,) and `covariance` (d, d), divided by its mass in the box.

    Raises:
        ValueError: if the covariance is not positive definite, or over 1e-6 of the mass is outside the box.
    """
    dim = grid.dim
    mean, covariance = (np.asarray(v, dtype=np.float64) for v in (start.mean, start.covariance))
    if mean.shape != (dim,) or covariance.shape != (dim, dim):
        raise ValueError(
            f"start must have a mean ({dim},) and a covariance ({dim}, {dim}), got {mean.shape}, {covariance.shape}"
        )
    masses = wrapped_gaussian_masses(grid, mean, covariance)
    inside = np.sum(masses)
    if 1 - inside > LEAK:
        raise ValueError(f"start has {1 - inside:.2e} of its mass outside the box of {grid}: widen the grid")
    return masses / inside
