"""Rectangular grids of cells: where a density lives."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int

Numbers = Sequence[Any] | np.ndarray | Array


class Grid:
    """A box cut into equal cells, each axis with its own number of them.

    A density is held as **cell masses**: an array of shape `cells` that sums to one. Cells are numbered in C order.

    Args:
        lower: the lower corner of the box, (d,), d ≤ 3, in units of x.
        upper: its upper corner, (d,).
        cells: cells per axis, (d,).
        periodic: whether the box closes on itself along each axis, (d,), or one answer for all. The walls of the other
            axes reflect.

    Raises:
        ValueError: if the box is empty, reversed or not finite, an axis has no cell, or d is not 1, 2 or 3.
    """

    lower: Float[np.ndarray, " d"]
    upper: Float[np.ndarray, " d"]
    cells: tuple[int, ...]
    periodic: tuple[bool, ...]

    def __init__(self, lower: Numbers, upper: Numbers, cells: Numbers, periodic: bool | Sequence[bool] = False) -> None:
        self.lower = np.atleast_1d(np.array(lower, dtype=float))  # copies: a grid is hashable, so it must not change
        self.upper = np.atleast_1d(np.array(upper, dtype=float))
        counts = np.atleast_1d(np.asarray(cells))
        if self.lower.ndim != 1 or not 1 <= self.lower.size <= 3:
            raise ValueError(
                f"lower must have 1, 2 or 3 entries (a density lives in d ≤ 3), got shape {self.lower.shape}"
            )
        if self.upper.shape != self.lower.shape or counts.shape != self.lower.shape:
            shapes = f"{self.lower.shape}, {self.upper.shape} and {counts.shape}"
            raise ValueError(f"lower, upper and cells must be of one length, got {shapes}")
        if not (np.all(np.isfinite(self.lower)) and np.all(np.isfinite(self.upper))):
            raise ValueError(f"lower and upper must be finite, got {self.lower} and {self.upper}")
        if not np.all(self.lower < self.upper):
            raise ValueError(f"lower must be below upper on every axis, got {self.lower} and {self.upper}")
        if not (np.issubdtype(counts.dtype, np.integer) and np.all(counts >= 2)):
            raise ValueError(f"cells must be whole numbers of at least 2, got {cells}")
        closed = (periodic,) * counts.size if isinstance(periodic, bool | np.bool) else tuple(periodic)
        if len(closed) != counts.size or not all(isinstance(p, bool | np.bool) for p in closed):
            raise ValueError(f"periodic must be one bool, or one for each of {counts.size} axes, got {periodic}")
        self.lower.setflags(write=False)
        self.upper.setflags(write=False)
        self.cells = tuple(int(n) for n in counts)
        self.periodic = tuple(bool(p) for p in closed)

    @property
    def dim(self) -> int:
        """Number of axes, d."""
        return len(self.cells)

    @property
    def num_cells(self) -> int:
        """Number of cells in the whole box."""
        return int(np.prod(self.cells))

    @property
    def widths(self) -> Float[np.ndarray, " d"]:
        """Width h of a cell along each axis, (d,)."""
        return (self.upper - self.lower) / np.asarray(self.cells)

    @property
    def cell_volume(self) -> float:
        """Volume of one cell, ∏h."""
        return float(np.prod(self.widths))

    @property
    def centres(self) -> Float[np.ndarray, "*cells d"]:
        """Centre of every cell, (*cells, d)."""
        axes = [self.axis_centres(i) for i in range(self.dim)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def axis_centres(self, axis: int) -> Float[np.ndarray, " n"]:
        """Centres of the cells along one axis, (cells[axis],)."""
        edges = self.edges(axis)
        return (edges[1:] + edges[:-1]) / 2

    def edges(self, axis: int) -> Float[np.ndarray, " edges"]:
        """Edges of the cells along one axis, (cells[axis] + 1,)."""
        return np.linspace(self.lower[axis], self.upper[axis], self.cells[axis] + 1)

    @property
    def boundary(self) -> Bool[np.ndarray, "*cells"]:
        """True in the cells that touch a wall, (*cells,): the outermost ones of every axis that is not periodic."""
        mask = np.ones(self.cells, dtype=bool)
        mask[tuple(slice(None) if p else slice(1, -1) for p in self.periodic)] = False
        return mask

    def boundary_mass(self, masses: Float[np.ndarray, "*batch_and_cells"]) -> Float[np.ndarray, "*batch"]:
        """The mass in the cells at the walls, of any batch of cell masses (..., *cells)."""
        return np.asarray(np.sum(masses[..., self.boundary], axis=-1, dtype=np.float64))

    def locate(self, particles: Float[Array | np.ndarray, "*batch d"]) -> Int[np.ndarray, "*batch"]:
        """The number of the cell that holds each particle; −1 outside the box or where x is not finite.

        A cell holds its lower edge and not its upper one, so a particle on the upper face of the box is outside. Along
        a periodic axis nothing is outside: x is taken modulo the box.

        Raises:
            ValueError: if the last axis of `particles` is not d long.
        """
        x = np.asarray(particles, dtype=float)
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ValueError(f"particles must have a last axis of length {self.dim}, got shape {x.shape}")
        x = self.wrap(x)
        with np.errstate(invalid="ignore"):
            inside = np.all((x >= self.lower) & (x < self.upper), axis=-1)  # NaN compares false
        safe = np.where(inside[..., None], x, self.lower)
        index = np.floor((safe - self.lower) / self.widths).astype(np.int64)
        index = np.minimum(index, np.asarray(self.cells) - 1)  # rounding at the upper edge
        return np.where(inside, np.ravel_multi_index(tuple(np.moveaxis(index, -1, 0)), self.cells), -1)

    def wrap(self, points: Float[np.ndarray, "*batch d"]) -> Float[np.ndarray, "*batch d"]:
        """The points modulo the box along its periodic axes, (..., d)."""
        with np.errstate(invalid="ignore"):
            wrapped = self.lower + (points - self.lower) % (self.upper - self.lower)
        wrapped = np.where(wrapped >= self.upper, self.lower, wrapped)  # rounding
        return np.where(self.periodic, wrapped, points)

    def separation(
        self, points: Float[np.ndarray, "*batch d"], origin: Float[np.ndarray, " d"]
    ) -> Float[np.ndarray, "*batch d"]:
        """points − origin, along periodic axes the short way round, (..., d)."""
        apart, length = points - origin, self.upper - self.lower
        return np.where(self.periodic, apart - length * np.round(apart / length), apart)

    def coarsen(self, factor: int = 2) -> "Grid":
        """The same box with `factor` times fewer cells along each axis."""
        if any(n % factor or n // factor < 2 for n in self.cells):
            raise ValueError(f"factor must divide every number of cells and leave two, got {factor} for {self.cells}")
        return Grid(self.lower, self.upper, [n // factor for n in self.cells], self.periodic)

    def ratio_to(self, coarser: "Grid") -> int:
        """How many times as wide the cells of a coarsened grid are."""
        return self.cells[0] // coarser.cells[0]

    @property
    def coarsening_factor(self) -> int | None:
        """The first of 2 to 5 by which every axis can be coarsened; None if none can: wider cells tell too little."""
        return next((k for k in range(2, 6) if math.gcd(*self.cells) % k == 0 and min(self.cells) // k >= 2), None)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Grid)
            and self.cells == other.cells
            and self.periodic == other.periodic
            and np.array_equal(self.lower, other.lower)
            and np.array_equal(self.upper, other.upper)
        )

    def __hash__(self) -> int:
        return hash((self.cells, self.periodic, tuple(self.lower), tuple(self.upper)))

    def __repr__(self) -> str:
        ends = (")" if p else "]" for p in self.periodic)
        box = " × ".join(
            f"[{a:g}, {b:g}{end}" for a, b, end in zip(self.lower, self.upper, ends, strict=True)
        )  # half open where it closes on itself
        return f"Grid({box}, cells={'×'.join(map(str, self.cells))})"


def merge_cells(masses: Float[np.ndarray, "*cells"], factor: int) -> Float[np.ndarray, "*merged"]:
    """The masses on cells `factor` times as wide along every axis."""
    for axis, n in enumerate(masses.shape):
        masses = masses.reshape(*masses.shape[:axis], n // factor, factor, *masses.shape[axis + 1 :]).sum(axis=axis + 1)
    return masses
