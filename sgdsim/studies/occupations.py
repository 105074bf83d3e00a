"""What `flat_or_sharp` found: a table, a reading, a figure and files."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sgdsim import plots
from sgdsim.density import Grid
from sgdsim.density.grid_estimate import GridEstimate
from sgdsim.measures import Estimate
from sgdsim.studies.reading import table
from sgdsim.studies.result import write_study

SIGMAS = 4.0  # standard errors from which on a difference is one
FLAT_OR_SHARP_FILES = ("flat_or_sharp.png", "flat_or_sharp.json", "flat_or_sharp.npz")


@dataclasses.dataclass(frozen=True, eq=False)
class OccupationRow:
    """How much of a cloud the right well holds (x = 1: flat in x, sharp in y), under one noise in one coordinate.

    Attributes:
        name: the noise.
        coordinate: "x" or "y", in which everything below is told.
        sharpness: f'' at the left and the right minimum.
        gibbs: what e^{−f/(Tσ²)} would have there, σ² the mean of D at the two minima in x.
        density: what the Fokker–Planck generator's steady state has, with its grid error.
        sgd, langevin: what the clouds have at the end; NaN where no Langevin cloud was run.
        moved: how much of SGD's share came in the last quarter of the run, particle by particle: 0 if it is steady.
        relaxation_time: 1/gap.
        grid, masses, loss: the steady state and f on its cells.
        positions: SGD's particles at the end, (P,).
    """

    name: str
    coordinate: str
    sharpness: tuple[float, float]
    gibbs: float
    density: GridEstimate
    sgd: Estimate
    langevin: Estimate
    moved: Estimate
    relaxation_time: float
    grid: Grid
    masses: Float[np.ndarray, " n"]
    loss: Float[np.ndarray, " n"]
    positions: Float[np.ndarray, " P"]

    def numbers(self) -> dict[str, Any]:
        """What is not an array, for JSON."""
        kept = ("name", "coordinate", "sharpness", "gibbs", "sgd", "langevin", "moved", "relaxation_time")
        return {name: getattr(self, name) for name in kept} | {"density": dataclasses.asdict(self.density)}


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Occupations:
    """Occupations of two equally deep wells, under thermal and minibatch noise, in two coordinates.

    Attributes:
        settings: what was asked.
        thermal, minibatch, model: in x: constant noise, the finite sum's own, and Gaussian noise of the same D(x).
        pushed: the minibatch chain itself, seen in y.
        minibatch_in_y, thermal_in_y: other chains: the same loss and examples descended by gradients with respect to y.
        strayed: particles of the pushed chain that ended in another well than in x, of `settings["particles"]`.
    """

    settings: dict[str, Any]
    thermal: OccupationRow
    minibatch: OccupationRow
    model: OccupationRow
    pushed: OccupationRow
    minibatch_in_y: OccupationRow
    thermal_in_y: OccupationRow
    strayed: int

    @property
    def rows(self) -> tuple[OccupationRow, ...]:
        """All of them, in the order of the table."""
        return (self.thermal, self.minibatch, self.model, self.pushed, self.minibatch_in_y, self.thermal_in_y)

    def __str__(self) -> str:
        s = self.settings
        header = [
            "noise",
            "in",
            "f'' left, right",
            "Gibbs",
            "Fokker-Planck",
            "SGD",
            "Langevin",
            "last quarter",
            "1/gap",
        ]
        rows = [
            [
                row.name,
                row.coordinate,
                f"{row.sharpness[0]:.3g}, {row.sharpness[1]:.3g}",
                f"{row.gibbs:.4f}",
                f"{row.density.value:.6f}",
                str(row.sgd),
                str(row.langevin) if np.isfinite(row.langevin.value) else "",
                str(row.moved),
                f"{row.relaxation_time:.3g}",
            ]
            for row in self.rows
        ]
        title = (
            f"flat_or_sharp: share of the right well (x = 1), two wells of equal depth; lr = {s['learning_rate']:g}, "
            f"B = 1, N = 4, {s['particles']:,} particles"
        )
        return "\n\n".join([title, table(header, rows, left=2), self.reading])

    __repr__ = __str__

    @property
    def reading(self) -> str:
        """One paragraph: what Gibbs says, what minibatches do, and what is left of sharpness in other coordinates."""
        hot, own, other = self.thermal, self.minibatch, self.minibatch_in_y
        moved = max((row.moved for row in self.rows), key=lambda share: abs(share.value))
        apart = abs(own.sgd.z(own.gibbs))
        worst = max(self.rows, key=lambda row: abs(row.sgd.value - row.density.value))
        not_gibbs = (
            "not f decides, but f with D(x)" if apart > SIGMAS else "at this size of the clouds f alone explains it"
        )
        prefers = ""
        if own.sgd.value - other.sgd.value > SIGMAS * np.hypot(own.sgd.standard_error, other.sgd.standard_error):
            prefers = (
                " What holds is that minibatch noise prefers the well that is flat in the coordinates in which the "
                "steps are taken."
            )
        return (
            f"With constant noise the flat well holds {hot.sgd} of SGD's cloud where Gibbs has {hot.gibbs:.3f}: it has "
            "more room at the same height. With the minibatches of a finite sum, whose noise grows with the curvature, "
            f"it holds {own.sgd} ({apart:.0f} standard errors from the Gibbs value of the same mean noise); Gaussian "
            f"noise of the same D(x) has {self.model.sgd}, the density {own.density.value:.3f}: {not_gibbs}. "
            f"The same chain in y = φ(x), where the wells' curvatures {own.sharpness[0]:.3g} and "
            f"{own.sharpness[1]:.3g} have become {self.pushed.sharpness[0]:.3g} and {self.pushed.sharpness[1]:.3g}, "
            f"holds {self.pushed.sgd.value:.3f} there ({self.strayed} of {self.settings['particles']:,} particles in "
            "another well than in x, by rounding): sharpness has changed and nothing else did, so sharpness as such "
            f"explains nothing (Dinh et al. 2017). SGD run in y, with gradients with respect to y, is another process: "
            f"it holds {other.sgd} of its cloud in that well, which is now the sharp one.{prefers} The largest "
            f"difference of SGD and its limit's density is {worst.sgd.value - worst.density.value:+.4f} ({worst.name} "
            f"in {worst.coordinate}, {abs(worst.sgd.z(worst.density.value)):.1f} standard errors). Clouds ran for "
            f"{self.settings['relaxations']:g} relaxation times; in the last quarter of that no "
            f"share changed by more than {moved}."
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it but arrays, ready for JSON."""
        rows = [row.numbers() for row in self.rows]
        return {"settings": self.settings, "rows": rows, "strayed": self.strayed, "reading": self.reading}

    def figure(self) -> Figure:
        """The figure that `plot` draws, for a notebook."""
        return plots.flat_or_sharp(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the wells with the clouds in both coordinates, the occupations, and sharpness against them."""
        plots.save(self.figure(), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write flat_or_sharp.png, .json and .npz into a folder; all of them or none."""
        names = [field.name for field in dataclasses.fields(self) if field.type is OccupationRow]
        arrays = {
            f"{name}_{part}": getattr(getattr(self, name), part)
            for name in names
            for part in ("masses", "loss", "positions")
        }
        return write_study(folder, FLAT_OR_SHARP_FILES, self.plot, self.to_dict(), arrays)
