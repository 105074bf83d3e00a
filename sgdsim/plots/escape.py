"""The figure of the escape study: times across T, the monitoring bias, and noise shapes."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plots.base import DENSITY_COLOUR, LANGEVIN_COLOUR, SGD_COLOUR, STEADY_COLOUR


def escape(result: Any) -> Figure:
    """Log mean time against 1/T, what looking at steps only adds against η, and the time under each noise shape."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    times, monitoring, shapes = figure.subplots(1, 3)
    _times(times, result)
    _monitoring(monitoring, result)
    _shapes(shapes, result)
    figure.suptitle("escape from a well: clouds with one standard error against exact mean times")
    return figure


def _times(ax: Axes, result: Any) -> None:
    rows = sorted(result.temperatures, key=lambda row: row.temperature)
    inverse = np.array([1 / row.temperature for row in rows])
    ax.plot(inverse, [r.kramers for r in rows], "--", color=STEADY_COLOUR, label="Kramers' law")
    ax.plot(inverse, [r.exact for r in rows], color=DENSITY_COLOUR, label="exact (quadrature)")
    density = [r.density.value for r in rows]
    ax.plot(inverse, density, "s", ms=9, mfc="none", color=DENSITY_COLOUR, label="Fokker–Planck generator")
    for name, colour, shift, marker, label in (
        ("sgd", SGD_COLOUR, -0.12, "o", "SGD, at its steps"),
        ("looked", LANGEVIN_COLOUR, 0.0, "x", "Langevin, at its steps"),
        ("bridged", LANGEVIN_COLOUR, 0.12, "o", "Langevin, with bridges"),
    ):
        _points(ax, inverse + shift, [getattr(r, name) for r in rows], fmt=marker, color=colour, label=label)
    ax.set(yscale="log", xlabel="1/T", ylabel="mean time −1 → +1 (clock units, η × steps)")
    ax.set_title(f"(x² − 1)²/4, η = {result.settings['learning_rate']:g}", fontsize=10)
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3)


def _monitoring(ax: Axes, result: Any) -> None:
    rows, exact = result.monitoring, result.settings["monitored_exact"]
    rates = np.array([row.learning_rate for row in rows])
    ax.plot(rates, [r.predicted for r in rows], color=DENSITY_COLOUR, label="boundary 0.5826 √(2Tη) further out")
    _points(
        ax, rates, [r.bias for r in rows], fmt="o", color=SGD_COLOUR, label="late: at steps − with bridges, by pairs"
    )
    early = [-1 * (r.bridged - exact) for r in rows]
    _points(ax, 1.03 * rates, early, fmt="o", color=LANGEVIN_COLOUR, label="early: exact − SGD with bridges")
    lowest = min([r.bias.value for r in rows] + [e.value for e in early if e.value > 0])
    ax.set(xscale="log", yscale="log", ylim=(lowest / 3, None))
    ax.set(xlabel="learning rate η", ylabel="difference of mean times (clock units)")
    ax.set_xticks(rates, [f"{eta:g}" for eta in rates])
    ax.set_xticks([], minor=True)
    title = f"T = {result.settings['monitored_temperature']:g} held fixed: late by ~ η^p, p = {result.exponent}"
    ax.set_title(title, fontsize=10)
    ax.legend(fontsize=8, loc="lower right")
    ax.grid(alpha=0.3)


def _shapes(ax: Axes, result: Any) -> None:
    rows = sorted(result.shapes, key=lambda row: row.sgd.value)
    places = np.arange(len(rows))
    known = [i for i, row in enumerate(rows) if np.isfinite(row.along)]
    exact = [rows[i].exact.value for i in known]
    ax.plot(places[known], exact, "_", ms=26, mew=2, color=DENSITY_COLOUR)
    ax.plot([], [], "_", ms=12, mew=2, color=DENSITY_COLOUR, label="Fokker–Planck generator")
    _points(ax, places, [row.sgd for row in rows], fmt="o", color=SGD_COLOUR, label="SGD, at its steps")
    names = [f"{r.shape}\n{r.along:.3g}" if np.isfinite(r.along) else f"{r.shape}\nno D" for r in rows]
    ax.set_xticks(places, names, fontsize=7.5)
    ax.set(
        yscale="log",
        xlim=(-0.6, len(rows) - 0.4),
        xlabel="noise shape, and T eᵀDe along the way out at the saddle",
        ylabel="mean time to x₁ = 1 (clock units, η × steps)",
    )
    ax.set_title(f"slanted double well, T = {result.settings['shape_temperature']:g}, noise of one trace", fontsize=10)
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3, axis="y")


def _points(ax: Axes, x: Any, readings: list[Any], **style: Any) -> None:
    errors = [r.standard_error for r in readings]
    ax.errorbar(x, [r.value for r in readings], errors, ms=5, capsize=3, lw=1.2, ls="none", **style)
