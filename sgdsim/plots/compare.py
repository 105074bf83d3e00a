"""Clouds over their density, or beside each other, with what they differ by below."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.density import Grid
from sgdsim.ensemble import Trajectory
from sgdsim.measures import leading_plane
from sgdsim.plots.base import (
    CHAIN_COLOUR,
    DENSITY_COLOUR,
    LANGEVIN_COLOUR,
    SGD_COLOUR,
    STEADY_COLOUR,
    cloud_1d,
    cloud_2d,
    density_1d,
    density_2d,
    divergence_curve,
    floor_curve,
    frame,
)


def compare_densities(name: str, sgd: Trajectory, langevin: Trajectory, density: Any) -> Figure:
    """Clouds over the density at four times, and the divergences below; in 3-D, the marginals of x₁ and x₂."""
    shown = _shown_times(len(sgd.times))
    figure = Figure(figsize=(3.1 * len(shown), 6.5 if density.grid.dim == 1 else 9.6), layout="constrained")
    figure.suptitle(f"{name}: clouds of discrete SGD and of its Langevin limit over their Fokker–Planck density")
    if density.grid.dim == 1:
        panels, below = _rows_over_one(figure, 1, len(shown))
        _clouds_over_lines(panels[0], shown, sgd, langevin, density)
    else:
        panels, below = _rows_over_one(figure, 2, len(shown))
        _clouds_over_contours(panels[0], shown, sgd, density, SGD_COLOUR, "SGD")
        _clouds_over_contours(panels[1], shown, langevin, density, LANGEVIN_COLOUR, "Langevin")
    divergence_curve(below, sgd.times, density.sgd, colour=SGD_COLOUR, label="KL(SGD ‖ FP)")
    divergence_curve(below, langevin.times, density.langevin, colour=LANGEVIN_COLOUR, label="KL(Langevin ‖ FP)")
    divergence_curve(below, sgd.times, density.to_steady, colour=STEADY_COLOUR, label="KL(FP ‖ steady state)")
    if density.chain is not None:
        divergence_curve(below, sgd.times, density.chain.to_limit, colour=CHAIN_COLOUR, label="KL(chain ‖ FP)")
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
    figure.suptitle(f"{name}: discrete SGD and its Langevin limit, along the final clouds' two leading directions")
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    plane = leading_plane(np.concatenate([sgd.particles[-1], langevin.particles[-1]]))
    for ax, i in zip(top.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for cloud, colour, label in ((sgd, SGD_COLOUR, "SGD"), (langevin, LANGEVIN_COLOUR, "Langevin")):
            x = cloud.particles[i] @ plane
            ax.scatter(x[:, 0], x[:, 1], s=9, linewidths=0, alpha=0.7, color=colour, label=label)
        ax.set(title=f"t = {sgd.times[i]:.3g}", xlabel="leading direction", ylabel="second direction")
        ax.locator_params(nbins=4)
        ax.legend(fontsize=7)
    left, right = bottom.subplots(1, 2)
    divergence_curve(left, sgd.times, distance.distance, colour=DENSITY_COLOUR, label="sliced W₂(SGD, Langevin)")
    floor_curve(left, sgd.times, distance.distance)
    left.plot(sgd.times, distance.solver_bias, ":", color=STEADY_COLOUR, label="SDE solver's bias, at most")
    _finish_curves(left, "distance (units of x)")
    divergence_curve(right, sgd.times, distance.sgd_loss, colour=SGD_COLOUR, label="SGD")
    divergence_curve(right, sgd.times, distance.langevin_loss, colour=LANGEVIN_COLOUR, label="Langevin")
    _finish_curves(right, "mean loss f")
    return figure


def _rows_over_one(figure: Figure, rows: int, columns: int) -> tuple[np.ndarray, Axes]:
    """Rows of panels, (rows, columns), over one panel of the whole width."""
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[rows, 1.1])[:, 0]
    return above.subplots(rows, columns, squeeze=False), below.subplots()


def _clouds_over_lines(axes: np.ndarray, shown: list[int], sgd: Trajectory, langevin: Trajectory, density: Any) -> None:
    for ax, i in zip(axes, shown, strict=True):
        cloud_1d(ax, density.grid, sgd.particles[i], fill=True, color=SGD_COLOUR, alpha=0.35, label="SGD")
        cloud_1d(ax, density.grid, langevin.particles[i], color=LANGEVIN_COLOUR, label="Langevin")
        density_1d(ax, density.grid, density.masses[i], color=DENSITY_COLOUR, lw=1.5, label="Fokker–Planck")
        if density.chain is not None:
            density_1d(ax, density.grid, density.chain.masses[i], color=CHAIN_COLOUR, lw=1.2, ls="--", label="chain")
        density_1d(ax, density.grid, density.steady, color=STEADY_COLOUR, lw=1, ls=":", label="steady state")
        ax.set(title=f"t = {sgd.times[i]:.3g}", xlabel="x", ylabel="density ρ(x)", ylim=(0, None))
    axes[0].legend(fontsize=7)


def _clouds_over_contours(
    axes: np.ndarray, shown: list[int], cloud: Trajectory, density: Any, colour: str, label: str
) -> None:
    grid = Grid(density.grid.lower[:2], density.grid.upper[:2], density.grid.cells[:2])
    masses = density.masses[shown].reshape(len(shown), *grid.cells, -1).sum(axis=-1)
    xlim, ylim = frame(grid, masses)
    for ax, i, p in zip(axes, shown, masses, strict=True):
        density_2d(ax, grid, p)
        cloud_2d(ax, cloud.particles[i, :, :2], color=colour, label=label)
        ax.set(title=f"{label}, t = {cloud.times[i]:.3g}", xlabel="x₁", ylabel="x₂", xlim=xlim, ylim=ylim)


def _finish_curves(ax: Axes, label: str) -> None:
    ax.set(xlabel=r"time $t = \eta_e k$ (steps × effective learning rate)", ylabel=label)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)  # above the curves


def _shown_times(count: int) -> list[int]:
    """Four saved times from the first to the last, closer together at the start, where a cloud moves most."""
    return sorted({0, min(1, count - 1), (count - 1) // 4, count - 1})
