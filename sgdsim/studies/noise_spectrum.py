"""The rank of minibatch noise through training: how few directions D(x) has, and what the number of examples allows."""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key
from matplotlib.figure import Figure
from tqdm import tqdm

from sgdsim import plots
from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, simulate
from sgdsim.measures import Estimate
from sgdsim.measures.loss import losses
from sgdsim.measures.noise_spectrum import SINGLE_PRECISION, NoiseSpectrum
from sgdsim.measures.noise_spectrum import noise_spectrum as spectrum_at
from sgdsim.plots.noise_spectrum import PAPER
from sgdsim.problems import EmpiricalRisk
from sgdsim.processes import SGD
from sgdsim.studies.finite_sum import check_counts, checked_risk
from sgdsim.studies.reading import table
from sgdsim.studies.result import process_settings, write_study

NOISE_SPECTRUM_FILES = ("noise_spectrum.png", "noise_spectrum.json", "noise_spectrum.npz")
FRACTIONS = (0.5, 0.9, 0.99)  # of the trace, whose directions are counted
LOOKS = (0, 1, 3, 10, 30, 100)  # hundredths of the run at which D is looked at, unless the steps are given


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NoiseRanks:
    """D(x) along a training run: means over replicas of the run, with their standard errors.

    Attributes:
        name: what the problem is called.
        settings: what was run.
        dim, num_examples: d and N.
        dtype: the precision of the gradients.
        steps: where D was looked at, (T,).
        losses: f(x), (T,).
        traces: Tr D(x), (T,).
        ranks: how many eigenvalues exceed λ_max d ε with ε = 1.19e−7, that of single precision, (T,).
        fine_ranks: the same with ε of double precision, (T,); None where the gradients are not in it.
        half_ranks: of the first replica, `ranks` of the D that every second example makes, (T,).
        directions: for each fraction of the trace, the fewest directions that hold it, (T,).
        eigenvalues: of each replica, decreasing, (T, replicas, min(d, N − 1)).
        left_out: replicas that diverged.
    """

    name: str
    settings: dict[str, Any]
    dim: int
    num_examples: int
    dtype: str
    steps: Int[np.ndarray, " T"]
    losses: Estimate
    traces: Estimate
    ranks: Estimate
    fine_ranks: Estimate | None
    half_ranks: Int[np.ndarray, " T"]
    directions: dict[float, Estimate]
    eigenvalues: Float[np.ndarray, "T R n"]
    left_out: int

    @property
    def shares(self) -> Estimate:
        """The numerical rank over d, (T,)."""
        return self.ranks * (1 / self.dim)

    @property
    def largest_share(self) -> float:
        """min(d, N − 1)/d, which no rank over d can exceed."""
        return min(self.dim, self.num_examples - 1) / self.dim

    def __str__(self) -> str:
        header = ["step", "loss", "Tr D", "rank", "rank/d", "rank/(N − 1)", "half of N"]
        header += [f"for {fraction:.0%}" for fraction in FRACTIONS]
        header += [] if self.fine_ranks is None else ["rank, double"]
        rows = []
        for i, step in enumerate(self.steps):
            rank = float(self.ranks[i].value)
            row = [f"{step:,}", str(self.losses[i]), str(self.traces[i]), str(self.ranks[i]), f"{rank / self.dim:.2%}"]
            row += [f"{rank / max(self.num_examples - 1, 1):.1%}", str(self.half_ranks[i])]
            row += [str(self.directions[fraction][i]) for fraction in FRACTIONS]
            rows.append(row + ([] if self.fine_ranks is None else [str(self.fine_ranks[i])]))
        title = f"{self.name}: D(x) of N = {self.num_examples:,} examples in d = {self.dim:,} dimensions"
        return "\n\n".join([title, table(header, rows), self.reading])

    __repr__ = __str__

    @property
    def reading(self) -> str:
        """One plain paragraph: the rank's share, its trend, and how much of it the number of examples decides."""
        d, n, first, last = self.dim, self.num_examples, self.shares[0], self.shares[-1]
        limit = f"D is a mean over N = {n:,} examples (N/d = {n / d:.3g}), so that its rank cannot exceed "
        limit += f"{min(d, n - 1):,}, {self.largest_share:.3g} of d."
        rule = f"Counting eigenvalues above λ_max d ε with ε = {SINGLE_PRECISION:.3g} (gradients in {self.dtype})"
        trend = f"{rule}, its rank is {_percent(first)} of d at step {self.steps[0]:,} and {_percent(last)} at step "
        inside = PAPER[0] <= last.value <= PAPER[1]
        trend += (
            f"{self.steps[-1]:,}; Chaudhari and Soatto report {PAPER[0]:.1%} to {PAPER[1]:.0%} for their networks, "
        )
        trend += "and this lies within." if inside else "and this does not lie within."
        parts = [limit, trend]
        if self.fine_ranks is not None:
            fine = self.fine_ranks[-1].value / d
            parts.append(f"That is a matter of the threshold: with the ε of double precision it is {fine:.2%}.")
        if self.eigen_rank(-1) > 0:
            ratio = self.half_ranks[-1] / self.eigen_rank(-1)
            parts.append(
                f"Every second example alone gives {ratio:.2f} times the rank at the end: 0.5 would mean that N "
                "decides it, 1 that N does not."
            )
        held = self.directions[0.9][-1]
        parts.append(f"At the end 90 % of the trace lies in {held} directions, {float(held.value) / d:.2%} of d.")
        return " ".join(parts)

    def eigen_rank(self, look: int) -> int:
        """The numerical rank of the first replica's D at one of the looks."""
        return NoiseSpectrum(self.eigenvalues[look, 0], self.dim, self.num_examples, self.dtype).rank()

    def to_dict(self) -> dict[str, Any]:
        """All of it but the eigenvalues, ready for JSON."""
        names = ("name", "settings", "dim", "num_examples", "dtype", "steps", "losses", "traces", "ranks", "fine_ranks")
        return {each: getattr(self, each) for each in names} | {
            "epsilon": SINGLE_PRECISION,
            "rank_shares": self.shares,
            "largest_share": self.largest_share,
            "examples_per_dimension": self.num_examples / self.dim,
            "half_ranks": self.half_ranks,
            "directions": self.directions,
            "left_out": self.left_out,
            "reading": self.reading,
        }

    def figure(self) -> Figure:
        """The figure that `plot` draws, for a notebook."""
        return plots.noise_spectrum(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the spectrum of D at each look, and the shares of d against the step."""
        plots.save(self.figure(), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        arrays = {"steps": self.steps, "eigenvalues": self.eigenvalues, "ranks": np.asarray(self.ranks.value)}
        return write_study(folder, NOISE_SPECTRUM_FILES, self.plot, self.to_dict(), arrays)


def noise_spectrum(
    sgd: SGD,
    start: Gaussian | np.ndarray | Array | list | None = None,
    *,
    key: Key[Array, ""],
    steps: int = 3_000,
    at: Sequence[int] | None = None,
    replicas: int = 2,
    tile: int | None = None,
    progress: bool = False,
    name: str = "noise_spectrum",
) -> NoiseRanks:
    """The rank of D(x) as a share of d through training.

    Chaudhari and Soatto call an eigenvalue of D zero below λ_max d ε with the ε of single precision, and count 0.3 to
    2 % of d others in networks for small images. Two things go into that number beside the network: D is a sum over N
    examples and has no more than N − 1 directions, and the threshold is d ε of the largest eigenvalue, more than a
    thousandth of it from d = 10⁴ on. So the table says what N allows, what every second example gives, what a threshold
    of double precision gives where the gradients are in it, and how many directions hold most of the trace, which needs
    no threshold.

    No N × d array is made: memory is two tiles of gradients, two N × N matrices, and the saved positions.

    Args:
        sgd: the chain, over an `EmpiricalRisk`.
        start: as `simulate` takes it; by default the risk's `init` for all replicas.
        key: a typed `jax.random.key`.
        steps: of the run.
        at: the steps at which to look at D; by default 0, 1, 3, 10, 30 and 100 hundredths of the run. The run is saved
            at multiples of their greatest common divisor.
        replicas: runs to take means over, at least 2.
        tile: how many examples' gradients to hold at a time; by default as many as make 2²⁴ numbers.
        progress: show a bar.
        name: what to call the problem in the report.

    Raises:
        TypeError: on a process that is not SGD over an `EmpiricalRisk`.
        ValueError: on counts that cannot be, more than 20,000 examples and dimensions, or fewer than two replicas that
            have not diverged.

    Source: Chaudhari and Soatto, "Stochastic gradient descent performs variational inference", ICLR 2018, section 4.
    """
    key_words(key)
    risk = _checked_risk(sgd)
    check_counts(replicas=(replicas, 2))
    looks = _looks(steps, at)
    positions = risk.x0 if start is None else start
    every = math.gcd(*(int(look) for look in looks)) or None
    count = replicas if isinstance(positions, Gaussian) or np.ndim(positions) == 1 else None
    run = simulate(
        sgd,
        positions,
        steps=int(looks[-1]),
        key=key,
        particles=count,
        save_every=every,
        progress=f"{name}, run" if progress else False,
    )
    kept = np.isfinite(run.particles[-1]).all(axis=1)
    if kept.sum() < 2:
        raise ValueError(f"learning_rate must let two replicas survive at least, got {kept.sum()} of {kept.size}")
    x = run.particles[np.searchsorted(run.steps, looks)][:, kept]
    half = eqx.tree_at(lambda r: r.data, risk, jax.tree.map(lambda a: a[::2], risk.data))
    spectra, halves = [], []
    with tqdm(total=x.shape[0] * x.shape[1], disable=not progress, desc=f"{name}, D", unit=" spectra") as bar:
        for cloud in x:
            spectra.append([])
            for point in cloud:  # where all start at one point, they share its spectrum
                is_first = spectra[-1] and np.array_equal(point, cloud[0])
                spectra[-1].append(spectra[-1][0] if is_first else spectrum_at(risk, point, tile=tile))
                bar.update()
            halves.append(spectrum_at(half, cloud[0], tile=tile).rank())
    extra = {"replicas": int(kept.size), "steps": int(looks[-1]), "tile": tile}
    settings = process_settings(sgd) | extra
    at_looks = np.array([losses(risk, cloud) for cloud in x])
    return _collected(name, settings, looks, spectra, np.array(halves), at_looks, int(np.sum(~kept)))


def _collected(
    name: str,
    settings: dict[str, Any],
    looks: Int[np.ndarray, " T"],
    spectra: list[list[NoiseSpectrum]],
    halves: Int[np.ndarray, " T"],
    losses: Float[np.ndarray, "T R"],
    left_out: int,
) -> NoiseRanks:
    def over_replicas(numbers: Any) -> Estimate:
        values = np.asarray(numbers, dtype=float)
        error = np.std(values, axis=1, ddof=1) / np.sqrt(values.shape[1])
        return Estimate(np.mean(values, axis=1), error, left_out=left_out)

    one = spectra[0][0]
    ranks = over_replicas([[s.rank() for s in row] for row in spectra])
    fine = None
    if one.dtype == "float64":
        epsilon = float(np.finfo(np.float64).eps)
        fine = over_replicas([[s.rank(epsilon) for s in row] for row in spectra])
    directions = {f: over_replicas([[s.directions_for(f) for s in row] for row in spectra]) for f in FRACTIONS}
    return NoiseRanks(
        name=name,
        settings=settings,
        dim=one.dim,
        num_examples=settings["num_examples"],
        dtype=one.dtype,
        steps=looks,
        losses=over_replicas(losses),
        traces=over_replicas([[s.trace for s in row] for row in spectra]),
        ranks=ranks,
        fine_ranks=fine,
        half_ranks=halves,
        directions=directions,
        eigenvalues=np.array([[s.eigenvalues for s in row] for row in spectra]),
        left_out=left_out,
    )


def _checked_risk(sgd: SGD) -> EmpiricalRisk:
    risk = checked_risk(sgd)
    if risk.num_examples < 4:
        raise ValueError(f"data must hold 4 examples at least, got {risk.num_examples}")
    return risk


def _looks(steps: int, at: Sequence[int] | None) -> Int[np.ndarray, " T"]:
    """The steps at which D is looked at, increasing."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive whole number, got {steps!r}")
    if at is None:
        grain = max(steps // 100, 1)
        return np.unique([min(look * grain, steps) for look in LOOKS[:-1]] + [steps - steps % grain])
    looks = np.asarray(at)
    if looks.ndim != 1 or len(looks) == 0 or looks.dtype.kind not in "iu" or looks.min() < 0 or looks.max() > steps:
        raise ValueError(f"at must be whole numbers from 0 to steps = {steps}, got {at}")
    return np.unique(looks)


def _percent(share: Estimate) -> str:
    return f"{share.value:.2%} ± {share.standard_error:.2%}"
