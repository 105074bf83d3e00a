"""Many Gaussians on one grid, each a column of a sparse matrix: masses of the cells, or weights at their centres."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int, Shaped

from sgdsim.density.gaussian import interval_masses
from sgdsim.density.grid import Grid

REACH = 8.5  # standard deviations beyond which a Gaussian is taken for zero: 1e-17 of its mass on either side
_ENTRIES = 1_000_000  # numbers in an array at a time
_PIECE = 0.5  # of a standard deviation, what the nodes are laid over: their error there is 2e-10 of the mass
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)

Means = Float[np.ndarray, "m n d"]
Covariances = Float[np.ndarray, "n d d"]


def window(grid: Grid, covariances: Covariances) -> tuple[int, ...]:
    """How many cells along each axis the widest of these Gaussians reaches."""
    spread = np.sqrt(np.max(np.diagonal(covariances, axis1=1, axis2=2), axis=0))
    return tuple(math.ceil(2 * REACH * s / h) + 1 for s, h in zip(spread, grid.widths, strict=True))


def centre_weights(
    grid: Grid, probabilities: Float[np.ndarray, " m"], means: Means, covariances: Covariances
) -> scipy.sparse.csr_matrix:
    """n mixtures Σ_a p_a N(m_a, S) at the cells' centres, times the cell volume, (num_cells, n).

    Each Gaussian is divided by its sum over the centres of a grid without walls, which is 1 to e^{−2π²s²/h²} where the
    Gaussian is s wide. So a column falls short of one by what is outside the box, and by nothing else.
    """
    parts = _columns(grid, probabilities, means, covariances, _Windows.at_centres)
    return scipy.sparse.csr_matrix(scipy.sparse.hstack(list(parts)))


def mixture_masses(
    grid: Grid,
    weights: Float[np.ndarray, "t n"],
    probabilities: Float[np.ndarray, " m"],
    means: Means,
    covariances: Covariances,
) -> Float[np.ndarray, "t *cells"]:
    """∫ over each cell of Σ_i w_i Σ_a p_a N(m_ai, S_i), for t sets of weights, (t, *cells).

    Exact without correlations. With them exact along the last axis, and by Gauss–Legendre along the first, to 2e-10.
    """
    total, done = np.zeros((grid.num_cells, len(weights))), 0
    for columns in _columns(grid, probabilities, means, covariances, _Windows.over_cells):
        total += columns @ weights[:, done : done + columns.shape[1]].T
        done += columns.shape[1]
    return total.T.reshape(len(weights), *grid.cells)


@dataclasses.dataclass(frozen=True, eq=False)
class _Windows:
    """Gaussians N(mean, covariance), and for each a window of cells that holds it; a window may stick out of the box.

    Attributes:
        shape: how many cells a window has along each axis.
        first: the number of its first cell along each axis, (k, d).
    """

    grid: Grid
    shape: tuple[int, ...]
    first: Int[np.ndarray, "k d"]
    mean: Float[np.ndarray, "k d"]
    covariance: Float[np.ndarray, "k d d"]

    def apart(self, axis: int, cells: Float[np.ndarray, " w"]) -> Float[np.ndarray, "k w"]:
        """How far from the mean the place is that lies these many cells from the window's edge."""
        return (
            self.grid.lower[axis]
            + self.grid.widths[axis] * (self.first[:, axis, None] + cells)
            - self.mean[:, axis, None]
        )

    def along(self, values: Shaped[np.ndarray, "k w"], axis: int) -> Shaped[np.ndarray, "k *window"]:
        """These values with further axes of length one, so that they lie along this axis of the windows."""
        return values.reshape(len(values), *(-1 if a == axis else 1 for a in range(self.grid.dim)))

    def at_centres(self) -> Float[np.ndarray, "k *window"]:
        """e^{−zᵀS⁻¹z/2} at the centres, over its sum."""
        precision, exponent = np.linalg.inv(self.covariance), np.zeros(())
        z = [self.apart(axis, np.arange(count) + 0.5) for axis, count in enumerate(self.shape)]
        for a, b in np.ndindex(self.grid.dim, self.grid.dim):
            exponent = exponent + self.along(precision[:, a, b, None] * z[a], a) * self.along(z[b], b)
        values = np.where(exponent < REACH**2, np.exp(-exponent / 2), 0.0)
        return values / np.sum(values, axis=tuple(range(1, values.ndim)), keepdims=True)

    def over_cells(self) -> Float[np.ndarray, "k *window"]:
        """The masses of the cells."""
        if self.grid.dim == 2 and np.any(self.covariance[:, 0, 1] != 0):
            return self._over_cells_correlated()
        masses = np.ones(())
        for axis, count in enumerate(self.shape):
            spread = np.sqrt(self.covariance[:, axis, axis, None])
            masses = masses * self.along(interval_masses(self.apart(axis, np.arange(count + 1.0)) / spread), axis)
        return masses

    def _over_cells_correlated(self) -> Float[np.ndarray, "k *window"]:
        """The masses in 2-D: x₀ at nodes, x₁ given x₀ between edges."""
        along, across, both = (
            self.covariance[:, 0, 0, None],
            self.covariance[:, 1, 1, None],
            self.covariance[:, 0, 1, None],
        )
        determinant = along * across - both**2
        pieces = math.ceil(self.grid.widths[0] / (_PIECE * np.sqrt(np.min(determinant / across))))
        nodes = ((np.arange(pieces)[:, None] + (1 + _NODES) / 2) / pieces).reshape(-1)
        x = self.apart(0, (np.arange(self.shape[0])[:, None] + nodes).reshape(-1))
        density = np.exp(-(x**2) / (2 * along)) / np.sqrt(2 * np.pi * along)
        density *= np.tile(_WEIGHTS * self.grid.widths[0] / (2 * pieces), pieces * self.shape[0])
        edges = self.apart(1, np.arange(self.shape[1] + 1.0))[:, None] - (both / along * x)[..., None]
        masses = density[..., None] * interval_masses(edges / np.sqrt(determinant / along)[..., None])
        return np.sum(masses.reshape(len(x), self.shape[0], len(nodes), self.shape[1]), axis=2)


