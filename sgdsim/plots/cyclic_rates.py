"""A loss that follows a swinging temperature, late and less."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plots.base import DENSITY_COLOUR, LANGEVIN_COLOUR, SGD_COLOUR, STEADY_COLOUR


def cyclic_rates(result: Any) -> Figure:
    """Excess losses over two turns for each period above; below, how much of the swing comes through and how late."""
    count = len(result.cycles)
    figure = Figure(figsize=(3.3 * max(count, 2), 7.2), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 0.95])[:, 0]
    panels = above.subplots(1, count, squeeze=False)[0]
    for ax, cycle in zip(panels, result.cycles, strict=True):
        _turns(ax, cycle, result.relaxation_time)
    panels[0].set_ylabel("excess loss ⟨f⟩ − min f")
    handles, labels = panels[0].get_legend_handles_labels()
    above.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    left, right = below.subplots(1, 2)
    for ax, part in ((left, 0), (right, 1)):
        _response(ax, result, part)
    left.set(ylabel="swing of ⟨f⟩ − min f over T's", ylim=(0, None))
    right.set(ylabel="lag (turns)")
    left.legend(fontsize=8, frameon=False)
    figure.suptitle(rf"{result.name}: $\eta$ swings by ± {result.swing:.0%} about its mean")
    return figure


def _turns(ax: Axes, cycle: Any, relaxation: float) -> None:
    t = (cycle.times - cycle.times[0]) / cycle.period
    mean = np.mean(cycle.density) / np.mean(cycle.temperatures)
    ax.plot(t, mean * cycle.temperatures, color=STEADY_COLOUR, ls=":", lw=1.2, label="T, scaled")
    for losses, colour, label in ((cycle.sgd, SGD_COLOUR, "SGD"), (cycle.langevin, LANGEVIN_COLOUR, "Langevin")):
        ax.errorbar(t, losses.value, losses.standard_error, fmt="o", color=colour, ms=3, lw=1, label=label)
    ax.plot(t, cycle.density, color=DENSITY_COLOUR, lw=1.4, label="Fokker–Planck")
    ax.set(
        xlabel="time in turns",
        title=rf"period {cycle.period:.3g} = {cycle.period / relaxation:.2g}/$k_{{min}}$",
        ylim=(0, None),
    )
    ax.grid(alpha=0.3)


def _response(ax: Axes, result: Any, part: int) -> None:
    periods = [cycle.period / result.relaxation_time for cycle in result.cycles]
    for name, colour, style, label in (
        ("quadratic", STEADY_COLOUR, "--", "limit on the quadratic, exact"),
        ("density", DENSITY_COLOUR, "-", "Fokker–Planck"),
        ("sgd", SGD_COLOUR, "o", "SGD"),
        ("langevin", LANGEVIN_COLOUR, "s", "Langevin"),
    ):
        values = [getattr(cycle, name) for cycle in result.cycles]
        read = [
            cycle.response(np.asarray(getattr(v, "value", v)))[part]
            for cycle, v in zip(result.cycles, values, strict=True)
        ]
        ax.plot(periods, read, style, color=colour, ms=5, lw=1.3, label=label)
    ax.set(xscale="log", xlabel=r"period of the cycle, in relaxation times $1/k_{min}$")
    ax.grid(alpha=0.3)
