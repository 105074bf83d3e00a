"""Steady states of a Markov generator, as logarithms: masses underflow at low temperature, their logs do not."""

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from sgdsim.density.elimination import eliminate, elimination_order, largest_body, submatrix
from sgdsim.density.generator import Generator
from sgdsim.density.resolvent import is_tridiagonal

_TOLERANCE = 1e-12


def gibbs_log_masses(potential: Float[np.ndarray, "*cells"], generator: Generator) -> Float[np.ndarray, "*cells"]:
    """log of e^{−ψ}/Σ e^{−ψ} from ψ at the cells' centres, (*cells,); −∞ in cells cut off from the main body."""
    logs = np.full(potential.size, -np.inf)
    if is_tridiagonal(generator):
        logs[:] = -potential
    else:
        body = largest_body(generator.as_sparse())
        logs[body] = -potential.reshape(-1)[body]
    return (logs - logsumexp(logs)).reshape(potential.shape)


def stationary_log_masses(generator: Generator) -> Float[np.ndarray, "*cells"]:
    """The log masses of the steady state L π = 0, Σ π = 1, (*cells,), of any generator.

    1-D with walls: no current can flow, so fwd_i π_i = back_i π_{i+1} fixes each ratio exactly. Otherwise: elimination
    of the cells one by one (`eliminate`), in which nothing is ever subtracted, so that each mass is right to a few
    hundred rounding units *of itself*, however small it is and however slowly the wells exchange mass. (Sparse LU of
    the same matrix loses the balance between two wells once their exchange rate is under rounding times q: at 1e-15 it
    was 2 % off, and this 1e-13.) The one limit is underflow: log density must not fall by over 700 within two cells.

    Cells that no edge joins to the main body (corners of the box, with very anisotropic diffusion) get log mass −∞.

    Raises:
        ValueError: if the elimination would need more than 8 GB (2-D: 700² cells, 3-D: 40³): use fewer cells.
        ArithmeticError: if ‖Lπ‖₁/q exceeds 1e-12, or the log density falls too steeply.
    """
    if is_tridiagonal(generator):
        [(_, forward, backward)] = generator.edges()
        logs = np.concatenate([[0.0], np.cumsum(np.log(forward) - np.log(backward))])
        return logs - logsumexp(logs)
    matrix = generator.as_sparse()
    order = elimination_order(matrix, largest_body(matrix))
    logs = np.full(matrix.shape[0], -np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        logs[order] = eliminate(submatrix(matrix, order)).log_masses()
        logs -= logsumexp(logs)
        residual = np.sum(np.abs(matrix @ np.exp(logs))) / -np.min(matrix.diagonal())
    if np.isnan(residual):
        raise ArithmeticError("the log density falls by over 700 within two cells: use more cells, or a smaller box")
    if not residual <= _TOLERANCE:
        raise ArithmeticError(f"the steady state misses L π = 0 by ‖Lπ‖₁/q = {residual:.1e}, over {_TOLERANCE:g}")
    return logs.reshape(generator.cells)
