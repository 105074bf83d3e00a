"""Mean and spread of the gradient of each layer through training, their ratio, and the distance from the start."""

from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sgdsim.plots.base import DENSITY_COLOUR, SGD_COLOUR, STEADY_COLOUR

MOST_LAYERS = 4  # panels of single layers; of a deeper network the first and the last ones


def two_phases(result: Any) -> Figure:
    """Mean and spread over |W| of each layer on top; the ratio and the distance of all layers below."""
    single = list(range(len(result.layers) - 1))
    if len(single) > MOST_LAYERS:
        single = single[: MOST_LAYERS // 2] + single[-MOST_LAYERS // 2 :]
    figure = Figure(figsize=(max(4.2 * len(single), 9.5), 8.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    axes = np.atleast_1d(top.subplots(1, len(single), sharey=True))
    for ax, layer in zip(axes, single, strict=True):
        _mean_and_spread(ax, result, layer)
    axes[0].set_ylabel("gradient over |W|")
    ratio, distance = bottom.subplots(1, 2)
    _curves(ratio, result, result.means / result.spreads)
    ratio.axhline(1, color="black", lw=0.8, ls="--")
    ratio.set(ylabel=r"$|\nabla f|\,/\,\sqrt{s_B\,{\rm Tr}\,D/B}$", title="mean over spread (signal to noise)")
    _curves(distance, result, result.distances, from_step=1)
    _slopes(distance, result)
    distance.set(ylabel=r"$|x_k - x_0|$", title="distance from the start")
    for ax in (ratio, distance):
        ax.legend(fontsize=8)
    kept = result.losses.shape[1]
    figure.suptitle(f"{result.name}: drift, then diffusion? Means over {kept} replicas; bands: their spread")
    return figure


def _axis(ax: Axes, result: Any) -> None:
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xlim(-0.1, 1.2 * result.steps[-1])
    ax.set(yscale="log", xlabel="step k")
    ax.grid(alpha=0.3)


def _band(ax: Axes, steps: Any, values: Float[np.ndarray, "T R"], **style: Any) -> None:
    """The replicas' mean, and one standard deviation of their logarithms about it."""
    mean, width = np.mean(values, axis=1), np.exp(np.std(np.log(values), axis=1))
    ax.plot(steps, mean, marker="o", ms=3, lw=1.4, **style)
    ax.fill_between(steps, mean / width, mean * width, color=style["color"], alpha=0.18, lw=0)


def _mean_and_spread(ax: Axes, result: Any, layer: int) -> None:
    label = r"mean $|\nabla f|/|W|$"
    _band(
        ax,
        result.steps,
        (result.means / result.weights)[:, :, layer],
        color=DENSITY_COLOUR,
        label=label,
    )
    label = r"spread $\sqrt{s_B\,{\rm Tr}\,D/B}\,/|W|$"
    _band(ax, result.steps, (result.spreads / result.weights)[:, :, layer], color=SGD_COLOUR, label=label)
    crossed = result.crossings[np.isfinite(result.crossings[:, layer]), layer]
    if len(crossed):
        ax.axvline(np.mean(crossed), color="black", ls=":", lw=1, label=f"below for good: step {np.mean(crossed):,.0f}")
    _axis(ax, result)
    ax.set_title(f"{result.layers[layer]} ({result.sizes[layer]:,} weights)")
    ax.legend(fontsize=8)


def _curves(ax: Axes, result: Any, values: Float[np.ndarray, "T R L"], from_step: int = 0) -> None:
    shown = result.steps >= from_step
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, max(len(result.layers) - 1, 1)))
    for i, name in enumerate(result.layers):
        colour = "black" if i == len(result.layers) - 1 else colours[i]
        _band(ax, result.steps[shown], values[shown][:, :, i], color=colour, label=name)
    _axis(ax, result)


def _slopes(ax: Axes, result: Any) -> None:
    """Lines of slope 1 from the first step and of slope ½ to the last, beside the curve of all weights."""
    steps, mean = result.steps[1:], np.mean(result.distances[1:, :, -1], axis=1)
    half = steps[-1] / 30
    for x, y, style, label in (
        (np.array([1, 30]), 1.6 * mean[0] * np.array([1, 30]), "--", r"$\propto k$"),
        (np.array([half, steps[-1]]), 1.6 * mean[-1] * np.array([30**-0.5, 1]), ":", r"$\propto \sqrt{k}$"),
    ):
        ax.plot(x, y, style, color=STEADY_COLOUR, lw=1.3, label=label)
