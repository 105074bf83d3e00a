"""What `breakdown` found: an atlas of cells, a table, a reading, a figure and files."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from sgdsim import plots
from sgdsim.measures import Estimate
from sgdsim.plots.breakdown import breakdown as draw
from sgdsim.studies.reading import departs, table
from sgdsim.studies.result import write_study

BREAKDOWN_FILES = ("breakdown.png", "breakdown.json", "breakdown.npz")
WHEN = ("transient", "late")
SIGMAS = 4.0  # within which a reading is said to be what a law expects
LIMIT_NAMES = {
    "first-order": "first-order Langevin",
    "second-order": "second-order Langevin",
    "underdamped": "underdamped Langevin",
}

DISTANCE_NAMES = {
    "moments": "KL between the Gaussians of the clouds' moments, nats",
    "energy": "energy distance, units of x",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """SGD at one (η, B, μ) against each of its limits, at a transient time and a late one.

    Attributes:
        effective_learning_rate, batch_size, momentum: η_e, B, μ as they were asked for.
        learning_rate, temperature: η and T of the chain, in JAX's float.
        times: the clock t = η_e k at both readings, the whole number of updates nearest to what was asked for.
        diverged: SGD's particles that are not finite, or out of all reach of a limit, at both.
        distances: from each limit's cloud.
        solver: from each limit's cloud to one of twice its sub-step: its own error, of which the cloud that was used
            has this much or less, and what agreement reads.
        expected: the distance by the exact laws near a minimum; NaN where none holds.
    """

    effective_learning_rate: float
    batch_size: int
    momentum: float
    learning_rate: float
    temperature: float
    times: tuple[float, float]
    diverged: tuple[int, int]
    distances: dict[str, tuple[Estimate, Estimate]]
    solver: dict[str, tuple[Estimate, Estimate]]
    expected: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return dataclasses.asdict(self) | {
            name: {limit: [reading.to_dict() for reading in pair] for limit, pair in getattr(self, name).items()}
            for name in ("distances", "solver")
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Cell":
        """The cell that `to_dict` wrote; what was not finite is NaN.

        Raises:
            KeyError, TypeError, ValueError: if it did not.
        """
        readings = [
            {limit: (_estimate(early), _estimate(late)) for limit, (early, late) in content[name].items()}
            for name in ("distances", "solver")
        ]
        expected = {limit: (_number(early), _number(late)) for limit, (early, late) in content["expected"].items()}
        (early, late), (first, second) = content["times"], content["diverged"]
        return cls(
            effective_learning_rate=float(content["effective_learning_rate"]),
            batch_size=int(content["batch_size"]),
            momentum=float(content["momentum"]),
            learning_rate=float(content["learning_rate"]),
            temperature=float(content["temperature"]),
            times=(float(early), float(late)),
            diverged=(int(first), int(second)),
            distances=readings[0],
            solver=readings[1],
            expected=expected,
        )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _estimate(content: dict[str, Any]) -> Estimate:
    value, error, floor = (_number(content[name]) for name in ("value", "standard_error", "floor"))
    return Estimate(value, error, floor, left_out=int(content["left_out"]))


@dataclasses.dataclass(frozen=True)
class Panel:
    """One limit at one momentum and one time, over learning rate and batch size.

    Attributes:
        limit, momentum, when: which; `when` is 0 for the transient time and 1 for the late one.
        rates, batch_sizes: the axes, η_e (L,) and B (B,).
        readings: one for each cell, by (i of B, j of L).
        solver: the limit against itself at twice the sub-step, alike.
        diverged: SGD's diverged particles, (B, L).
        expected: the distance by the exact laws, (B, L); NaN where none holds.
        edge: η_e = 2(1 + μ)/(k(1 − μ)), where the chain at the sharpest minimum explodes; NaN without a minimum.
    """

    limit: str
    momentum: float
    when: int
    rates: Float[np.ndarray, " L"]
    batch_sizes: Float[np.ndarray, " B"]
    readings: dict[tuple[int, int], Estimate]
    solver: dict[tuple[int, int], Estimate]
    diverged: Float[np.ndarray, "B L"]
    expected: Float[np.ndarray, "B L"]
    edge: float

    @property
    def title(self) -> str:
        """The limit, the momentum and the time, in words."""
        return f"{LIMIT_NAMES[self.limit]}, μ = {self.momentum:g}, {WHEN[self.when]}"

    @property
    def learning_rates(self) -> Float[np.ndarray, " L"]:
        """η = (1 − μ) η_e, (L,)."""
        return self.rates * (1 - self.momentum)

    @property
    def floors(self) -> Float[np.ndarray, "B L"]:
        """Readings in units of their floors; NaN where there is none."""
        return self._field(lambda reading: reading.floors)

    @property
    def departs(self) -> Float[np.ndarray, "B L"]:
        """1 where the chain departs from the limit, 0 where it does not, NaN where there is no reading."""
        return self._field(lambda reading: float(departs(reading)) if np.isfinite(reading.value) else np.nan)

    @property
    def solver_departs(self) -> Float[np.ndarray, "B L"]:
        """1 where the limit departs from itself at twice the sub-step, so that its own error counts; 0 elsewhere."""
        return self._field(lambda reading: float(departs(reading)), self.solver)

    @property
    def expected_floors(self) -> Float[np.ndarray, "B L"]:
        """What the exact laws expect, in units of the floors."""
        return self.expected / self._field(lambda reading: reading.floor)

    def _field(
        self, of: Callable[[Estimate], Any], readings: dict[tuple[int, int], Estimate] | None = None
    ) -> Float[np.ndarray, "B L"]:
        field = np.full((len(self.batch_sizes), len(self.rates)), np.nan)
        for place, reading in (self.readings if readings is None else readings).items():
            field[place] = of(reading)
        return field

    @property
    def held(self) -> Int[np.ndarray, " B"]:
        """How many of the smallest learning rates pass at each batch size: nothing diverged, and none departs."""
        passed = (self.departs == 0) & (self.diverged == 0)
        return np.sum(np.cumprod(passed, axis=1), axis=1)


@dataclasses.dataclass(frozen=True, repr=False)
class Breakdown:
    """An atlas over (η, B, μ) of the distance between SGD and each of its limits, in units of its floor.

    Attributes:
        name, settings: what was asked.
        cells: those that were run.
        top_curvature: k, the largest curvature at a minimum; NaN where none was found.
    """

    name: str
    settings: dict[str, Any]
    cells: tuple[Cell, ...]
    top_curvature: float

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Each limit at each momentum, transient and late."""
        momenta = sorted({cell.momentum for cell in self.cells})
        pairs = [(m, limit) for m in momenta for limit in LIMIT_NAMES if self._at(m, limit)]
        return tuple(self._panel(limit, m, when) for m, limit in pairs for when in (0, 1))

    def _at(self, momentum: float, limit: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.momentum == momentum and limit in cell.distances]

    def _panel(self, limit: str, momentum: float, when: int) -> Panel:
        rates, sizes = (
            np.array(self.settings[name], dtype=float) for name in ("effective_learning_rates", "batch_sizes")
        )
        shape, readings, solver = (len(sizes), len(rates)), {}, {}
        diverged, expected = np.zeros(shape), np.full(shape, np.nan)
        for cell in self._at(momentum, limit):
            place = int(np.argmax(sizes == cell.batch_size)), int(np.argmax(rates == cell.effective_learning_rate))
            readings[place], solver[place] = cell.distances[limit][when], cell.solver[limit][when]
            diverged[place], expected[place] = cell.diverged[when], cell.expected[limit][when]
        edge = 2 * (1 + momentum) / (1 - momentum) / self.top_curvature
        return Panel(limit, momentum, when, rates, sizes, readings, solver, diverged, expected, edge)

    def __str__(self) -> str:
        sizes = ", ".join(str(size) for size in self.settings["batch_sizes"])
        header = [
            "limit",
            "μ",
            "time",
            f"holds up to lr, at B = {sizes}",
            "departs",
            "diverged",
            "floors, where it departs",
        ]
        rows = [self._row(panel) for panel in self.panels]
        return "\n\n".join([self._title(), table(header, rows, left=1), self.reading])

    __repr__ = __str__

    def _title(self) -> str:
        s = self.settings
        return (
            f"{self.name}: d = {s['dimension']}; {s['particles']:,} particles, t = {s['times'][0]:g} and "
            f"{s['times'][1]:g}, sampling {s['sampling']}; distance: {DISTANCE_NAMES[s['distance']]}; top curvature at "
            f"a minimum k = {self.top_curvature:.4g}"
        )

    def _row(self, panel: Panel) -> list[str]:
        apart = panel.floors[panel.departs == 1]
        return [
            LIMIT_NAMES[panel.limit],
            f"{panel.momentum:g}",
            WHEN[panel.when],
            ", ".join(f"{panel.learning_rates[n - 1]:.3g}" if n else "none" for n in panel.held),
            f"{len(apart)} of {panel.floors.size}",
            f"{np.sum(panel.diverged > 0)} of {panel.floors.size}",
            f"{apart.min():.2g} … {apart.max():.2g}" if apart.size else "",
        ]

    @property
    def reading(self) -> str:
        """One plain paragraph: where each limit holds, where it breaks, by how much, and which of them is nearer."""
        panels = self.panels
        parts = [self._limit_reading(panels[i], panels[i + 1]) for i in range(0, len(panels), 2)]
        parts += [self._rivals(limit) for limit in LIMIT_NAMES if limit != "first-order"]
        parts += [self._laws_reading(), self._edge_reading(), self._solver_reading()]
        return " ".join(part for part in parts if part)

    def _limit_reading(self, transient: Panel, late: Panel) -> str:
        name = f"{LIMIT_NAMES[transient.limit]} at μ = {transient.momentum:g}"
        return f"{name[0].upper()}{name[1:]}: transient, it {self._span(transient)}; late, it {self._span(late)}."

    def _span(self, panel: Panel) -> str:
        """Up to where a limit holds within its floor, and by how much it breaks at the next rate and at the last."""
        rates, held = panel.learning_rates, panel.held
        if np.all(held == len(rates)):
            return "holds everywhere"
        text = "holds nowhere"
        if held.any():
            spans = [self._bound(panel, int(n)) for n in np.unique(held)[::-1]]
            text = f"holds {', '.join(spans)}"
        broken = [f"{size} floors at lr = {rate:.3g}" for rate, size in self._steps_beyond(panel)]
        return f"{text}, and parts by up to {' and '.join(broken)}" if broken else text

    def _bound(self, panel: Panel, count: int) -> str:
        sizes = panel.batch_sizes[panel.held == count]
        batches = "every B" if len(sizes) == len(panel.batch_sizes) else f"B = {', '.join(f'{b:g}' for b in sizes)}"
        if not count:
            return f"nowhere at {batches}"
        rate = float(panel.learning_rates[count - 1])
        return f"up to lr = {rate:.3g}{self._in_steps(rate, panel.momentum)} at {batches}"

    def _steps_beyond(self, panel: Panel) -> list[tuple[float, str]]:
        """The first learning rate at which any batch size departs, and the last; the largest reading at each."""
        apart = np.where(panel.departs == 1, panel.floors, -np.inf).max(axis=0)
        places = np.flatnonzero(np.isfinite(apart))
        ends = [places[0], places[-1]] if len(places) > 1 else places
        return [(float(panel.learning_rates[i]), f"{apart[i]:.2g}") for i in ends]

    def _step(self, rate: float, momentum: float) -> float:
        """ηk/(1 + μ), which is 2 at the edge."""
        return rate * self.top_curvature / (1 + momentum)

    def _in_steps(self, rate: float, momentum: float) -> str:
        step = self._step(rate, momentum)
        return f" (ηk/(1+μ) = {step:.2g})" if np.isfinite(step) else ""

    def _rivals(self, limit: str) -> str:
        """How often a limit is nearer to the chain than the first-order one, among the cells where either departs."""
        counts = []
        for when in (0, 1):
            pairs = [
                (cell.distances[limit][when], cell.distances["first-order"][when])
                for cell in self.cells
                if limit in cell.distances
            ]
            known = [(a, b) for a, b in pairs if departs(a) or departs(b)]
            nearer = sum(bool(a.value < b.value) for a, b in known)
            counts += [f"{nearer} of {len(known)} {WHEN[when]}"] if known else []
        name = LIMIT_NAMES[limit]
        text = f"Where either departs, {name} is nearer than first-order Langevin in {' and '.join(counts)} cells."
        return text if counts else ""

    def _laws_reading(self) -> str:
        """How many readings of whole clouds are what the exact laws near a minimum expect."""
        pairs = [
            (reading, expected)
            for cell in self.cells
            for limit in cell.distances
            for reading, expected in zip(cell.distances[limit], cell.expected[limit], strict=True)
            if np.isfinite(reading.value) and np.isfinite(expected) and not reading.left_out
        ]
        if not pairs:
            return ""
        agree = sum(reading.agrees_with(expected, sigmas=SIGMAS) for reading, expected in pairs)
        law = "The exact laws" if self.settings["is_linear"] else "The laws linearised at the sharpest minimum"
        return f"{law} give {agree} of {len(pairs)} readings of whole clouds within {SIGMAS:g} standard errors."

    def _edge_reading(self) -> str:
        """Where particles diverged, against where the linear law says that they do."""
        some = [cell for cell in self.cells if cell.diverged[1]]
        if not some:
            return "No particle diverged."
        whole = sum(cell.diverged[1] == self.settings["particles"] for cell in some)
        least = min(some, key=lambda cell: self._step(cell.learning_rate, cell.momentum))
        return (
            f"SGD's particles diverged in {len(some)} cells, all of them in {whole}, from lr = "
            f"{least.learning_rate:.3g}{self._in_steps(least.learning_rate, least.momentum)} at μ = {least.momentum:g} "
            f"on; by the linear law the chain is unstable from ηk/(1+μ) = 2 on."
        )

    def _solver_reading(self) -> str:
        """What the limits' own clouds read against themselves, at twice the sub-step."""
        pairs = [pair for cell in self.cells for pair in cell.solver.values()]
        readings = [reading for pair in pairs for reading in pair if np.isfinite(reading.floors)]
        if not readings:
            return ""
        apart = [float(reading.floors) for reading in readings if departs(reading)]
        text = (
            f"Held against itself at twice the sub-step, a limit is above its floor in "
            f"{sum(bool(r.above_floor) for r in readings)} of {len(readings)} readings (chance: one in twenty)"
        )
        if not apart:
            return f"{text} and never departs: the solvers are not at fault."
        return f"{text} and departs in {len(apart)}, by up to {max(apart):.2g} floors: there its own error counts."

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "name": self.name,
            "settings": self.settings,
            "top_curvature": self.top_curvature,
            "cells": [cell.to_dict() for cell in self.cells],
            "reading": self.reading,
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw a map for each limit, transient and late, with the exact laws over it."""
        plots.save(self.figure(), path)

    def figure(self) -> Figure:
        """The figure that `plot` draws, for a notebook."""
        return draw(self)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write breakdown.png, breakdown.json and breakdown.npz into a folder; all of them or none."""
        arrays: dict[str, np.ndarray] = {
            name: np.array(self.settings[name]) for name in ("effective_learning_rates", "batch_sizes")
        }
        for panel in self.panels:
            label = f"{panel.limit} mu={panel.momentum:g} {WHEN[panel.when]}"
            arrays |= {f"{label} floors": panel.floors, f"{label} expected": panel.expected_floors}
        return write_study(folder, BREAKDOWN_FILES, self.plot, self.to_dict(), arrays)
