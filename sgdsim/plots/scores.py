"""The z-scores of the paper table."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sgdsim.plots.base import DENSITY_COLOUR, LANGEVIN_COLOUR, SGD_COLOUR


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
