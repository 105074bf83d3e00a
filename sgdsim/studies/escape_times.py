"""What `escape` found: a table, a reading, a figure and files."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sgdsim import plots
from sgdsim.density.grid_estimate import GridEstimate
from sgdsim.measures import Estimate
from sgdsim.studies.reading import table
from sgdsim.studies.result import write_study

ESCAPE_FILES = ("escape.png", "escape.json", "escape.npz")
SIGMAS = 4.0


@dataclasses.dataclass(frozen=True)
class TemperatureRow:
    """Mean times from −1 to +1 in (x² − 1)²/4 at one temperature, in units of the clock.

    Attributes:
        temperature: T σ² with σ² = 1, so that A = T.
        exact, kramers: the quadrature's and Kramers' law's.
        density: that of the Fokker–Planck generator, with its grid error.
        sgd: the chain, looked at at its steps.
        looked, bridged: the Langevin cloud, looked at at its steps, and with Brownian bridges between them.
    """

    temperature: float
    exact: float
    kramers: float
    density: GridEstimate
    sgd: Estimate
    looked: Estimate
    bridged: Estimate


@dataclasses.dataclass(frozen=True)
class MonitoringRow:
    """What looking at steps only does to SGD's time, at one learning rate and a fixed temperature.

    Attributes:
        learning_rate: η.
        looked, bridged: the same paths, looked at at their steps, and taken for Brownian bridges between them.
        bias: looked less bridged, by pairs.
        predicted: from the boundary 0.5826 √(2Tη) further out, to leading order.
    """

    learning_rate: float
    looked: Estimate
    bridged: Estimate
    bias: Estimate
    predicted: float


@dataclasses.dataclass(frozen=True)
class ShapeRow:
    """The mean time out of a well of the slanted double well under one noise shape.

    Attributes:
        shape: its name.
        along: eᵀDe T at the saddle, e its unstable direction: the diffusion along the way out; NaN without a D.
        sgd: the chain, looked at at its steps.
        exact: that of the Fokker–Planck generator, with its grid error; NaN without a D.
    """

    shape: str
    along: float
    sgd: Estimate
    exact: GridEstimate


PARTS: dict[str, type] = {"temperatures": TemperatureRow, "monitoring": MonitoringRow, "shapes": ShapeRow}


@dataclasses.dataclass(frozen=True, repr=False)
class EscapeTimes:
    """Mean escape times across T, across η at one T, and across noise shapes.

    Attributes:
        settings: what was asked.
        temperatures, monitoring, shapes: the rows.
        exponent: p of the monitoring bias ~ η^p.
    """

    settings: dict[str, Any]
    temperatures: tuple[TemperatureRow, ...]
    monitoring: tuple[MonitoringRow, ...]
    shapes: tuple[ShapeRow, ...]
    exponent: Estimate

    def __str__(self) -> str:
        s = self.settings
        header = ["T", "exact", "Kramers", "Fokker-Planck", "SGD", "Langevin at steps", "Langevin, bridges"]
        rows = [
            [f"{r.temperature:g}", f"{r.exact:.2f}", f"{r.kramers:.2f}", _grid(r.density)]
            + [str(e) for e in (r.sgd, r.looked, r.bridged)]
            for r in self.temperatures
        ]
        monitored = [
            [f"{r.learning_rate:g}", str(r.looked), str(r.bridged), str(r.bias), f"{r.predicted:.3f}"]
            for r in self.monitoring
        ]
        shapes = [
            [r.shape, f"{r.along:.3g}" if np.isfinite(r.along) else "no D", _grid(r.exact), str(r.sgd)]
            for r in self.shapes
        ]
        return "\n\n".join(
            [
                f"escape: mean times −1 → +1 in (x² − 1)²/4, A = T, lr = {s['learning_rate']:g}",
                table(header, rows),
                f"SGD at T = {s['monitored_temperature']:g}, looked at at its steps and with bridges, the same paths",
                table(["lr", "at steps", "bridges", "difference by pairs", "predicted"], monitored),
                f"slanted double well, T = {s['shape_temperature']:g}, from the left minimum to x₁ = 1: noise of one "
                f"trace, and an isotropic floor of {s['floor']:.0%} of it in each direction",
                table(["noise", "T eᵀDe at the saddle", "Fokker-Planck", "SGD"], shapes, left=1),
                self.reading,
            ]
        )

    __repr__ = __str__

    @property
    def reading(self) -> str:
        """One paragraph: what agrees with the exact times, what Kramers misses, what looking and shapes do."""
        return " ".join([self._exact_reading(), self._monitoring_reading(), self._shape_reading()])

    def _exact_reading(self) -> str:
        worst = max(self.temperatures, key=lambda r: abs(r.bridged.z(r.exact)))
        z, cold = abs(worst.bridged.z(worst.exact)), min(self.temperatures, key=lambda r: r.temperature)
        verdict = "agrees with" if z < SIGMAS else "DEPARTS from"
        kramers = ", ".join(f"{r.kramers / r.exact - 1:+.0%} at T = {r.temperature:g}" for r in self.temperatures)
        return (
            f"With Brownian bridges between its steps the Langevin cloud {verdict} the exact mean time at "
            f"{len(self.temperatures)} temperatures (at worst {z:.1f} standard errors off, at T = "
            f"{worst.temperature:g}), and the Fokker–Planck generator has it to "
            f"{abs(cold.density.value / cold.exact - 1):.1g} of itself at T = {cold.temperature:g}. Kramers' law, the "
            f"leading order as T → 0, is off by {kramers}."
        )

    def _monitoring_reading(self) -> str:
        coarse, fine = self.monitoring[0], self.monitoring[-1]
        s, exact = self.settings, self.settings["monitored_exact"]
        gap = coarse.bridged.value - exact
        step = "no more than chance"
        if abs(gap) > SIGMAS * coarse.bridged.standard_error:
            same = "of the other sign, so that a time that looks right without bridges may owe it to both"
            step = f"the step's own error of order η, {same if gap < 0 else 'of the same sign'}"
        verdict = "as η^½" if self.exponent.agrees_with(0.5, SIGMAS) else "NOT as η^½"
        return (
            f"Looked at at its steps only, SGD at T = {s['monitored_temperature']:g} is found to arrive later than its "
            f"own paths with bridges by {coarse.bias} at η = {coarse.learning_rate:g} and {fine.bias} at η = "
            f"{fine.learning_rate:g}: {verdict} (exponent {self.exponent}), predicted {coarse.predicted:.2f} and "
            f"{fine.predicted:.2f}. With bridges the chain has {coarse.bridged} at the largest η where the limit has "
            f"{exact:.2f}: what is left there is {step}."
        )

    def _shape_reading(self) -> str:
        known = sorted((r for r in self.shapes if np.isfinite(r.along)), key=lambda r: r.exact.value)
        order, by_noise = ([r.shape for r in rows] for rows in (known, sorted(known, key=lambda r: -r.along)))
        law = "in the same order" if order == by_noise else f"not quite in that order: {' > '.join(by_noise)}"
        worst = max(known, key=lambda r: abs(r.sgd.value / r.exact.value - 1))
        z = abs(worst.sgd.z(Estimate(worst.exact.value, worst.exact.grid_error)))
        end = "".join(
            f" α-stable noise of the same scale (α = {self.settings['alpha']:g}) jumps out in {r.sgd}; it has no limit "
            "to hold this against, and the time depends on η."
            for r in self.shapes
            if not np.isfinite(r.along)
        )
        return (
            f"Under noise of one trace the time out is {known[0].exact.value:.3g} to {known[-1].exact.value:.3g}, "
            f"{' < '.join(order)}, and the noise along the way out falls {law}. SGD has the generator's time within "
            f"{abs(worst.sgd.value / worst.exact.value - 1):.1%} for every shape that has a D (furthest off: "
            f"{worst.shape}, by {z:.1f} standard errors and grid errors).{end}"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        parts = {part: [_fields(row) for row in getattr(self, part)] for part in PARTS}
        return {"settings": self.settings, **parts, "exponent": self.exponent, "reading": self.reading}

    def figure(self) -> Figure:
        """The figure that `plot` draws, for a notebook."""
        return plots.escape(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw log time against 1/T, the monitoring bias against η, and the shapes."""
        plots.save(self.figure(), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write escape.png, escape.json and escape.npz into a folder; all of them or none."""
        arrays = {
            f"{part}_{name}": np.array([_number(getattr(row, name)) for row in getattr(self, part)])
            for part, row_type in PARTS.items()
            for name in (field.name for field in dataclasses.fields(row_type))
        }
        return write_study(folder, ESCAPE_FILES, self.plot, self.to_dict(), arrays)


def _grid(number: GridEstimate) -> str:
    return str(Estimate(number.value, number.grid_error)) if math.isfinite(number.value) else "no limit"


def _fields(row: Any) -> dict[str, Any]:
    """A row for JSON: estimates keep their own errors."""
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return {name: dataclasses.asdict(v) if isinstance(v, GridEstimate) else v for name, v in values.items()}


def _number(value: Any) -> Any:
    """A row's entry for NPZ: an estimate is (value, error)."""
    if isinstance(value, Estimate):
        return [value.value, value.standard_error]
    if isinstance(value, GridEstimate):
        return [value.value, value.grid_error]
    return value
