"""What `inverse_variance_flatness` found: weight variance against curvature, by sampling and by way of measuring."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from sgdsim import plots
from sgdsim.measures import Estimate, mean
from sgdsim.measures.variance_exponent import slope_weights, variance_exponent
from sgdsim.studies.reading import MARGIN, table
from sgdsim.studies.result import write_study

INVERSE_VARIANCE_FLATNESS_FILES = (
    "inverse_variance_flatness.png",
    "inverse_variance_flatness.json",
    "inverse_variance_flatness.npz",
)
WAYS = {
    "ensemble": "over replicas, all phases",
    "end": "over replicas, last epoch's end",
    "window": "over time, each run's window",
}
FEWEST = 3  # directions that an exponent is fitted to


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PrincipalDirections:
    """Principal directions of each run's own window, as Feng and Tu look at them.

    The first may be the journey of a run that is still on its way, as its `trend` tells, and then it is no fluctuation:
    exponents are given with it and without it.

    Attributes:
        variances: over the window, decreasing, (R, c).
        curvatures: v·Hv, (R, c).
        flatness: F in units of x, of the first runs, (runs, c); infinite where the loss never reaches e times its own.
        trends: the share of each run's first variance that a straight line in time explains, (R,).
    """

    variances: Float[np.ndarray, "R c"]
    curvatures: Float[np.ndarray, "R c"]
    flatness: Float[np.ndarray, "runs c"]
    trends: Float[np.ndarray, " R"]

    def exponent(self, skip: int = 0) -> Estimate:
        """d log σ²/d log k within a run, without its first directions; the mean over runs."""
        return _over_runs(self.curvatures[:, skip:], self.variances[:, skip:])

    def psi(self, skip: int = 0) -> Estimate:
        """ψ of σ² ∝ F^−ψ within a run, without its first directions; the mean over runs."""
        return _over_runs(self.flatness[:, skip:], self.variances[:, skip:]) * -1.0

    @property
    def trend(self) -> Estimate:
        """The mean of `trends` over runs; a free random walk has it near 1 too."""
        return mean(self.trends[:, None])[0]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sampled:
    """Variances with one sampling, along the Hessian's eigenvectors, common to all replicas and both samplings.

    Attributes:
        sampling: of the batches.
        squares: for each way of measuring in `WAYS` each replica's squared deviation, (R, m).
        law: for each way, what a quadratic with D and the Hessian of the centre gives exactly, (m,); None where no law
            is known.
        principal: of each run's own window.
        left_out: replicas that diverged.
    """

    sampling: str
    squares: dict[str, Float[np.ndarray, "R m"]]
    law: dict[str, Float[np.ndarray, " m"] | None]
    principal: PrincipalDirections
    left_out: int

    def variance(self, way: str) -> Estimate:
        """σ² along each direction, (m,)."""
        return dataclasses.replace(mean(self.squares[way]), left_out=self.left_out)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class VarianceFlatness:
    """Weight variance against curvature, with independent batches and with reshuffled epochs.

    Attributes:
        name: what the problem is called.
        settings: what was run.
        curvatures: the Hessian's leading eigenvalues at the centre, decreasing, (m,).
        noise: D_ii = v·Dv along its eigenvectors, (m,).
        dropped: leading directions that were left out because their curvature is not positive.
        crossover: the curvature below which reshuffling takes variance off, 3/(η_e M).
        independent, reshuffled: what was measured.
    """

    name: str
    settings: dict[str, Any]
    curvatures: Float[np.ndarray, " m"]
    noise: Float[np.ndarray, " m"]
    dropped: int
    crossover: float
    independent: Sampled
    reshuffled: Sampled

    @property
    def groups(self) -> dict[str, Bool[np.ndarray, " m"]]:
        """Which directions are sharper than the crossover, flatter, and all of them."""
        sharp = self.curvatures > self.crossover
        return {"sharp": sharp, "flat": ~sharp, "all": np.ones_like(sharp)}

    def exponent(self, sampled: Sampled, way: str, group: str) -> Estimate | None:
        """d log σ²/d log k over a group of directions; None where they are fewer than three."""
        chosen = self.groups[group]
        if np.sum(chosen) < FEWEST:
            return None
        found = variance_exponent(sampled.squares[way][:, chosen], self.curvatures[chosen])
        return dataclasses.replace(found, left_out=sampled.left_out)

    def expected(self, sampled: Sampled, way: str, group: str) -> float | None:
        """What the law's variances give for it; None where there is no law, or no such fit."""
        law, chosen = sampled.law[way], self.groups[group]
        if law is None or np.sum(chosen) < FEWEST:
            return None
        return float(slope_weights(self.curvatures[chosen]) @ np.log(law[chosen]))

    def __str__(self) -> str:
        header = ["batches", "variance", *(f"{g}, law" if i else g for g in self.groups for i in range(2))]
        rows = []
        for sampled in (self.independent, self.reshuffled):
            for way, words in WAYS.items():
                row = [sampled.sampling, words]
                for group in self.groups:
                    found, told = self.exponent(sampled, way, group), self.expected(sampled, way, group)
                    row += ["—" if found is None else str(found), "—" if told is None else f"{told:.2f}"]
                rows.append(row)
        title = f"{self.name}: exponents d log σ²/d log k along {self.curvatures.size} eigenvectors of the Hessian, "
        title += (
            f"k = {self.curvatures[-1]:.3g} … {self.curvatures[0]:.3g}; sharp and flat meet at {self.crossover:.3g}"
        )
        runs = []
        for sampled in (self.independent, self.reshuffled):
            p = sampled.principal
            runs.append([sampled.sampling, *map(str, (p.exponent(), p.psi(), p.exponent(1), p.psi(1), p.trend))])
        columns = ["principal directions", "d log σ²/d log k", "ψ of σ² ∝ F^−ψ", "the same without the first", "ψ"]
        principal = table([*columns, "trend of the first"], runs, left=1)
        return "\n\n".join([title, table(header, rows, left=2), principal, self.reading])

    __repr__ = __str__

    @property
    def reading(self) -> str:
        """One plain paragraph: which relation holds, with which batches, and how one looks."""
        parts = [self._ensemble_words(group) for group in ("sharp", "flat")]
        return " ".join([*filter(None, parts), self._law_words(), self._window_words(), self._principal_words()])

    def _ensemble_words(self, group: str) -> str:
        side = {"sharp": "sharper", "flat": "flatter"}[group]
        one, other = (self.exponent(s, "ensemble", group) for s in (self.independent, self.reshuffled))
        if one is None or other is None:
            return ""
        words = (
            f"Over replicas, in directions {side} than 3/(ηM) = {self.crossover:.3g}, σ² goes as k to the {one} with "
        )
        words += (
            f"independent batches ({_relation(one)}) and to the {other} with reshuffled ones ({_relation(other)}). "
        )
        ratios = self.reshuffled.variance("ensemble").value / self.independent.variance("ensemble").value
        middle = float(np.median(np.asarray(ratios)[self.groups[group]]))
        return words + f"There reshuffling leaves {middle:.2g} of the variance (median)."

    def _law_words(self) -> str:
        misses = []
        for sampled, way in ((self.independent, "ensemble"), (self.reshuffled, "ensemble"), (self.reshuffled, "end")):
            law = sampled.law[way]
            if law is None:
                return "No law to compare with: it asks for μ = 0 and ηk < 2."
            low, middle, high = np.quantile(np.asarray(sampled.variance(way).value) / law, [0.1, 0.5, 0.9])
            misses.append(f"{middle:.2f} ({low:.2f} … {high:.2f}) {sampled.sampling}, {WAYS[way]}")
        return (
            "Measured variance over that of a quadratic with the same D and Hessian, median and four fifths of the "
            f"directions: {'; '.join(misses)}."
        )

    def _window_words(self) -> str:
        words = []
        for sampled in (self.independent, self.reshuffled):
            seen = self.exponent(sampled, "window", "all")
            there = self.exponent(sampled, "ensemble", "all")
            if seen is not None and there is not None:
                words.append(f"{seen} for {there} ({sampled.sampling})")
        if not words:
            return ""
        epochs = self.settings["window"]
        return (
            f"Looked at through one run's window of {epochs} epochs, the exponent over all directions reads "
            f"{' and '.join(words)}: a window hides the slow spread of flat directions."
        )

    def _principal_words(self) -> str:
        words = "As Feng and Tu measure, in principal directions of one run's window, "
        parts = []
        for sampled in (self.independent, self.reshuffled):
            p = sampled.principal
            parts.append(
                f"ψ = {p.psi()}, without the first direction {p.psi(1)} ({_relation(p.psi(1))}), {sampled.sampling}"
            )
        words += "; ".join(parts)
        trends = " and ".join(f"{float(s.principal.trend.value):.0%}" for s in (self.independent, self.reshuffled))
        words += f". A straight line in time explains {trends} of the first one's variance. Theirs is positive."
        return words.replace("%", " %")

    def to_dict(self) -> dict[str, Any]:
        """All of it but each replica's numbers, ready for JSON."""
        names = ("name", "settings", "curvatures", "noise", "dropped", "crossover")
        return {each: getattr(self, each) for each in names} | {
            "independent": self._side(self.independent),
            "reshuffled": self._side(self.reshuffled),
            "reading": self.reading,
        }

    def _side(self, sampled: Sampled) -> Mapping[str, Any]:
        return {
            "sampling": sampled.sampling,
            "variances": {way: sampled.variance(way) for way in WAYS},
            "laws": sampled.law,
            "exponents": {way: {g: self.exponent(sampled, way, g) for g in self.groups} for way in WAYS},
            "expected": {way: {g: self.expected(sampled, way, g) for g in self.groups} for way in WAYS},
            "principal": {
                "exponent": sampled.principal.exponent(),
                "psi": sampled.principal.psi(),
                "exponent_without_first": sampled.principal.exponent(1),
                "psi_without_first": sampled.principal.psi(1),
                "trend_of_first": sampled.principal.trend,
            },
            "left_out": sampled.left_out,
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw variance against curvature in each way of measuring, and against flatness in principal directions."""
        plots.save(self.figure(), path)

    def figure(self) -> Any:
        """The figure of `plot`."""
        return plots.inverse_variance_flatness(self)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        arrays = {"curvatures": self.curvatures, "noise": self.noise}
        for side, sampled in (("independent", self.independent), ("reshuffled", self.reshuffled)):
            arrays |= {f"{side}_{way}": sampled.squares[way] for way in WAYS}
            arrays |= {f"{side}_principal_{f}": v for f, v in vars(sampled.principal).items()}
        return write_study(folder, INVERSE_VARIANCE_FLATNESS_FILES, self.plot, self.to_dict(), arrays)


def _over_runs(x: Float[np.ndarray, "runs c"], variances: Float[np.ndarray, "R c"]) -> Estimate:
    """The slope of log σ² against log x in each run, over the directions where both are known; mean over the runs."""
    slopes = []
    for row, variance in zip(x, variances, strict=False):
        known = np.isfinite(row) & (row > 0) & (variance > 0)
        if np.sum(known) >= FEWEST:
            slopes.append(float(slope_weights(row[known]) @ np.log(variance[known])))
    if len(slopes) < 2:
        return Estimate(np.nan, np.nan)
    return mean(np.array(slopes)[:, None])[0]


def _relation(exponent: Estimate) -> str:
    """In words what the sign of an exponent of σ² against k, or of 1/F, says."""
    if not np.isfinite(exponent.value) or abs(float(exponent.z())) <= MARGIN:
        return "no trend"
    return "the inverse relation" if exponent.value > 0 else "flat directions are the wide ones"
