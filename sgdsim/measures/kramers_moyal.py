"""Drift and diffusion read off one-step increments (the first two Kramers–Moyal coefficients).

    b(x) = ⟨Δx | x⟩/Δt,    A(x) = ⟨(Δx − bΔt)(Δx − bΔt)ᵀ | x⟩/2Δt

in the convention dX = b dt + √(2A) dW. Increments are one step of a process; both are exact for an Euler step, and
right to O(Δt) for the others. With momentum the position alone is no Markov chain: see `kinetic_temperature`.

Source: Risken, The Fokker–Planck Equation, chapter 4.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Array, Float, Int

from sgdsim.density.grid import Grid
from sgdsim.measures.diverged import Cloud, finite_rows
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.ratio import ratio


def regress_drift(x: Cloud, dx: Cloud, dt: float, predicted: Cloud) -> Estimate:
    """The slope of Δx/Δt on a predicted drift b(x), Σ Δx·b / (Δt Σ |b|²): 1 where the prediction is exact.

    The standard error is the sandwich of least squares through the origin over independent particles (`ratio`), so
    it is right whatever the noise and however it depends on x.

    Args:
        x: where the particles were, (P, d); used only to tell which of them had diverged.
        dx: their increments over one step, (P, d).
        dt: the step on the process's clock.
        predicted: b(x), (P, d).

    Raises:
        ValueError: if dt is not positive, all particles have diverged, or b vanishes at every particle.
    """
    (_, increments, b), left_out = finite_rows(x, dx, predicted)
    along, scale = np.sum(increments * b, axis=1), checked_step(dt) * np.sum(b**2, axis=1)
    return ratio(along, scale, name="predicted", left_out=left_out)


def regress_diffusion(
    dx: Cloud,
    dt: float,
    predicted_drift: Cloud,
    predicted_diffusion: Float[np.ndarray | Array, "P d d"] | Float[np.ndarray | Array, " P"],
) -> Estimate:
    """The size of the spread of one step against a predicted diffusion, Σ |Δx − bΔt|² / (2Δt Σ Tr A): 1 where exact.

    Args:
        dx: increments over one step, (P, d).
        dt: the step on the process's clock.
        predicted_drift: b(x), (P, d).
        predicted_diffusion: A(x), (P, d, d), or its trace, (P,).

    Raises:
        ValueError: if dt is not positive, all particles have diverged, or Tr A vanishes at every particle.
    """
    (increments, b, a), left_out = finite_rows(dx, predicted_drift, predicted_diffusion)
    traces = a if a.ndim == 1 else np.trace(a, axis1=1, axis2=2)
    spread = np.sum((increments - b * checked_step(dt)) ** 2, axis=1)
    return ratio(spread, 2 * dt * traces, name="predicted_diffusion", left_out=left_out)


@dataclasses.dataclass(frozen=True, eq=False)
class BinnedKramersMoyal:
    """Drift and diffusion in each cell of a grid; NaN in cells that hold too few particles.

    Args:
        grid: the grid, of d axes.
        drift: b averaged over the particles of a cell, (*cells, d).
        drift_error: its standard error, (*cells, d).
        diffusion: A, (*cells, d, d). The spread of b within a cell adds Δt/2 Cov(b): negligible at O(Δt h²).
        diffusion_error: the standard error of each entry, from the fourth moments, (*cells, d, d).
        counts: particles in each cell, (*cells,).
        outside: particles outside the box, which are not used.
        left_out: diverged particles.
    """

    grid: Grid
    drift: Float[np.ndarray, "*cells d"]
    drift_error: Float[np.ndarray, "*cells d"]
    diffusion: Float[np.ndarray, "*cells d d"]
    diffusion_error: Float[np.ndarray, "*cells d d"]
    counts: Int[np.ndarray, "*cells"]
    outside: int
    left_out: int


def binned(x: Cloud, dx: Cloud, dt: float, grid: Grid, *, fewest: int = 10) -> BinnedKramersMoyal:
    """Drift and diffusion in each cell of a grid, from one step of every particle.

    Args:
        x: where the particles were, (P, d).
        dx: their increments over one step, (P, d).
        dt: the step on the process's clock.
        grid: the grid, of d axes.
        fewest: cells with fewer particles than this (at least 2) read NaN.

    Raises:
        ValueError: if dt is not positive, all particles have diverged, d is not the grid's, or fewest is below 2.
    """
    checked_step(dt)
    if fewest < 2:
        raise ValueError(f"fewest must be at least 2, got {fewest}")
    (positions, increments), left_out = finite_rows(x, dx)
    if positions.shape[1] != grid.dim:
        raise ValueError(f"x must have the grid's {grid.dim} coordinates, got {positions.shape[1]}")
    cells = grid.locate(positions)
    inside = cells >= 0
    cells, increments = cells[inside], increments[inside]
    counts = np.bincount(cells, minlength=grid.num_cells)
    n = np.where(counts >= fewest, counts, np.nan)

    average, variance = _by_cell(cells, increments, n)
    residuals = (increments - average[cells]) / np.sqrt(2 * dt)
    products = (residuals[:, :, None] * residuals[:, None, :]).reshape(len(cells), -1)
    second, spread = _by_cell(cells, products, n)
    correction = (n / (n - 1))[:, None]  # a mean was taken off

    vectors, matrices = (*grid.cells, grid.dim), (*grid.cells, grid.dim, grid.dim)
    return BinnedKramersMoyal(
        grid=grid,
        drift=(average / dt).reshape(vectors),
        drift_error=(np.sqrt(variance / n[:, None]) / dt).reshape(vectors),
        diffusion=(second * correction).reshape(matrices),
        diffusion_error=(np.sqrt(spread / n[:, None]) * correction).reshape(matrices),
        counts=counts.reshape(grid.cells),
        outside=int(np.sum(~inside)),
        left_out=left_out,
    )


def checked_step(dt: float) -> float:
    """dt, if it is a positive number."""
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be positive and finite, got {dt}")
    return dt


def _by_cell(
    cells: Int[np.ndarray, " n"], values: Float[np.ndarray, "n m"], counts: Float[np.ndarray, " num_cells"]
) -> tuple[Float[np.ndarray, "num_cells m"], Float[np.ndarray, "num_cells m"]]:
    """Mean and unbiased variance of each column in each cell; `counts` is NaN where a cell is not wanted."""

    def total(columns: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "num_cells m"]:
        return np.stack([np.bincount(cells, column, minlength=len(counts)) for column in columns.T], axis=1)

    average = total(values) / counts[:, None]
    return average, total((values - average[cells]) ** 2) / (counts[:, None] - 1)
