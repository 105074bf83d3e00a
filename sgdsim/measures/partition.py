"""Cells of a grid merged until each expects enough particles."""

import dataclasses

import numpy as np
from jaxtyping import Array, Float, Int

from sgdsim.density.grid import Grid

SHARE = 0.9  # of the reference's mass that must lie in blocks of the first size


@dataclasses.dataclass(frozen=True, eq=False)
class Partition:
    """A grid's cells sorted into K merged cells.

    Args:
        labels: the merged cell of every fine cell, in C order, (num_cells,).
        masses: the reference's mass in each merged cell, (K,); they sum to one.
        lowest: the merged cell of the lowest reference density, into which particles outside the box are counted.
    """

    labels: Int[np.ndarray, " num_cells"]
    masses: Float[np.ndarray, " K"]
    lowest: int

    @property
    def num_merged(self) -> int:
        """Number of merged cells, K."""
        return len(self.masses)

    def count(self, cells: Int[np.ndarray, " P"]) -> Int[np.ndarray, " K"]:
        """Particles in each merged cell, (K,), from the number of each one's fine cell (−1: outside the box)."""
        merged = np.where(cells >= 0, self.labels[cells], self.lowest)
        return np.bincount(merged, minlength=self.num_merged)


def merge(
    grid: Grid, reference_masses: Float[np.ndarray | Array, "*cells"], num_particles: int, least: float = 10.0
) -> Partition:
    """Merge cells of a grid until each expects at least `least` of `num_particles` drawn from the reference.

    Merging along level sets of the reference alone is simple, but blind to direction. Put 20,000 particles on 128²
    cells and most cells expect fewer than ten; the level sets of a Gaussian are then rings, and the mass of a ring
    does not change, to first order, when the mean moves. So the cells are merged with their neighbours first:

    1. **blocks**: double the block's side, along the axis where it is shortest in units of the reference's standard
       deviation, until 90 % of the reference's mass lies in blocks that expect enough;
    2. what is left goes on to larger and larger blocks, as long as a block is smaller than one standard deviation;
    3. **level sets**: the far tail that is still left is sorted by the reference's density and cut into runs. The
       last run, too light to stand alone, joins the one before it.

    The partition depends on the reference and on n, never on where the particles are: that would bias the measure.

    Args:
        grid: the grid, of d axes.
        reference_masses: the reference's cell masses, of shape `grid.cells`; they sum to one.
        num_particles: how many particles will be counted, n.
        least: how many of them each merged cell must expect.

    Raises:
        ValueError: if the masses are of another shape, negative, not finite, or do not sum to one.
    """
    masses = checked_masses("reference_masses", reference_masses, grid.cells).ravel()
    threshold = least / num_particles * (1 - 1e-9)  # rounding must not split a cell that expects ten exactly
    spread = _spread(grid, masses)
    factors = _first_blocks(grid, masses, spread, threshold)
    labels, count = np.full(masses.size, -1), 0
    while True:
        left = np.flatnonzero(labels < 0)
        blocks = _blocks(grid, factors)[left]
        in_block = np.bincount(blocks, masses[left], minlength=1)
        heavy = np.where(in_block >= threshold, count - 1 + np.cumsum(in_block >= threshold), -1)
        labels[left] = heavy[blocks]
        count += int(np.sum(in_block >= threshold))
        if np.max(factors * grid.widths / spread) >= 1:
            break
        factors = _coarser(grid, factors, spread)
    return _with_level_sets(labels, masses, count, threshold)


def checked_masses(
    name: str, masses: Float[np.ndarray | Array, "*cells"], shape: tuple[int, ...]
) -> Float[np.ndarray, "*cells"]:
    """`masses` as float64 that sum to one exactly; rounding (1e-6 of mass below zero, 1e-3 in the sum) is forgiven.

    Raises:
        ValueError: if they are of another shape, negative, not finite, or do not sum to one.
    """
    host = np.asarray(masses, dtype=np.float64)
    if host.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {host.shape}")
    if not np.all(np.isfinite(host)) or np.sum(np.minimum(host, 0)) < -1e-6:
        raise ValueError(f"{name} must be finite and not negative, got a smallest mass of {np.min(host):g}")
    if abs(np.sum(host) - 1) > 1e-3:
        raise ValueError(f"{name} must be cell masses that sum to one, got {np.sum(host):g}")
    host = np.maximum(host, 0)
    return host / np.sum(host)


def _spread(grid: Grid, masses: Float[np.ndarray, " num_cells"]) -> Float[np.ndarray, " d"]:
    """The reference's standard deviation along each axis, at least one cell."""
    x = grid.centres.reshape(-1, grid.dim)
    mean = masses @ x
    return np.maximum(np.sqrt(masses @ (x - mean) ** 2), grid.widths)


def _blocks(grid: Grid, factors: Int[np.ndarray, " d"]) -> Int[np.ndarray, " num_cells"]:
    """The block of every fine cell; where a factor does not divide the cells, the last block is cut short."""
    index = np.indices(grid.cells).reshape(grid.dim, -1) // factors[:, None]
    return np.ravel_multi_index(tuple(index), tuple(-(-n // f) for n, f in zip(grid.cells, factors, strict=True)))


def _coarser(grid: Grid, factors: Int[np.ndarray, " d"], spread: Float[np.ndarray, " d"]) -> Int[np.ndarray, " d"]:
    """The factors with one of them doubled: along the axis where a block is shortest, unless it spans the box."""
    sides = np.where(factors < np.asarray(grid.cells), factors * grid.widths / spread, np.inf)
    return np.where(np.arange(grid.dim) == np.argmin(sides), 2 * factors, factors)


def _first_blocks(
    grid: Grid, masses: Float[np.ndarray, " num_cells"], spread: Float[np.ndarray, " d"], threshold: float
) -> Int[np.ndarray, " d"]:
    """The smallest blocks of which those that expect enough hold most of the mass."""
    factors = np.ones(grid.dim, dtype=int)
    while np.any(factors < np.asarray(grid.cells)):
        in_block = np.bincount(_blocks(grid, factors), masses)
        if np.sum(in_block[in_block >= threshold]) >= SHARE:
            break
        factors = _coarser(grid, factors, spread)
    return factors


def _with_level_sets(
    labels: Int[np.ndarray, " num_cells"], masses: Float[np.ndarray, " num_cells"], count: int, threshold: float
) -> Partition:
    """Sort what carries no label yet by the reference's density, and cut it into runs of at least `threshold`."""
    left = np.flatnonzero(labels < 0)
    left = left[np.argsort(-masses[left], kind="stable")]
    heights, blocks = np.cumsum(masses[left]), count
    start, before = 0, 0.0
    while start < left.size and heights[-1] - before >= threshold:
        end = min(int(np.searchsorted(heights, before + threshold)) + 1, left.size)
        labels[left[start:end]] = count
        start, before, count = end, heights[end - 1], count + 1
    if count > blocks:  # the last run is the lowest level
        lowest = count - 1
    elif count > 0:
        sizes = np.bincount(labels[labels >= 0], minlength=count)
        lowest = int(np.argmin(np.bincount(labels[labels >= 0], masses[labels >= 0], minlength=count) / sizes))
    else:
        lowest, count = 0, 1
    labels[left[start:]] = lowest
    return Partition(labels, np.bincount(labels, masses, minlength=count), lowest)
