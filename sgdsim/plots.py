"""Pictures: functions that take axes and return artists, and the figures of the studies.

Figures are made without pyplot, so that nothing global is touched.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.density import Grid
from sgdsim.ensemble import Trajectory
from sgdsim.measures import Estimate

SGD_COLOUR = "#d95f02"
LANGEVIN_COLOUR = "#1b9e77"
DENSITY_COLOUR = "#3b4992"
STEADY_COLOUR = "#7f7f7f"
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
    return ax.plot(times, [r.floor for r in readings], "--", color="black", lw=1, label="floor")


def compare_densities(name: str, sgd: Trajectory, langevin: Trajectory, density: Any) -> Figure:
    """Clouds over the density at four times, and the divergences below."""
    shown = _shown_times(len(sgd.times))
    if density.grid.dim > 2:
        raise ValueError("density must be of one or two dimensions to be drawn")
    rows = 1 if density.grid.dim == 1 else 2
    figure = Figure(figsize=(3.1 * len(shown), 3.1 * rows + 3.4), layout="constrained")
    axes = figure.subplots(rows + 1, len(shown), squeeze=False, height_ratios=[1.0] * rows + [1.1])
    figure.suptitle(f"{name}: clouds of discrete SGD and of its Langevin limit over their Fokker–Planck density")
    for column, i in enumerate(shown):
        axes[0, column].set_title(f"t = {sgd.times[i]:.3g}")
        if density.grid.dim == 1:
            _panel_1d(axes[0, column], sgd.particles[i], langevin.particles[i], density, i)
        else:
            _panel_2d(axes[0, column], sgd.particles[i], density, i, SGD_COLOUR, "SGD")
            _panel_2d(axes[1, column], langevin.particles[i], density, i, LANGEVIN_COLOUR, "Langevin")
    if density.grid.dim == 1:
        axes[0, 0].legend(fontsize=7)
    else:
        (xlim, ylim) = _frame(density.grid, density.masses[shown])
        for ax in axes[:rows].ravel():
            ax.set(xlim=xlim, ylim=ylim)
    below = _merge_row(figure, axes[rows])
    divergence_curve(below, sgd.times, density.sgd, colour=SGD_COLOUR, label="KL(SGD ‖ FP)")
    divergence_curve(below, langevin.times, density.langevin, colour=LANGEVIN_COLOUR, label="KL(Langevin ‖ FP)")
    divergence_curve(below, sgd.times, density.to_steady, colour=STEADY_COLOUR, label="KL(FP ‖ steady state)")
    floor_curve(below, sgd.times, density.sgd)
    below.axhline(0, color="black", lw=0.5)
    # Linear up to the floor, since readings at agreement scatter around zero, and logarithmic above it.
    floor = max(r.floor for r in density.sgd)
    below.set_yscale("symlog", linthresh=floor)
    below.set_ylim(bottom=-3 * floor)
    _finish_curves(below, "Kullback–Leibler divergence (nats)")
    return figure


def compare_clouds(name: str, sgd: Trajectory, langevin: Trajectory, distance: Any) -> Figure:
    """Both clouds in the plane of their two leading directions at four times, and their distance and losses below."""
    shown = _shown_times(len(sgd.times))
    figure = Figure(figsize=(3.1 * len(shown), 6.8), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    figure.suptitle(
        f"{name}: discrete SGD and its Langevin limit in the plane of the final clouds' two leading directions"
    )
    plane = _leading_plane(np.concatenate([sgd.particles[-1], langevin.particles[-1]]))
    for column, i in enumerate(shown):
        ax = axes[0, column]
        for cloud, colour, label in ((sgd, SGD_COLOUR, "SGD"), (langevin, LANGEVIN_COLOUR, "Langevin")):
            x = cloud.particles[i] @ plane
            ax.scatter(x[:, 0], x[:, 1], s=9, linewidths=0, alpha=0.7, color=colour, label=label)
        ax.set(
            title=f"t = {sgd.times[i]:.3g}", xlabel="leading direction", ylabel="second direction" if not column else ""
        )
    axes[0, 0].legend(fontsize=7)
    half = len(shown) // 2
    left, right = _merge_row(figure, axes[1, :half]), _merge_row(figure, axes[1, half:])
    divergence_curve(left, sgd.times, distance.distance, colour=DENSITY_COLOUR, label="sliced W₂(SGD, Langevin)")
    floor_curve(left, sgd.times, distance.distance)
    left.plot(sgd.times, distance.solver_bias, ":", color=STEADY_COLOUR, label="SDE solver's bias, at most")
    _finish_curves(left, "distance (units of x)")
    for losses, colour, label in (
        (distance.sgd_loss, SGD_COLOUR, "SGD"),
        (distance.langevin_loss, LANGEVIN_COLOUR, "Langevin"),
    ):
        divergence_curve(right, sgd.times, losses, colour=colour, label=label)
    _finish_curves(right, "mean loss f (nats)")
    return figure


def _panel_1d(ax: Axes, sgd: np.ndarray, langevin: np.ndarray, density: Any, i: int) -> None:
    cloud_1d(ax, density.grid, sgd, fill=True, color=SGD_COLOUR, alpha=0.35, label="SGD")
    cloud_1d(ax, density.grid, langevin, color=LANGEVIN_COLOUR, label="Langevin")
    density_1d(ax, density.grid, density.masses[i], color=DENSITY_COLOUR, lw=1.5, label="Fokker–Planck")
    density_1d(ax, density.grid, density.steady, color=STEADY_COLOUR, lw=1, ls=":", label="steady state")
    ax.set(xlabel="x", ylabel="density ρ(x)", ylim=(0, None))


def _panel_2d(ax: Axes, particles: np.ndarray, density: Any, i: int, colour: str, label: str) -> None:
    density_2d(ax, density.grid, density.masses[i])
    cloud_2d(ax, particles, color=colour, label=label)
    ax.set(xlabel="x₁", ylabel=f"{label}: x₂")


def _finish_curves(ax: Axes, label: str) -> None:
    ax.set(xlabel=r"time $t = \eta_e k$ (steps × effective learning rate)", ylabel=label)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)


def _frame(grid: Grid, masses: Float[np.ndarray, "times n m"]) -> list[tuple[float, float]]:
    """Limits along both axes that leave out a thousandth of the mass, since a grid reaches further than the eye."""
    limits = []
    for axis in range(2):
        held = np.cumsum(masses.sum(axis=2 - axis), axis=1)
        centres = grid.axis_centres(axis)
        low = min(centres[np.searchsorted(h, 0.0005)] for h in held)
        high = max(centres[min(np.searchsorted(h, 0.9995), len(centres) - 1)] for h in held)
        limits.append((float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))))
    return limits


def _shown_times(count: int) -> list[int]:
    """Four saved times from the first to the last, closer together at the start, where a cloud moves most."""
    return sorted({0, min(1, count - 1), (count - 1) // 4, count - 1})


def _merge_row(figure: Figure, axes: Sequence[Axes]) -> Axes:
    """One wide panel in place of a row of narrow ones."""
    spec = axes[0].get_subplotspec().get_gridspec()
    row = axes[0].get_subplotspec().rowspan.start
    first, last = axes[0].get_subplotspec().colspan.start, axes[-1].get_subplotspec().colspan.stop
    for ax in axes:
        ax.remove()
    return figure.add_subplot(spec[row, first:last])


def _leading_plane(particles: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d 2"]:
    """The two directions along which the finite particles spread most."""
    x = particles[np.isfinite(particles).all(axis=1)].astype(float)
    return np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:2].T
