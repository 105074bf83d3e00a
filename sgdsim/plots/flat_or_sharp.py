"""The figure of the flat-or-sharp study: two wells, two coordinates, and who holds the cloud."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plots.base import DENSITY_COLOUR, LANGEVIN_COLOUR, SGD_COLOUR, STEADY_COLOUR, cloud_1d, density_1d

HIGHEST = 0.75  # loss that is drawn
SHOWN = 1e-4  # of the highest density: what lies beyond is not drawn


def flat_or_sharp(result: Any) -> Figure:
    """Loss and clouds in x and in y, occupations under each noise, and sharpness against occupation."""
    figure = Figure(figsize=(12, 8.2), layout="constrained")
    (in_x, in_y), (shares, sharpness) = figure.subplots(2, 2)
    _clouds(in_x, [result.thermal, result.minibatch], "x: flat well on the right")
    _clouds(in_y, [result.pushed, result.minibatch_in_y], "y = φ(x): the same loss, its curvatures exchanged")
    _shares(shares, result.rows)
    _sharpness(sharpness, result)
    figure.suptitle("two wells of equal depth: which one holds the cloud?")
    return figure


def _clouds(ax: Axes, rows: list[Any], title: str) -> None:
    """Histograms of SGD's particles over the steady densities, and the loss on an axis of its own."""
    grid = rows[0].grid
    for row, colour in zip(rows, (STEADY_COLOUR, SGD_COLOUR), strict=True):
        cloud = row.positions[:, None]
        cloud_1d(ax, grid, cloud, bins=128, fill=True, color=colour, alpha=0.4, label=f"SGD, {_label(row)}")
        density_1d(ax, grid, row.masses, color=colour, lw=1.5, label="Fokker–Planck")
    seen = np.any([row.masses > SHOWN * np.max(row.masses) for row in rows], axis=0)
    x = grid.axis_centres(0)[seen]
    ax.set(xlim=(x[0], x[-1]), xlabel=rows[0].coordinate, ylabel=f"density ρ({rows[0].coordinate})")
    heights = ax.twinx()
    shown = np.where(rows[0].loss < HIGHEST, rows[0].loss, np.nan)
    heights.plot(grid.axis_centres(0), shown, "--", color=DENSITY_COLOUR, lw=1.2)
    heights.set_ylim(0, 1.0)
    heights.set_ylabel("loss f (dashed)", color=DENSITY_COLOUR)
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    ax.set_title(title, fontsize=10)
    ax.legend(fontsize=8, ncols=2, loc="upper center")


def _shares(ax: Axes, rows: tuple[Any, ...]) -> None:
    places = np.arange(len(rows))
    ax.bar(places - 0.18, [r.sgd.value for r in rows], 0.34, color=SGD_COLOUR, alpha=0.75, label="SGD")
    ax.bar(places + 0.18, [r.langevin.value for r in rows], 0.34, color=LANGEVIN_COLOUR, alpha=0.75, label="Langevin")
    for shift, name in ((-0.18, "sgd"), (0.18, "langevin")):
        readings = [getattr(r, name) for r in rows]
        errors = [r.standard_error for r in readings]
        ax.errorbar(places + shift, [r.value for r in readings], errors, ls="none", color="black", capsize=2, lw=1)
    ax.plot(places, [r.density.value for r in rows], "_", ms=34, mew=2, color=DENSITY_COLOUR)
    ax.plot([], [], "_", ms=12, mew=2, color=DENSITY_COLOUR, label="Fokker–Planck")
    ax.plot(places, [r.gibbs for r in rows], "x", ms=8, mew=2, color="black", label="Gibbs")
    names = [_label(row).replace(", ", ",\n").replace(" in ", "\nin ") for row in rows]
    ax.set_xticks(places, names, fontsize=8)
    ax.set(ylabel="share of the well at x = 1", ylim=(0, 1.2))
    ax.legend(fontsize=8, ncols=4, loc="upper center")
    ax.grid(alpha=0.3, axis="y")


def _sharpness(ax: Axes, result: Any) -> None:
    """Curvature ratio against occupation: the push forward moves a point sideways, a new run moves it down."""
    styles = {"thermal": ("s", STEADY_COLOUR), "thermal_in_y": ("s", STEADY_COLOUR)}
    points = {}
    for name in ("minibatch", "pushed", "minibatch_in_y", "thermal", "thermal_in_y"):
        row = getattr(result, name)
        marker, colour = styles.get(name, ("o", SGD_COLOUR))
        points[name] = (row.sharpness[1] / row.sharpness[0], row.sgd.value)
        ax.errorbar(*points[name], row.sgd.standard_error, fmt=marker, ms=8, color=colour, capsize=3)
    for end, text, colour, shift in (
        ("pushed", "the same process in other coordinates", DENSITY_COLOUR, (-90, 6)),
        ("minibatch_in_y", "run in the other coordinates", SGD_COLOUR, (-118, -28)),
    ):
        ax.annotate(
            "", points[end], points["minibatch"], arrowprops={"arrowstyle": "->", "color": colour, "shrinkB": 6}
        )
        middle = np.sqrt(points[end][0] * points["minibatch"][0]), (points[end][1] + points["minibatch"][1]) / 2
        ax.annotate(text, middle, shift, textcoords="offset points", fontsize=8, color=colour)
    ax.annotate("", points["thermal_in_y"], points["thermal"], arrowprops={"arrowstyle": "->", "color": STEADY_COLOUR})
    ax.plot([], [], "o", color=SGD_COLOUR, label="minibatches")
    ax.plot([], [], "s", color=STEADY_COLOUR, label="constant noise, in x and run in y")
    ax.set(xscale="log", ylim=(-0.05, 1.12), xlabel="curvature of the well at x = 1 over the other well's")
    ratio = result.settings["ratio"]
    ax.set_xticks([1 / ratio, 1, ratio], [f"{1 / ratio:.3g} (x)", "1", f"{ratio:.3g} (y)"])
    ax.set_xticks([], minor=True)
    ax.set_ylabel("its share of SGD's cloud")
    ax.legend(fontsize=8, loc="lower left")
    ax.grid(alpha=0.3)


def _label(row: Any) -> str:
    return f"{row.name} in {row.coordinate}"
