"""Minima of a function that is known at the cells' centres."""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from sgdsim.density.grid import Grid


class GridMinima(NamedTuple):
    """Where a function on the cells has minima, the lowest first.

    Attributes:
        points: (m, d), in units of x, between the centres.
        values: (m,).
    """

    points: Float[np.ndarray, "m d"]
    values: Float[np.ndarray, " m"]


def grid_minima(grid: Grid, values: Float[np.ndarray, "*cells"]) -> GridMinima:
    """The minima inside the box of the values at the cells' centres; cells at the walls are none.

    A minimum is a cell that is lower than all 3ᵈ − 1 around it. The parabola through them (central differences g, H)
    then puts it at −H⁻¹g from the centre, no further than one cell: right to second order in h.
    """
    offsets = [e for e in itertools.product((-1, 0, 1), repeat=grid.dim) if any(e)]
    around = {e: _neighbour(grid, values, e) for e in offsets}
    lowest = ~grid.boundary & np.isfinite(values)
    for offset, other in around.items():
        lowest &= _is_lower(values, other, first=offset < (0,) * grid.dim)
    found = [_vertex(grid, values, around, tuple(cell)) for cell in np.argwhere(lowest).tolist()]
    found.sort(key=lambda pair: pair[1])
    points = np.array([point for point, _ in found], dtype=np.float64).reshape(-1, grid.dim)
    return GridMinima(points, np.array([value for _, value in found], dtype=np.float64))


def _neighbour(grid: Grid, values: Float[np.ndarray, "*cells"], offset: tuple[int, ...]) -> Float[np.ndarray, "*cells"]:
    """The values at i + e; around the corner along a periodic axis, and meaningless beyond a wall."""
    return np.roll(values, [-c for c in offset], axis=tuple(range(grid.dim)))


def _is_lower(
    values: Float[np.ndarray, "*cells"], other: Float[np.ndarray, "*cells"], first: bool
) -> Bool[np.ndarray, "*cells"]:
    """Below the neighbour; of two equal cells the one whose neighbour comes first in C order."""
    return values < other if first else values <= other


def _vertex(
    grid: Grid,
    values: Float[np.ndarray, "*cells"],
    around: dict[tuple[int, ...], Float[np.ndarray, "*cells"]],
    cell: tuple[int, ...],
) -> tuple[Float[np.ndarray, " d"], float]:
    """Where the parabola around a cell has its vertex, and its value there."""
    dim, unit = grid.dim, np.eye(grid.dim, dtype=int)

    def at(offset: np.ndarray) -> float:
        return float(around[tuple(int(c) for c in offset)][cell]) if np.any(offset) else float(values[cell])

    gradient = np.array([at(e) - at(-e) for e in unit]) / 2
    hessian = np.empty((dim, dim))
    for i, j in itertools.product(range(dim), repeat=2):
        a, b = unit[i], unit[j]
        hessian[i, j] = (
            at(a) - 2 * at(0 * a) + at(-a) if i == j else (at(a + b) - at(a - b) - at(b - a) + at(-a - b)) / 4
        )
    centre, lowest = grid.lower + (np.asarray(cell) + 0.5) * grid.widths, at(0 * unit[0])
    if not np.all(np.isfinite(hessian)) or np.linalg.eigvalsh(hessian)[0] <= 0:
        return centre, lowest
    step = np.clip(-np.linalg.solve(hessian, gradient), -1, 1)
    return grid.wrap(centre + step * grid.widths), lowest + float(gradient @ step + step @ hessian @ step / 2)
