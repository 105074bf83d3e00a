"""The atlas of SGD against its limits: a map for each limit, transient and late, over learning rate and batch size."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

SPAN = (-1.0, 0.0, 3.0)  # log₁₀ of the floors at the colours' ends and middle
NO_READING = "#e6e6e6"


def breakdown(result: Any) -> Figure:
    """Maps of log₁₀(distance/floor): blue within the floor, red beyond, bold where SGD departs; the laws over them.

    Args:
        result: a `Breakdown`.
    """
    panels = result.panels
    rows = len(panels) // 2
    figure = Figure(figsize=(11.0, 0.9 + 2.35 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    images = []
    for panel, ax in zip(panels, axes.ravel(), strict=True):
        images.append(_map(ax, panel, result.settings["particles"]))
        _laws(ax, panel)
        ax.set_title(panel.title, fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("learning rate η (one column: one η/(1−μ))")
    for ax in axes[:, 0]:
        ax.set_ylabel("batch size B")
    bar = figure.colorbar(images[0], ax=axes, shrink=min(1.0, 2.2 / rows), pad=0.01, extend="both")
    bar.set_label("distance / floor")
    bar.set_ticks([-1, 0, 1, 2, 3], labels=["≤ 0.1", "1", "10", "100", "≥ 1000"])
    times = " and ".join(f"{t:g}" for t in result.settings["times"])
    figure.suptitle(f"{result.name}: how far SGD is from its limits at t = {times}", fontsize=11)
    figure.legend(
        handles=_legend(result.settings["is_linear"]), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    return figure


def _map(ax: Axes, panel: Any, particles: int) -> Any:
    """Colours and numbers of the cells; diverged ones hatched, lightly where a part of the cloud is left."""
    x, y = (_edges(np.log2(values)) for values in (panel.rates, panel.batch_sizes))
    floors = panel.floors
    ax.set_facecolor(NO_READING)
    with np.errstate(invalid="ignore"):
        shown = np.log10(np.clip(floors, 10.0 ** SPAN[0], 10.0 ** SPAN[2]))
    norm = TwoSlopeNorm(vmin=SPAN[0], vcenter=SPAN[1], vmax=SPAN[2])
    image = ax.pcolormesh(x, y, np.ma.masked_invalid(shown), cmap="RdBu_r", norm=norm)
    for i, j in np.ndindex(floors.shape):
        if panel.diverged[i, j]:
            hatch = "xxxx" if panel.diverged[i, j] >= particles else "//"
            corner, size = (x[j], y[i]), (x[j + 1] - x[j], y[i + 1] - y[i])
            ax.add_patch(Rectangle(corner, *size, fill=False, hatch=hatch, edgecolor="black", lw=0, alpha=0.6))
        if np.isfinite(floors[i, j]):
            dark = not -0.7 < shown[i, j] < 1.7
            weight = "bold" if panel.departs[i, j] else "normal"
            middle = (x[j] + x[j + 1]) / 2, (y[i] + y[i + 1]) / 2
            colour = "white" if dark else "black"
            text = _short(floors[i, j]) + ("*" if panel.solver_departs[i, j] == 1 else "")
            ax.text(*middle, text, ha="center", va="center", fontsize=7, weight=weight, color=colour)
    ax.set_xticks(np.log2(panel.rates), [f"{v:.3g}" for v in panel.learning_rates], fontsize=8)
    ax.set_yticks(np.log2(panel.batch_sizes), [f"{v:g}" for v in panel.batch_sizes], fontsize=8)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    return image


def _laws(ax: Axes, panel: Any) -> None:
    """The contour where the exact laws expect the floor, the edge of stability, and the linear scaling rule."""
    x, y = np.log2(panel.rates), np.log2(panel.batch_sizes)
    expected = panel.expected_floors
    if np.isfinite(expected).any() and min(expected.shape) > 1:
        with np.errstate(invalid="ignore", divide="ignore"):
            height = np.ma.masked_invalid(np.log10(np.maximum(expected, 1e-12)))
        ax.contour(x, y, height, levels=[0.0], colors="black", linewidths=1.6)
    if np.isfinite(panel.edge):
        ax.axvline(np.log2(panel.edge), color="black", ls="--", lw=1.2)
        # η/B held at its value in the middle of the map: the rule meets the edge at the critical batch size B*
        middle = np.mean(x) - np.mean(y)
        ax.axline((float(np.mean(x)), float(np.mean(y))), slope=1, color="black", ls=":", lw=1.0)
        critical = np.log2(panel.edge) - middle
        if y[0] <= critical <= y[-1]:
            ax.plot([np.log2(panel.edge)], [critical], "o", color="black", ms=4)


def _legend(is_linear: bool) -> list[Any]:
    law = "exact law" if is_linear else "law linearised at the minimum"
    return [
        Line2D([], [], color="black", lw=1.6, label=f"{law}: distance = floor"),
        Line2D([], [], color="black", ls="--", lw=1.2, label="edge of stability, ηk = 2(1+μ)"),
        Line2D([], [], color="black", ls=":", marker="o", ms=4, lw=1.0, label="η ∝ B, one temperature, up to B*"),
        Patch(facecolor="white", hatch="xxxx", edgecolor="black", label="all of SGD's particles diverged"),
        Patch(facecolor="white", hatch="//", edgecolor="black", label="some diverged (left out)"),
        Line2D([], [], ls="", marker="$*$", color="black", label="the limit's own error counts too"),
    ]


def _edges(centres: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """Borders halfway between the centres, and as far beyond the outermost."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _short(value: float) -> str:
    """A number in a cell: two digits, no sign of what is only noise below zero."""
    if value < 0.1:
        return "<.1"
    if value < 9.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 9999 else f"1e{np.log10(value):.0f}"
