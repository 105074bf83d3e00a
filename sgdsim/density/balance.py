"""Detailed balance: whether a generator's steady state carries no current."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order

from sgdsim.density.generator import Generator

_ASYMMETRY = {8: 1e-10, 4: 3e-6}  # up to which detailed balance holds, by the bytes of a float


def edge_ends(generator: Generator) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For each offset the flat numbers i and j of its edges' ends, and their rates i → j and j → i, in float64."""
    found = []
    for shift, fwd, back in generator.edges():
        here = np.nonzero(fwd > 0)[0]
        found.append((here, here + shift, fwd[here], back[here]))
    return found


def is_balanced(generator: Generator) -> bool:
    """Whether detailed balance holds: asymmetry up to 1e-10 (float32: 3e-6)."""
    return asymmetry(generator) <= _ASYMMETRY[generator.rates_forward.dtype.itemsize]


def asymmetry(generator: Generator) -> float:
    """How far L is from detailed balance: max |S_ij − S_ji| / q of S = Π^{−1/2} L Π^{1/2}, 0 where it holds.

    Detailed balance is fwd π_i = back π_j on every edge, so the log ratios of the rates add up to zero around every
    loop. π is found by summing them along a spanning tree, which fixes it if there is a π at all; what the other edges
    then miss is the answer.
    """
    edges = edge_ends(generator)
    i, j, fwd, back = (np.concatenate(parts) for parts in zip(*edges, strict=True))
    climb = np.log(fwd) - np.log(back)  # log π_j − log π_i
    logs = _potential_on_tree(int(np.prod(generator.cells)), i, j, climb)
    miss = logs[j] - logs[i] - climb
    size = np.sqrt(fwd) * np.sqrt(back)  # S_ij = S_ji in balance
    with np.errstate(over="ignore"):
        return float(np.max(2 * size * np.abs(np.sinh(miss / 2)))) / generator.max_exit_rate


def _potential_on_tree(
    size: int, i: np.ndarray, j: np.ndarray, climb: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " n"]:
    """A function on the cells with these differences along the edges of a spanning tree (of each connected body)."""
    rise = csr_matrix((np.concatenate([climb, -climb]), (np.concatenate([i, j]), np.concatenate([j, i]))), (size, size))
    graph = csr_matrix((np.ones(rise.nnz), rise.indices, rise.indptr), rise.shape)
    parent, height, seen = np.arange(size), np.zeros(size), np.zeros(size, dtype=bool)
    while not np.all(seen):
        order, before = breadth_first_order(graph, int(np.argmin(seen)))
        seen[order] = True
        parent[order[1:]] = before[order[1:]]
    children = np.nonzero(parent != np.arange(size))[0]
    height[children] = np.asarray(rise[parent[children], children]).reshape(-1)
    while np.any(parent != parent[parent]):  # each round doubles how far up a cell has summed
        height, parent = height + height[parent], parent[parent]
    return height


def log_ratios(
    logs: Float[np.ndarray, " n"],
    i: np.ndarray,
    j: np.ndarray,
    forward: Float[np.ndarray, " m"],
    backward: Float[np.ndarray, " m"],
) -> Float[np.ndarray, " m"]:
    """log π_j − log π_i along edges; as if in balance where neither end has any π, cut off from the main body."""
    with np.errstate(invalid="ignore"):
        climb = logs[j] - logs[i]
    return np.where(np.isfinite(climb), climb, np.log(forward) - np.log(backward))


def reversible_part(generator: Generator, log_masses: Float[np.ndarray, "*cells"]) -> Generator:
    """The generator ½(L + L*) with L* the time reversal of L: the same steady state π, in detailed balance.

    Each edge carries the mean of its two steady flows both ways: fwd ← ½(fwd + back π_j/π_i).
    """
    logs = np.asarray(log_masses, dtype=np.float64).reshape(-1)
    forward, backward = [], []
    for here, there, f, b in edge_ends(generator):
        climb = np.clip(log_ratios(logs, here, there, f, b), -700, 700)  # e^700 is a number still
        fwd, back = np.zeros((2, logs.size))
        fwd[here], back[here] = (f + b * np.exp(climb)) / 2, (b + f * np.exp(-climb)) / 2
        forward.append(fwd.reshape(generator.cells))
        backward.append(back.reshape(generator.cells))
    return Generator(
        offsets=generator.offsets,
        rates_forward=jnp.asarray(np.stack(forward), dtype=float),
        rates_backward=jnp.asarray(np.stack(backward), dtype=float),
    )
