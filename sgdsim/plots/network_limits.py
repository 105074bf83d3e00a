"""SGD's cloud and its continuum candidates': how far apart they are, and where they end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sgdsim.density import Grid
from sgdsim.measures import Estimate
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
    frame,
)

COLOURS = {"SGD": SGD_COLOUR, "D(x)": LANGEVIN_COLOUR, "isotropic": CHAIN_COLOUR}
REFINED = ("#7570b3", "#a6761d", "#666666")  # SVAG, by its place
SHARE = 1e-4  # of the largest eigenvalue, below which a spectrum is not shown


def network_limits(result: Any) -> Figure:
    """Three measures against time, spectra, variances along D's axes, late clouds; KL too where there is a density."""
    rows = 2 if result.densities is None else 3
    figure = Figure(figsize=(14, 4.3 * rows), layout="constrained")
    axes = figure.subplots(rows, 3)
    colours = _colours(result)
    _distances(axes[0], result, colours)
    _spectra(axes[1, 0], result, colours)
    _variances(axes[1, 1], result, colours)
    if result.densities is None:
        _late_clouds(axes[1, 2], result, colours)
    else:
        _divergences(axes[1, 2], result, colours)
        _clouds_and_densities(axes[2], result)
    figure.suptitle(f"{result.name}: SGD and its continuum candidates, d = {result.settings['dimension']:,}")
    handles = [Line2D([], [], marker="o", color=colours[cloud.name], label=cloud.title) for cloud in result.clouds]
    handles.append(Line2D([], [], ls="--", color="black", lw=1, label="floor"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _colours(result: Any) -> dict[str, str]:
    refined = [cloud.name for cloud in result.clouds if cloud.name not in COLOURS]
    return COLOURS | {name: REFINED[i % len(REFINED)] for i, name in enumerate(refined)}


def _distances(axes: np.ndarray, result: Any, colours: dict[str, str]) -> None:
    for ax, part, label in (
        (axes[0], "distance", "sliced W₁ from SGD (units of x)"),
        (axes[1], "covariance", "‖Σ − Σ_SGD‖² / (‖Σ‖² + ‖Σ_SGD‖²)"),
    ):
        for candidate in result.candidates:
            name = candidate.cloud.name
            _curve(ax, result.times, getattr(candidate, part), colours[name])
        floor = np.max([getattr(c, part).floor for c in result.candidates], axis=0)
        ax.plot(result.times, floor, "--", color="black", lw=1)  # the largest of theirs
        _finish(ax, label)
        if np.all(floor > 0):
            ax.set_yscale("symlog", linthresh=float(np.max(floor)))
    for candidate in result.candidates:
        loss, own = candidate.cloud.loss, result.sgd.loss
        gap = Estimate(loss.value - own.value, np.hypot(loss.standard_error, own.standard_error))
        _curve(axes[2], result.times, gap, colours[candidate.cloud.name])
    floor = np.max([candidate.loss_gap.floor for candidate in result.candidates], axis=0)
    for side in (-floor, floor):
        axes[2].plot(result.times, side, "--", color="black", lw=1)
    _finish(axes[2], "mean loss ⟨f⟩ less that of SGD")


def _curve(ax: Axes, times: Float[np.ndarray, " T"], reading: Estimate, colour: str) -> None:
    ax.errorbar(times, reading.value, reading.standard_error, fmt="o-", color=colour, ms=3.5, capsize=2, lw=1.2)


def _finish(ax: Axes, label: str) -> None:
    ax.set(xlabel=r"time $t = \eta_e k$", ylabel=label)
    ax.grid(alpha=0.3)


def _spectra(ax: Axes, result: Any, colours: dict[str, str]) -> None:
    largest = max(float(np.max(cloud.principal.value)) for cloud in result.clouds)
    for cloud in result.clouds:
        value, error = np.asarray(cloud.principal.value), np.asarray(cloud.principal.standard_error)
        shown = value > SHARE * largest
        number = 1 + np.flatnonzero(shown)
        ax.errorbar(number, value[shown], error[shown], fmt="o-", color=colours[cloud.name], ms=3, lw=1)
    ax.set(xscale="log", yscale="log", title="spectra of the late clouds' covariances")
    ax.set(xlabel="number of the eigenvalue", ylabel="eigenvalue (units of x²)")
    if result.settings["dimension"] <= 10:
        ax.set_xscale("linear")
        ax.set_xticks(range(1, result.settings["dimension"] + 1))
    ax.grid(alpha=0.3)


def _variances(ax: Axes, result: Any, colours: dict[str, str]) -> None:
    number, width = np.arange(1, len(result.axes) + 1), 0.8 / len(result.clouds)
    for i, cloud in enumerate(result.clouds):
        late = cloud.along_axes[-1]
        place = number + (i - (len(result.clouds) - 1) / 2) * width
        style = {"color": colours[cloud.name], "ms": 5, "capsize": 2}
        ax.errorbar(place, late.value, late.standard_error, fmt="o", **style)
    ax.set(yscale="log", xlabel="leading direction of D(x)", ylabel="variance along it (units of x²)")
    ax.set(title="late clouds along directions fitted to none of them", xticks=number)
    ax.grid(alpha=0.3)


def _late_clouds(ax: Axes, result: Any, colours: dict[str, str]) -> None:
    centre = np.nanmean(result.late["SGD"], axis=0)
    for name in ("isotropic", "D(x)", "SGD"):
        if name in result.late:
            y = (result.late[name] - centre) @ result.axes[:2].T
            ax.scatter(y[:, 0], y[:, 1], s=10, lw=0, alpha=0.75, color=colours[name])
    ax.set(xlabel="D's leading direction", ylabel="D's second direction")
    ax.set(title=f"clouds at t = {result.times[-1]:.3g}")


def _divergences(ax: Axes, result: Any, colours: dict[str, str]) -> None:
    """KL of each cloud, and of the isotropic density, to the true limit's density."""
    for cloud in result.clouds:
        _curve(ax, result.times, _stacked(cloud.kl), colours[cloud.name])
    apart, floor = result.densities.apart, np.array([r.floor for r in result.sgd.kl])
    dotted = ax.plot(result.times, apart.value[1:], ":", color=CHAIN_COLOUR, lw=1.6, label="isotropic limit's density")
    ax.plot(result.times, floor, "--", color="black", lw=1)
    _finish(ax, "KL to the true limit's density (nats)")
    ax.set_yscale("symlog", linthresh=float(np.max(floor)))
    ax.set_ylim(bottom=-3 * float(np.max(floor)))
    ax.legend(handles=dotted, fontsize=7.5)


def _stacked(readings: Sequence[Estimate]) -> Estimate:
    return Estimate(np.array([r.value for r in readings]), np.array([r.standard_error for r in readings]))


def _clouds_and_densities(axes: np.ndarray, result: Any) -> None:
    """The late clouds, each over the density of its own limit; in 3-D the marginals of x₁ and x₂."""
    densities = result.densities
    panels = (("SGD", densities.true), ("D(x)", densities.true), ("isotropic", densities.isotropic))
    grid = Grid(densities.grid.lower[:2], densities.grid.upper[:2], densities.grid.cells[:2])
    late = [masses[-1].reshape(*grid.cells, -1).sum(axis=-1) for _, masses in panels]
    for ax, (name, _), masses in zip(axes, panels, late, strict=True):
        whose = "isotropic limit" if name == "isotropic" else "true limit"
        if grid.dim == 1:
            if name in result.late:
                cloud_1d(ax, grid, result.late[name], fill=True, color=COLOURS[name], alpha=0.4, label=name)
            density_1d(ax, grid, late[0], color=DENSITY_COLOUR, lw=1.5, label="true limit's density")
            density_1d(ax, grid, late[2], color=STEADY_COLOUR, lw=1.2, ls="--", label="isotropic limit's density")
            ax.set(xlabel="x", ylabel="density ρ(x)")
            ax.legend(fontsize=7.5)
        else:
            xlim, ylim = frame(grid, np.array(late))
            density_2d(ax, grid, masses)
            if name in result.late:
                cloud_2d(ax, result.late[name][:, :2], color=COLOURS[name])
            ax.set(xlabel="x₁", ylabel="x₂", xlim=xlim, ylim=ylim)
        ax.set_title(f"{name} cloud over the {whose}, t = {result.times[-1]:.3g}", fontsize=10)
