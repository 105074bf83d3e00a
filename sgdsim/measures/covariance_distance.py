"""How different the covariances of two clouds are, in any dimension: the matrices need not be formed or inverted."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Key

from sgdsim.draws import key_words
from sgdsim.measures.diverged import Cloud, finite_cloud
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.pairs import NULL_SIZE, checked_resamples, joint_error
from sgdsim.measures.wasserstein import random_splits

FEWEST = 4  # particles from which Tr Σ² can be estimated without bias


class _Square(NamedTuple):
    """What one cloud says of Tr Σ²: an unbiased estimate, and how it moves with each particle, to first order."""

    value: float
    influence: Float[np.ndarray, " n"]


def covariance_distance(
    a: Cloud, b: Float[np.ndarray | Array, "Q d"], *, key: Key[Array, ""], permutations: int = 1_000
) -> Estimate:
    """R = ‖Σ_a − Σ_b‖² / (‖Σ_a‖² + ‖Σ_b‖²) in Frobenius norms, without bias in numerator and denominator; no units.

    R = 1 − 2 Tr(Σ_aΣ_b)/(Tr Σ_a² + Tr Σ_b²): 0 for one covariance, 1 for two that share no direction, (1−c)²/(1+c²) for
    Σ_b = cΣ_a. It scatters about 0 at agreement and may be negative.

    - `value`: Tr(S_aS_b) is unbiased for Tr(Σ_aΣ_b), but Tr S² is not for Tr Σ²: with d ≫ P it is mostly noise. With
      Q = Σ|x − x̄|⁴/(n−1), whatever the law of the particles,

          (n−1)/(n(n−2)(n−3)) [(n−1)(n−2) Tr S² + (Tr S)² − nQ]    is unbiased for Tr Σ².

    - `standard_error`: to first order particle x of a, y = x − x̄, moves Tr(Σ_aΣ_b) by (yᵀS_b y − Tr S_aS_b)/n and
      Tr Σ_a² by twice (yᵀS_a y − Tr Σ_a²)/n, and alike in b. The second order adds the variance over the splits, which
      is all there is at agreement, where the influence as measured is noise that counts it twice more. With some tens
      of particles and one dominant direction it may be a quarter too small; from 200 on it is right to 15 %.
    - `floor`: the 95 % quantile over random splits of the pooled clouds, each about its own mean (permutation null).
      Above 2,000 particles it is taken on a random subset and brought to the size of the whole clouds.

    Args:
        a: one cloud, (P, d), in units of x.
        b: the other, (Q, d), independent of it.
        key: a typed `jax.random.key`, for the splits.
        permutations: how many splits, at least 20.

    Returns:
        The estimate; all zero where neither cloud has any width. Diverged particles are left out and counted.

    Raises:
        ValueError: if a cloud has fewer than four finite particles, the dimensions differ, or permutations are too few.
        TypeError: if `key` is no typed key.

    Source: Li and Chen, "Two sample tests for high-dimensional covariance matrices", 2012; Himeno and Yamada, 2014, for
    the closed form of their estimate of Tr Σ².
    """
    rng = np.random.default_rng(np.asarray(key_words(key)))
    (x, out_a), (y, out_b) = finite_cloud("a", a), finite_cloud("b", b)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"a and b must have the same number of coordinates, got {x.shape[1]} and {y.shape[1]}")
    checked_resamples("permutations", permutations)
    if min(len(x), len(y)) < FEWEST:
        raise ValueError(f"a and b must hold at least {FEWEST} finite particles each, got {len(x)} and {len(y)}")
    x, y = x - np.mean(x, axis=0), y - np.mean(y, axis=0)
    one, two = _square(x), _square(y)
    total = one.value + two.value
    if total == 0:
        return Estimate(0.0, 0.0, 0.0, out_a + out_b)
    forms_x, forms_y = _forms(x, y), _forms(y, x)
    product = float(np.sum(forms_x)) / (len(x) - 1)
    value = 1 - 2 * product / total
    first = sum(
        np.var(2 * (own.influence * (1 - value) - forms) / total) / len(forms)
        for own, forms in ((one, forms_x), (two, forms_y))
    )
    null = _null(x, y, permutations, rng) / total
    return Estimate(value, joint_error(first, np.var(null)), np.quantile(null, 0.95), out_a + out_b)


def _forms(y: Float[np.ndarray, "n d"], z: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " n"]:
    """yᵀ S_z y for each row of y, through whichever of S_z and the Gram matrix is smaller."""
    if len(z) < z.shape[1]:
        return np.sum((y @ z.T) ** 2, axis=1) / (len(z) - 1)
    return np.sum(y @ (z.T @ z) * y, axis=1) / (len(z) - 1)


def _square(y: Float[np.ndarray, "n d"]) -> _Square:
    n, sizes = len(y), np.sum(y**2, axis=1)
    forms = _forms(y, y)
    plain, trace, fourth = float(np.sum(forms)) / (n - 1), np.sum(sizes) / (n - 1), np.sum(sizes**2) / (n - 1)
    value = (n - 1) / (n * (n - 2) * (n - 3)) * ((n - 1) * (n - 2) * plain + trace**2 - n * fourth)
    return _Square(float(value), (forms * (n - 1) - sizes**2) / (n - 2))  # without the particle's own share of S


def _null(
    x: Float[np.ndarray, "P d"], y: Float[np.ndarray, "Q d"], permutations: int, rng: np.random.Generator
) -> Float[np.ndarray, " s"]:
    """‖S − S'‖² of the two parts of each split, from pairs of different particles, at the size of the whole clouds."""
    p = min(len(x), max(NULL_SIZE // 2, NULL_SIZE - len(y)))
    q = min(len(y), NULL_SIZE - p)
    pool = np.concatenate([rng.choice(x, p, replace=False), rng.choice(y, q, replace=False)])
    kernel = (pool @ pool.T) ** 2
    np.fill_diagonal(kernel, 0.0)
    first: Bool[np.ndarray, "s n"] = random_splits(rng, permutations, p, q)
    share = first.astype(float)
    to_first = share @ kernel
    within = np.sum(to_first * share, axis=1)
    across = np.sum(to_first, axis=1) - within
    other = np.sum(kernel) - within - 2 * across
    null = within / (p * (p - 1)) + other / (q * (q - 1)) - 2 * across / (p * q)
    return null * (1 / len(x) + 1 / len(y)) / (1 / p + 1 / q)
