"""Selling's decomposition: a positive tensor as a sum of squares of integer directions."""

from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

_MOST_FLIPS = 1_000  # a tensor of condition 1e12 needs about 40


def selling(
    matrices: Float[np.ndarray, "n d d"],
) -> tuple[Int[np.ndarray, "m d"], Float[np.ndarray, "n m"]]:
    """Write each M = Σ_e λ_e e eᵀ with λ_e ≥ 0 and integer e.

    A *superbase* of Z^d is b_0, …, b_d with Σ b_i = 0 of which any d form a basis. It is *obtuse* for M when
    ⟨b_i, M b_j⟩ ≤ 0 for all i ≠ j, and then

        M = − Σ_{i<j} ⟨b_i, M b_j⟩ e_ij e_ijᵀ,   e_ij · b_k = 0 for every k other than i and j,

    with one edge in 1-D, at most three in 2-D and six in 3-D. Selling's step takes a pair of positive product and
    replaces b_i by −b_i and every b_k other than b_i, b_j by b_k + 2 b_i/(d − 1); Σ ⟨b_i, M b_i⟩ falls, so it ends.

    Sources: Selling 1874; Conway and Sloane 1992; Fehrenbach and Mirebeau, J. Math. Imaging Vis. 49 (2014).

    Args:
        matrices: symmetric positive definite, (n, d, d), d ≤ 3.

    Returns:
        The offsets e that occur in any of them, (m, d), each with a positive first non-zero entry, in
        lexicographic order; and their weights, (n, m), all ≥ 0. Σ_e λ_e e eᵀ = M to rounding times the condition
        number of M (measured: 2e-16 Tr M at 1, 4e-12 Tr M at 1e6).

    Raises:
        ValueError: if a matrix is not positive definite.
    """
    count, dim, _ = matrices.shape
    if count > 1 and np.all(matrices == matrices[0]):  # a constant field, 64³ cells of it say
        offsets, weights = selling(matrices[:1])
        return offsets, np.broadcast_to(weights, (count, len(offsets)))
    definite = np.linalg.eigvalsh(matrices)[:, 0] > 0
    if not np.all(definite):
        raise ValueError(f"matrices must be positive definite, got {matrices[np.argmin(definite)].tolist()}")
    base = _obtuse_superbase(matrices)
    gram = _gram(base, matrices)
    pairs = list(combinations(range(dim + 1), 2))
    edges = np.stack([_across(base, i, j) for i, j in pairs], axis=1)
    weights = np.stack([-gram[:, i, j] for i, j in pairs], axis=1)
    # an edge whose share of M is rounding would cost a whole stencil arm for nothing
    share = weights * np.sum(edges**2, axis=-1)
    weights = np.where(share > 8 * np.finfo(float).eps * _trace(matrices)[:, None], weights, 0.0)

    used = weights > 0
    offsets, which = np.unique(_oriented(edges[used]), axis=0, return_inverse=True)
    table = np.zeros((count, len(offsets)))
    table[np.nonzero(used)[0], which.reshape(-1)] = weights[used]
    return offsets, table


def _obtuse_superbase(matrices: Float[np.ndarray, "n d d"]) -> Int[np.ndarray, "n d+1 d"]:
    """Selling's steps from the standard superbase (unit vectors and minus their sum), each matrix on its own."""
    count, dim, _ = matrices.shape
    standard = np.concatenate([np.eye(dim, dtype=np.int64), -np.ones((1, dim), dtype=np.int64)])
    base = np.tile(standard, (count, 1, 1))
    rounding = 4 * np.finfo(float).eps * _trace(matrices)
    left = np.arange(count)  # the matrices whose superbase is not obtuse yet
    for _ in range(_MOST_FLIPS):
        mine = base[left]
        length = np.linalg.norm(mine, axis=-1)
        excess = _gram(mine, matrices[left]) - rounding[left, None, None] * length[:, :, None] * length[:, None, :]
        excess[:, np.arange(dim + 1), np.arange(dim + 1)] = -np.inf
        worst = np.argmax(excess.reshape(len(left), -1), axis=1)
        acute = excess.reshape(len(left), -1)[np.arange(len(left)), worst] > 0
        left, worst = left[acute], worst[acute]
        if not len(left):
            return base
        base[left] = _flip(base[left], *np.divmod(worst, dim + 1))
    raise ValueError(f"matrices must be positive definite, got one too near to singular, {matrices[left[0]].tolist()}")


def _flip(
    base: Int[np.ndarray, "n k d"], i: Int[np.ndarray, " n"], j: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "n k d"]:
    """Selling's step on the pair (i, j) of each superbase (never met in 1-D, whose superbase is obtuse)."""
    rows, dim = np.arange(len(base)), base.shape[-1]
    pivot = base[rows, i]
    flipped = base + (2 // (dim - 1)) * pivot[:, None, :]
    flipped[rows, j] = base[rows, j]
    flipped[rows, i] = -pivot
    return flipped


def _across(base: Int[np.ndarray, "n k d"], i: int, j: int) -> Int[np.ndarray, "n d"]:
    """The integer vector e_ij orthogonal to all of the superbase but b_i and b_j."""
    others = [base[:, k] for k in range(base.shape[1]) if k not in (i, j)]
    if len(others) == 0:
        return np.ones_like(base[:, 0])
    if len(others) == 1:
        return np.stack([-others[0][:, 1], others[0][:, 0]], axis=-1)
    return np.cross(others[0], others[1])


def _oriented(edges: Int[np.ndarray, "n d"]) -> Int[np.ndarray, "n d"]:
    """Of e and −e, the one whose first non-zero entry is positive."""
    first = np.take_along_axis(edges, np.argmax(edges != 0, axis=1)[:, None], axis=1)
    return edges * np.sign(first)


def _gram(base: Int[np.ndarray, "n k d"], matrices: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, "n k k"]:
    return base @ matrices @ np.swapaxes(base, 1, 2)


def _trace(matrices: Float[np.ndarray, "n d d"]) -> Float[np.ndarray, " n"]:
    return np.trace(matrices, axis1=1, axis2=2)
