"""The effective potential beside the loss, and what circulates."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sgdsim import theory
from sgdsim.density import Grid
from sgdsim.plots.base import DENSITY_COLOUR, SGD_COLOUR, density_1d, density_2d, frame, highest_density_levels

FAINT = 0.01  # of a field's largest size: what is smaller may be the grid's own error


def effective_potential(result: Any) -> Figure:
    """f beside Φ on common levels, and what circulates beside what descends; in 1-D the potentials and the densities.

    Φ is shown times τ/T, in units of the loss: it is then f where ρ_ss is the Gibbs density e^{−f/τ}/Z.
    """
    if result.grid.dim == 1:
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        _potential_lines(figure.subplots(1, 2), result)
    else:
        panels = _potential_panels(result)
        figure = Figure(figsize=(3.9 * len(panels), 5.4), layout="constrained")
        xlim, ylim = frame(result.grid, result.split.masses[None])
        for ax, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(ax)
            marks = _mark_rest(ax, result)
            ax.set(xlabel="x₁", ylabel="x₂", xlim=xlim, ylim=ylim)
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize=8, frameon=False)
    figure.suptitle(rf"{result.name}: effective potential $\Phi = -T\,\log\,\rho_{{ss}}$, T = {result.temperature:.3g}")
    return figure


def _potential_lines(axes: np.ndarray, result: Any) -> None:
    x, (left, right) = result.grid.axis_centres(0), axes
    phi, height, label = _shown_potential(result)
    if result.loss is not None:
        left.plot(x, result.loss - np.min(result.loss), color=SGD_COLOUR, lw=3, alpha=0.6, label="f − min f")
        if 0 < result.gibbs.temperature < np.inf:
            gibbs = theory.gibbs(result.loss, result.gibbs.temperature)
            density_1d(right, result.grid, gibbs, color=SGD_COLOUR, lw=3, alpha=0.6, label=r"Gibbs $e^{-f/\tau}/Z$")
    left.plot(x, phi, "--", color=DENSITY_COLOUR, lw=1.5, label=label)
    density_1d(right, result.grid, result.split.masses, ls="--", color=DENSITY_COLOUR, lw=1.5, label=r"$\rho_{ss}$")
    held = np.nonzero(_bulk(result))[0]
    height = max(1.5 * height, 1.2 * float(np.max(phi[held[0] : held[-1] + 1])))  # a barrier has no mass, but is seen
    shown = x[phi <= height]
    left.set(xlabel="x", ylabel="potential (units of f)", ylim=(-0.03 * height, height))
    right.set(xlabel="x", ylabel=r"density $\rho(x)$", ylim=(0, None))
    for ax in axes:
        ax.set_xlim(shown[0], shown[-1])
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _potential_panels(result: Any) -> list[Callable[[Axes], None]]:
    """What each panel of the map of a potential draws; without a current there is no panel for it."""
    grid, split = result.grid, result.split
    phi, height, label = _shown_potential(result)
    levels, j_title = MaxNLocator(12).tick_values(0, height), r"circulating drift $j$ over $\rho_{ss}$"
    panels = [partial(_height_map, grid=grid, values=phi, levels=levels, label=label)]
    if result.loss is not None:
        loss = result.loss - np.min(result.loss)
        panels.insert(0, partial(_height_map, grid=grid, values=loss, levels=levels, label="f − min f"))
    if not result.has_current:
        return [
            *panels,
            partial(
                _height_map,
                grid=grid,
                values=split.masses / grid.cell_volume,
                levels=12,
                label=r"$\rho_{ss}$ (no current)",
            ),
        ]
    panels.append(partial(_streams, result=result, field=split.circulating, title=j_title, symbol="|j|"))
    if result.loss is None:
        panels.append(
            partial(_streams, result=result, field=split.drift, title=r"drift $b$ over $\rho_{ss}$", symbol="|b|")
        )
    return [*panels, partial(_share_map, result=result)]


def _shown_potential(result: Any) -> tuple[np.ndarray, float, str]:
    """Φ in units of the loss where there is one, its height over the bulk of the mass, and its label."""
    scale, label = 1.0, r"$\Phi$"
    if result.loss is not None and 0 < result.gibbs.temperature < np.inf:
        scale, label = result.gibbs.temperature / result.temperature, r"$(\tau/T)\,\Phi$"
    phi = scale * result.split.potential
    return phi, float(np.max(phi[_bulk(result)])), label


def _bulk(result: Any, share: float = 0.995) -> np.ndarray:
    """The cells of highest density that hold this share of the mass."""
    masses = result.split.masses
    return masses >= highest_density_levels(masses, masses, (share,))[0]


def _height_map(ax: Axes, grid: Grid, values: Float[np.ndarray, "n m"], levels: Any, label: str) -> None:
    x, y = grid.axis_centres(0), grid.axis_centres(1)
    drawn = ax.contourf(x, y, values.T, levels=levels, cmap="viridis_r", extend="max")
    ax.contour(x, y, values.T, levels=drawn.levels, colors="black", linewidths=0.4, alpha=0.5)
    ax.set_title(label, fontsize=10)
    _bar_below(ax, drawn, label)


def _streams(ax: Axes, result: Any, field: Float[np.ndarray, "n m 2"], title: str, symbol: str) -> None:
    """Streamlines where the particles are, coloured by the field's size, over the density."""
    grid, bulk = result.grid, _bulk(result)
    density_2d(ax, grid, result.split.masses)
    held = [np.nonzero(bulk.any(axis=1 - axis))[0] for axis in range(2)]
    rows, columns = (slice(h[0], h[-1] + 1) for h in held)  # streamlines are spread over what they are given
    size = np.where(bulk, np.linalg.norm(field, axis=-1), 0.0)
    seen = size > FAINT * np.max(size)
    u, v = (np.where(seen, field[..., axis], np.nan)[rows, columns].T for axis in range(2))
    x, y = grid.axis_centres(0)[rows], grid.axis_centres(1)[columns]
    drawn = ax.streamplot(x, y, u, v, color=np.hypot(u, v), cmap="copper_r", density=1.0, linewidth=1.1, arrowsize=1.1)
    ax.set_title(title, fontsize=10)
    _bar_below(ax, drawn.lines, f"{symbol} (units of x per time)")


