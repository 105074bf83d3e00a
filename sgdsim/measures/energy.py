"""Energy distance between two clouds, in any dimension."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from sgdsim.draws import key_words
from sgdsim.measures.diverged import Cloud, finite_cloud
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.pairs import NULL_SIZE, checked_resamples, joint_error, pair_sums
from sgdsim.measures.wasserstein import random_splits


def energy_distance(
    a: Cloud, b: Float[np.ndarray | Array, "Q d"], *, key: Key[Array, ""], permutations: int = 1_000
) -> Estimate:
    """2E|X−Y| − E|X−X'| − E|Y−Y'| in units of x, zero only if both clouds have one law; any dimension.

    - `value` is the U-statistic: a particle is never paired with itself, so that it is unbiased and scatters about 0 at
      agreement. (`scipy.stats.energy_distance` is the root of the V-statistic on a line, which is always positive.)
    - `floor` is the 95 % quantile over random splits of the pooled clouds (permutation null). Above 2,000 particles it
      is taken on a random subset of p and q of them and multiplied by (1/P + 1/Q)/(1/p + 1/q): at agreement the
      statistic is degenerate and scales so.
    - `standard_error`: to first order particle i of a moves the distance by 2(E|xᵢ−Y| − E|xᵢ−X|)/P (Hájek's
      projection), and alike in b. The second order adds the variance over the splits. It is all there is at agreement,
      where the projection as measured is noise that would count it twice more.

    O((P + Q)²) in time, in tiles of bounded memory; in the precision of JAX's default float, centred.

    Args:
        a: one cloud, (P, d), in units of x.
        b: the other, (Q, d), independent of it.
        key: a typed `jax.random.key`, for the splits.
        permutations: how many splits, at least 20.

    Raises:
        ValueError: if a cloud has fewer than two finite particles, the dimensions differ, or permutations are too few.
        TypeError: if `key` is no typed key.

    Source: Székely and Rizzo (2013), Energy statistics; Gretton et al. (2012) for the degenerate law.
    """
    rng = np.random.default_rng(np.asarray(key_words(key)))
    (x, out_a), (y, out_b) = finite_cloud("a", a), finite_cloud("b", b)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"a and b must have the same number of coordinates, got {x.shape[1]} and {y.shape[1]}")
    checked_resamples("permutations", permutations)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a and b must hold at least two finite particles each, got {len(x)} and {len(y)}")
    ours = np.arange(len(x) + len(y)) < len(x)
    apart = _apart(np.concatenate([x, y]), ours[:, None])
    null = _null_distances(x, y, permutations, rng)
    first = 4 * (np.var(apart[ours]) / len(x) + np.var(apart[~ours]) / len(y))
    error = joint_error(first, np.var(null))
    return Estimate(_distances(apart, ours[:, None])[0], error, np.quantile(null, 0.95), out_a + out_b)


def _null_distances(
    x: Float[np.ndarray, "P d"], y: Float[np.ndarray, "Q d"], permutations: int, rng: np.random.Generator
) -> Float[np.ndarray, " s"]:
    """The distance between the two parts of each split, brought to the size of the whole clouds."""
    p = min(len(x), max(NULL_SIZE // 2, NULL_SIZE - len(y)))
    q = min(len(y), NULL_SIZE - p)
    pool = np.concatenate([rng.choice(x, p, replace=False), rng.choice(y, q, replace=False)])
    splits = random_splits(rng, permutations, p, q).T
    return _distances(_apart(pool, splits), splits) * (1 / len(x) + 1 / len(y)) / (1 / p + 1 / q)


def _apart(pool: Float[np.ndarray, "n d"], first: Bool[np.ndarray, "n s"]) -> Float[np.ndarray, "n s"]:
    """How much farther each particle is from the other part than from its own, on average; `first` marks one part."""
    points = jnp.asarray(pool - np.mean(pool, axis=0), dtype=float)
    sums = pair_sums(_distance, (points,), np.column_stack([first, np.ones(len(pool))]))
    p, q = np.sum(first, axis=0), np.sum(~first, axis=0)
    to_first, to_second = sums[:, :-1], sums[:, -1:] - sums[:, :-1]
    return np.where(first, to_second / q - to_first / (p - 1), to_first / p - to_second / (q - 1))


def _distances(apart: Float[np.ndarray, "n s"], first: Bool[np.ndarray, "n s"]) -> Float[np.ndarray, " s"]:
    return np.mean(apart, axis=0, where=first) + np.mean(apart, axis=0, where=~first)


def _distance(point: tuple[Float[Array, " d"]], points: tuple[Float[Array, "n d"]]) -> Float[Array, " n"]:
    (x,), (y,) = point, points
    size = x @ x + jnp.sum(y**2, axis=1)
    square = size - 2 * y @ x
    return jnp.sqrt(jnp.where(square > 16 * jnp.finfo(x.dtype).eps * size, square, 0))  # 0 from a particle to itself
