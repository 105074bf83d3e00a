"""What `compare` found: a table, a reading, a figure and files."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from sgdsim import plots
from sgdsim.density import Grid
from sgdsim.ensemble import Trajectory
from sgdsim.measures import Estimate
from sgdsim.studies.chain_comparison import ChainComparison
from sgdsim.studies.local import Local
from sgdsim.studies.reading import departs, in_words, resolution, table
from sgdsim.studies.result import fields_of, write_study
from sgdsim.studies.validity import Validity

COMPARISON_FILES = ("compare.png", "compare.json", "compare.npz")


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean (d,) and covariance (d, d) of a cloud."""

    mean: Estimate
    covariance: Estimate


@dataclasses.dataclass(frozen=True)
class DensityComparison:
    """Both clouds against the Fokker–Planck density, d ≤ 3. One entry for each saved time.

    Attributes:
        grid: where the density lives.
        widths: narrowest steady width along each axis, (d,); NaN where the loss has no minimum in reach.
        masses: cell masses of the density, (T, *cells).
        steady: cell masses of the steady state, (*cells,).
        propagation: what the propagation says of itself.
        boundary_mass: the most mass that the density ever had in the outermost cells.
        sgd, langevin: KL(cloud ‖ density), in nats.
        to_steady: KL(density ‖ steady state); its error is the grid's.
        grid_error: KL of the grid's own error, from cells of twice the width, (T,).
        solver_bias: KL of the SDE solver's own bias, from half the sub-step on the same paths; after the start.
        chain: the chain's own density beside it; None where it cannot be had, for the reason `no_chain`.
        outside, langevin_outside: particles of each cloud outside the grid, counted into its emptiest cell.
        sgd_moments, langevin_moments: mean and covariance of each cloud.
    """

    grid: Grid
    widths: Float[np.ndarray, " d"]
    masses: Float[np.ndarray, "times *cells"]
    steady: Float[np.ndarray, "*cells"]
    propagation: str
    boundary_mass: float
    sgd: tuple[Estimate, ...]
    langevin: tuple[Estimate, ...]
    to_steady: tuple[Estimate, ...]
    grid_error: Float[np.ndarray, " T"]
    solver_bias: tuple[Estimate, ...]
    chain: ChainComparison | None
    no_chain: str
    outside: tuple[int, ...]
    langevin_outside: tuple[int, ...]
    sgd_moments: tuple[Moments, ...]
    langevin_moments: tuple[Moments, ...]