def _share_map(ax: Axes, result: Any) -> None:
    """|j| over |b| where the particles are; it has no bound where the drift vanishes."""
    split, grid = result.split, result.grid
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.linalg.norm(split.circulating, axis=-1) / np.linalg.norm(split.drift, axis=-1)
    bulk = _bulk(result)
    top = min(1.0, float(np.nanquantile(ratio[bulk], 0.95)))
    x, y = grid.axis_centres(0), grid.axis_centres(1)
    drawn = ax.contourf(
        x, y, np.where(bulk, ratio, np.nan).T, levels=MaxNLocator(12).tick_values(0, top), cmap="magma_r", extend="max"
    )
    label = "|j| / |b|" if result.loss is None else "|j| / |∇f|"
    ax.set_title("share that circulates", fontsize=10)
    _bar_below(ax, drawn, label)


def _bar_below(ax: Axes, drawn: Any, label: str) -> None:
    figure = ax.get_figure()
    assert figure is not None
    bar = figure.colorbar(drawn, ax=ax, location="bottom", shrink=0.9, label=label)
    bar.ax.locator_params(nbins=5)
    bar.ax.tick_params(labelsize=8)


def _mark_rest(ax: Axes, result: Any) -> list[Any]:
    """Marks where the drift vanishes and where Φ is lowest, as far as there are such points."""
    names = ("minimum of f", "other critical point of f")
    if result.loss is None:
        names = ("stable zero of the drift", "other zero of the drift")
    points = {
        names[0]: [zero.position for zero in result.zeros if zero.is_stable],
        names[1]: [zero.position for zero in result.zeros if not zero.is_stable],
        "minimum of Φ": [minimum.position for minimum in result.minima],
    }
    styles: tuple[dict[str, Any], ...] = (
        {"marker": "o", "facecolors": "white", "edgecolors": "black"},
        {"marker": "X", "facecolors": "white", "edgecolors": "black"},
        {"marker": "+", "color": "red", "linewidths": 1.8},
    )
    return [
        ax.scatter(*np.transpose(where), s=55, label=label, zorder=5, **style)
        for (label, where), style in zip(points.items(), styles, strict=True)
        if where
    ]
