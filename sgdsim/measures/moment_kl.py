"""Kullback–Leibler divergence between the Gaussians with two clouds' moments: a distance in many dimensions."""

import math
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Array, Float

from sgdsim.ensemble.start import Gaussian
from sgdsim.measures.diverged import Cloud, finite_cloud
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.pairs import joint_error


class _Moments(NamedTuple):
    """A cloud about its mean, and its moments; a `Gaussian` is a cloud of infinite size without rows."""

    rows: Float[np.ndarray, "n d"]
    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    size: float


def moment_kl(particles: Cloud, reference: Gaussian | Float[np.ndarray | Array, "Q d"]) -> Estimate:
    """KL(N(μ, S) ‖ N(μ₀, S₀)) in nats, less its bias: μ, S are the cloud's mean and covariance, μ₀, S₀ the reference's.

        κ = ½ [Tr(S₀⁻¹S) − d − log det(S₀⁻¹S) + δᵀS₀⁻¹δ],    δ = μ − μ₀.

    It sees two moments and nothing else: a lower bound of KL(cloud ‖ reference) where the reference is a Gaussian.

    - `value`: what the samples' moments read, less the bias that Gaussian clouds have at any size (`_bias`), at
      agreement and away from it. At agreement that is d(d+3)/4n to first order, and the same in 1/m for a second cloud
      of m particles. Heavier or lighter tails add to it, also to first order (`_tails`).
    - `standard_error`: a particle moves the reading by ½(x−μ)ᵀ(S₀⁻¹−S⁻¹)(x−μ) + δᵀS₀⁻¹(x−μ) over n, one of the second
      cloud by ½(y−μ₀)ᵀ(S₀⁻¹ − S₀⁻¹(S+δδᵀ)S₀⁻¹)(y−μ₀) − δᵀS₀⁻¹(y−μ₀) over m, whatever their laws. The second order
      adds ν/2n² for ν = d(d+3)/2 moments. It is all there is at agreement, where the influence as measured is noise
      that would count it twice more.
    - `floor`: at agreement the reading before the bias is taken off is χ²_ν/2n (Wilks), here scaled to its mean
      (Bartlett): (χ²₀.₉₅(ν) − ν)/2n to first order.

    With two clouds 1/n is 1/n + 1/m in the last two.

    Args:
        particles: independent particles, (P, d), in units of x.
        reference: a `Gaussian`, made without these particles, or a second cloud (Q, d), independent of the first.

    Raises:
        ValueError: if a cloud has fewer than d + 3 finite particles, the numbers of coordinates differ, or a
            covariance is singular.
    """
    own, left_out = _of_cloud("particles", particles)
    if isinstance(reference, Gaussian):
        other, more = _Moments(np.empty((0, reference.dim)), reference.mean, reference.covariance, math.inf), 0
    else:
        other, more = _of_cloud("reference", reference)
    n, m, d = own.size, other.size, len(other.mean)
    if len(own.mean) != d:
        raise ValueError(f"particles must have the reference's {d} coordinates, got {len(own.mean)}")
    whitening = np.linalg.inv(full_rank_root("reference", other.covariance)).T  # from here on Ŝ₀ = 1
    x, y, shift = own.rows @ whitening, other.rows @ whitening, (own.mean - other.mean) @ whitening
    s, one = x.T @ x / (n - 1), np.eye(d)
    scales, gap = np.linalg.eigvalsh(s), float(shift @ shift)
    plain = (float(np.sum(scales - 1 - np.log(scales))) + gap) / 2

    degrees, tails = d * (d + 3) / 2, _tails(x, s) + _tails(y, one)
    null_mean = _null_mean(n, m, d) + tails
    second = 2 * null_mean**2 / degrees
    variance = _variance(x, one - np.linalg.inv(s), shift) + _variance(y, one - s - np.outer(shift, shift), -shift)
    return Estimate(
        plain - _bias(n, m, d, float(np.sum(scales)), gap) - tails,
        joint_error(variance, second),
        null_mean * (float(scipy.stats.chi2.ppf(0.95, degrees)) / degrees - 1),
        left_out + more,
    )


def full_rank_root(name: str, covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Cholesky's L of S = LLᵀ, judged in units of each coordinate's width, which may lie decades apart.

    Raises:
        ValueError: if S is singular to rounding.
    """
    width = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    if np.all(width > 0):
        correlation = covariance / np.outer(width, width)
        if np.linalg.eigvalsh(correlation)[0] > 1e-12:
            return width[:, None] * np.linalg.cholesky(correlation)
    raise ValueError(f"{name} must spread in all {len(width)} directions, got a singular covariance")


def _of_cloud(name: str, cloud: Cloud) -> tuple[_Moments, int]:
    x, left_out = finite_cloud(name, cloud)
    n, d = x.shape
    if n < d + 3:
        raise ValueError(f"{name} must hold at least d + 3 = {d + 3} finite particles, got {n}")
    mean, covariance = np.mean(x, axis=0), np.atleast_2d(np.cov(x, rowvar=False))
    full_rank_root(name, covariance)  # raises where there is none
    return _Moments(x - mean, mean, covariance, n), left_out


def _variance(x: Float[np.ndarray, "n d"], matrix: Float[np.ndarray, "d d"], vector: Float[np.ndarray, " d"]) -> float:
    """Variance of the mean of ½ xᵀMx + vᵀx over the rows, M symmetric; 0 without rows."""
    return float(np.var(np.sum(x @ matrix * x, axis=1) / 2 + x @ vector)) / len(x) if len(x) else 0.0


def _bias(n: float, m: float, d: int, trace: float, gap: float) -> float:
    """What Gaussian clouds read too much, where they read Tr(Ŝ₀⁻¹Ŝ) and δ̂ᵀŜ₀⁻¹δ̂; exact.

    f Ŝ₀⁻¹ is unbiased for S₀⁻¹, f = (m−d−2)/(m−1) by the mean of an inverse Wishart matrix, and independent of the
    means; δ̂ then adds Tr(S₀⁻¹S)/n + d/m.
    """
    f = 1 - (d + 1) / (m - 1)
    return ((1 - f * (1 - 1 / n)) * trace + (1 - f) * gap + d / m - _log_det_offset(n, d) + _log_det_offset(m, d)) / 2


def _null_mean(n: float, m: float, d: int) -> float:
    """The bias of Gaussian clouds at agreement, d(d+3)/4 (1/n + 1/m) to first order."""
    f = 1 - (d + 1) / (m - 1)
    return _bias(n, m, d, trace=d / f, gap=d * (1 / n + 1 / m) / f)


def _log_det_offset(size: float, d: int) -> float:
    """E log det Ŝ − log det S of a Gaussian cloud: a sum of log χ² with n−1, …, n−d degrees of freedom."""
    if math.isinf(size):
        return 0.0
    return float(np.sum(scipy.special.digamma((size - np.arange(1, d + 1)) / 2))) - d * math.log((size - 1) / 2)


def _tails(x: Float[np.ndarray, "n d"], s: Float[np.ndarray, "d d"]) -> float:
    """(E|z|⁴ − d(d+2))/4n, z = S^{-½}x: the bias that tails add at agreement, 0 on average for a Gaussian cloud.

    The mean of |z|⁴ as measured is d(d+2)(n−1)³/n²(n+1) for a Gaussian cloud: Mardia (1970).
    """
    n, d = x.shape
    if n == 0:
        return 0.0
    fourth = float(np.mean(np.sum(x @ np.linalg.inv(s) * x, axis=1) ** 2))
    return (fourth * n**2 * (n + 1) / (n - 1) ** 3 - d * (d + 2)) / (4 * n)
