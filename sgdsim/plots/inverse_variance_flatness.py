"""Weight variance against curvature and flatness, with independent batches and reshuffled epochs."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plots.base import DENSITY_COLOUR, SGD_COLOUR, STEADY_COLOUR

TITLES = {"ensemble": "over replicas (no window)", "window": "over time, in each run's window"}


def inverse_variance_flatness(result: Any) -> Figure:
    """σ² against k over replicas and over time along the Hessian's eigenvectors, and against F in principal ones."""
    figure = Figure(figsize=(15, 5.2), layout="constrained")
    over_replicas, over_time, principal = figure.subplots(1, 3)
    for ax, way in ((over_replicas, "ensemble"), (over_time, "window")):
        _against_curvature(ax, result, way)
    over_time.sharey(over_replicas)
    handles, labels = over_replicas.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=len(labels), frameon=False)
    _against_flatness(principal, result)
    figure.suptitle(f"{result.name}: weight variance, sharp and flat directions")
    return figure


def _sides(result: Any) -> tuple[tuple[Any, str, str], ...]:
    return (
        (result.independent, SGD_COLOUR, f"independent ({result.independent.sampling})"),
        (result.reshuffled, DENSITY_COLOUR, "reshuffled epochs"),
    )


def _against_curvature(ax: Axes, result: Any, way: str) -> None:
    for sampled, colour, label in _sides(result):
        variance = sampled.variance(way)
        ax.errorbar(
            result.curvatures,
            variance.value,
            variance.standard_error,
            fmt="o",
            color=colour,
            ms=4,
            capsize=2,
            lw=1,
            label=label,
        )
        if sampled.law[way] is not None:
            ax.plot(result.curvatures, sampled.law[way], "-", color=colour, lw=1, label=f"{label}: law of a quadratic")
    ax.axvline(result.crossover, color=STEADY_COLOUR, ls=":", lw=1.2, label=r"crossover $3/(\eta M)$")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="curvature k along the Hessian's eigenvector",
        ylabel=r"variance $\sigma^2$",
        title=TITLES[way],
    )
    ax.grid(alpha=0.3)


def _against_flatness(ax: Axes, result: Any) -> None:
    for sampled, colour, _ in _sides(result):
        widths = sampled.principal.flatness
        variances = sampled.principal.variances[: len(widths)]
        known = np.isfinite(widths)
        psi = sampled.principal.psi(1)
        ax.plot(
            widths[known], variances[known], ".", color=colour, ms=4, alpha=0.6, label=f"ψ = {psi} without the first"
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="flatness F along the run's principal direction",
        ylabel=r"variance $\sigma^2$ over the window",
        title="as Feng and Tu look at it",
    )
    low, high = ax.get_ylim()
    ax.set_ylim(low, 8 * high)  # room for the legend
    ax.legend(fontsize=8, loc="upper center")
    ax.grid(alpha=0.3)
