"""Pictures: functions that take axes and return artists, and the figures of the studies.

Figures are made without pyplot, so that nothing global is touched.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sgdsim import theory
from sgdsim.density import Grid
from sgdsim.ensemble import Trajectory
from sgdsim.measures import Estimate, leading_plane

SGD_COLOUR = "#d95f02"
LANGEVIN_COLOUR = "#1b9e77"
DENSITY_COLOUR = "#3b4992"
STEADY_COLOUR = "#7f7f7f"
FAINT = 0.01  # of a field's largest size: what is smaller may be the grid's own error
SHOWN_PARTICLES = 800  # more dots than this hide the density below them


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG (or by the path's ending), 150 dots per inch."""
    figure.savefig(path, dpi=150)


def density_1d(ax: Axes, grid: Grid, masses: Float[np.ndarray, " n"], **style: Any) -> list[Any]:
    """A density ρ(x) as a line."""
    return ax.plot(grid.axis_centres(0), masses / grid.cell_volume, **style)


def cloud_1d(ax: Axes, grid: Grid, particles: Float[np.ndarray, "P 1"], bins: int = 64, **style: Any) -> Any:
    """A cloud's histogram, normalised as a density of all its particles."""
    x = particles[np.isfinite(particles[:, 0]), 0]
    edges = np.linspace(grid.lower[0], grid.upper[0], bins + 1)
    counts, _ = np.histogram(x, edges)
    return ax.stairs(counts / (len(x) * np.diff(edges)), edges, **style)


def density_2d(ax: Axes, grid: Grid, masses: Float[np.ndarray, "n m"]) -> Any:
    """A density ρ(x₁, x₂) in filled contours that hold 99, 90, 70, 50, 30 and 10 per cent of its mass."""
    density = masses / grid.cell_volume
    levels = highest_density_levels(density, masses, (0.99, 0.9, 0.7, 0.5, 0.3, 0.1))
    return ax.contourf(
        grid.axis_centres(0), grid.axis_centres(1), density.T, levels=levels, cmap="Purples", extend="max"
    )


def highest_density_levels(
    density: Float[np.ndarray, "*cells"], masses: Float[np.ndarray, "*cells"], shares: Sequence[float]
) -> Float[np.ndarray, " levels"]:
    """The densities above which these shares of the mass lie, increasing."""
    order = np.argsort(density, axis=None)[::-1]
    held = np.cumsum(masses.ravel()[order])
    picked = [density.ravel()[order[min(np.searchsorted(held, s), len(order) - 1)]] for s in shares]
    return np.unique(np.maximum(picked, np.finfo(float).tiny))


def cloud_2d(ax: Axes, particles: Float[np.ndarray, "P 2"], **style: Any) -> Any:
    """The first particles of a cloud as dots."""
    shown = particles[:SHOWN_PARTICLES]
    return ax.scatter(shown[:, 0], shown[:, 1], s=3, linewidths=0, alpha=0.6, **style)


def divergence_curve(
    ax: Axes, times: Float[np.ndarray, " T"], readings: Sequence[Estimate], *, colour: str, label: str
) -> Any:
    """Readings over time with their error bars, one standard error."""
    values, errors = (np.array([getattr(r, field) for r in readings]) for field in ("value", "standard_error"))
    return ax.errorbar(times, values, errors, fmt="o-", color=colour, label=label, ms=4, capsize=2, lw=1.2)


def floor_curve(ax: Axes, times: Float[np.ndarray, " T"], readings: Sequence[Estimate]) -> list[Any]:
    """What perfect agreement would read at most, 95 times in 100."""
    return ax.plot(times, np.array([r.floor for r in readings]), "--", color="black", lw=1, label="floor")


