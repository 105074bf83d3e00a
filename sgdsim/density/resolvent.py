"""Linear systems of the generator on the host: (sI − cL) x = y, factored once."""

from collections.abc import Callable

import numpy as np
import scipy.linalg.lapack
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Inexact

from sgdsim.density.generator import Generator

Flow = Callable[[np.ndarray], np.ndarray]
Solve = Callable[[Inexact[np.ndarray, " n"]], Inexact[np.ndarray, " n"]]
Factor = Callable[[complex, float], Solve]


def is_tridiagonal(generator: Generator) -> bool:
    """Whether cells only talk to their neighbours: one axis that is not periodic."""
    return generator.offsets == ((1,),)


def net_inflow(generator: Generator) -> Flow:
    """p ↦ L p on flat masses, in flux form: what leaves one cell enters the other, so that Σ L p is rounding."""
    edges = generator.edges(None)

    def inflow(masses: np.ndarray) -> np.ndarray:
        total = np.zeros_like(masses)
        for shift, forward, backward in edges:
            flux = forward * masses[:-shift] - backward * masses[shift:]
            total[:-shift] -= flux
            total[shift:] += flux
        return total

    return inflow


def resolvent(generator: Generator) -> Factor:
    """(s, c) ↦ (sI − cL)^{−1}, a function that factors for each pair and returns the solve.

    Tridiagonal generators go to LAPACK's gttrf, others to SuperLU.
    """
    if is_tridiagonal(generator):
        return _tridiagonal_resolvent(generator)
    matrix = generator.as_sparse().astype(generator.rates_forward.dtype)
    identity = scipy.sparse.identity(matrix.shape[0], dtype=matrix.dtype, format="csc")

    def factor(s: complex, c: float) -> Solve:
        shifted = scipy.sparse.csc_matrix(identity * s - matrix * c)
        kind = np.result_type(matrix.dtype, np.complex64) if np.iscomplexobj(s) else matrix.dtype
        lu = factored(shifted.astype(kind))
        return lambda y: lu.solve(np.asarray(y, dtype=kind))

    return factor


def factored(matrix: scipy.sparse.csc_matrix, pivoting: float = 0.0) -> scipy.sparse.linalg.SuperLU:
    """LU that takes diagonal pivots down to this part of the largest; any, if rows or columns are diagonally dominant.

    Diagonal pivots keep the fill of the symmetric order: in 3-D the factors are several times smaller for it.
    """
    return scipy.sparse.linalg.splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=pivoting, options={"SymmetricMode": True}
    )


def _tridiagonal_resolvent(generator: Generator) -> Factor:
    [(_, forward, backward)], exits = generator.edges(None), generator.exit_rates
    # Named once: jaxtyping's shapes on inner functions, and the look-up of routines, would cost as much as the solves.
    routines = {
        kind: scipy.linalg.lapack.get_lapack_funcs(("gttrf", "gttrs"), dtype=kind)
        for kind in (forward.dtype, np.result_type(forward.dtype, np.complex64))
    }

    def factor(s: complex, c: float) -> Solve:
        kind = np.result_type(forward.dtype, np.complex64) if np.iscomplexobj(s) else forward.dtype
        gttrf, gttrs = routines[kind]
        *factors, _ = gttrf((-c * forward).astype(kind), (c * exits + s).astype(kind), (-c * backward).astype(kind))
        return lambda y: gttrs(*factors, np.asarray(y, dtype=kind))[0]

    return factor
