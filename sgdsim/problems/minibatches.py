"""Which examples a minibatch holds: indices in O(B), without sorting or shuffling the N examples.

Without replacement, a batch is the first B places of a keyed permutation of 0 … N−1, evaluated at those places alone.
The permutation is a Feistel network on a rectangle a × b ≥ N with cycle walking (Black and Rogaway, "Ciphers with
arbitrary finite domains", CT-RSA 2002): a bijection of the rectangle is applied again and again until it lands below N.
"""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from sgdsim import theory
from sgdsim.draws import Draws, Stream

Sampling = Literal["with-replacement", "without-replacement", "epoch"]
SAMPLINGS: tuple[str, ...] = get_args(Sampling)


def sampling_factor(num_examples: int | None, batch_size: int, sampling: str) -> float:
    """s_B: 1 with replacement (or where examples never end), (N − B)/(N − 1) for one batch without.

    For `"epoch"` it is the factor of a single batch, not of the long run: reshuffled batches are anticorrelated.

    Raises:
        ValueError: naming `sampling` or `batch_size` where N examples cannot give such a batch.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}")
    if num_examples is not None and batch_size > num_examples:
        raise ValueError(f"batch_size must be at most N = {num_examples}, the number of examples, got {batch_size}")
    if sampling == "with-replacement":
        return 1.0
    if num_examples is None:
        raise ValueError(
            f"sampling must be 'with-replacement' for modelled noise (its examples never end), got {sampling!r}"
        )
    return theory.sampling_factor(num_examples, batch_size)


def minibatch_indices(draws: Draws, batch_size: int, num_examples: int, sampling: str) -> UInt32[Array, "B P"]:
    """The examples of each particle's minibatch at the draws' step, (B, P).

    - `"with-replacement"`: B independent examples.
    - `"without-replacement"`: B different examples, a fresh permutation each step.
    - `"epoch"`: one permutation for each pass over the data, read in slices of B; the last partial batch is dropped.
    """
    if sampling == "with-replacement":
        return draws.below(num_examples, batch_size)
    place = jnp.arange(batch_size, dtype=jnp.uint32)[:, None]
    if sampling == "without-replacement":
        round_key = draws.words(Stream.MINIBATCH, np.zeros(1, np.uint32))
    else:
        batches = np.uint32(num_examples // batch_size)
        round_key = draws.words(Stream.MINIBATCH, np.zeros(1, np.uint32), step=draws.step // batches)
        place = place + (draws.step % batches) * np.uint32(batch_size)
    return permute(jnp.broadcast_to(place, (batch_size, draws.particles)), num_examples, round_key)


def permute(
    place: UInt32[Array, "B P"],
    size: int,
    key: tuple[UInt32[Array, "1 P"], UInt32[Array, "1 P"]],
    rounds: int | None = None,
) -> UInt32[Array, "B P"]:
    """A keyed permutation of 0 … size−1 at the given places, of 8 Feistel rounds, or 12 for size < 500; or as given."""
    rows = math.isqrt(size - 1) + 1 if size > 1 else 1
    columns = -(-size // rows)
    # Fewer rounds pass every test of single indices and fail on pairs; a small rectangle needs more of them.
    rounds = (12 if size < 500 else 8) if rounds is None else rounds

    def shuffle(number: UInt32[Array, "B P"]) -> UInt32[Array, "B P"]:
        left, right = number // np.uint32(columns), number % np.uint32(columns)
        for i in range(0, rounds, 2):
            left = _add_modulo(left, _hash(right ^ key[0], i), rows)
            right = _add_modulo(right, _hash(left ^ key[1], i + 1), columns)
        return left * np.uint32(columns) + right

    outside = np.uint32(size)
    return jax.lax.while_loop(
        lambda number: jnp.any(number >= outside),
        lambda number: jnp.where(number >= outside, shuffle(number), number),
        shuffle(place),
    )


def _hash(word: UInt32[Array, "*shape"], index: int) -> UInt32[Array, "*shape"]:
    """A 32-bit mixer with two multiplications (Wellons' `lowbias32`), different in each round."""
    word = word + np.uint32((index + 1) * 0x9E3779B9 % 2**32)
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x7FEB352D)
    word = (word ^ (word >> np.uint32(15))) * np.uint32(0x846CA68B)
    return word ^ (word >> np.uint32(16))


def _add_modulo(value: UInt32[Array, "*shape"], word: UInt32[Array, "*shape"], modulus: int) -> UInt32[Array, "*shape"]:
    """(value + a hashed number below `modulus`) mod `modulus`, for value < modulus ≤ 2¹⁶, without a division."""
    total = value + ((word >> np.uint32(16)) * np.uint32(modulus) >> np.uint32(16))
    return jnp.where(total >= np.uint32(modulus), total - np.uint32(modulus), total)
