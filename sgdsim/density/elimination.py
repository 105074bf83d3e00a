"""Elimination of the cells of a Markov chain one by one, in which nothing is ever subtracted."""

import dataclasses

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import as_strided
from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee

_PANEL = 16  # cells eliminated between two matrix products
_STRIPE = 32  # rows of a product: larger ones wake BLAS threads, which spin (8 times slower where cores are shared)
_MOST_BYTES = 8 * 2**30


def bodies(matrix: scipy.sparse.csc_matrix) -> Int[np.ndarray, " n"]:
    """For each cell the number of the connected body that it belongs to; edges join both ways."""
    return connected_components(matrix, directed=False)[1]


def largest_body(matrix: scipy.sparse.csc_matrix) -> Int[np.ndarray, " m"]:
    """The cells of the connected body that has most of them, increasing."""
    labels = bodies(matrix)
    return np.nonzero(labels == np.argmax(np.bincount(labels)))[0]


def elimination_order(matrix: scipy.sparse.csc_matrix, cells: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """These cells in the order of least bandwidth of those tried."""
    inner = submatrix(matrix, cells).tocsr()
    reordered = cells[reverse_cuthill_mckee(inner, symmetric_mode=True)]
    return min(cells, reordered, key=lambda order: _bandwidth(submatrix(matrix, order)))


def submatrix(matrix: scipy.sparse.csc_matrix, order: Int[np.ndarray, " m"]) -> scipy.sparse.coo_matrix:
    """The rows and columns of these cells, in this order."""
    return scipy.sparse.coo_matrix(matrix[np.ix_(order, order)])


def _bandwidth(matrix: scipy.sparse.coo_matrix) -> int:
    return int(np.max(np.abs(matrix.row - matrix.col), initial=0))


@dataclasses.dataclass(frozen=True, eq=False)
class Elimination:
    """A chain whose cells were taken out from the last to the first: what each one saw when its turn came.

    Attributes:
        rates: (n, n), only the band is there: r_ji in the row of j, j > i; r_ij/S_j above the diagonal.
        reach: the bandwidth.
        exits: S_j, (n,), in 1/time; of cell 0 only the killing rate.
        costs: c_j, (n,), without a unit; None where none were asked for.
    """

    rates: Float[np.ndarray, "n n"]
    reach: int
    exits: Float[np.ndarray, " n"]
    costs: Float[np.ndarray, " n"] | None

    def log_masses(self) -> Float[np.ndarray, " n"]:
        """log π up to a constant, (n,), from cell 0 upwards: π_j = Σ_{i<j} π_i r_ij/S_j."""
        logs = np.zeros(len(self.exits))
        with np.errstate(divide="ignore"):  # the log of no rate is −∞
            for j in range(1, len(logs)):
                low = max(j - self.reach, 0)
                terms = logs[low:j] + np.log(self.rates[low:j, j])
                most = np.max(terms)
                logs[j] = most + np.log(np.sum(np.exp(terms - most)))
        return logs

    def times(self) -> Float[np.ndarray, " n"]:
        """Mean time until the chain is killed, (n,), from cell 0 upwards: τ_j = (c_j + Σ_{i<j} r_ji τ_i)/S_j."""
        assert self.costs is not None
        times = np.zeros(len(self.exits))
        for j in range(len(times)):
            low = max(j - self.reach, 0)
            times[j] = (self.costs[j] + self.rates[j, low:j] @ times[low:j]) / self.exits[j]
        return times


def eliminate(matrix: scipy.sparse.coo_matrix, killing: Float[np.ndarray, " n"] | None = None) -> Elimination:
    """Take the cells out of a chain, the last one first, by the method of Grassmann, Taksar and Heyman on a band.

    With r_ij the rate i → j, κ_i the rate at which the chain is killed in i, and c_i the cost of a visit there (its
    time, in units of the mean stay: 1), taking out cell j leaves a chain on 0 … j − 1 with

        r_ik ← r_ik + r_ij r_jk/S_j,   κ_i ← κ_i + r_ij κ_j/S_j,   c_i ← c_i + r_ij c_j/S_j,   S_j = Σ_{i<j} r_ji + κ_j,

    sums of non-negative numbers all, so that no digit is ever lost; the diagonal is never used. Fill stays within the
    band. Cells are taken out in panels, so that the bulk of the work is matrix products. Column j is up to date in
    every row when its cell goes, so that κ and c need not wait for the panel's end.

    Sources: Grassmann, Taksar, Heyman, Oper. Res. 33 (1985); entrywise accuracy: O'Cinneide, Numer. Math. 65 (1993),
    with killing: Alfa, Xue, Ye, Math. Comp. 71 (2002).

    Args:
        matrix: L in the order of elimination, (n, n), rate i → j in row j and column i, in 1/time.
        killing: κ, (n,), in 1/time; None (the steady state) carries no costs either, which is faster.

    Raises:
        ValueError: if it would need more than 8 GB.
    """
    size, reach = matrix.shape[0], _bandwidth(matrix)
    rates = _band(matrix, reach)
    loads = None if killing is None else np.stack([killing, np.ones(size)], axis=1)
    exits = np.zeros(size)
    for stop in range(size, 1, -_PANEL):
        start = max(stop - _PANEL, 1)
        low = max(start - reach, 0)
        for j in range(stop - 1, start - 1, -1):
            exits[j] = np.sum(rates[j, low:j]) + (0.0 if loads is None else loads[j, 0])
            rates[low:j, j] /= exits[j]
            rates[low:j, start:j] += np.multiply.outer(rates[low:j, j], rates[j, start:j])
            rates[start:j, low:start] += np.multiply.outer(rates[start:j, j], rates[j, low:start])
            if loads is not None:
                loads[low:j] += np.multiply.outer(rates[low:j, j], loads[j])
        for top in range(low, start, _STRIPE):
            rows = slice(top, min(top + _STRIPE, start))
            rates[rows, low:start] += rates[rows, start:stop] @ rates[start:stop, low:start]
    if loads is None:
        return Elimination(rates, reach, exits, None)
    exits[0] = loads[0, 0]
    return Elimination(rates, reach, exits, loads[:, 1])


def _band(matrix: scipy.sparse.coo_matrix, reach: int) -> Float[np.ndarray, "n n"]:
    """The rates i → j as an array of which only the band exists in memory."""
    size, half = matrix.shape[0], reach + _PANEL  # a panel's cells look at most this far: slices never leave the band
    if size * (2 * half + 1) * 8 > _MOST_BYTES:
        raise ValueError(f"{size} cells with a band of {reach} are too many for a direct elimination: use fewer cells")
    band = np.zeros(size * (2 * half + 1))
    away = matrix.row != matrix.col
    band[half + 2 * half * matrix.col[away].astype(np.int64) + matrix.row[away]] = matrix.data[away]
    # entry (i, j) of the matrix sits at half + 2 half·i + j: within the band that is band storage, and a plain array
    return as_strided(band[half:], shape=(size, size), strides=(2 * half * 8, 8))
