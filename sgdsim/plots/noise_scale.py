"""Test errors against the noise scale, how far they are off one curve, and the best batches."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from sgdsim.plots.base import CHAIN_COLOUR, DENSITY_COLOUR, LANGEVIN_COLOUR, SGD_COLOUR, STEADY_COLOUR

MARKERS = "os^Dv"
COLOURS = (DENSITY_COLOUR, LANGEVIN_COLOUR, SGD_COLOUR, CHAIN_COLOUR)


def noise_scale(result: Any) -> Figure:
    """What was measured against g; below, the share by which cells are off the curve, and the best batches."""
    figure = Figure(figsize=(12.5, 9.0), layout="constrained")
    axes = figure.subplots(2, 2)
    for ax, quantity in zip(axes[0], (*result.quantities, None)[:2], strict=True):
        if quantity is None:
            _off_the_curve(ax, result, result.quantities[0])
        else:
            _against_g(ax, result, quantity)
    _off_the_curve(axes[1, 0], result, result.quantities[-1])
    _best_batches(axes[1, 1], result, result.quantities[0])
    axes[0, 0].legend(fontsize=8, ncols=2, loc="upper left")
    figure.suptitle(f"{result.name}: test error and noise scale, all cells at equal {result.held}")
    return figure


def _groups(result: Any) -> list[tuple[list[Any], dict[str, Any], str]]:
    """The cells of all N examples by η_e (colour) and μ (marker)."""
    rates, momenta = ([*sorted({getattr(c, name) for c in result.whole})] for name in ("rate", "momentum"))
    colours = matplotlib.colormaps["viridis_r"](np.linspace(0.05, 1, len(rates)))
    groups = []
    for i, rate in enumerate(rates):
        for j, momentum in enumerate(momenta):
            cells = [c for c in result.whole if c.rate == rate and c.momentum == momentum]
            style = {"color": colours[i], "marker": MARKERS[j % len(MARKERS)], "ls": "", "ms": 5, "capsize": 2}
            style |= {"mfc": colours[i] if j == 0 else "none"}
            label = rf"$\eta_e$ = {rate:.3g}, $\mu$ = {momentum:g}"
            groups += [(cells, style, label)] if cells else []
    return groups


def _against_g(ax: Axes, result: Any, quantity: str) -> None:
    curve = {}
    for cell in sorted(result.whole, key=lambda c: (c.noise_scale, c.rate)):
        curve.setdefault(float(f"{cell.noise_scale:.6g}"), []).append(cell)
    least = [[c.mean(quantity).value for c in cells if c.rate == cells[0].rate] for cells in curve.values()]
    label = r"the smallest $\eta_e$ at each g"
    ax.plot(list(curve), [np.mean(values) for values in least], color=STEADY_COLOUR, lw=1, zorder=0, label=label)
    for cells, style, label in _groups(result):
        means = [c.mean(quantity) for c in cells]
        values, errors = ([getattr(m, field) for m in means] for field in ("value", "standard_error"))
        ax.errorbar([c.noise_scale for c in cells], values, errors, label=label, **style)
    ax.set(xscale="log", xlabel=r"noise scale $g = s_B\,\eta_e N/B$", ylabel=quantity, title=f"{quantity} against g")
    if quantity == "test loss":
        ax.set_yscale("log")
    ax.grid(alpha=0.3)


def _off_the_curve(ax: Axes, result: Any, quantity: str) -> None:
    for cells, style, _ in _groups(result):
        shown = [(c, c.mean(quantity), result.curve(c, quantity)) for c in cells]
        shown = [(c, own, curve) for c, own, curve in shown if curve is not None]
        if not shown:
            continue
        x = [result.stability(c) for c, _, _ in shown]
        y = [own.value / curve.value for _, own, curve in shown]
        errors = [np.hypot(own.standard_error, curve.standard_error) / curve.value for _, own, curve in shown]
        ax.errorbar(x, y, errors, **style)
    ax.axhline(1, color=STEADY_COLOUR, ls="--", lw=1)
    ax.axvline(1, color="black", ls=":", lw=1)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=r"$\eta_e\, k_{max}$ over the edge of stability, $2(1+\mu)/(1-\mu)$",
        ylabel=f"{quantity} over the curve's",
        title=r"cells against those of the smallest $\eta_e$ at their g",
    )
    ax.yaxis.set_minor_formatter("{x:.3g}")
    ax.yaxis.set_major_formatter("{x:.3g}")
    ax.grid(alpha=0.3)


def _best_batches(ax: Axes, result: Any, quantity: str) -> None:
    best = result.optima[quantity]
    families = sorted({line[:2] for line in best.lines})
    counts = sorted({count for count, _ in families})
    for count, momentum in families:
        places = [i for i, line in enumerate(best.lines) if line[:2] == (count, momentum)]
        rates = np.array([best.lines[i][2] for i in places])
        log_batch, error = best.batches.value[places], best.batches.standard_error[places]
        batch, colour = 2**log_batch, COLOURS[counts.index(count) % len(COLOURS)]
        spread = np.array([batch - 2 ** (log_batch - error), 2 ** (log_batch + error) - batch])
        inside, marker = best.inside[places], "s" if momentum else "o"
        label = f"N = {count:,}, " + rf"$\mu$ = {momentum:g}"
        style: dict[str, Any] = {"color": colour, "ls": "", "marker": marker, "ms": 5, "capsize": 2}
        style |= {"mfc": "none" if momentum else colour}
        ax.errorbar(rates[inside], batch[inside], spread[:, inside], label=label, **style)
        ax.plot(rates[~inside], batch[~inside], "x", color=colour, ms=6)
    rates = np.array(sorted({rate for _, _, rate in best.lines}))
    if np.any(best.inside):
        for count in counts:
            own = [i for i, line in enumerate(best.lines) if line[0] == count and best.inside[i]]
            if own:
                level = np.mean([best.batches.value[i] - np.log2(best.lines[i][2]) for i in own])
                colour = COLOURS[counts.index(count) % len(COLOURS)]
                ax.plot(rates, 2**level * rates, color=colour, lw=0.8, ls="--")
    ax.set(xscale="log", yscale="log", xlabel=r"$\eta_e$", ylabel=f"best batch size by {quantity}")
    ax.xaxis.set_major_locator(FixedLocator(list(rates)))
    ax.yaxis.set_major_locator(FixedLocator([2**i for i in range(20)]))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:.4g}")
        axis.set_minor_locator(NullLocator())
    ax.set_title(r"best batch (×: at the edge of the grid); dashed: $B \propto \eta_e$")
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3)
