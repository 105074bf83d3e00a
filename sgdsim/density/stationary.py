"""Steady states of a Markov generator, as logarithms: masses underflow at low temperature, their logs do not."""

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import as_strided
from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee
from scipy.special import logsumexp

from sgdsim.density.generator import Generator

_PANEL = 16  # cells eliminated between two matrix products
_STRIPE = 32  # rows of a product: larger ones wake BLAS threads, which spin (8 times slower where cores are shared)
_MOST_BYTES = 8 * 2**30
_TOLERANCE = 1e-12


def gibbs_log_masses(potential: Float[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    """log of e^{−ψ}/Σ e^{−ψ} from the values of ψ at the cells' centres, (*cells,)."""
    return -potential - logsumexp(-potential)


def stationary_log_masses(generator: Generator) -> Float[np.ndarray, "*cells"]:
    """The log masses of the steady state L π = 0, Σ π = 1, (*cells,), of any generator.

    1-D: no current can flow, so fwd_i π_i = back_i π_{i+1} fixes each ratio exactly. Otherwise: elimination of the
    cells one by one (`_eliminate`), in which nothing is ever subtracted, so that each mass is right to a few hundred
    rounding units *of itself*, however small it is and however slowly the wells exchange mass. (Sparse LU of the
    same matrix loses the balance between two wells once their exchange rate is under rounding times q: at 1e-15 it
    was 2 % off, and this 1e-13.) The one limit is underflow: log density must not fall by over 700 within two cells.

    Cells that no edge joins to the main body (corners of the box, with very anisotropic diffusion) get log mass −∞.

    Raises:
        ValueError: if the elimination would need more than 8 GB (2-D: 700² cells, 3-D: 40³): use fewer cells.
        ArithmeticError: if ‖Lπ‖₁/q exceeds 1e-12.
    """
    if len(generator.cells) == 1:
        forward, backward = (
            np.asarray(r[0, :-1], dtype=np.float64) for r in (generator.rates_forward, generator.rates_backward)
        )
        logs = np.concatenate([[0.0], np.cumsum(np.log(forward) - np.log(backward))])
        return logs - logsumexp(logs)
    matrix = generator.as_sparse()
    order = _elimination_order(matrix)
    logs = np.full(matrix.shape[0], -np.inf)
    logs[order] = _eliminate(_submatrix(matrix, order))
    logs -= logsumexp(logs)
    residual = np.sum(np.abs(matrix @ np.exp(logs))) / -np.min(matrix.diagonal())
    if not residual <= _TOLERANCE:
        raise ArithmeticError(f"the steady state misses L π = 0 by ‖Lπ‖₁/q = {residual:.1e}, over {_TOLERANCE:g}")
    return logs.reshape(generator.cells)


def _elimination_order(matrix: scipy.sparse.csc_matrix) -> Int[np.ndarray, " n"]:
    """The cells of the largest connected body, in the order of least bandwidth of those tried."""
    _, labels = connected_components(matrix, directed=False)
    body = np.nonzero(labels == np.argmax(np.bincount(labels)))[0]
    inner = _submatrix(matrix, body).tocsr()
    reordered = body[reverse_cuthill_mckee(inner, symmetric_mode=True)]
    return min(body, reordered, key=lambda order: _bandwidth(_submatrix(matrix, order)))


def _submatrix(matrix: scipy.sparse.csc_matrix, order: Int[np.ndarray, " m"]) -> scipy.sparse.coo_matrix:
    """The rows and columns of these cells, in this order."""
    return scipy.sparse.coo_matrix(matrix[np.ix_(order, order)])


def _bandwidth(matrix: scipy.sparse.coo_matrix) -> int:
    return int(np.max(np.abs(matrix.row - matrix.col), initial=0))


def _eliminate(matrix: scipy.sparse.coo_matrix) -> Float[np.ndarray, " n"]:
    """log π up to a constant, by the elimination of Grassmann, Taksar and Heyman on a band.

    With r_ij the rate i → j, taking cell j out of the chain, last cell first, leaves a chain on 0 … j − 1 with rates

        r_ik ← r_ik + r_ij r_jk/s_j,   s_j = Σ_{i<j} r_ji,

    sums of non-negative numbers all; then π_j = Σ_{i<j} π_i r_ij/s_j from cell 0 upwards. The diagonal is never used.
    Fill stays within the band. Cells are taken out in panels, so that the bulk of the work is matrix products.

    Source: Grassmann, Taksar, Heyman, Oper. Res. 33 (1985); entrywise accuracy: O'Cinneide 1993.
    """
    size, reach = matrix.shape[0], _bandwidth(matrix)
    half = reach + _PANEL  # a panel's cells look at most this far, so that slices never leave the band
    if size * (2 * half + 1) * 8 > _MOST_BYTES:
        raise ValueError(f"{size} cells with a band of {reach} are too many for a direct steady state: use fewer cells")
    band = np.zeros(size * (2 * half + 1))
    # entry (i, j) of the matrix sits at half + 2 half·i + j: within the band that is band storage, and a plain array
    rates = as_strided(band[half:], shape=(size, size), strides=(2 * half * 8, 8))
    away = matrix.row != matrix.col
    band[half + 2 * half * matrix.col[away].astype(np.int64) + matrix.row[away]] = matrix.data[away]

    for stop in range(size, 1, -_PANEL):
        start = max(stop - _PANEL, 1)
        low = max(start - reach, 0)
        for j in range(stop - 1, start - 1, -1):
            rates[low:j, j] /= np.sum(rates[j, low:j])
            rates[low:j, start:j] += np.multiply.outer(rates[low:j, j], rates[j, start:j])
            rates[start:j, low:start] += np.multiply.outer(rates[start:j, j], rates[j, low:start])
        for top in range(low, start, _STRIPE):
            rows = slice(top, min(top + _STRIPE, start))
            rates[rows, low:start] += rates[rows, start:stop] @ rates[start:stop, low:start]

    logs = np.zeros(size)
    with np.errstate(divide="ignore"):  # the log of no rate is −∞
        for j in range(1, size):
            low = max(j - reach, 0)
            terms = logs[low:j] + np.log(rates[low:j, j])
            most = np.max(terms)
            logs[j] = most + np.log(np.sum(np.exp(terms - most)))
    return logs
