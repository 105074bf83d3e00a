"""Statistics of all pairs of particles: their sums in tiles, and what their error joins."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

NULL_SIZE = 2_000  # particles on which the law at agreement is resampled
_TILE = 2**22  # kernel values held at a time
_FEWEST = 20  # resamples for a 95 % quantile


def joint_error(first: float | np.floating, second: float | np.floating) -> float:
    """The standard error of a U-statistic from its variance to first order, as measured, and that of its second.

    The first-order projection as measured holds noise of its own, which counts the second order twice.
    """
    return math.sqrt(max(first - 2 * second, 0.0) + second)


def checked_resamples(name: str, count: int) -> None:
    """Raise ValueError unless there are enough resamples for the quantile that makes a floor."""
    if count < _FEWEST:
        raise ValueError(f"{name} must be at least {_FEWEST}, for a 95 % quantile, got {count}")


def pair_sums(kernel: Callable, points: tuple[Array, ...], weights: Array | np.ndarray) -> Float[np.ndarray, "n s"]:
    """Σⱼ k(zᵢ, zⱼ) wⱼ for each point i and each column of weights, in tiles of bounded memory.

    Args:
        kernel: of one point and of all of them, as tuples of arrays; returns its values, (n,).
        points: arrays that share their first axis, n.
        weights: (n, s).
    """
    return np.asarray(_pair_sums(kernel, points, jnp.asarray(weights, dtype=float)), dtype=np.float64)


@eqx.filter_jit
def _pair_sums(kernel: Callable, points: tuple[Array, ...], weights: Float[Array, "n s"]) -> Float[Array, "n s"]:
    with jax.default_matmul_precision("highest"):  # a GPU would round float32 products to ten bits
        return jax.lax.map(
            lambda point: kernel(point, points) @ weights, points, batch_size=max(1, _TILE // len(weights))
        )