def _columns(
    grid: Grid,
    probabilities: Float[np.ndarray, " m"],
    means: Means,
    covariances: Covariances,
    fill: Callable[[_Windows], Float[np.ndarray, "k *window"]],
) -> Iterator[scipy.sparse.csc_matrix]:
    """The columns of n mixtures, some at a time: what `fill` puts into the windows, as far as they are in the box."""
    shape, (m, n, dim) = window(grid, covariances), means.shape
    for start in range(0, n, max(1, _ENTRIES // (m * math.prod(shape)))):
        part = slice(start, start + max(1, _ENTRIES // (m * math.prod(shape))))
        mean, covariance = means[:, part].reshape(-1, dim), np.tile(covariances[part], (m, 1, 1))
        spread = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        first = np.floor((mean - REACH * spread - grid.lower) / grid.widths).astype(np.int64)
        windows, size = _Windows(grid, shape, first, mean, covariance), len(mean) // m
        values = windows.along(np.repeat(probabilities, size)[:, None], 0) * fill(windows)
        inside, rows = values > 0, np.zeros((), np.int64)
        for axis, count in enumerate(shape):
            index = windows.along(first[:, axis, None] + np.arange(count), axis)
            inside, rows = inside & (index >= 0) & (index < grid.cells[axis]), rows * grid.cells[axis] + index
        column = np.broadcast_to(windows.along(np.tile(np.arange(size), m)[:, None], 0), values.shape)
        yield scipy.sparse.csc_matrix((values[inside], (rows[inside], column[inside])), (grid.num_cells, size))
