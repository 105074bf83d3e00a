"""What `network_limits` found: SGD's cloud, and each candidate's beside it."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sgdsim import plots
from sgdsim.measures import Estimate
from sgdsim.studies.comparison import Comparison
from sgdsim.studies.limit_densities import LimitDensities
from sgdsim.studies.reading import departs, in_words, table
from sgdsim.studies.result import fields_of, write_study

NETWORK_LIMITS_FILES = ("network_limits.png", "network_limits.json", "network_limits.npz")
SHOWN_AXES = 3  # variances that the table has room for
WALL = 1e-4  # mass at the walls that is worth a word
TITLES = {"SGD": "SGD", "D(x)": "Langevin, D(x)", "isotropic": "Langevin, isotropic"}


@dataclasses.dataclass(frozen=True)
class Cloud:
    """One cloud. An entry for each saved time after the start, T of them.

    Attributes:
        name: "SGD", "D(x)", "isotropic" or "SVAG(l)".
        loss: mean loss, (T,).
        total_variance: Tr Cov(x), (T,).
        along_axes: variances along the leading directions of D, (T, k), in units of x².
        principal: the leading eigenvalues of the cloud's covariance at the end, decreasing.
        kl: KL(cloud ‖ Fokker–Planck density of the true limit), in nats, T of them; None where there is no grid.
        own_kl: of the isotropic cloud, the same to the density of its own limit.
    """

    name: str
    loss: Estimate
    total_variance: Estimate
    along_axes: Estimate
    principal: Estimate
    kl: tuple[Estimate, ...] | None = None
    own_kl: tuple[Estimate, ...] | None = None

    @property
    def title(self) -> str:
        """What reports call it."""
        return TITLES.get(self.name, self.name)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A cloud held against SGD's, each measure with its floor, (T,).

    Attributes:
        cloud: its own.
        distance: sliced W₁, in units of x.
        covariance: ‖Σ − Σ_SGD‖²/(‖Σ‖² + ‖Σ_SGD‖²).
        loss_gap: |⟨f⟩ − ⟨f⟩_SGD|.
    """

    cloud: Cloud
    distance: Estimate
    covariance: Estimate
    loss_gap: Estimate

    @property
    def measures(self) -> dict[str, list[Estimate]]:
        """The readings by what they measure."""
        named = {"sliced W₁": self.distance, "covariance": self.covariance, "mean loss": self.loss_gap}
        return {name: [readings[i] for i in range(np.size(readings.value))] for name, readings in named.items()}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Candidates:
    """SGD's cloud and its continuum candidates', on one clock.

    Attributes:
        name: what the problem is called.
        settings: what was run.
        comparison: what `compare` says of SGD and its true limit, with that limit's density in d ≤ 3.
        sgd: SGD's cloud.
        candidates: the others, the true limit first.
        densities: of the true and of the isotropic limit; None where there is no grid.
        axes: leading directions of D at late positions of SGD, one a row, (k, d).
        late: the clouds at the end, (P, d) each; particles that have run away are NaN.
        lost: of each cloud, how many have.
    """

    name: str
    settings: dict[str, Any]
    comparison: Comparison
    sgd: Cloud
    candidates: tuple[Candidate, ...]
    densities: LimitDensities | None
    axes: Float[np.ndarray, "k d"]
    late: dict[str, Float[np.ndarray, "P d"]]
    lost: dict[str, int]

    @property
    def times(self) -> Float[np.ndarray, " T"]:
        """The common clock at the saved times after the start, (T,)."""
        return self.comparison.times[1:]

    @property
    def clouds(self) -> tuple[Cloud, ...]:
        """SGD's first."""
        return (self.sgd, *(candidate.cloud for candidate in self.candidates))

    def __str__(self) -> str:
        s = self.settings
        title = (
            f"{self.name}: d = {s['dimension']:,}; lr = {s['learning_rate']:g}, B = {s['batch_size']}, sampling "
            f"{s['sampling']}, T = {s['temperature']:.4g}; {s['particles']:,} particles × {s['steps']:,} steps; both "
            f"Langevin clouds in {s['substeps']} sub-steps of {s['solver']}; isotropic noise has the variance Tr D(x)/d"
        )
        return "\n\n".join([title, self._table(), self._late_table(), self.reading])

    __repr__ = __str__

    def _table(self) -> str:
        with_density = self.densities is not None
        header = ["t", "cloud", "mean loss", "Tr cov", "W₁ from SGD", "covariance", "loss gap"]
        rows = []
        for i, t in enumerate(self.times):
            for candidate in (None, *self.candidates):
                cloud = self.sgd if candidate is None else candidate.cloud
                row = [f"{t:.4g}" if candidate is None else "", cloud.title]
                row += [str(cloud.loss[i]), str(cloud.total_variance[i])]
                row += [_in_floors(r[i]) for r in candidate.measures.values()] if candidate else [""] * 3
                rows.append(row + ([_in_floors(cloud.kl[i])] if cloud.kl else []))
        return table(header + ["KL to true FP"] * with_density, rows, left=2) + "\nin floors from the fifth column on"

    def _late_table(self) -> str:
        axes = range(min(SHOWN_AXES, len(self.axes)))
        header = [f"at t = {self.times[-1]:.4g}"]
        header += [f"variance along D's axis {i + 1}" for i in axes] + [f"eigenvalue {i + 1}" for i in axes]
        rows = [
            [c.title, *(str(c.along_axes[-1, i]) for i in axes), *(str(c.principal[i]) for i in axes)]
            for c in self.clouds
        ]
        return table(header, rows, left=1)

    @property
    def reading(self) -> str:
        """One plain paragraph: which candidates are SGD at this sample size, by how many floors the others are not."""
        parts = [self._verdict(candidate) for candidate in self.candidates]
        parts += [self._variances(candidate.cloud) for candidate in self.candidates if candidate.cloud.name != "D(x)"][
            :1
        ]
        if self.densities is not None:
            parts.append(self._density_reading(self.densities))
        if self.settings["momentum"] or self.settings["sampling"] == "epoch":
            parts.append("SVAG needs batches drawn independently and no momentum, so it was not run.")
        if not self.comparison.solver_is_below_floor:
            parts.append(
                "The SDE solver's own bias is above the floor: take more sub-steps before believing a departure."
            )
        if not self.comparison.grid_is_below_floor:
            parts.append("The grid's own error is above the floor: take more cells before believing a departure.")
        if self.settings["sampling"] == "epoch":
            parts.append(
                "Reshuffled batches are anticorrelated, so the long run is colder than the temperature used here."
            )
        held = {cloud.name for cloud in self.clouds}
        for name, count in self.lost.items():
            if count:
                end = " and are left out of every measure" if name in held else ", so that too few were left to measure"
                parts.append(f"{count} of {self.settings['particles']:,} particles of {name} ran away{end}.")
        return " ".join(parts)

    def _verdict(self, candidate: Candidate) -> str:
        title, measures = candidate.cloud.title, candidate.measures
        apart = {name: readings for name, readings in measures.items() if any(map(departs, readings))}
        unread = any(not np.isfinite(r.value) for readings in measures.values() for r in readings)
        if not apart and not unread:
            worst = max((float(r.floors), name) for name, rs in measures.items() for r in rs if np.isfinite(r.floors))
            return (
                f"{title} is indistinguishable from SGD with {self.settings['particles']:,} particles: no reading is "
                f"more than two standard errors above its floor, the largest is {worst[0]:.2f} floors ({worst[1]})."
            )
        words = [
            in_words(f"{title} agrees with SGD in {name}", f"{title} differs from SGD in {name}", self.times, readings)
            for name, readings in (apart or measures).items()
        ]
        agreed = [name for name in measures if name not in apart] if apart else []
        return " ".join(words + ([f"It agrees in {' and '.join(agreed)}."] if agreed else []))

    def _variances(self, cloud: Cloud) -> str:
        """By how much the isotropic cloud is too wide or too narrow, over all directions and along D's own."""
        first, total = (
            _ratio(getattr(cloud, part)[index], getattr(self.sgd, part)[index])
            for part, index in (("along_axes", (-1, 0)), ("total_variance", -1))
        )
        return (
            f"At the end the variance of {cloud.title} is {total.value:.3g} ± {total.standard_error:.1g} times SGD's "
            f"over all directions, and {first.value:.3g} ± {first.standard_error:.1g} times along D's leading one."
        )

    def _density_reading(self, densities: LimitDensities) -> str:
        said = []
        for cloud in self.clouds:
            assert cloud.kl is not None
            worst = max(cloud.kl, key=lambda r: float(r.value))
            said.append(f"{cloud.title} by {worst.value:.2g} ({float(worst.floors):.2g} floors)")
        away = [cloud.title for cloud in self.clouds if any(map(departs, cloud.kl or ()))]
        none = "so that none departs" if not away else f"of which {' and '.join(away)} depart{'s' * (len(away) == 1)}"
        text = (
            f"From the true limit's Fokker–Planck density the clouds differ in nats at most: {', '.join(said)}; {none}."
        )
        last = densities.apart[-1]
        text += f" Without any sampling the isotropic limit's density is {last.value:.3g} ± {last.standard_error:.1g} "
        text += "nats from the true one's at the end"
        for own in (cloud.own_kl for cloud in self.clouds if cloud.own_kl):
            text += f", and its cloud {'departs from' if any(map(departs, own)) else 'follows'} that density of its own"
        if densities.boundary_mass > WALL:
            text += f"; up to {densities.boundary_mass:.1g} of it is at the walls, where it would run further"
        return text + "."

    def to_dict(self) -> dict[str, Any]:
        """All of it but clouds and densities, ready for JSON."""
        density = None
        if self.densities is not None:
            grid = self.densities.grid
            density = {"lower": grid.lower, "upper": grid.upper, "cells": grid.cells}
            density |= {"apart": self.densities.apart, "boundary_mass": self.densities.boundary_mass}
        return {
            "name": self.name,
            "settings": self.settings,
            "times": self.times,
            "sgd": fields_of(self.sgd),
            "candidates": [fields_of(c) | {"cloud": fields_of(c.cloud)} for c in self.candidates],
            "densities": density,
            "solver_is_below_floor": self.comparison.solver_is_below_floor,
            "grid_is_below_floor": self.comparison.grid_is_below_floor,
            "lost": self.lost,
            "reading": self.reading,
        }

    def figure(self) -> Figure:
        """The figure that `plot` draws, for a notebook."""
        return plots.network_limits(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw distances with their floors, losses, spectra, and the late clouds."""
        plots.save(self.figure(), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        arrays = {"times": self.times, "axes": self.axes} | {f"late {name}": x for name, x in self.late.items()}
        if self.densities is not None:
            grid = self.densities.grid
            arrays |= {"grid_lower": grid.lower, "grid_upper": grid.upper}
            arrays |= {"true": self.densities.true, "isotropic": self.densities.isotropic}
        return write_study(folder, NETWORK_LIMITS_FILES, self.plot, self.to_dict(), arrays)


def _in_floors(reading: Estimate) -> str:
    mark = "*" if departs(reading) else ""
    return f"{float(reading.floors):.2f}{mark}" if math.isfinite(float(reading.floors)) else "–"


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    """a/b of independent estimates, with the delta method's error."""
    value = float(a.value) / float(b.value)
    shares = [float(e.standard_error) / float(e.value) for e in (a, b)]
    return Estimate(value, abs(value) * math.hypot(*shares))
