"""Sums over examples a tile at a time: memory that does not grow with N."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

EXAMPLES = 256  # examples whose activations are held at a time, for each particle; fewer or more were slower
GRADIENTS = 32  # examples whose own gradients are held at a time: a tile stays in cache …
GRADIENT_NUMBERS = 2**18  # … and holds no more numbers than this

Carry = TypeVar("Carry")


def fold_over_tiles(
    join: Callable[[Carry, PyTree[Array]], Carry], start: Carry, data: PyTree[Array], tile: int
) -> Carry:
    """join(… join(join(start, tile 0), tile 1) …) over the leading axis, `tile` examples at a time.

    The last tile may be shorter, so that no example is padded or counted twice.
    """
    count = jax.tree.leaves(data)[0].shape[0]
    whole, folded = count - count % tile, start
    if whole == tile:
        folded = join(folded, jax.tree.map(lambda a: a[:whole], data))
    elif whole:
        tiles = jax.tree.map(lambda a: a[:whole].reshape(-1, tile, *a.shape[1:]), data)
        folded, _ = jax.lax.scan(lambda carry, each: (join(carry, each), None), folded, tiles)
    if whole < count:
        folded = join(folded, jax.tree.map(lambda a: a[whole:], data))
    return folded


def sum_over_tiles(function: Callable[[PyTree[Array]], Array], data: PyTree[Array], tile: int = EXAMPLES) -> Array:
    """Σ function(tile) over the leading axis, `tile` examples at a time; the last tile may be shorter."""
    like = jax.eval_shape(function, jax.tree.map(lambda a: a[:tile], data))
    zero = jnp.zeros(like.shape, like.dtype)
    return fold_over_tiles(lambda total, each: total + function(each), zero, data, tile)


def gradient_tile(dim: int) -> int:
    """How many examples' gradients in d dimensions to hold at a time."""
    return max(1, min(GRADIENTS, GRADIENT_NUMBERS // dim))
