"""How late weights turn, and what their increments remember, beside the reversible twin."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plots.base import SGD_COLOUR, STEADY_COLOUR

SHOWN_DIRECTIONS = 3  # more curves than this hide each other
SHOWN_LOOKS = 200  # the last of a path, so that one can follow it


def out_of_equilibrium(result: Any) -> Figure:
    """One replica's path, the circulation of each plane in standard errors, and the increments' correlations."""
    figure = Figure(figsize=(18, 4.8), layout="constrained")
    path, turns, successive, lagged = figure.subplots(1, 4)
    _path(path, result)
    _circulations(turns, result)
    _correlations(successive, result, "successive", "increments over l steps and the next l")
    _correlations(lagged, result, "lagged", "steps that are l apart")
    handles, labels = successive.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside right center", frameon=False)
    figure.suptitle(f"{result.name}: late motion along the cloud's widest directions")
    return figure


def _path(ax: Axes, result: Any) -> None:
    worst = int(np.argmax(np.abs(np.atleast_1d(result.sgd.circulation.z()))))
    i, j = result.planes[worst] + 1
    for motion, colour, label in ((result.twin, STEADY_COLOUR, "reversible twin"), (result.sgd, SGD_COLOUR, "SGD")):
        shown = motion.sample[-SHOWN_LOOKS:]
        ax.plot(*shown.T, color=colour, lw=0.7, alpha=0.8, label=label)
        ax.plot(*shown[-1], "o", color=colour, ms=5)
    ax.set(xlabel=f"direction {i}", ylabel=f"direction {j}", title="one replica, plane of the largest |z|")
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3)


def _circulations(ax: Axes, result: Any) -> None:
    places = np.arange(len(result.planes))
    for motion, colour, marker, label in (
        (result.twin, STEADY_COLOUR, "s", "reversible twin"),
        (result.sgd, SGD_COLOUR, "o", "SGD"),
    ):
        ax.plot(places, np.atleast_1d(motion.circulation.z()), marker, color=colour, ms=6, label=label)
    bound = result.chance_bound(len(places))
    for side in (-bound, bound):
        ax.axhline(side, color="black", ls="--", lw=1, label="largest by chance, 95 %" if side > 0 else None)
    ax.axhline(0, color="black", lw=0.6)
    ax.set_xticks(places, [f"{i},{j}" for i, j in result.planes + 1], rotation=90 if len(places) > 8 else 0)
    ax.set_xlim(-0.7, len(places) - 0.3)
    ax.set(xlabel="plane of directions i, j", ylabel="circulation in standard errors, z", title="does it turn?")
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3)


def _correlations(ax: Axes, result: Any, kind: str, title: str) -> None:
    measured, law = getattr(result.sgd, kind), getattr(result, f"{kind}_law")
    twin = getattr(result.twin, kind)
    shown = min(SHOWN_DIRECTIONS, law.shape[1])
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, shown))
    for i, colour in enumerate(colours):
        ax.errorbar(
            result.lags,
            measured.value[:, i],
            measured.standard_error[:, i],
            fmt="o",
            color=colour,
            ms=4,
            capsize=2,
            label=f"SGD, direction {i + 1}",
        )
        ax.plot(result.lags, twin.value[:, i], "x", color=colour, ms=5, label="twin" if i == 0 else None)
        ax.plot(result.lags, law[:, i], "-", color=colour, lw=1, label="twin, exact" if i == 0 else None)
    ax.axhline(0, color="black", ls=":", lw=1, label="free Brownian motion")
    ax.set(xscale="log", xlabel="l (steps)", ylabel=r"correlation of $\Delta x_i$", title=title)
    clock = ax.secondary_xaxis("top", functions=_clock(result))
    clock.set_xlabel("clock t", fontsize=8, labelpad=1)
    clock.tick_params(labelsize=7, pad=1)
    ax.grid(alpha=0.3)


def _clock(result: Any) -> tuple[Any, Any]:
    unit = float(result.times[0] / result.lags[0])
    return lambda lag: lag * unit, lambda time: time / unit