def compare_densities(name: str, sgd: Trajectory, langevin: Trajectory, density: Any) -> Figure:
    """Clouds over the density at four times, and the divergences below; in 3-D, the marginals of x₁ and x₂."""
    shown = _shown_times(len(sgd.times))
    figure = Figure(figsize=(3.1 * len(shown), 6.5 if density.grid.dim == 1 else 9.6), layout="constrained")
    figure.suptitle(f"{name}: clouds of discrete SGD and of its Langevin limit over their Fokker–Planck density")
    if density.grid.dim == 1:
        panels, below = _rows_over_one(figure, 1, len(shown))
        _clouds_over_lines(panels[0], shown, sgd, langevin, density)
    else:
        panels, below = _rows_over_one(figure, 2, len(shown))
        _clouds_over_contours(panels[0], shown, sgd, density, SGD_COLOUR, "SGD")
        _clouds_over_contours(panels[1], shown, langevin, density, LANGEVIN_COLOUR, "Langevin")
    divergence_curve(below, sgd.times, density.sgd, colour=SGD_COLOUR, label="KL(SGD ‖ FP)")
    divergence_curve(below, langevin.times, density.langevin, colour=LANGEVIN_COLOUR, label="KL(Langevin ‖ FP)")
    divergence_curve(below, sgd.times, density.to_steady, colour=STEADY_COLOUR, label="KL(FP ‖ steady state)")
    floor_curve(below, sgd.times, density.sgd)
    below.axhline(0, color="black", lw=0.5)
    # Linear up to the floor, since readings at agreement scatter around zero, and logarithmic above it.
    floor = max(r.floor for r in density.sgd)
    below.set_yscale("symlog", linthresh=floor)
    below.set_ylim(bottom=-3 * floor)
    _finish_curves(below, "Kullback–Leibler divergence (nats)")
    return figure


def compare_clouds(name: str, sgd: Trajectory, langevin: Trajectory, distance: Any) -> Figure:
    """Both clouds in the plane of their two leading directions at four times, and their distance and losses below."""
    shown = _shown_times(len(sgd.times))
    figure = Figure(figsize=(3.1 * len(shown), 6.8), layout="constrained")
    figure.suptitle(f"{name}: discrete SGD and its Langevin limit, along the final clouds' two leading directions")
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    plane = leading_plane(np.concatenate([sgd.particles[-1], langevin.particles[-1]]))
    for ax, i in zip(top.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for cloud, colour, label in ((sgd, SGD_COLOUR, "SGD"), (langevin, LANGEVIN_COLOUR, "Langevin")):
            x = cloud.particles[i] @ plane
            ax.scatter(x[:, 0], x[:, 1], s=9, linewidths=0, alpha=0.7, color=colour, label=label)
        ax.set(title=f"t = {sgd.times[i]:.3g}", xlabel="leading direction", ylabel="second direction")
        ax.locator_params(nbins=4)
        ax.legend(fontsize=7)
    left, right = bottom.subplots(1, 2)
    divergence_curve(left, sgd.times, distance.distance, colour=DENSITY_COLOUR, label="sliced W₂(SGD, Langevin)")
    floor_curve(left, sgd.times, distance.distance)
    left.plot(sgd.times, distance.solver_bias, ":", color=STEADY_COLOUR, label="SDE solver's bias, at most")
    _finish_curves(left, "distance (units of x)")
    divergence_curve(right, sgd.times, distance.sgd_loss, colour=SGD_COLOUR, label="SGD")
    divergence_curve(right, sgd.times, distance.langevin_loss, colour=LANGEVIN_COLOUR, label="Langevin")
    _finish_curves(right, "mean loss f")
    return figure


def scores(laws: Sequence[tuple[str, Sequence[float]]], sigmas: float) -> Figure:
    """The z-scores of each law's readings in a row of their own, over the bands of one, two and `sigmas` errors."""
    figure = Figure(figsize=(7.5, 1.2 + 0.32 * len(laws)), layout="constrained")
    ax = figure.subplots()
    for half, alpha in ((sigmas, 0.10), (2.0, 0.10), (1.0, 0.14)):
        ax.axvspan(-half, half, color=DENSITY_COLOUR, alpha=alpha, lw=0)
    reach = 1.5 * sigmas  # what lies further out is drawn at the edge
    for row, (_, values) in enumerate(laws):
        z = np.nan_to_num(np.array(values, dtype=float), nan=np.inf)
        outside = np.abs(z) > sigmas
        places = row + np.linspace(-0.25, 0.25, len(z) + 2)[1:-1]
        ax.scatter(z[~outside], places[~outside], s=14, color=LANGEVIN_COLOUR, zorder=3)
        ax.scatter(np.clip(z[outside], -reach, reach), places[outside], s=30, marker="x", color=SGD_COLOUR, zorder=3)
    ax.axvline(0, color="black", lw=0.6)
    ax.set(
        xlim=(-1.1 * reach, 1.1 * reach),
        ylim=(len(laws) - 0.4, -0.6),
        xlabel="z = (measured − expected) / standard error",
        title="laws of the literature, measured",
    )
    ax.set_yticks(range(len(laws)), [name for name, _ in laws])
    return figure


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
        xlim, ylim = _frame(result.grid, result.split.masses[None])
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


def _rows_over_one(figure: Figure, rows: int, columns: int) -> tuple[np.ndarray, Axes]:
    """Rows of panels, (rows, columns), over one panel of the whole width."""
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[rows, 1.1])[:, 0]
    return above.subplots(rows, columns, squeeze=False), below.subplots()


