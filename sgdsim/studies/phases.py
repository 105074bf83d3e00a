"""What the two-phase study found: mean and spread of each layer's gradient through training, and where they cross."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sgdsim import plots
from sgdsim.measures import Estimate
from sgdsim.studies.reading import table
from sgdsim.studies.result import write_study

TWO_PHASES_FILES = ("two_phases.png", "two_phases.json", "two_phases.npz")
GROWTHS = ("drift", "diffusion", "diffusion, from its own start")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TwoPhases:
    """The gradient's mean and spread along replicas of a run, for each layer and, last, for all weights together.

    Attributes:
        name: what the problem is called.
        settings: what was run.
        layers: names of the layers, the last one `all weights`.
        paths: where each is in the parameters.
        sizes: how many weights each has, (L,).
        steps: where the run was looked at, (T,).
        losses: f(x), (T, R) for R replicas.
        means: |∇f|, weight decay inside it, (T, R, L).
        spreads: √(s_B Tr D/B), the minibatch gradient's standard deviation, (T, R, L).
        weights: |W|, weights and biases, (T, R, L).
        distances: |x_k − x_0|, (T, R, L).
        crossings: the step at which mean/spread falls below 1 for good; NaN where it never does, (R, L).
        exponents: growth of the distance in `GROWTHS`; NaN where the phase has too few looks, (3, R, L).
        shared: of the squared distance from the median crossing to the end, the share that all replicas have in
            common; NaN where most never cross, (L,).
        left_out: replicas that diverged.
    """

    name: str
    settings: dict[str, Any]
    layers: tuple[str, ...]
    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    steps: Int[np.ndarray, " T"]
    losses: Float[np.ndarray, "T R"]
    means: Float[np.ndarray, "T R L"]
    spreads: Float[np.ndarray, "T R L"]
    weights: Float[np.ndarray, "T R L"]
    distances: Float[np.ndarray, "T R L"]
    crossings: Float[np.ndarray, "R L"]
    exponents: Float[np.ndarray, "3 R L"]
    shared: Estimate
    left_out: int

    @property
    def ratios(self) -> Estimate:
        """Signal to noise, |∇f| over √(s_B Tr D/B): mean over replicas, (T, L)."""
        return self.over_replicas(self.means / self.spreads)

    @property
    def even_batches(self) -> Estimate:
        """Tr D/|∇f|², the batch (with replacement) whose spread is the mean: mean over replicas, (T, L).

        Source: McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018, equation 2.9.
        """
        per_example = self.settings["batch_size"] / self.settings["sampling_factor"]
        return self.over_replicas(per_example * (self.spreads / self.means) ** 2)

    def over_replicas(self, values: Float[np.ndarray, "T R *rest"]) -> Estimate:
        """Mean over replicas, the second axis, with its standard error."""
        first = values[:, 0]  # from which differences are taken, so that replicas still at one point differ by 0
        gaps = values - first[:, None]
        error = np.std(gaps, axis=1, ddof=1) / np.sqrt(values.shape[1])
        return Estimate(first + np.mean(gaps, axis=1), error, left_out=self.left_out)

    def crossing(self, layer: int) -> Estimate:
        """The step of a layer's crossing, over the replicas that crossed; NaN where none did."""
        return self._over_finite(self.crossings[:, layer])

    def growth(self, phase: int, layer: int) -> Estimate:
        """The exponent of the distance in a phase of `GROWTHS`, over the replicas that have it."""
        return self._over_finite(self.exponents[phase, :, layer])

    def _over_finite(self, values: Float[np.ndarray, " R"]) -> Estimate:
        kept = values[np.isfinite(values)]
        error = np.std(kept, ddof=1) / np.sqrt(len(kept)) if len(kept) > 1 else np.nan
        return Estimate(float(np.mean(kept)) if len(kept) else np.nan, error, left_out=self.left_out)

    def __str__(self) -> str:
        ratios, losses = self.ratios, self.over_replicas(self.losses)
        rows = []
        for i in range(len(self.layers)):
            growths = [str(self.growth(phase, i)) for phase in range(len(GROWTHS))]
            ends = [_short(each[k, i]) for each in (ratios, self.even_batches) for k in (0, -1)]
            crossing, shared = self._crossing_in_words(i), str(self.shared[i])
            rows.append([self.layers[i], f"{self.sizes[i]:,}", *ends, crossing, *growths, shared])
        header = [
            "",
            "weights",
            "mean/spread, first",
            "last",
            "Tr D/|∇f|², first",
            "last",
            "below 1 for good from step",
        ]
        header += [f"growth, {growth}" for growth in GROWTHS] + ["shared after"]
        shown = sorted({*range(0, len(self.steps), 3), len(self.steps) - 1})
        looks = [
            [f"{self.steps[i]:,}", _short(losses[i]), *(_short(ratios[i, j]) for j in range(len(self.layers)))]
            for i in shown
        ]
        title = f"{self.name}: the minibatch gradient's mean over its spread, {self.losses.shape[1]} replicas"
        return "\n\n".join(
            [title, table(header, rows, left=1), table(["step", "loss", *self.layers], looks), self.reading]
        )

    __repr__ = __str__

    def _crossing_in_words(self, layer: int) -> str:
        crossed, count = int(np.isfinite(self.crossings[:, layer]).sum()), self.crossings.shape[0]
        if crossed == 0:
            return "never"
        if not np.any(self.crossings[:, layer]):
            return "0"
        return str(self.crossing(layer)) + ("" if crossed == count else f" ({count - crossed} of {count} never)")

    @property
    def reading(self) -> str:
        """One plain paragraph: which layers go from drift to diffusion, when, and how far it is what the paper says."""
        parts, ratios, even = [], self.ratios, self.even_batches
        for i, layer in enumerate(self.layers):
            when = self._crossing_in_words(i)
            where = {"never": "never falls below 1 for good", "0": "is below 1 from the start"}
            crosses = where.get(when, f"is below 1 for good from step {when} on")
            parts.append(
                f"In {layer} mean over spread goes from {_short(ratios[0, i])} to {_short(ratios[-1, i])}: it "
            )
            parts[-1] += f"{crosses}."
        parts.append(
            f"1 is a matter of the batch, here B = {self.settings['batch_size']}: for all weights mean and spread are "
            f"equal at B = {_short(even[0, -1])} (with replacement) at the first look and at {_short(even[-1, -1])} at "
            "the last."
        )
        drift, diffusion, own = (self.growth(phase, len(self.layers) - 1) for phase in range(3))
        if np.isfinite(drift.value):
            parts.append(f"The distance from the start grows as the step to the power {drift} before that (drift: 1).")
        if np.isfinite(own.value):
            parts.append(
                f"Below 1 it grows as the power {diffusion}; counted from where that began, as the power {own} of the "
                "steps since (free diffusion: ½, drift: 1)."
            )
        shared = self.shared[-1]
        if np.isfinite(shared.value):
            kind = "so it is drift that slows down" if shared.value > 0.5 else "so most of it is diffusion"
            parts.append(
                f"Of that way, squared, the replicas have {shared} in common (drift: 1, diffusion: 0), {kind}."
            )
        parts.append(
            "So much is what noisy optimisation does with or without a bottleneck: towards a minimum the mean gradient "
            "falls and the spread stays. Compression, which Shwartz-Ziv and Tishby ascribe to the second phase and "
            "Saxe et al. dispute, is not measured here."
        )
        return " ".join(parts + ([f"{self.left_out} replicas diverged."] if self.left_out else []))

    def to_dict(self) -> dict[str, Any]:
        """All of it, means over replicas for what has a value for each of them, ready for JSON."""
        whole = ("losses", "means", "spreads", "weights", "distances")
        return {
            **{each: getattr(self, each) for each in ("name", "settings", "layers", "paths", "sizes", "steps")},
            **{each: self.over_replicas(getattr(self, each)) for each in whole},
            "ratios": self.ratios,
            "even_batches": self.even_batches,
            "crossings": [self.crossing(i) for i in range(len(self.layers))],
            "never_crossed": np.isnan(self.crossings).sum(axis=0),
            "growths": {g: [self.growth(p, i) for i in range(len(self.layers))] for p, g in enumerate(GROWTHS)},
            "shared": self.shared,
            "replicas": self.losses.shape[1],
            "left_out": self.left_out,
            "reading": self.reading,
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw mean and spread over |W| of each layer, their ratio, and the distance from the start."""
        plots.save(plots.two_phases(self), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        names = ("steps", "losses", "means", "spreads", "weights", "distances", "crossings", "exponents")
        return write_study(
            folder, TWO_PHASES_FILES, self.plot, self.to_dict(), {name: getattr(self, name) for name in names}
        )


def _short(estimate: Estimate) -> str:
    """The estimate, or its number alone where all replicas are at one point."""
    return str(estimate) if estimate.standard_error > 0 else f"{estimate.value:.4g}"
