"""Tables, and readings in plain words."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from tabulate import tabulate

from sgdsim.density import Grid
from sgdsim.density.fit import CELLS_PER_WIDTH, cells_per_width
from sgdsim.measures import Estimate

# A floor is passed once in twenty readings at agreement, and a report has many; this far above it, hardly ever.
MARGIN = 2.0


def table(header: list[str], rows: list[list[str]], left: int = 0) -> str:
    """A report's table: text as it is, to the right but for the first `left` columns."""
    sides = ["left"] * left + ["right"] * (len(header) - left)
    return tabulate(rows, headers=header, disable_numparse=True, colalign=sides)


def resolution(grid: Grid, widths: Float[np.ndarray, " d"]) -> str | None:
    """How many cells lie across the narrowest steady width, and whether they are enough; None where none is known."""
    fit = cells_per_width(grid, widths)
    if not np.isfinite(fit):
        return None
    enough = "" if fit >= CELLS_PER_WIDTH else f", fewer than the {CELLS_PER_WIDTH} it should have"
    return f"{fit:.1f} cells across the narrowest steady width{enough}"


def departs(reading: Estimate) -> bool:
    """Whether a reading lies more than two standard errors above what agreement would read."""
    return bool(reading.value > reading.floor + MARGIN * reading.standard_error)


def in_words(agreement: str, departure: str, times: Float[np.ndarray, " T"], readings: Sequence[Estimate]) -> str:
    """`agreement` at all times, or `departure` since when, until when, and by how many floors."""
    unread = sum(not np.isfinite(r.value) for r in readings)
    if unread:
        return f"At {unread} of {len(times)} saved times there was nothing to read: too few particles, or none left."
    apart = [departs(r) for r in readings]
    if not any(apart):
        margin = f"no reading is more than {MARGIN:g} standard errors above its floor"
        return f"{agreement} at all {len(times)} saved times: {margin}."
    floors = [float(r.floors) if np.isfinite(r.floors) else 0.0 for r in readings]
    first = apart.index(True)
    last = len(apart) - 1 - apart[::-1].index(True)
    worst = int(np.argmax(np.where(apart, floors, 0)))
    start = f"From t = {times[first]:.4g} on " if first else "From the start "
    if first > 1:
        start = f"{agreement} until t = {times[first - 1]:.4g}; from t = {times[first]:.4g} on "
    span = "to the end" if last == len(apart) - 1 else f"until t = {times[last]:.4g}, and agrees again after it"
    if not all(apart[first : last + 1]):
        span += " (not at every saved time)"
    size = f"by up to {floors[worst]:.3g} floors, at t = {times[worst]:.4g}"
    end = f"; at the end by {floors[-1]:.3g}" if apart[-1] and worst != len(apart) - 1 else ""
    return f"{start}{departure} {span}, {size}{end}."