def _clouds_over_lines(axes: np.ndarray, shown: list[int], sgd: Trajectory, langevin: Trajectory, density: Any) -> None:
    for ax, i in zip(axes, shown, strict=True):
        cloud_1d(ax, density.grid, sgd.particles[i], fill=True, color=SGD_COLOUR, alpha=0.35, label="SGD")
        cloud_1d(ax, density.grid, langevin.particles[i], color=LANGEVIN_COLOUR, label="Langevin")
        density_1d(ax, density.grid, density.masses[i], color=DENSITY_COLOUR, lw=1.5, label="Fokker–Planck")
        density_1d(ax, density.grid, density.steady, color=STEADY_COLOUR, lw=1, ls=":", label="steady state")
        ax.set(title=f"t = {sgd.times[i]:.3g}", xlabel="x", ylabel="density ρ(x)", ylim=(0, None))
    axes[0].legend(fontsize=7)


def _clouds_over_contours(
    axes: np.ndarray, shown: list[int], cloud: Trajectory, density: Any, colour: str, label: str
) -> None:
    grid = Grid(density.grid.lower[:2], density.grid.upper[:2], density.grid.cells[:2])
    masses = density.masses[shown].reshape(len(shown), *grid.cells, -1).sum(axis=-1)
    xlim, ylim = _frame(grid, masses)
    for ax, i, p in zip(axes, shown, masses, strict=True):
        density_2d(ax, grid, p)
        cloud_2d(ax, cloud.particles[i, :, :2], color=colour, label=label)
        ax.set(title=f"{label}, t = {cloud.times[i]:.3g}", xlabel="x₁", ylabel="x₂", xlim=xlim, ylim=ylim)


def _finish_curves(ax: Axes, label: str) -> None:
    ax.set(xlabel=r"time $t = \eta_e k$ (steps × effective learning rate)", ylabel=label)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)  # above the curves


def _frame(grid: Grid, masses: Float[np.ndarray, "times n m"]) -> list[tuple[float, float]]:
    """Limits along both axes that leave out a thousandth of the mass, since a grid reaches further than the eye."""
    limits = []
    for axis in range(2):
        held = np.cumsum(masses.sum(axis=2 - axis), axis=1)
        centres = grid.axis_centres(axis)
        low = min(centres[np.searchsorted(h, 0.0005)] for h in held)
        high = max(centres[min(np.searchsorted(h, 0.9995), len(centres) - 1)] for h in held)
        limits.append((float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))))
    return limits


def _shown_times(count: int) -> list[int]:
    """Four saved times from the first to the last, closer together at the start, where a cloud moves most."""
    return sorted({0, min(1, count - 1), (count - 1) // 4, count - 1})
