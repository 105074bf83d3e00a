"""How much of a cloud's motion its particles have in common: drift against diffusion, told apart without a rate."""

import numpy as np

from sgdsim.measures.diverged import Cloud, finite_cloud
from sgdsim.measures.estimate import Estimate


def common_share(displacements: Cloud) -> Estimate:
    """|⟨Δ⟩|²/⟨|Δ|²⟩ of independent particles' displacements Δ: 1 where all go the same way, 0 where each goes its own.

    Of particles that start at one point in a common drift, the share tells how much of the way the drift made and how
    much the noise, however the distance grows with time: a drift that slows down can grow as √t too. |⟨Δ⟩|² is the
    mean of Δ·Δ' over pairs of different particles, which has no bias; it may be below 0.

    With C the covariance of Δ the mean of pairs has the variance 2 Tr C²/(n(n − 1)) where there is no common motion,
    and 1.645 times its root over ⟨|Δ|²⟩ is the floor. The standard error is the jackknife's, which counts this part
    of the variance twice, less the second time.

    Args:
        displacements: Δ, (P, d), in units of x.

    Raises:
        ValueError: if fewer than three particles are finite, or none has moved.
    """
    moved, left_out = finite_cloud("displacements", displacements)
    count = len(moved)
    if count < 3:
        raise ValueError(f"displacements must hold at least three finite particles, got {count}")
    gram = moved @ moved.T
    squares = np.diag(gram)
    whole, own = float(np.sum(gram)) - float(np.sum(squares)), float(np.sum(squares))
    if own == 0:
        raise ValueError("displacements must not all be zero: there is no motion to share")
    value = whole / ((count - 1) * own)
    without = (whole - 2 * (gram.sum(axis=1) - squares)) / ((count - 2) * (own - squares))
    jackknife = (count - 1) / count * np.sum((without - np.mean(without)) ** 2)
    centred = moved - moved.mean(axis=0)
    pairs = centred @ centred.T
    trace_of_square = float(np.sum(pairs**2) - np.sum(np.diag(pairs) ** 2)) / (count * (count - 1))
    of_pairs = 2 * trace_of_square / (count * (count - 1)) / (own / count) ** 2
    return Estimate(value, np.sqrt(max(jackknife - of_pairs, of_pairs)), 1.645 * np.sqrt(of_pairs), left_out)
