"""How long a cloud remembers: autocorrelation, its integrated time, and how many independent samples a run is worth.

A series is a scalar observable of P independent particles at T equally spaced times of the steady state, (T, P): say
`trajectory.particles[..., 0]` from a saved time on. Its mean is common to all particles, so that of the cloud is taken
off at each time; the share 1/P that the products lose by this is the same at every lag, and their ratio does not see
it.

Errors come from the spread over particles, never from the length of a series, so at least three particles are needed,
and some tens for an error that can be relied on. A particle that diverges at any of the times is left out and counted.
The observable must have a variance: with α-stable noise, look at a bounded function of x.
"""

import math

import numpy as np
import scipy.fft
from jaxtyping import Array, Float

from sgdsim.measures.diverged import finite_rows
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.ratio import ratio

Series = Float[np.ndarray | Array, "T P"]

_WINDOW = 5.0  # Sokal's c: a window of cτ leaves out a share e^{−2c} of an exponential's τ
_BLOCK = 2**22  # numbers that are transformed at a time


def autocorrelation(series: Series, max_lag: int | None = None) -> Estimate:
    """ρ(l) = ⟨y_t y_{t+l}⟩ / ⟨y_t²⟩ at the lags l = 0 … max_lag, in units of the time between two saved ones, (lags,).

    With u_p(l) particle p's mean of y_t y_{t+l} over its T − l pairs, ρ̂(l) = Σ u_p(l) / Σ u_p(0) is a ratio of means
    over particles, and its error that of `ratio` times √((P−1)/(P−2)): taking off the cloud's mean has tied the
    particles to each other, by exactly this where they are Gaussian.

    SGD on a quadratic of curvature k has ρ(l) = (1 − ηk)^l, whatever its noise, if that has a variance.

    Args:
        series: the observable, (T, P).
        max_lag: the largest lag, below T; T − 1 by default. At large lags few pairs are left, as the errors tell.

    Raises:
        ValueError: if max_lag is out of range, fewer than three particles stay finite, or they do not differ.
    """
    products, left_out = _lagged_products(series, max_lag)
    return _correlations(products, left_out)


def integrated_time(series: Series) -> Estimate:
    """τ = 1 + 2 Σ ρ(l) over l = 1 … M, in units of the time between two saved ones: Var(mean of T) = τσ²/T for T ≫ τ.

    The window is Sokal's, the smallest M ≥ 5τ, but for one change: the τ that it is compared with is summed from the
    |ρ(l)| that exceed three standard errors. His own rule stops too early where ρ changes sign, as it does on steps
    beyond the minimum (ηk = 1.9: τ = −0.8 for 0.05) and with momentum (ηk = 0.1, μ = 0.9: 1.1 for 1.9); elsewhere the
    two agree. What lies beyond the window is neglected. The error is that of ρ, for the sum.

    SGD on a quadratic has τ = (2 − ηk)/(ηk), below 1 for ηk > 1. As the mean is the cloud's and not a series' own, a
    series need not be many τ long: the window is enough.

    Args:
        series: the observable, (T, P).

    Raises:
        ValueError: if the series is too short for its window, fewer than three particles stay finite, or they do not
            differ.

    Source: Sokal, "Monte Carlo methods in statistical mechanics: foundations and new algorithms", 1997, §3; in code,
    emcee's `integrated_time` (Foreman-Mackey et al. 2013).
    """
    products, left_out = _lagged_products(series, None)
    rho = _correlations(products, left_out)
    sizes = np.abs(rho.value)
    told = np.where(sizes > 3 * np.asarray(rho.standard_error), sizes, 0.0)
    wide_enough = np.arange(len(products)) >= _WINDOW * (2 * np.cumsum(told) - 1)
    if not np.any(wide_enough):
        raise ValueError(f"series must hold a window of {_WINDOW:g} integrated times, got {len(products)} saved times")
    window = int(np.argmax(wide_enough))
    return _ratio(2 * np.sum(products[: window + 1], axis=0) - products[0], products[0], left_out)


def effective_sample_size(series: Series) -> Estimate:
    """T·P/τ: how many independent samples have a mean that spreads as that of the T·P saved ones, with the error of τ.

    P counts the particles that stay finite. It exceeds T·P where successive samples make up for each other (τ < 1). It
    is for T ≫ τ: a shorter series is worth more, as the particles are independent to begin with.

    Args:
        series: the observable, (T, P).

    Raises:
        ValueError: as `integrated_time`.
    """
    time, (times, particles) = integrated_time(series), np.shape(series)
    count = times * (particles - time.left_out)
    return Estimate(count / time.value, count * time.standard_error / time.value**2, left_out=time.left_out)


def _lagged_products(series: Series, max_lag: int | None) -> tuple[Float[np.ndarray, "lags n"], int]:
    """u_p(l) of each particle that stays finite, and how many do not. By FFT, padded so that no pair wraps around."""
    shape = np.shape(series)
    if len(shape) != 2 or shape[0] < 2:
        raise ValueError(f"series must have shape (T, P) with two times or more, got {shape}")
    last = shape[0] - 1 if max_lag is None else max_lag
    if isinstance(last, bool) or not isinstance(last, int | np.integer) or not 0 <= last < shape[0]:
        raise ValueError(f"max_lag must be a whole number, 0 ≤ max_lag < T = {shape[0]}, got {max_lag!r}")
    (rows,), left_out = finite_rows(np.asarray(series).T)
    if len(rows) < 3:
        raise ValueError(f"series must hold three particles or more that stay finite, got {len(rows)}")
    deviations = rows - np.mean(rows, axis=0)
    if np.max(np.abs(deviations)) <= 1e-12 * np.max(np.abs(rows)):
        raise ValueError("series must differ between particles: these have no variance, only rounding")
    length = scipy.fft.next_fast_len(shape[0] + int(last), real=True)
    products = np.empty((last + 1, len(rows)))
    for block in np.array_split(np.arange(len(rows)), math.ceil(len(rows) * length / _BLOCK)):
        power = np.abs(scipy.fft.rfft(deviations[block], length, axis=1)) ** 2
        products[:, block] = scipy.fft.irfft(power, length, axis=1)[:, : last + 1].T
    return products / (shape[0] - np.arange(last + 1))[:, None], left_out


def _correlations(products: Float[np.ndarray, "lags n"], left_out: int) -> Estimate:
    """ρ at each lag."""
    each = [_ratio(u, products[0], left_out) for u in products]
    return Estimate(np.array([e.value for e in each]), np.array([e.standard_error for e in each]), left_out=left_out)


def _ratio(u: Float[np.ndarray, " n"], v: Float[np.ndarray, " n"], left_out: int) -> Estimate:
    """Σu/Σv over particles that were centred on their mean."""
    plain, n = ratio(u, v, name="the variance of series"), len(v)
    return Estimate(plain.value, plain.standard_error * math.sqrt((n - 1) / (n - 2)), left_out=left_out)
