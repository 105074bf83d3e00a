"""What a noise-scale study found: test errors over learning rates, batches and momenta, and the curve they make."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sgdsim import plots
from sgdsim.measures import Estimate
from sgdsim.studies.reading import table
from sgdsim.studies.result import write_study

NOISE_SCALE_FILES = ("noise_scale.png", "noise_scale.json", "noise_scale.npz")
LEAVES = 3.0  # standard errors from the curve beyond which a cell counts as having left it


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One cloud of replicas.

    Attributes:
        num_examples: N.
        rate: η_e = η/(1 − μ).
        batch_size, momentum, steps: B, μ, and how many updates were made.
        noise_scale: g = s_B η_e N/B.
        curvature: k_max, the largest eigenvalue of the training loss's Hessian at the end, over a few replicas; NaN
            with fewer examples than all.
        train_loss: at the end, weight decay inside it.
        measured: by name, `test loss` and, where labels are classes, `error rate`, of each replica that has not
            diverged, (P,).
        diverged: how many have.
    """

    num_examples: int
    rate: float
    batch_size: int
    momentum: float
    steps: int
    noise_scale: float
    curvature: Estimate
    train_loss: Estimate
    measured: dict[str, Float[np.ndarray, " P"]]
    diverged: int

    def mean(self, quantity: str) -> Estimate:
        """A test quantity's mean over replicas; NaN with fewer than two."""
        values = self.measured[quantity]
        if len(values) < 2:
            return Estimate(np.nan, np.nan, left_out=self.diverged)
        return Estimate(float(np.mean(values)), np.std(values, ddof=1) / np.sqrt(len(values)), left_out=self.diverged)

    def to_dict(self) -> dict[str, Any]:
        """The means, ready for JSON."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return own | {"measured": {quantity: self.mean(quantity) for quantity in self.measured}}


@dataclasses.dataclass(frozen=True, eq=False)
class Optima:
    """The best batch of each (N, μ, η_e), and how it grows.

    Attributes:
        lines: (N, μ, η_e), one each.
        batches: log₂ of the batch with the lowest mean; error by the bootstrap over replicas, (lines,).
        inside: which of them are neither the smallest nor the largest batch looked at, (lines,).
        rate_power, size_power: exponents of η_e and N of the best batch over the lines inside; NaN where it cannot be
            fitted.
    """

    lines: tuple[tuple[int, float, float], ...]
    batches: Estimate
    inside: np.ndarray
    rate_power: Estimate
    size_power: Estimate


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NoiseScales:
    """Test errors over a grid of learning rates, batch sizes, momenta and numbers of examples.

    Attributes:
        name: what the problem is called.
        settings: what was run.
        held: what all cells share, `time` or `steps`.
        cells: one for each combination.
        optima: best batches by quantity.
    """

    name: str
    settings: dict[str, Any]
    held: str
    cells: tuple[Cell, ...]
    optima: dict[str, Optima]

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was measured on the test examples."""
        return tuple(self.cells[0].measured)

    @property
    def whole(self) -> tuple[Cell, ...]:
        """The cells of all N examples."""
        most = max(cell.num_examples for cell in self.cells)
        return tuple(cell for cell in self.cells if cell.num_examples == most)

    def _at(self, cell: Cell) -> list[Cell]:
        """The cells of the same N and g, itself among them."""
        return [
            other
            for other in self.cells
            if other.num_examples == cell.num_examples and np.isclose(other.noise_scale, cell.noise_scale, rtol=1e-6)
        ]

    def curve(self, cell: Cell, quantity: str) -> Estimate | None:
        """The curve at a cell's g, from the other cells there of the smallest η_e, the closest to the limit.

        None where there is no other cell, or the others have larger η_e: then the cell is the curve itself.
        """
        others = [o for o in self._at(cell) if o is not cell and len(o.measured[quantity]) > 1]
        least = min((o.rate for o in others), default=np.inf)
        if least > cell.rate * (1 + 1e-9):
            return None
        means = [o.mean(quantity) for o in others if np.isclose(o.rate, least)]
        errors = np.array([m.standard_error for m in means])
        return Estimate(float(np.mean([float(m.value) for m in means])), np.sqrt(np.sum(errors**2)) / len(means))

    def stability(self, cell: Cell) -> float:
        """η_e k_max over 2(1 + μ)/(1 − μ), beyond which a quadratic's chain diverges.

        k_max is that of the cells of the smallest η_e at the same g, where the limit's weights would be: a chain that
        is not stable there moves to where the loss is flatter.
        """
        others = [c for c in self._at(cell) if np.isfinite(c.curvature.value)]
        least = min((c.rate for c in others), default=np.nan)
        curvatures = [float(c.curvature.value) for c in others if np.isclose(c.rate, least)]
        edge = 2 * (1 + cell.momentum) / (1 - cell.momentum)
        return cell.rate * float(np.mean(curvatures)) / edge if curvatures else np.nan

    def z(self, cell: Cell, quantity: str) -> float:
        """How many standard errors a cell lies above the curve; NaN where it is the curve."""
        curve = self.curve(cell, quantity)
        return np.nan if curve is None else float(cell.mean(quantity).z(curve))

    def leaves(self, cell: Cell, quantity: str) -> bool:
        """Whether a cell has left the curve: more than `LEAVES` standard errors off it, or replicas lost."""
        return abs(self.z(cell, quantity)) > LEAVES or cell.diverged > 0

    def chi_squared(self, quantity: str, largest_rate: float) -> tuple[float, int]:
        """Reduced χ² of the cells of all N examples, up to a rate, about one value for each g; degrees of freedom.

        Each g with two cells or more has its own weighted mean. Errors are from P replicas, so that χ² is t-distributed
        terms' sum; it is scaled by (P − 3)/(P − 1) to have the mean 1 per degree at agreement.
        """
        cells = [c for c in self.whole if c.rate <= largest_rate * (1 + 1e-9) and not c.diverged]
        total, freedom, seen = 0.0, 0, set()
        for cell in cells:
            group = [c for c in self._at(cell) if c in cells]
            if id(group[0]) in seen or len(group) < 2:
                continue
            seen.add(id(group[0]))
            means = [c.mean(quantity) for c in group]
            values, errors = (np.array([getattr(m, f) for m in means]) for f in ("value", "standard_error"))
            centre = np.sum(values / errors**2) / np.sum(1 / errors**2)
            count = len(group[0].measured[quantity])
            total += float(np.sum(((values - centre) / errors) ** 2)) * (count - 3) / (count - 1)
            freedom += len(group) - 1
        return (total / freedom if freedom else np.nan), freedom

    def __str__(self) -> str:
        header = ["η_e", "B", "μ", "g", "steps", "η_e k_max", "of the edge", "training loss"]
        for quantity in self.quantities:
            header += [quantity, "z"]
        rows = []
        for c in sorted(self.whole, key=lambda c: (c.noise_scale, c.rate, c.momentum)):
            row = [f"{c.rate:.4g}", str(c.batch_size), f"{c.momentum:g}", f"{c.noise_scale:.4g}", f"{c.steps:,}"]
            row += [f"{c.rate * c.curvature.value:.2g}", f"{self.stability(c):.2g}", str(c.train_loss)]
            for quantity in self.quantities:
                z = self.z(c, quantity)
                mark = "left" if self.leaves(c, quantity) else ""
                row += [str(c.mean(quantity)), "the curve" if np.isnan(z) else f"{z:+.1f} {mark}".strip()]
            rows.append(row)
        count = self.whole[0].num_examples
        title = f"{self.name}: N = {count:,}, all cells at equal {self.held}"
        return "\n\n".join([title, table(header, rows), self._best(), self.reading])

    __repr__ = __str__

    def _best(self) -> str:
        """The table of best batches."""
        header, rows = ["N", "μ", "η_e", *(f"best log₂ B by {quantity}" for quantity in self.quantities)], []
        for i, (count, momentum, rate) in enumerate(next(iter(self.optima.values())).lines):
            row = [f"{count:,}", f"{momentum:g}", f"{rate:.4g}"]
            for best in self.optima.values():
                row.append(str(best.batches[i]) + ("" if best.inside[i] else ", at the edge"))
            rows.append(row)
        return table(header, rows)

    @property
    def reading(self) -> str:
        """One plain paragraph: where the cells make one curve of g, who leaves it, and how the best batch grows."""
        parts = [
            f"g = s_B η_e N/B with η_e = η/(1 − μ); all cells have equal {self.held}, "
            f"{self.settings['amount']:g}, so that {'the drift does' if self.held == 'time' else 'they differ in'} "
            f"{'the same work in each' if self.held == 'time' else 'how far the drift has come, too'}."
        ]
        for quantity in self.quantities:
            parts += [self._collapse_in_words(quantity), self._growth_in_words(quantity)]
        lost = sum(cell.diverged for cell in self.cells)
        return " ".join(parts + ([f"{lost} replicas diverged."] if lost else []))

    def _collapse_in_words(self, quantity: str) -> str:
        rates = sorted({cell.rate for cell in self.whole})
        chi = [(rate, *self.chi_squared(quantity, rate)) for rate in rates]
        told = ", ".join(f"{value:.2f} up to η_e = {rate:.3g} ({free})" for rate, value, free in chi if free)
        tested = [c for c in self.whole if self.curve(c, quantity) is not None]
        gone = [c for c in tested if self.leaves(c, quantity)]
        words = f"By the {quantity}, reduced χ² about one value for each g is {told or 'not to be had'} (degrees of "
        words += f"freedom); {len(gone)} of {len(tested)} cells leave the curve of the smallest η_e by more than "
        words += f"{LEAVES:g} standard errors."
        if gone:
            shares = []
            for rate in rates:
                here = [c for c in tested if c.rate == rate]
                shares += [f"{sum(c in gone for c in here)} of {len(here)} at η_e = {rate:.3g}"] if here else []
            momenta = sorted({c.momentum for c in tested})
            by = [f"{sum(c.momentum == m for c in gone)} at μ = {m:g}" for m in momenta]
            above = sum(self.z(c, quantity) > 0 for c in gone)
            words += f" They are {', '.join(shares)}; {' and '.join(by)}; {above} lie above it."
            over = [[self.stability(c) > 0.5 for c in part] for part in (gone, [c for c in tested if c not in gone])]
            words += (
                " η_e k_max, with k_max of the curve's cells, is over half of the edge 2(1 + μ)/(1 − μ) in "
                f"{sum(over[0])} of these {len(over[0])}, and in {sum(over[1])} of the other {len(over[1])}."
            )
        return words

    def _growth_in_words(self, quantity: str) -> str:
        best = self.optima[quantity]
        inside = int(np.sum(best.inside))
        start = f"The best batch by the {quantity} lies inside the grid on {inside} of {len(best.lines)} lines"
        ends = []
        for power, of in ((best.rate_power, "η_e"), (best.size_power, "N")):
            if np.isfinite(power.value):
                ends.append(f"as the power {power} of {of}")
        return f"{start} and grows {' and '.join(ends)} (expected: 1)." if ends else f"{start}: no power is fitted."

    def to_dict(self) -> dict[str, Any]:
        """All of it but the replicas' own values, ready for JSON."""
        rates = sorted({cell.rate for cell in self.whole})
        cells = [
            cell.to_dict()
            | {"of_the_edge": self.stability(cell), "z": {each: self.z(cell, each) for each in self.quantities}}
            for cell in self.cells
        ]
        chi = {
            quantity: [
                dict(
                    zip(("largest_rate", "reduced", "freedom"), (rate, *self.chi_squared(quantity, rate)), strict=True)
                )
                for rate in rates
            ]
            for quantity in self.quantities
        }
        optima = {
            quantity: {field.name: getattr(best, field.name) for field in dataclasses.fields(best)}
            for quantity, best in self.optima.items()
        }
        return {
            **{each: getattr(self, each) for each in ("name", "settings", "held")},
            **{"cells": cells, "chi_squared": chi, "optima": optima, "reading": self.reading},
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw what was measured against g, how far cells are off the curve, and the best batches."""
        plots.save(plots.noise_scale(self), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        names = ("num_examples", "rate", "batch_size", "momentum", "steps", "noise_scale", "diverged")
        arrays = {name: np.array([getattr(cell, name) for cell in self.cells]) for name in names}
        for quantity in self.quantities:
            most = max(len(cell.measured[quantity]) + cell.diverged for cell in self.cells)
            padded = np.full((len(self.cells), most), np.nan)
            for row, cell in zip(padded, self.cells, strict=True):
                row[: len(cell.measured[quantity])] = cell.measured[quantity]
            arrays[quantity.replace(" ", "_")] = padded
        return write_study(folder, NOISE_SCALE_FILES, self.plot, self.to_dict(), arrays)
