"""The index α of a heavy tail, P(|x| > r) ~ r^−α, read off residuals: by the tail alone, or by a whole stable law.

Neither is a test of *whether* a tail is heavy: each assumes a family of laws and tells its index. That minibatch noise
is α-stable was read off such estimates (Şimşekli, Sagun, Gürbüzbalaban 2019, who pooled all coordinates of a gradient
as if they were independent) and disputed (Panigrahi et al. 2019; Xie, Sato, Sugiyama 2021). So the two are here side by
side, and their errors come from rows, each of which may hold dependent coordinates. `excess_kurtosis` asks the opposite
question.
"""

import math

import numpy as np
from jaxtyping import Array, Float

from sgdsim.measures.diverged import finite_rows
from sgdsim.measures.estimate import Estimate

Residuals = Float[np.ndarray | Array, " P"] | Float[np.ndarray | Array, "P d"]

_POINTS = (0.2, 1.0)  # where the characteristic function is read, in units of 1/median|x|


def hill_tail_index(x: Residuals, fraction: float = 0.01) -> Estimate:
    """Hill's estimate of α, 1/α̂ = (1/k) Σ log(|x|₍ᵢ₎ / |x|₍ₖ₊₁₎) over the k largest |x|: any law with a power tail.

    The coordinates share α but not their scales: each has a threshold of its own, exceeded by k = ⌊fraction·n⌋ of its n
    values, and 1/α is averaged over them. A row moves 1/α̂ by Σⱼ (log(|xⱼ|/uⱼ) − 1/α̂)/kd over its coordinates above
    their thresholds u; the sum of the squares gives the standard error, α/√(kd) where coordinates are independent.

    Where it is wrong: the error does not know the bias of a tail that is no power law yet at the threshold, which is
    large for stable laws near α = 2. At `fraction` 0.01 those of α = 1, 1.5, 1.8, 1.95 read 1.0, 1.53, 2.0, 3.8, and a
    Gaussian, which has no power tail at all, 9. Lower the fraction until the estimate stays, and trust none that does
    not.

    Args:
        x: residuals about their centre, (P,), or (P, d) for d coordinates of each of P independent rows.
        fraction: share of the values that count as the tail, in (0, 1).

    Raises:
        ValueError: if fraction is out of range or leaves fewer than two values in the tail, all rows have diverged, or
            the tail has no spread.

    Source: Hill, "A simple general approach to inference about the tail of a distribution", 1975.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    sizes, left_out = _sizes(x)
    n, dim = sizes.shape
    k = math.floor(fraction * n)
    if k < 2:
        raise ValueError(f"fraction must leave two values or more in the tail, got {fraction} of {n}")
    thresholds = np.partition(sizes, n - k - 1, axis=0)[n - k - 1]
    if not np.all(thresholds > 0):
        raise ValueError("x must not be zero in all but the tail, got a coordinate whose threshold is 0")
    excess = np.log(np.maximum(sizes / thresholds, 1.0))
    inverse = float(np.sum(excess)) / (k * dim)
    if inverse == 0:
        raise ValueError("x must spread in its tail, got values that are all the same")
    influence = np.sum(excess - inverse * (sizes > thresholds), axis=1)
    error = math.sqrt(np.sum(influence**2)) / (k * dim)
    return Estimate(1 / inverse, error / inverse**2, left_out=left_out)


def stable_index(x: Residuals) -> Estimate:
    """α of symmetric stable residuals, from log φ(t) = −|ct|^α at two points of the empirical characteristic function:

        α̂ = log( log φ̂(t₁) / log φ̂(t₀) ) / log(t₁/t₀),    φ̂(t) = ⟨cos tx⟩,    t = 0.2 and 1 over the median of |x|.

    It is not clipped at 2, so that a Gaussian reads 2 within its error, and laws with lighter tails more. The scale
    drops out of α̂, so that its own error does not enter to first order. Coordinates may differ in scale: each is
    divided by its own median before ⟨·⟩ pools them, and the standard error is the delta method's over rows.

    With n independent values of α = 0.5, 1, 1.5, 1.8, 2 the error is 1.4, 1.6, 1.7, 1.5, 0.5 over √n. Two others were
    measured beside it: the variance of log|x|, π²/6 (1/α² + 1/2) (Nikias and Shao 1995), has 0.6, 1.5, 3.5, 5.6, 7.4;
    sums of blocks of ten (Mohammadi, Mohammadpour, Ogata 2015), which the claims of heavy tails rest on, 0.8, 1.7, 3.7,
    4.8, 6.2. They are better below α = 1 only.

    Where it is wrong: it reads the middle of the law, up to some five medians, and believes that the tail follows, so a
    mixture of Gaussians reads below 2 as well: look far out with `hill_tail_index`. With few rows n the estimated
    medians bias α̂ by up to −1.4/n, however many coordinates there are, and below some 300 independent values jumps are
    too rare near α = 1.9 for the error to know them all (at n = 100 it is 0.8 of the spread).

    Args:
        x: residuals about their centre, (P,), or (P, d) for d coordinates of each of P independent rows.

    Returns:
        The estimate; NaN where φ̂ is not in (0, 1), as that of no stable law is.

    Raises:
        ValueError: if fewer than two rows are finite, or half of a coordinate's values are zero.

    Source: Press, "Estimation in univariate and multivariate stable distributions", 1972.
    """
    sizes, left_out = _sizes(x)
    n = len(sizes)
    medians = np.median(sizes, axis=0)
    if n < 2 or not np.all(medians > 0):
        raise ValueError(
            f"x must hold two finite rows or more, mostly not zero, got {n}, a median |x| {min(medians):g}"
        )
    cosines = np.stack([np.mean(np.cos(t * sizes / medians), axis=1) for t in _POINTS])
    means = np.mean(cosines, axis=1)
    if not np.all((means > 0) & (means < 1)):
        return Estimate(math.nan, math.nan, left_out=left_out)
    logs, ratio = np.log(means), math.log(_POINTS[1] / _POINTS[0])
    slopes = np.array([-1.0, 1.0]) / (means * logs * ratio)  # dα/dφ at both points
    error = np.std(slopes @ cosines, ddof=1) / math.sqrt(n)
    return Estimate(math.log(logs[1] / logs[0]) / ratio, error, left_out=left_out)


def _sizes(x: Residuals) -> tuple[Float[np.ndarray, "n d"], int]:
    """|x| of the finite rows, one column for each coordinate."""
    (rows,), left_out = finite_rows(x)
    return np.abs(rows.reshape(len(rows), -1)), left_out
