"""Cooling by the learning rate or by the batch: widths on the clock, and where they part."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plots.base import CHAIN_COLOUR, DENSITY_COLOUR, SGD_COLOUR, STEADY_COLOUR

COLOURS = (SGD_COLOUR, DENSITY_COLOUR, CHAIN_COLOUR, STEADY_COLOUR)


def batch_not_decay(result: Any) -> Figure:
    """Widths over time at the smallest and at the largest learning rate that nobody diverged at, and the excess."""
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    small, large, right = figure.subplots(1, 3)
    finite = [
        i for i in range(len(result.learning_rates)) if all(arms[i].diverged == 0 for arms in result.arms.values())
    ]
    for ax, i in zip((small, large), (finite[0], finite[-1]) if finite else (0, 0), strict=True):
        _widths(ax, result, i)
    _excess(right, result)
    handles, labels = small.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    figure.suptitle(f"{result.name}: temperature cut by {result.factor} in two stages, three ways")
    return figure


def _widths(ax: Axes, result: Any, i: int) -> None:
    for (name, arms), colour in zip(result.arms.items(), COLOURS, strict=True):
        arm = arms[i]
        style = "--" if name == "limit" else "o-"
        ax.errorbar(
            arm.times, arm.widths.value, arm.widths.standard_error, fmt=style, ms=3, color=colour, label=name, lw=1.3
        )
    ax.axvline(result.stage_ends[0], color="black", lw=0.6, ls=":")
    rate = result.learning_rates[i]
    ax.set(
        xlabel=r"time $t = \sum \eta_e$",
        ylabel="width of the cloud, Tr Cov(x) (units of x²)",
        title=rf"$\eta$ = {rate:.3g}, $\eta k_{{max}}$ = {rate * result.top_curvature:.2g}",
        ylim=(0, None),
    )
    ax.grid(alpha=0.3)


def _excess(ax: Axes, result: Any) -> None:
    """The excess over the limit at the end of the run, against ηk_max, with the law of the quadratic."""
    x = result.learning_rates * result.top_curvature
    label = r"$\eta\, k_{max}$ of the first stage"
    if not np.isfinite(result.top_curvature):
        x, label = result.learning_rates, r"$\eta$ of the first stage"
    for arms, colour in zip(list(result.arms.values())[:3], COLOURS, strict=False):
        value, error = (np.array([getattr(arm.excess, f) for arm in arms]) for f in ("value", "standard_error"))
        ax.errorbar(x, 100 * value, 100 * error, fmt="o", color=colour, ms=4, capsize=2)
        law = np.array([arm.law for arm in arms])
        shown = np.isfinite(law)
        ax.plot(x[shown], 100 * law[shown], color=colour, lw=1, alpha=0.7)
    ax.axhline(0, color=STEADY_COLOUR, ls="--", lw=1)
    ax.set(
        xscale="log",
        xlabel=label,
        ylabel="final width over the limit's (%)",
        title="dots: measured; lines: its quadratic",
    )
    ax.grid(alpha=0.3)
