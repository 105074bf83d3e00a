"""Particles that have diverged: left out, counted, never swallowed."""

import numpy as np
from jaxtyping import Array, Bool, Float

Cloud = Float[np.ndarray | Array, "P d"]
"""Particles as a measure receives them, (P, d), on the host or the device; a row that is not finite has diverged."""


REACH = 100.0  # ranges of its limit within which a particle is still one of the cloud


def finite_rows(*arrays: np.ndarray | Array) -> tuple[list[Float[np.ndarray, "n ..."]], int]:
    """The rows in which every array is finite, as float64 on the host, and how many rows were left out.

    Args:
        arrays: any number of arrays (P, ...) that share their first axis, one row for each particle.

    Raises:
        ValueError: if the arrays differ in length, or no row is finite in all of them.
    """
    hosts = [np.asarray(array, dtype=np.float64) for array in arrays]
    if len({len(host) for host in hosts}) != 1:
        raise ValueError(f"the arrays must hold one row for each particle, got shapes {[h.shape for h in hosts]}")
    keep = np.all([_finite(host) for host in hosts], axis=0)
    if not np.any(keep):
        raise ValueError(f"all {keep.size} particles have diverged: there is nothing to measure")
    return [host[keep] for host in hosts], int(np.sum(~keep))


def finite_cloud(name: str, cloud: Cloud) -> tuple[Float[np.ndarray, "n d"], int]:
    """The finite particles of a cloud, as float64 on the host, and how many rows were left out.

    Args:
        name: what the argument is called, for the error message.
        cloud: the particles, (P, d).

    Raises:
        ValueError: if it is not of two axes, or all particles have diverged.
    """
    if np.ndim(cloud) != 2:
        raise ValueError(f"{name} must be a cloud (P, d), got shape {np.shape(cloud)}")
    (x,), left_out = finite_rows(cloud)
    return x, left_out


def within_reach(
    cloud: Float[np.ndarray, "*batch d"],
    low: Float[np.ndarray, " d"],
    high: Float[np.ndarray, " d"],
    reach: float = REACH,
) -> Float[np.ndarray, "*batch d"]:
    """The cloud with those particles NaN that have left, finite or not: one at 10³⁰ would be all that one hears.

    Args:
        cloud: particles, (…, d).
        low: the lower corner of a range that a healthy cloud keeps to, (d,), such as its limit's.
        high: the upper one.
        reach: how many times their difference a particle may lie beyond them.
    """
    margin = reach * (high - low)
    with np.errstate(invalid="ignore"):
        inside = np.all((cloud >= low - margin) & (cloud <= high + margin), axis=-1)
    return np.where(inside[..., None], cloud, np.nan)


def _finite(x: Float[np.ndarray, "P ..."]) -> Bool[np.ndarray, " P"]:
    return np.all(np.isfinite(x).reshape(len(x), -1), axis=1)
