"""What `potential` found: a table, a reading, a figure and files."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sgdsim import plots
from sgdsim.density import Grid
from sgdsim.density.drift_split import DriftSplit
from sgdsim.density.drift_zeros import DriftZero
from sgdsim.density.grid_estimate import GridEstimate
from sgdsim.density.nearest_gibbs import NearestGibbs
from sgdsim.measures import Estimate
from sgdsim.studies.reading import resolution, table
from sgdsim.studies.result import write_study

POTENTIAL_FILES = ("potential.png", "potential.json", "potential.npz")
CUT_OFF = 1e-6  # mass in the outermost cells from which the box is said to cut some off
SLOW = 100.0  # times the slowest well's own relaxation: beyond it wells are said to exchange mass slowly
SINGLE = 1e-6  # nats: what rounding may leave of a Gibbs density in float32
ROUNDING, EPSILON = 1e-9, 1e-12  # a relative error below the first is rounding, and a number below the second

ROWS = {
    "gibbs_correlation": "correlation of Φ with f",
    "gibbs_spread": "rms of log ρ_ss + f/τ about its mean, at the best τ, nats",
    "gibbs_noise": "τ/T, the σ² that fits Φ = f/σ² best",
    "mean_noise": "⟨Tr D⟩/d, the noise along one axis",
    "induced_share": "noise-induced drift, rms |T∇·D| / rms |b|",
    "circulating_share": "circulating drift, rms |j| / rms |b|",
    "circulation": "circulation ∫ x × J dx, counterclockwise",
    "housekeeping": "housekeeping entropy production, nats/time",
    "relaxation_time": "relaxation time 1/gap",
}


@dataclasses.dataclass(frozen=True)
class PotentialMinimum:
    """A minimum of Φ.

    Attributes:
        position: (d,), in units of x.
        grid_error: of the position, from the coarser grid's nearest minimum; inf where that has none.
        value: Φ there, in units of T; a little below 0 at the lowest, which lies between the centres.
    """

    position: Float[np.ndarray, " d"]
    grid_error: float
    value: float


@dataclasses.dataclass(frozen=True, repr=False)
class EffectivePotential:
    """Φ = −T log ρ_ss and the current of a steady state, held against the loss where there is one.

    Attributes:
        name, settings: what was asked.
        grid: where ρ_ss lives.
        widths: narrowest steady width along each axis, (d,); NaN where none is known.
        boundary_mass: mass in the outermost cells.
        is_balanced: whether detailed balance holds, so that j = 0.
        split: Φ, b, j and T∇·D on the cells.
        loss: f at the cells' centres, (*cells,); None for an equation without a loss.
        gibbs: the e^{−f/τ} that is nearest to ρ_ss; None likewise.
        estimates: the scalars of the table by name, each with its grid error (the keys of `ROWS`).
        zeros: the zeros of the drift in the box: the critical points of f where b = −∇f.
        zero_potentials: Φ at each of them.
        minima: of Φ, the lowest first.
    """

    name: str
    settings: dict[str, Any]
    grid: Grid
    widths: Float[np.ndarray, " d"]
    boundary_mass: float
    is_balanced: bool
    split: DriftSplit
    loss: Float[np.ndarray, "*cells"] | None
    gibbs: NearestGibbs | None
    estimates: dict[str, GridEstimate]
    zeros: tuple[DriftZero, ...]
    zero_potentials: tuple[float, ...]
    minima: tuple[PotentialMinimum, ...]

    @property
    def temperature(self) -> float:
        """T."""
        return self.settings["temperature"]

    @property
    def has_current(self) -> bool:
        """Whether the steady current is there beyond three errors of the grid."""
        share = self.estimates["circulating_share"]
        return not self.is_balanced and share.value > 3 * share.grid_error

    @property
    def has_sense(self) -> bool:
        """Whether the current turns one way on the whole, beyond three errors of the grid."""
        turn = self.estimates.get("circulation")
        return self.has_current and turn is not None and abs(turn.value) > 3 * turn.grid_error

    def distance_to_rest(self, minimum: PotentialMinimum) -> float:
        """How far a minimum of Φ lies from the nearest stable zero of the drift; inf where there is none."""
        rest = [np.linalg.norm(zero.position - minimum.position) for zero in self.zeros if zero.is_stable]
        return float(min(rest, default=np.inf))

    def __str__(self) -> str:
        rows = [[label, _shown(self.estimates[key])] for key, label in ROWS.items() if key in self.estimates]
        parts = [
            self._title(),
            table(["number", "value ± grid error"], rows),
            self._zero_table(),
            self._minimum_table(),
            self._grid_line(),
            self.reading,
        ]
        return "\n\n".join(parts)

    __repr__ = __str__

    def _title(self) -> str:
        s = self.settings
        title = f"{self.name}: d = {s['dimension']}"
        if s.get("num_examples") is not None:
            title += f", N = {s['num_examples']:,}"
        if "learning_rate" in s:
            title += (
                f"; lr = {s['learning_rate']:g}, B = {s['batch_size']}, momentum {s['momentum']:g} ({s['update']}), "
                f"sampling {s['sampling']}"
            )
        return f"{title}; T = {s['temperature']:.4g}; Φ = −T log ρ_ss"

    def _zero_table(self) -> str:
        rows = [
            [_point(z.position), z.kind, ", ".join(_rate(r) for r in z.rates), f"{phi / self.temperature:.4g}"]
            for z, phi in zip(self.zeros, self.zero_potentials, strict=True)
        ]
        what = "zero of the drift" if self.loss is None else "critical point of f"
        return table([what, "kind", "rates of ∂b", "Φ/T"], rows)

    def _minimum_table(self) -> str:
        rows = [
            [
                _point(m.position),
                f"{m.grid_error:.1g}",
                f"{m.value / self.temperature:.4g}",
                _distance(self.distance_to_rest(m)),
            ]
            for m in self.minima
        ]
        where = "the drift's nearest stable zero" if self.loss is None else "the nearest minimum of f"
        return table(["minimum of Φ", "± grid error", "Φ/T", f"distance to {where}"], rows)

    def _grid_line(self) -> str:
        cells = resolution(self.grid, self.widths)
        text = f"{self.grid}: mass in its outermost cells {self.boundary_mass:.1e}"
        if cells is not None:
            text += f"; {cells}"
        widened = self.settings.get("box_widened")
        if widened:
            text += f"; the box was widened {widened} time{'s' if widened > 1 else ''} until it held ρ_ss"
        if self.boundary_mass > CUT_OFF:
            text += f"; THE BOX CUTS OFF MASS: it has over {CUT_OFF:g} in its outermost cells"
        return text

    @property
    def reading(self) -> str:
        """One paragraph in plain words: what is minimised, where, and what circulates."""
        parts = [self._gibbs_reading(), self._minima_reading(), self._current_reading(), self._mixing_reading()]
        if self.boundary_mass > CUT_OFF:
            parts.append("But the box cuts off mass, so that all of this is about a cloud between walls: widen it.")
        return " ".join(part for part in parts if part)

    def _gibbs_reading(self) -> str:
        if self.gibbs is None:
            return ""
        e = self.estimates
        spread, noise = e["gibbs_spread"], e["gibbs_noise"]
        if spread.value < max(3 * spread.grid_error, SINGLE):
            return f"The steady state is the Gibbs density of f: Φ = f/σ² with σ² = {noise.value:.4g}."
        return (
            f"The steady state is no Gibbs density of f: whatever τ is, log ρ_ss departs from −f/τ by at least "
            f"{spread.value:.2g} nats (rms, at τ = {noise.value:.3g} T). So SGD minimises Φ and not f."
        )

    def _minima_reading(self) -> str:
        if not self.minima:
            return "Φ has no minimum inside the box."
        where = "stable zeros of the drift" if self.loss is None else "minima of f"
        apart = [(self.distance_to_rest(m), m) for m in self.minima]
        far, minimum = max(apart, key=lambda pair: pair[0])
        if not np.isfinite(far):
            return f"Φ has minima though there are no {where}."
        if far <= 3 * minimum.grid_error:
            return f"The minima of Φ are the {where}, within the grid's error."
        return f"The minima of Φ lie up to {far:.2g} from the {where} (grid error {minimum.grid_error:.1g})."

    def _current_reading(self) -> str:
        e = self.estimates
        share = e["circulating_share"]
        if not self.has_current:
            return "Nothing circulates" + (" beyond the grid's error." if self.grid.dim > 1 else " in one dimension.")
        turn = e.get("circulation")
        sense = "with no sense of its own on the whole"
        if self.has_sense and turn is not None:
            sense = "counterclockwise" if turn.value > 0 else "clockwise"
            sense += f" on the whole (∫ x × J dx = {turn.value:.2g})"
        return (
            f"Of the drift {100 * share.value:.2g} % circulates where the particles are, {sense}, and goes on for "
            f"ever: it makes {e['housekeeping'].value:.2g} nats of entropy per time."
        )

    def _mixing_reading(self) -> str:
        """Whether wells exchange mass so slowly that a cloud is long steady in each before it is steady at all."""
        slowest = max((1 / np.min(-zero.rates.real) for zero in self.zeros if zero.is_stable), default=np.inf)
        time = self.estimates["relaxation_time"]
        if time.value <= SLOW * slowest:
            return ""
        size = "so seldom that rounding hides it"
        if np.isfinite(time.value):
            size = f"once in a time of {time.value:.1g}" + (" or so" if time.grid_error > time.value / 10 else "")
        return (
            f"The wells exchange mass {size}, while each relaxes in {slowest:.2g}: until then a cloud is steady within "
            "its well, and how much of ρ_ss each well holds says nothing of it."
        )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw f beside Φ on common levels, and the current over ρ_ss; in 1-D the potentials and the densities."""
        plots.save(self.figure(), path)

    def figure(self) -> Figure:
        """The figure that `plot` draws, for a notebook."""
        return plots.effective_potential(self)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write potential.png, potential.json and potential.npz into a folder; all of them or none."""
        return write_study(folder, POTENTIAL_FILES, self.plot, self._content(), self._arrays())

    def _content(self) -> dict[str, Any]:
        """Every number of the report, for JSON."""
        return {
            "name": self.name,
            "settings": self.settings,
            "grid": {"lower": self.grid.lower, "upper": self.grid.upper, "cells": self.grid.cells},
            "boundary_mass": self.boundary_mass,
            "widths": self.widths,
            "is_balanced": self.is_balanced,
            "estimates": {key: dataclasses.asdict(value) for key, value in self.estimates.items()},
            "zeros": [
                {
                    "position": z.position,
                    "kind": z.kind,
                    "rates": [[rate.real, rate.imag] for rate in z.rates.tolist()],
                    "potential": phi,
                }
                for z, phi in zip(self.zeros, self.zero_potentials, strict=True)
            ],
            "minima": [dataclasses.asdict(m) | {"distance": self.distance_to_rest(m)} for m in self.minima],
            "reading": self.reading,
        }

    def _arrays(self) -> dict[str, np.ndarray]:
        """The fields on the cells, for NPZ."""
        s = self.split
        arrays = {
            "grid_lower": self.grid.lower,
            "grid_upper": self.grid.upper,
            "masses": s.masses,
            "potential": s.potential,
            "drift": s.drift,
            "circulating": s.circulating,
            "induced": s.induced,
        }
        if self.loss is not None:
            arrays["loss"] = self.loss
        return arrays


def _shown(number: GridEstimate) -> str:
    """`0.0123 ± 0.0004`; where nothing but rounding is left of value or error, so much is said."""
    if np.isnan(number.value):
        return "hidden by rounding: the wells hardly exchange mass"
    if abs(number.value) + number.grid_error < EPSILON:
        return "0 (rounding)"
    if number.grid_error <= ROUNDING * abs(number.value):
        return f"{number.value:.6g}"
    return str(Estimate(number.value, number.grid_error))


def _point(position: Float[np.ndarray, " d"]) -> str:
    entries = ", ".join(f"{0.0 if abs(x) < 5e-5 else x:.4f}" for x in position)
    return f"({entries})"


def _rate(rate: complex) -> str:
    real, imag = (0.0 if abs(part) < ROUNDING * abs(rate) else part for part in (rate.real, rate.imag))
    return f"{real:.3g}{imag:+.3g}i" if imag else f"{real:.3g}"


def _distance(value: float) -> str:
    return "none there" if not np.isfinite(value) else f"{value:.2g}"
