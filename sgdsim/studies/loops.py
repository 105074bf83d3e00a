"""What `out_of_equilibrium` found: how late weights turn and what their increments remember, beside a twin."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

from sgdsim import plots
from sgdsim.measures import Estimate
from sgdsim.measures.fluctuation_dissipation import SIGMAS
from sgdsim.studies.reading import table
from sgdsim.studies.result import write_study

OUT_OF_EQUILIBRIUM_FILES = ("out_of_equilibrium.png", "out_of_equilibrium.json", "out_of_equilibrium.npz")
LEVEL = 0.95  # chance that the largest of many |z| stays below `chance_bound` where nothing is there


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Motion:
    """What was read off a cloud's path in m directions.

    Attributes:
        lagged: correlation of a step's Δx_i with the one l steps later, (lags, m).
        successive: correlation of x_i's increment over l steps with that over the next l, (lags, m).
        circulation: ⟨x_i Δx_j − x_j Δx_i⟩/Δt of each plane i < j, in x²/time: twice the area swept per time, (planes,).
        sample: one replica's path in the plane of the largest |z| of SGD's, (K, 2).
    """

    lagged: Estimate
    successive: Estimate
    circulation: Estimate
    sample: Float[np.ndarray, "K 2"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Loops:
    """The late motion of SGD's weights, beside the reversible Gaussian chain of its covariance and steps.

    Attributes:
        name: what the problem is called.
        settings: what was run.
        stationarity: the residual of the fluctuation–dissipation relation; None for reshuffled passes, where it does
            not hold.
        shares: of the cloud's variance that lie along each direction, (m,).
        covariance: S of the cloud along the directions, (m, m).
        lags: in steps of the chain, (lags,).
        times: on the clock, (lags,).
        planes: pairs of directions, from 0, (planes, 2).
        growth: change of the variance along each direction from the first half of the window to the second, over the
            variance, (m,): 0 where the cloud is steady.
        sgd, twin: what was measured on each.
        lagged_law, successive_law: what the twin's increments should read, (lags, m).
        replicas: that have not diverged.
        left_out: replicas that have.
    """

    name: str
    settings: dict[str, Any]
    stationarity: Estimate | None
    shares: Float[np.ndarray, " m"]
    covariance: Float[np.ndarray, "m m"]
    lags: Int[np.ndarray, " lags"]
    times: Float[np.ndarray, " lags"]
    planes: Int[np.ndarray, "planes 2"]
    growth: Estimate
    sgd: Motion
    twin: Motion
    lagged_law: Float[np.ndarray, "lags m"]
    successive_law: Float[np.ndarray, "lags m"]
    replicas: int
    left_out: int

    @property
    def turn_rates(self) -> Estimate:
        """Circulation over S_ii + S_jj of each plane, in radians per time, (planes,): how fast a round cloud turned."""
        widths = np.diag(self.covariance)[self.planes].sum(axis=1)
        circulation = self.sgd.circulation
        return dataclasses.replace(
            circulation, value=circulation.value / widths, standard_error=circulation.standard_error / widths
        )

    def chance_bound(self, count: int) -> float:
        """What the largest |z| of so many independent readings stays below in 95 % of cases, by chance alone.

        Šidák's, from Student's t with one degree of freedom less than there are replicas. Readings that share particles
        depend on each other, which only makes it larger than need be.
        """
        return float(scipy.stats.t.ppf((1 + LEVEL ** (1 / count)) / 2, self.replicas - 1))

    @property
    def circulates(self) -> bool:
        """Whether some plane's circulation is more than chance makes of none."""
        z = np.abs(np.asarray(self.sgd.circulation.z()))
        return bool(np.max(z) > self.chance_bound(z.size))

    @property
    def is_steady(self) -> bool:
        """Whether neither the fluctuation–dissipation relation nor a width's growth misses 0 by four errors."""
        met = self.stationarity is None or abs(float(self.stationarity.z())) <= SIGMAS
        return bool(met and np.max(np.abs(np.atleast_1d(self.growth.z()))) <= SIGMAS)

    @property
    def travels(self) -> bool:
        """Whether some increment is followed by one in its own direction, beyond chance: no reversible steady state's.

        For a transition operator P that is self-adjoint, as in detailed balance, ⟨(y_s − y_0)(y_2s − y_s)⟩ =
        −⟨y (1 − P^s)² y⟩ ≤ 0 for every observable y, at any span s, in any landscape.
        """
        z = np.asarray(self.sgd.successive.z())
        return bool(np.max(z) > self.chance_bound(z.size))

    def __str__(self) -> str:
        title = f"{self.name}: late motion along the {len(self.shares)} widest directions of the cloud, "
        title += f"{self.shares.sum():.0%} of its variance".replace("%", " %")
        parts = [title, self._planes_table(), self._increments_table(), self.reading]
        return "\n\n".join(parts)

    __repr__ = __str__

    def _planes_table(self) -> str:
        rows = []
        scores, turns = np.atleast_1d(self.sgd.circulation.z()), self.turn_rates
        null = np.atleast_1d(self.twin.circulation.z())
        for p, (i, j) in enumerate(self.planes + 1):
            row = [f"{i}, {j}", str(self.sgd.circulation[p]), f"{scores[p]:.1f}", str(turns[p])]
            rows.append([*row, str(self.twin.circulation[p]), f"{null[p]:.1f}"])
        return table(["plane", "circulation", "z", "turn rate", "reversible twin", "z"], rows)

    def _increments_table(self) -> str:
        rows, scores = [], np.abs(self.sgd.successive.z(self.twin.successive))
        lagged = np.abs(self.sgd.lagged.z(self.twin.lagged))
        for n, (lag, time) in enumerate(zip(self.lags, self.times, strict=True)):
            row = [f"{lag:,}", f"{time:.4g}", str(self.sgd.successive[n, 0]), f"{self.successive_law[n, 0]:.4f}"]
            row += [f"{np.max(scores[n]):.1f}", str(self.sgd.lagged[n, 0]), f"{self.lagged_law[n, 0]:.4f}"]
            rows.append([*row, f"{np.max(lagged[n]):.1f}"])
        header = ["steps l", "time", "next l steps", "twin", "largest |z|", "l steps later", "twin", "largest |z|"]
        return "Correlation of increments (first direction; |z| over all)\n" + table(header, rows)

    @property
    def reading(self) -> str:
        """One plain paragraph: whether the run was steady, whether it turns, and what its increments remember."""
        return " ".join([self._steady_words(), self._loop_words(), self._increment_words()])

    def _steady_words(self) -> str:
        growth = np.abs(np.atleast_1d(self.growth.z()))
        still = f"the widths along the {growth.size} directions change by at most |z| = {np.max(growth):.1f}"
        if self.stationarity is None:
            words = "The fluctuation–dissipation relation does not hold for reshuffled passes;"
        else:
            score = float(self.stationarity.z())
            words = f"The fluctuation–dissipation relation is met to {self.stationarity} (z = {score:.1f}), and"
        return f"{words} {still}: " + ("as in a steady state." if self.is_steady else "the run is NOT steady.")

    def _loop_words(self) -> str:
        z, null = (np.abs(np.atleast_1d(m.circulation.z())) for m in (self.sgd, self.twin))
        bound, worst = self.chance_bound(z.size), int(np.argmax(z))
        i, j = self.planes[worst] + 1
        count = "the one plane" if z.size == 1 else f"{z.size} planes"
        words = (
            f"Of the circulations in {count} the largest has |z| = {z[worst]:.1f}, in the plane {i}, {j}; by chance "
        )
        words += (
            f"the largest stays below {bound:.1f} in 95 % of cases, and the reversible twin's is {np.max(null):.1f}."
        )
        if not self.circulates:
            return words + " So no loop was seen: what circulates is less than these replicas and steps can tell."
        passed, turn = int(np.sum(z > bound)), self.turn_rates[worst]
        words += f" {passed} of {z.size} beyond chance; the turn rate is {turn} there."
        if self.is_steady and not self.travels:
            return words + " So late SGD runs in loops: no reversible process turns, whatever its landscape."
        return words + " But the replicas are still on their way, which turns too: this is no proof of steady loops."

    def _increment_words(self) -> str:
        each = (self.sgd.successive, self.sgd.lagged)
        z = np.abs(np.stack([e.z(t) for e, t in zip(each, (self.twin.successive, self.twin.lagged), strict=True)]))
        flat, bound = np.abs(np.stack([e.z() for e in each])), self.chance_bound(z.size)
        last = self.sgd.successive[len(self.lags) - 1, 0]
        words = f"Increments over {self.lags[-1]:,} steps and the next as many have correlation {last} along the first "
        words += f"direction, and the twin {self.successive_law[-1, 0]:.3f}. Against free Brownian motion, 0, the "
        words += (
            f"largest |z| of {z.size} readings is {np.max(flat):.1f}, against the twin {np.max(z):.1f}, where chance "
        )
        words += (
            f"alone stays below {bound:.1f}: {self._verdict(bool(np.max(flat) <= bound), bool(np.max(z) <= bound))}"
        )
        if self.settings["sampling"] == "epoch":
            words += " Reshuffled batches are anticorrelated by themselves, and so are these increments."
        if self.settings["stride"] > 1:
            words += f" Looks are {self.settings['stride']} steps apart, longer than heavy ball's memory."
        return words

    def _verdict(self, brownian: bool, alike: bool) -> str:
        if self.travels:
            words = "where they are positive, motion goes on in the direction that it had, which no reversible steady "
            return words + "state does: a slow journey that has not ended, or a loop much longer than the window."
        if brownian:
            return "nothing tells these increments from free Brownian motion's."
        if alike:
            return "not free Brownian motion, but no more than a bowl in equilibrium does."
        words = (
            "they remember otherwise than the twin. That alone is no loop: a reversible process seen along a few of "
        )
        return words + "its directions, or one that is not linear, does so too."

    def to_dict(self) -> dict[str, Any]:
        """All of it but the paths, ready for JSON."""
        names = ("name", "settings", "stationarity", "shares", "covariance", "lags", "times", "planes", "replicas")
        laws = ("lagged_law", "successive_law", "left_out", "growth", "turn_rates")
        verdicts = ("is_steady", "travels", "circulates", "reading")
        motions = {
            side: {f: getattr(getattr(self, side), f) for f in ("lagged", "successive", "circulation")}
            for side in ("sgd", "twin")
        }
        bounds = {
            "planes": self.chance_bound(len(self.planes)),
            "increments": self.chance_bound(2 * self.lagged_law.size),
        }
        return {each: getattr(self, each) for each in (*names, *laws, *verdicts)} | motions | {"chance_bounds": bounds}

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw a path in the plane that turns most, the circulations, and the increments' correlations."""
        plots.save(self.figure(), path)

    def figure(self) -> Any:
        """The figure of `plot`."""
        return plots.out_of_equilibrium(self)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        arrays = {"lags": self.lags, "planes": self.planes, "covariance": self.covariance}
        for side in ("sgd", "twin"):
            motion = getattr(self, side)
            arrays |= {f"{side}_{f}": getattr(motion, f).value for f in ("lagged", "successive", "circulation")}
            arrays[f"{side}_sample"] = motion.sample
        return write_study(folder, OUT_OF_EQUILIBRIUM_FILES, self.plot, self.to_dict(), arrays)
