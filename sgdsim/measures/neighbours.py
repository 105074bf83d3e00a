"""The density at each particle of a cloud, from the distance to its k-th nearest neighbour."""

from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Array, Float, Int
from scipy.spatial import KDTree


class Neighbourhoods(NamedTuple):
    """The smallest ball around each particle that holds k others.

    Attributes:
        log_density: log ρ at each particle, (n,), in units of x⁻ᵈ.
        inside: which k−1 particles lie within the ball (the k-th is on its surface), (n, k−1).
    """

    log_density: Float[np.ndarray, " n"]
    inside: Int[np.ndarray, "n others"]


def log_density(particles: Float[np.ndarray | Array, "n d"], neighbours: int = 4) -> Float[np.ndarray, " n"]:
    """log ρ at each particle by k nearest neighbours, (n,): `neighbourhoods` says how, and what it raises."""
    return neighbourhoods(particles, neighbours).log_density


def neighbourhoods(particles: Float[np.ndarray | Array, "n d"], neighbours: int) -> Neighbourhoods:
    """The ball of radius ε_i from each particle to its k-th nearest neighbour, and the density there:

        log ρ̂_i = ψ(k) − ψ(n) − log V_d − d log ε_i,    V_d the volume of the unit ball.

    The mass of that ball has the law Beta(k, n−k) whatever ρ is, and the mean of its logarithm is ψ(k) − ψ(n); so
    log ρ̂_i is free of bias for the logarithm of the **mean** density of the ball, and scatters about it with variance
    ψ'(k). Mean and centre differ by O((k/nρ)^{2/d}), and by more where the last particles are.

    Args:
        particles: independent particles, all finite, (n, d).
        neighbours: k, 1 ≤ k < n.

    Raises:
        ValueError: if there are not more than k particles, one is not finite, or more than k of them coincide: there is
            no density at such a place.

    Source: Kozachenko and Leonenko (1987); Kraskov, Stögbauer, Grassberger (2004), eq. 20.
    """
    x = np.asarray(particles, dtype=np.float64)
    if isinstance(neighbours, bool) or not isinstance(neighbours, int | np.integer) or neighbours < 1:
        raise ValueError(f"neighbours must be a positive whole number, got {neighbours!r}")
    if x.ndim != 2 or len(x) <= neighbours or not np.all(np.isfinite(x)):
        raise ValueError(
            f"particles must be finite and number more than neighbours = {neighbours}, got shape {x.shape}"
        )
    n, dim = x.shape
    distance, index = KDTree(x).query(x, neighbours + 1)  # the first neighbour is the particle itself
    radius = distance[:, -1]
    if crowded := int(np.sum(radius == 0)):
        raise ValueError(
            f"particles must not coincide, or there is no density: {crowded} of {n} lie on {neighbours} others"
        )
    unit_ball = dim / 2 * np.log(np.pi) - scipy.special.gammaln(dim / 2 + 1)
    digamma = scipy.special.digamma(neighbours) - scipy.special.digamma(n)
    return Neighbourhoods(digamma - unit_ball - dim * np.log(radius), index[:, 1:-1])


def overlap_variance(neighbours: int) -> float:
    """χ(k) − ψ'(k): what the overlap of balls adds to the variance of a mean of log ρ̂ᵢ, for each particle.

    The scatter of one log ρ̂ᵢ about the logarithm of its ball's mean density is ψ'(k), but neighbours share their
    neighbours. So n times the variance of a mean is that of log ρ plus χ(k) > ψ'(k), as Delattre and Fournier (2017)
    prove at k = 1. Measured on uniform clouds, χ = (1.75 + 0.45/k²)/k to 6 % for k from 1 to 16 and d from 1 to 3 (at
    d = 5 it is 15 % more). Where n is small and the tails hold much of the mean, they add to it.
    """
    chi = (1.75 + 0.45 / neighbours**2) / neighbours
    return float(chi - scipy.special.polygamma(1, neighbours))
