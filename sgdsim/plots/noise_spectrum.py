"""The spectrum of minibatch noise through training, and how small a share of the dimensions it needs."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.measures.noise_spectrum import SINGLE_PRECISION
from sgdsim.plots.base import CHAIN_COLOUR, DENSITY_COLOUR, LANGEVIN_COLOUR, SGD_COLOUR, STEADY_COLOUR

PAPER = (0.003, 0.02)  # rank over d as Chaudhari and Soatto report it


def noise_spectrum(result: Any) -> Figure:
    """Eigenvalues of D over the largest at each look, and the shares of d against the step."""
    figure = Figure(figsize=(12.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _spectra(left, result)
    _shares(right, result)
    figure.suptitle(f"{result.name}: noise of one example in d = {result.dim:,}, N = {result.num_examples:,}")
    return figure


def _spectra(ax: Axes, result: Any) -> None:
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(result.steps)))
    for step, values, colour in zip(result.steps, result.eigenvalues[:, 0], colours, strict=True):
        if len(values) and values[0] > 0:
            ratio = values / values[0]
            shown = ratio > np.finfo(result.dtype).eps  # the rest is rounding
            ax.plot(1 + np.flatnonzero(shown), ratio[shown], color=colour, lw=1.4, label=f"step {step:,}")
    limit = min(result.dim, result.num_examples - 1)
    ax.axhline(result.dim * SINGLE_PRECISION, color="black", ls="--", lw=1, label=r"threshold $d\,\epsilon$")
    ax.axvline(limit, color=STEADY_COLOUR, ls=":", lw=1.2, label=f"min(d, N − 1) = {limit:,}")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="number of the eigenvalue",
        ylabel=r"eigenvalue of D over the largest, $\lambda_i/\lambda_{max}$",
        title="spectrum of D(x), first replica",
    )
    ax.legend(fontsize=8, loc="lower left")
    ax.grid(alpha=0.3)


def _shares(ax: Axes, result: Any) -> None:
    curves = [("numerical rank", result.ranks, SGD_COLOUR)]
    colours = (LANGEVIN_COLOUR, DENSITY_COLOUR, CHAIN_COLOUR)
    for (fraction, count), colour in zip(reversed(list(result.directions.items())), colours, strict=True):
        curves.append((f"directions for {fraction:.0%} of Tr D", count, colour))
    for label, count, colour in curves:
        value, error = 100 * count.value / result.dim, 100 * count.standard_error / result.dim
        ax.errorbar(result.steps, value, error, fmt="o-", color=colour, ms=4, capsize=2, lw=1.3, label=label)
    half = 100 * result.half_ranks / result.dim
    ax.plot(result.steps, half, "s--", color=SGD_COLOUR, ms=3, lw=0.9, alpha=0.7, label="rank, every second example")
    ax.axhline(100 * result.largest_share, color=STEADY_COLOUR, ls=":", lw=1.2, label="what N allows, (N − 1)/d")
    ax.axhspan(100 * PAPER[0], 100 * PAPER[1], color="black", alpha=0.07, label="Chaudhari and Soatto, 0.3–2 %")
    later = float(result.steps[result.steps > 0][0]) if result.steps[-1] else 1.0
    ax.set_xscale("symlog", linthresh=later, linscale=0.5)
    ax.set_xlim(-0.1 * later, 1.3 * max(result.steps[-1], later))
    ax.set(yscale="log", xlabel="step", ylabel="share of d (%)", title="how many directions the noise has")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    ax.grid(alpha=0.3)
