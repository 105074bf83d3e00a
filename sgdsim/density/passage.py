"""Mean first passage times of a Markov generator."""

import numpy as np
from jaxtyping import Bool, Float

from sgdsim.density.elimination import bodies, eliminate, elimination_order, submatrix
from sgdsim.density.generator import Generator


def passage_times(generator: Generator, target: Bool[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    """The expected time τ, (*cells,), until the chain first enters the target from each cell.

        −Lᵀ τ = 1 off the target,   τ = 0 on it,   τ = ∞ where no edges lead to it.

    The cells off the target are eliminated one by one with their rates into it as killing rates (`eliminate`), in
    which nothing is ever subtracted: every τ is right to some hundred rounding units *of itself*, behind a barrier of
    e^40 as well, where the matrix is singular to working precision and LU would return noise.

    The target is a set of cells, and a cell absorbs where its centre is: the rates into it are those of a path that
    ends at the centre. So τ is of order 2 in the cells' width if the target's boundary runs through centres.

    Args:
        generator: L, in 1/time.
        target: True in the cells to be reached, (*cells,).

    Raises:
        ValueError: if `target` is not a boolean array of the grid's shape, has no cell or every cell, or the
            elimination would need more than 8 GB (2-D: 700² cells, 3-D: 40³).
        ArithmeticError: if a time is too long for a float: a barrier of over some 700 temperatures.

    Source: Alfa, Xue, Ye, Math. Comp. 71 (2002).
    """
    _require_target(generator, target)
    matrix, inside = generator.as_sparse(), target.reshape(-1)
    labels = bodies(matrix)
    connected = np.isin(labels, labels[inside])
    times = np.where(connected, 0.0, np.inf)
    cells = np.nonzero(connected & ~inside)[0]
    if len(cells):
        order = elimination_order(matrix, cells)
        killing = (matrix.T @ inside.astype(np.float64))[order]  # the rates into the target
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # found out below
            times[order] = eliminate(submatrix(matrix, order), killing).times()
        if not np.all(np.isfinite(times[order])):
            raise ArithmeticError("a mean first passage time exceeds 1e308: the target lies behind too high a barrier")
    return times.reshape(generator.cells)


def _require_target(generator: Generator, target: Bool[np.ndarray, "*cells"]) -> None:
    if not isinstance(target, np.ndarray) or target.dtype != bool:
        raise ValueError(f"target must be a boolean array, got {getattr(target, 'dtype', type(target).__name__)}")
    if target.shape != generator.cells:
        raise ValueError(f"target must have the grid's shape {generator.cells}, got {target.shape}")
    if not 0 < np.count_nonzero(target) < target.size:
        count = np.count_nonzero(target)
        raise ValueError(f"target must hold some cells and leave some, got {count} of {target.size}")
