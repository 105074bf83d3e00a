"""The steady state of a Markov matrix with a column for each state: Perron's vector."""

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from sgdsim.density.elimination import eliminate, elimination_order, submatrix

_TOLERANCE, _RESIDUAL = 1e-12, 1e-10  # Σ|Δw| of a cycle from which on it has settled; ‖Kw − λw‖₁ that is let through
_LUMPS = 24  # along an axis
_SMOOTHING, _CYCLES, _RESTARTS = 4, 1_000, 30
_TINY = 1e-250
_LEAK = 1e-8  # the share lost in a step from which on the walls are not taken for walls


def perron_vector(matrix: scipy.sparse.csr_matrix, cells: tuple[int, ...]) -> Float[np.ndarray, " n"]:
    """w ≥ 0 with K w = λ w for the largest λ, Σ w = 1, (n,).

    1. K is closed: what leaves the box from a state is handed to the places inside that the state steps to.
    2. In 1-D the closed chain's steady state comes by elimination of its states (`eliminate`), in which nothing is
       subtracted: the weights of two wells are right however seldom they exchange mass. In 2-D by aggregation and
       disaggregation (Koury, McAllister, Stewart 1984): steps of the chain settle what is inside a lump of states,
       an elimination of the lumps what goes between them, until a round of both moves 1e-12.
    3. Where over 1e-8 of the mass leaves in a step, Arnoldi's iteration goes on from there with K itself, to the law of
       the chain given that it is still inside (the quasi-stationary law). Below that it is not asked: which of two
       wells loses less of 1e-9 in a step says nothing of their weights.

    Args:
        matrix: K, (n, n), probability i → j in row j and column i, columns of sum ≤ 1.
        cells: how the states lie in space, in C order.

    Raises:
        ArithmeticError: if there are several sets of states that are never left, so that the steady state depends on
            the start, or none; or if the iterations do not settle, or leave ‖Kw − λw‖₁ > 1e-10.
    """
    share = np.asarray(matrix.sum(axis=0)).reshape(-1)
    closed = scipy.sparse.csr_matrix(matrix @ scipy.sparse.diags(1 / np.where(share > 0, share, 1.0)))
    body = _closed_body(closed)
    weights = np.zeros(matrix.shape[0])
    if len(cells) == 1:
        weights[body] = _eliminated(closed, body)
    else:
        weights[body] = _aggregated(scipy.sparse.csr_matrix(closed[np.ix_(body, body)]), _lumps(cells)[body])
    if np.sum(weights * (1 - share)) > _LEAK:
        closed, weights = matrix, _arnoldi(matrix, weights)
    after = closed @ weights
    residual = np.sum(np.abs(after - np.sum(after) * weights))
    if not residual <= _RESIDUAL:
        raise ArithmeticError(f"the steady state misses K w = λ w by {residual:.1e}, over {_RESIDUAL:g}")
    return weights


def _closed_body(matrix: scipy.sparse.csr_matrix) -> Int[np.ndarray, " k"]:
    """The states of the one set that is never left."""
    count, labels = connected_components(matrix, connection="strong")
    entries = matrix.tocoo()
    inside, left = np.zeros(count, bool), np.zeros(count, bool)
    within = labels[entries.row] == labels[entries.col]
    inside[labels[entries.col[within]]] = True  # a state from which all leaves the box has no place to be closed in
    left[labels[entries.col[~within]]] = True
    found = np.nonzero(inside & ~left)[0]
    if len(found) != 1:
        raise ArithmeticError(
            f"the steady state depends on the start: the chain has {len(found)} sets of places that it never leaves"
            if len(found)
            else "the chain leaves the box from everywhere, so that it has no steady state there"
        )
    return np.nonzero(labels == found[0])[0]


def _eliminated(matrix: scipy.sparse.csr_matrix, states: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The steady state on these states, by elimination."""
    columns = scipy.sparse.csc_matrix(matrix)
    order = elimination_order(columns, states)
    logs = np.full(matrix.shape[0], -np.inf)
    logs[order] = eliminate(submatrix(columns, order)).log_masses()
    weights = np.exp(logs[states] - np.max(logs))
    return weights / np.sum(weights)


def _lumps(cells: tuple[int, ...]) -> Int[np.ndarray, " n"]:
    """The number of the lump that each state belongs to."""
    lumps = np.zeros((), np.int64)
    for n in cells:
        lumps = lumps[..., None] * _LUMPS + np.arange(n) // -(-n // _LUMPS)
    return lumps.reshape(-1)


def _aggregated(matrix: scipy.sparse.csr_matrix, lumps: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The steady state of a chain on all of its states, by aggregation and disaggregation from a first guess."""
    lumps = np.unique(lumps, return_inverse=True)[1]
    size, count = len(lumps), int(np.max(lumps)) + 1
    gather = scipy.sparse.csr_matrix((np.ones(size), (lumps, np.arange(size))), (count, size))
    between = scipy.sparse.csr_matrix(gather @ matrix)
    weights = _arnoldi(matrix, np.full(size, 1 / size))
    before = weights
    for cycle in range(_CYCLES):
        for _ in range(_SMOOTHING):
            weights = np.maximum(matrix @ weights, _TINY)  # a lump without any mass could not be shared out
        if np.sum(np.abs(weights - before)) < _TOLERANCE and cycle > 0:
            return weights / np.sum(weights)
        before, inner = weights, gather @ weights
        rates = between @ scipy.sparse.diags(weights) @ gather.T @ scipy.sparse.diags(1 / inner)
        weights = weights * (_eliminated(scipy.sparse.csr_matrix(rates), np.arange(count)) / inner)[lumps]
    raise ArithmeticError(f"the steady state did not settle in {_CYCLES} cycles")


def _arnoldi(matrix: scipy.sparse.csr_matrix, start: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The leading eigenvector by Arnoldi's iteration; `start` itself if that does not settle."""
    try:
        _, vectors = scipy.sparse.linalg.eigs(matrix, k=1, v0=start, tol=_TOLERANCE, maxiter=_RESTARTS)
    except scipy.sparse.linalg.ArpackNoConvergence:
        return start
    weights = np.abs(vectors[:, 0].real)
    return weights / np.sum(weights)