@dataclasses.dataclass(frozen=True)
class DistanceComparison:
    """The two clouds against each other, d > 3. One entry for each saved time.

    Attributes:
        distance: sliced Wasserstein-2 distance between the clouds, in units of x; its floor is two clouds of one law.
        solver_bias: the path error of the SDE solver at its sub-step, extrapolated from half of it, which bounds its
            bias in the same units, (T,).
        mean_gap: distance between the clouds' means, in units of x.
        sgd_loss, langevin_loss: mean loss of each cloud.
        sgd_spread, langevin_spread: trace of each cloud's covariance.
    """

    distance: tuple[Estimate, ...]
    solver_bias: Float[np.ndarray, " T"]
    mean_gap: tuple[Estimate, ...]
    sgd_loss: tuple[Estimate, ...]
    langevin_loss: tuple[Estimate, ...]
    sgd_spread: tuple[Estimate, ...]
    langevin_spread: tuple[Estimate, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """SGD, its Langevin limit and, where a grid can be, its Fokker–Planck density and the chain's own, on one clock."""

    name: str
    settings: dict[str, Any]
    validity: Validity
    sgd: Trajectory
    langevin: Trajectory
    sgd_local: Local
    langevin_local: Local
    density: DensityComparison | None
    distance: DistanceComparison | None

    @property
    def times(self) -> Float[np.ndarray, " T"]:
        """The common clock at the saved times, (T,)."""
        return self.sgd.times

    def __str__(self) -> str:
        tables = self._density_tables() if self.density else self._distance_tables()
        return "\n\n".join([self._title(), str(self.validity), *tables, self._local_table(), self.reading])

    __repr__ = __str__

    def _title(self) -> str:
        s = self.settings
        examples = "" if s["num_examples"] is None else f", N = {s['num_examples']:,}"
        return (
            f"{self.name}: d = {s['dimension']:,}{examples}; lr = {s['learning_rate']:g}, B = {s['batch_size']}, "
            f"momentum {s['momentum']:g} ({s['update']}), sampling {s['sampling']}; "
            f"T = {s['temperature']:.4g}; {s['particles']:,} particles × {s['steps']:,} steps; "
            f"Langevin by {s['solver']} in {s['substeps']} sub-steps" + (f"\n{s['data']}" if "data" in s else "")
        )

    def _density_tables(self) -> list[str]:
        d = self.density
        assert d is not None
        columns = {"KL(SGD ‖ FP)": d.sgd, "KL(Langevin ‖ FP)": d.langevin, "KL(FP ‖ steady state)": d.to_steady}
        if d.chain is not None:
            columns |= {"KL(SGD ‖ chain)": d.chain.sgd, "KL(chain ‖ FP)": d.chain.to_limit}
        divergences = [[f"{t:.4g}", *map(str, row)] for t, *row in zip(self.times, *columns.values(), strict=True)]
        moments = []
        for t, a, b in zip(self.times, d.sgd_moments, d.langevin_moments, strict=True):
            for label, m in (("SGD", a), ("Langevin", b)):
                moments.append([f"{t:.4g}" if label == "SGD" else "", label, *_entries(m)])
        return [
            table(["t", *columns], divergences),
            table(["t", "cloud", *_moment_names(d.grid.dim)], moments),
            self._grid_line(),
        ]

    def _grid_line(self) -> str:
        d = self.density
        assert d is not None
        cells = resolution(d.grid, d.widths) or "no minimum in reach, so no steady width to resolve"
        bias = max(e.value for e in d.solver_bias)
        chain = f"no density of the chain's own: {d.no_chain}" if d.chain is None else d.chain.method
        floor = f"the floor of {d.langevin[-1].floor:.1e}"
        return "\n".join(
            [
                f"{d.grid}: {cells}; most mass in its outermost cells {d.boundary_mass:.1e}; {d.propagation}",
                f"own errors in KL, at most over the run: grid {np.max(d.grid_error):.1e} "
                f"({_side(self.grid_is_below_floor)} {floor}), SDE solver {bias:.1e} "
                f"({_side(self.solver_is_below_floor)} it)",
                chain,
            ]
        )

    def _distance_tables(self) -> list[str]:
        d = self.distance
        assert d is not None
        distances = [[f"{t:.4g}", str(a), str(b)] for t, a, b in zip(self.times, d.distance, d.mean_gap, strict=True)]
        columns = zip(self.times, d.sgd_loss, d.langevin_loss, d.sgd_spread, d.langevin_spread, strict=True)
        moments = [[f"{t:.4g}", *map(str, rest)] for t, *rest in columns]
        note = (
            f"no Fokker–Planck equation: a density in {self.settings['dimension']:,} dimensions has no grid (d ≤ 3), "
            f"so the clouds are held against each other\nSDE solver's own bias in W₂, at most, at the end: "
            f"{d.solver_bias[-1]:.1e} ({_side(self.solver_is_below_floor)} the floor of {d.distance[-1].floor:.1e})"
        )
        return [
            table(["t", "sliced W₂(SGD, Langevin)", "|mean(SGD) − mean(Langevin)|"], distances),
            table(["t", "loss, SGD", "loss, Langevin", "Tr cov, SGD", "Tr cov, Langevin"], moments),
            note,
        ]

    def _local_table(self) -> str:
        predicted = self.settings["temperature"]
        formula = "lr/(2B)" + (" · (N−B)/(N−1)" if self.settings["sampling_factor"] != 1 else "")
        formula += "/(1−μ)" if self.settings["momentum"] else ""
        rows = [
            ["drift / predicted", "1", str(self.sgd_local.drift), str(self.langevin_local.drift)],
            ["diffusion / predicted", "1", str(self.sgd_local.diffusion), str(self.langevin_local.diffusion)],
            [
                f"temperature {formula}",
                f"{predicted:.5g}",
                str(self.sgd_local.temperature),
                str(self.langevin_local.temperature),
            ],
            ["diverged particles", "0", str(self.sgd.num_diverged), str(self.langevin.num_diverged)],
            [
                "particle-steps per second",
                "",
                f"{self.sgd.particle_steps_per_second:.3g}",
                f"{self.langevin.particle_steps_per_second:.3g}",
            ],
        ]
        return table(["measured once", "predicted", "SGD", "Langevin"], rows)

    @property
    def grid_is_below_floor(self) -> bool:
        """Whether the grid's own error is too small to be read at this sample size; True where there is no grid."""
        if self.density is None:
            return True
        return all(e <= kl.floor for e, kl in zip(self.density.grid_error, self.density.langevin, strict=True))

    @property
    def solver_is_below_floor(self) -> bool:
        """Whether the SDE solver's own bias is too small to be read at this sample size."""
        if self.density is not None:
            pairs = zip(self.density.solver_bias, self.density.langevin[1:], strict=True)
            return all(bias.value <= kl.floor for bias, kl in pairs)
        assert self.distance is not None
        return all(b <= w.floor for b, w in zip(self.distance.solver_bias, self.distance.distance, strict=True))

    @property
    def reading(self) -> str:
        """One plain paragraph: where SDE and SGD agree, since when and where they part, by how many floors."""
        text = self._density_reading() if self.density is not None else self._distance_reading()
        if not self.grid_is_below_floor:
            text += " The grid's own error is above the floor: take more cells before believing a departure."
        if not self.solver_is_below_floor:
            text += " The SDE solver's own bias is above the floor: take more sub-steps before believing a departure."
        if self.settings["sampling"] == "epoch":
            text += " Reshuffled batches are anticorrelated, so the long run is colder than the temperature used here."
        for cloud, trajectory in (("SGD", self.sgd), ("Langevin", self.langevin)):
            if trajectory.num_diverged:
                share = f"{trajectory.num_diverged} of {self.settings['particles']:,} {cloud} particles"
                text += f" {share} diverged and are left out of every measure."
        return text

    def _density_reading(self) -> str:
        d = self.density
        assert d is not None
        text = in_words("SGD follows its Fokker–Planck density", "SGD departs from it", self.times, d.sgd)
        text += " " + in_words("Langevin follows the same density", "Langevin departs from it", self.times, d.langevin)
        is_sound = self.grid_is_below_floor and self.solver_is_below_floor and not any(map(departs, d.langevin))
        if any(map(departs, d.sgd)) and is_sound:
            text += f" So neither grid nor solver is at fault but the limit itself: {self._why()}."
        for cloud, outside in (("SGD", d.outside), ("Langevin", d.langevin_outside)):
            if max(outside):
                text += f" Up to {max(outside)} {cloud} particles lie outside the grid, counted into its emptiest cell."
        if d.chain is not None:
            text += f" {d.chain.reading}"
        return text + f" At the end the density is {d.to_steady[-1].value:.2g} nats from its steady state."

    def _distance_reading(self) -> str:
        d = self.distance
        assert d is not None
        text = in_words("SGD and its Langevin limit are one cloud", "they part", self.times, d.distance)
        scores = [abs(float(a.z(b))) for a, b in zip(d.sgd_loss, d.langevin_loss, strict=True)]
        at = int(np.argmax(scores))
        return (
            f"{text} Their mean losses differ by at most {scores[at]:.1f} standard errors, at t = {self.times[at]:.4g}."
        )

    def _why(self) -> str:
        """What speaks against the limit: the size of a step, and noise that is not Gaussian."""
        v = self.validity
        why = f"here ηk_max = {v.step_times_curvature:.2g}"
        if departs(v.kurtosis):
            why += f", and the minibatch noise has an excess kurtosis of {v.kurtosis.value:.2g} where a diffusion has 0"
        return why

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the clouds over the density at several times, and the divergences with their floors."""
        plots.save(self.figure(), path)

    def figure(self) -> Figure:
        """The figure that `plot` draws, for a notebook."""
        if self.density is None:
            assert self.distance is not None
            return plots.compare_clouds(self.name, self.sgd, self.langevin, self.distance)
        return plots.compare_densities(self.name, self.sgd, self.langevin, self.density)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write compare.png, compare.json and compare.npz into a folder; all of them or none."""
        return write_study(folder, COMPARISON_FILES, self.plot, self._content(), self._arrays())

    def _content(self) -> dict[str, Any]:
        """Every number of the report, for JSON."""
        content: dict[str, Any] = {
            "name": self.name,
            "settings": self.settings,
            "validity": fields_of(self.validity),
            "times": self.times,
            "measured": {"sgd": fields_of(self.sgd_local), "langevin": fields_of(self.langevin_local)},
            "diverged": {"sgd": self.sgd.num_diverged, "langevin": self.langevin.num_diverged},
            "particle_steps_per_second": {
                "sgd": self.sgd.particle_steps_per_second,
                "langevin": self.langevin.particle_steps_per_second,
            },
            "reading": self.reading,
        }
        if self.density is not None:
            d = fields_of(self.density)
            grid = d.pop("grid")
            for name in ("masses", "steady"):
                d.pop(name)
            if d["chain"] is not None:
                d["chain"] = {k: v for k, v in fields_of(d["chain"]).items() if k not in ("masses", "steady")}
            for name in ("sgd_moments", "langevin_moments"):
                d[name] = [fields_of(m) for m in d[name]]
            content["density"] = d | {"grid": {"lower": grid.lower, "upper": grid.upper, "cells": grid.cells}}
        else:
            content["distance"] = fields_of(self.distance)
        return content

    def _arrays(self) -> dict[str, np.ndarray]:
        """The clouds and the density, for NPZ."""
        arrays = {"times": self.times, "sgd": self.sgd.particles, "langevin": self.langevin.particles}
        if self.density is not None:
            d = self.density
            arrays |= {"grid_lower": d.grid.lower, "grid_upper": d.grid.upper, "masses": d.masses, "steady": d.steady}
            if d.chain is not None:
                arrays |= {"chain_masses": d.chain.masses, "chain_steady": d.chain.steady}
        return arrays


def _side(is_below: bool) -> str:
    return "below" if is_below else "ABOVE"


def _moment_names(dim: int) -> list[str]:
    names = [f"mean x{_sub(i)}" for i in range(dim)]
    return names + [f"cov x{_sub(i)}x{_sub(j)}" for i in range(dim) for j in range(i, dim)]


def _sub(axis: int) -> str:
    return "₁₂₃"[axis]


def _entries(moments: Moments) -> list[str]:
    """The mean's entries and the covariance's upper triangle, each with its error."""
    m, c = moments.mean, moments.covariance
    dim = np.size(m.value)
    upper = np.triu_indices(dim)
    values = np.concatenate([np.ravel(m.value), np.asarray(c.value)[upper]])
    errors = np.concatenate([np.ravel(m.standard_error), np.asarray(c.standard_error)[upper]])
    return [str(Estimate(v, e)) for v, e in zip(values, errors, strict=True)]
