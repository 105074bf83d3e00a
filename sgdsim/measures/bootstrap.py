"""The bootstrap: an error bar for any statistic of clouds of independent particles for which no formula exists."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, Key

from sgdsim.draws import key_words
from sgdsim.measures.diverged import finite_rows
from sgdsim.measures.estimate import Estimate


def bootstrap(
    statistic: Callable, *clouds: Float[np.ndarray | Array, "_ _"], key: Key[Array, ""], resamples: int = 200
) -> Estimate:
    """A statistic of one or more clouds, with the spread that it has over resampled clouds for its standard error.

    Each resample draws n of a cloud's n particles with replacement, whole rows, each cloud by itself. 200 resamples
    know the error to 5 %. The floor is 0.

    **Wrong where the statistic is degenerate**, which is where no particle moves it to first order: a distance or a
    divergence at agreement. There the spread over resamples is too large by a factor of order one and does not shrink
    away with n; use the measure's own error and floor. Wrong as well for extremes, and for rows that are not
    independent: particles, yes, times of one particle, no.

    Args:
        statistic: takes as many arrays (n, d) as there are clouds, NumPy and float64, and returns a number or an array.
        clouds: independent particles, (P, d) each, each cloud independent of the others.
        key: a typed `jax.random.key`, for the resamples.
        resamples: how many resamples, at least 2.

    Returns:
        The statistic of the clouds themselves, not of the resamples' mean. Diverged particles are left out and counted.

    Raises:
        ValueError: if no cloud is given, one has fewer than two finite particles, or resamples are fewer than 2.
        TypeError: if `key` is no typed key.

    Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 6.
    """
    rng = np.random.default_rng(np.asarray(key_words(key)))
    kept = [finite_rows(cloud) for cloud in clouds]
    samples = [x for (x,), _ in kept]
    if not samples or min(map(len, samples)) < 2:
        raise ValueError(f"clouds must hold at least two finite particles each, got {[len(x) for x in samples]}")
    if resamples < 2:
        raise ValueError(f"resamples must be at least 2, got {resamples}")
    values = [statistic(*(rng.choice(x, len(x)) for x in samples)) for _ in range(resamples)]
    return Estimate(statistic(*samples), np.std(values, axis=0, ddof=1), left_out=sum(lost for _, lost in kept))
