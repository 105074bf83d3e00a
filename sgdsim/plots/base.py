"""Functions that take axes and return artists: what the figures of the studies are made of."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.density import Grid
from sgdsim.measures import Estimate

SGD_COLOUR = "#d95f02"
LANGEVIN_COLOUR = "#1b9e77"
DENSITY_COLOUR = "#3b4992"
STEADY_COLOUR = "#7f7f7f"
CHAIN_COLOUR = "#c51b7d"
SHOWN_PARTICLES = 800  # more dots than this hide the density below them


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG (or by the path's ending), 150 dots per inch."""
    figure.savefig(path, dpi=150)


def density_1d(ax: Axes, grid: Grid, masses: Float[np.ndarray, " n"], **style: Any) -> list[Any]:
    """A density ρ(x) as a line."""
    return ax.plot(grid.axis_centres(0), masses / grid.cell_volume, **style)


def cloud_1d(ax: Axes, grid: Grid, particles: Float[np.ndarray, "P 1"], bins: int = 64, **style: Any) -> Any:
    """A cloud's histogram, normalised as a density of all its particles."""
    x = particles[np.isfinite(particles[:, 0]), 0]
    edges = np.linspace(grid.lower[0], grid.upper[0], bins + 1)
    counts, _ = np.histogram(x, edges)
    return ax.stairs(counts / (len(x) * np.diff(edges)), edges, **style)


def density_2d(ax: Axes, grid: Grid, masses: Float[np.ndarray, "n m"]) -> Any:
    """A density ρ(x₁, x₂) in filled contours that hold 99, 90, 70, 50, 30 and 10 per cent of its mass."""
    density = masses / grid.cell_volume
    levels = highest_density_levels(density, masses, (0.99, 0.9, 0.7, 0.5, 0.3, 0.1))
    return ax.contourf(
        grid.axis_centres(0), grid.axis_centres(1), density.T, levels=levels, cmap="Purples", extend="max"
    )


def highest_density_levels(
    density: Float[np.ndarray, "*cells"], masses: Float[np.ndarray, "*cells"], shares: Sequence[float]
) -> Float[np.ndarray, " levels"]:
    """The densities above which these shares of the mass lie, increasing."""
    order = np.argsort(density, axis=None)[::-1]
    held = np.cumsum(masses.ravel()[order])
    picked = [density.ravel()[order[min(np.searchsorted(held, s), len(order) - 1)]] for s in shares]
    return np.unique(np.maximum(picked, np.finfo(float).tiny))


def cloud_2d(ax: Axes, particles: Float[np.ndarray, "P 2"], **style: Any) -> Any:
    """The first particles of a cloud as dots."""
    shown = particles[:SHOWN_PARTICLES]
    return ax.scatter(shown[:, 0], shown[:, 1], s=3, linewidths=0, alpha=0.6, **style)


def divergence_curve(
    ax: Axes, times: Float[np.ndarray, " T"], readings: Sequence[Estimate], *, colour: str, label: str
) -> Any:
    """Readings over time with their error bars, one standard error."""
    values, errors = (np.array([getattr(r, field) for r in readings]) for field in ("value", "standard_error"))
    return ax.errorbar(times, values, errors, fmt="o-", color=colour, label=label, ms=4, capsize=2, lw=1.2)


def floor_curve(ax: Axes, times: Float[np.ndarray, " T"], readings: Sequence[Estimate]) -> list[Any]:
    """What perfect agreement would read at most, 95 times in 100."""
    return ax.plot(times, np.array([r.floor for r in readings]), "--", color="black", lw=1, label="floor")


def frame(grid: Grid, masses: Float[np.ndarray, "times n m"]) -> list[tuple[float, float]]:
    """Limits along both axes that leave out a thousandth of the mass, since a grid reaches further than the eye."""
    limits = []
    for axis in range(2):
        held = np.cumsum(masses.sum(axis=2 - axis), axis=1)
        centres = grid.axis_centres(axis)
        low = min(centres[np.searchsorted(h, 0.0005)] for h in held)
        high = max(centres[min(np.searchsorted(h, 0.9995), len(centres) - 1)] for h in held)
        limits.append((float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))))
    return limits
