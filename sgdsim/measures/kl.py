"""Kullback–Leibler divergence on a grid: of particles from a density, and of one density from another."""

import dataclasses
import math

import numpy as np
import scipy.special
import scipy.stats
from jaxtyping import Array, Float, Int

from sgdsim.density.grid import Grid
from sgdsim.measures.diverged import Cloud, finite_cloud
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.partition import Partition, checked_masses, merge


@dataclasses.dataclass(frozen=True, eq=False)
class KLEstimate(Estimate):
    """A KL divergence in nats that remembers what its interval needs.

    Args:
        merged_cells: K, how many cells were left after merging.
        sample_size: n, how many particles were counted.
    """

    merged_cells: int = 1
    sample_size: int = 0


def kl(
    particles: Cloud,
    grid: Grid,
    reference_masses: Float[np.ndarray | Array, "*cells"],
    *,
    partition: Partition | None = None,
) -> KLEstimate:
    """KL(particles ‖ reference) in nats, less its bias at agreement.

    The cells are merged until each expects at least ten particles (`merge` says how), K remain. With n particles and
    frequencies p̂ against the reference's masses q of the merged cells,

        κ̂ = Σ p̂ log(p̂/q) − (K−1)/2n,    se² = (K−1)/2n² + 2 max(κ̂, 0)/n,    floor = (χ²₀.₉₅(K−1) − (K−1))/2n:

    at agreement 2n Σ p̂ log(p̂/q) is χ² with K−1 degrees of freedom (Wilks); away from it the variance of log(p/q) is
    2κ to lowest order. κ̂ can be negative. For an interval use `score_interval`: value ± 2 se covers too often at
    agreement. Merging keeps a few per cent less than the true κ (the data-processing inequality), never more.

    Particles outside the box are counted into the merged cell of the lowest level, which understates κ rather than
    making it infinite; diverged ones are left out and counted in `left_out`.

    Args:
        particles: independent particles, (P, d).
        grid: the grid, of d axes.
        reference_masses: the reference's cell masses (**averages** over cells, not point values), of shape
            `grid.cells`, made without these particles.
        partition: what `merge` returned for this reference and about this many particles, to save its work.

    Returns:
        An estimate with NaN for a value if fewer than two cells are left (n < 20, or all mass in one cell).

    Raises:
        ValueError: if all particles have diverged, d is not the grid's, or the masses are no masses on it.

    Source: Miller (1955) for the bias; `merge` and `score_interval` for the rest.
    """
    x, left_out = finite_cloud("particles", particles)
    if x.shape[1] != grid.dim:
        raise ValueError(f"particles must have the grid's {grid.dim} coordinates, got {x.shape[1]}")
    partition = merge(grid, reference_masses, len(x)) if partition is None else partition
    return _kl_of_counts(partition.count(grid.locate(x)), partition.masses, left_out)


def _kl_of_counts(counts: Int[np.ndarray, " K"], masses: Float[np.ndarray, " K"], left_out: int) -> KLEstimate:
    n, degrees = int(np.sum(counts)), len(counts) - 1
    if degrees == 0:
        return KLEstimate(math.nan, math.nan, math.nan, left_out, merged_cells=1, sample_size=n)
    frequencies = counts / n
    value = float(np.sum(scipy.special.xlogy(frequencies, frequencies / masses))) - degrees / (2 * n)
    error = math.sqrt(degrees / (2 * n**2) + 2 * max(value, 0.0) / n)
    floor = (float(scipy.stats.chi2.ppf(0.95, degrees)) - degrees) / (2 * n)
    return KLEstimate(value, error, floor, left_out, merged_cells=degrees + 1, sample_size=n)


def score_interval(estimate: KLEstimate | tuple[float, int, int], confidence: float = 0.95) -> tuple[float, float]:
    """All κ ≥ 0 that the score test keeps: those with |κ̂ − κ| ≤ z √((K−1)/2n² + 2κ/n).

    The spread is taken at the κ under test instead of at κ̂, so that the interval is right at agreement as well as
    away from it. In closed form

        κ± = κ̂ + z²/n ± z √((K−1)/2n² + 2κ̂/n + z²/n²),    clipped at 0.

    [0, 0] says that κ̂ lies further below zero than chance allows: the reference was made from these very particles.

    Args:
        estimate: what `kl` returned, or (κ̂, K, n).
        confidence: in (0, 1).

    Raises:
        ValueError: if confidence is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if isinstance(estimate, KLEstimate):
        value, merged_cells, n = float(estimate.value), estimate.merged_cells, estimate.sample_size
    else:
        value, merged_cells, n = estimate
    z = float(scipy.stats.norm.ppf((1 + confidence) / 2))
    middle = value + z**2 / n
    half = z * math.sqrt(max((merged_cells - 1) / (2 * n**2) + 2 * value / n + z**2 / n**2, 0.0))
    return max(middle - half, 0.0), max(middle + half, 0.0)


def kl_between_densities(
    p: Float[np.ndarray | Array, "*cells"],
    q: Float[np.ndarray | Array, "*cells"],
    *,
    log_q: Float[np.ndarray | Array, "*cells"] | None = None,
) -> float:
    """KL(p ‖ q) = Σ p log(p/q) in nats between cell masses on one grid, with 0 log 0 = 0.

    Infinite where p has mass and q has none. Where q merely underflows (a steady state at a low temperature: exp(−800)
    is 0 in float64, exp(−90) in float32), give its logarithm as well.

    Args:
        p: cell masses that sum to one.
        q: cell masses that sum to one, of the shape of p.
        log_q: log q, used instead of q's own logarithm.

    Raises:
        ValueError: if the shapes differ, or p or q are no masses.
    """
    p, q = checked_masses("p", p, np.shape(p)), checked_masses("q", q, np.shape(p))
    if log_q is None:
        with np.errstate(divide="ignore"):
            log_masses = np.log(q)
    else:
        log_masses = np.asarray(log_q, dtype=np.float64)
        if log_masses.shape != p.shape:
            raise ValueError(f"log_q must have the shape of p, {p.shape}, got {log_masses.shape}")
    held = p > 0
    return float(np.sum(p[held] * (np.log(p[held]) - log_masses[held])))
