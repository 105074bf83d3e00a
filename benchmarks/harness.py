"""How every benchmark is run: the sides of a job take turns, after they were seen to compute the same law.

A job has sgdsim's side first, through its public interface, and its peers'. All are warmed up, by the very run whose
results are compared; no speed is reported before the comparison holds. Then they take turns in one run, who goes first
changes from turn to turn, and ratios are taken within a turn, so that what else the machine does meets all alike.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from tabulate import tabulate
from tqdm import tqdm

import sgdsim as ss

SIGMAS = 4.0  # how many standard errors two sides may lie apart
TURNS, QUICK_TURNS = 7, 3
LONG = 2.0  # seconds of a run beyond which a side may take fewer turns
PAUSE = 0.3  # seconds before each turn: OpenMP's threads spin for a while after their work, on cores that others need
BEST = "best peer"  # a target against the fastest of all peers

Result = Any
Run = Callable[[int], tuple[Result, float]]  # seed → what it computed, seconds


@dataclass(frozen=True)
class Side:
    """Whoever does a job.

    Attributes:
        name: as the table says it.
        run: a seed → what it computed, and its seconds.
        work: how much of the job's unit one run does; a slow side may do less than the others.
        reference: not a peer but something to hold sgdsim against, such as its own step without draws: it is left out
            of "the best peer".
        turns: the most turns that it takes where a run takes over `LONG`; None for as many as the others.
    """

    name: str
    run: Run
    work: float
    reference: bool = False
    turns: int | None = None


class Lost(Exception):
    """A peer cannot go on, or did something else than was asked."""

    def __init__(self, side: str, why: Exception | str) -> None:
        super().__init__(side)
        self.side, self.reason = side, (str(why).strip().splitlines() or [type(why).__name__])[0][:200]


@dataclass(frozen=True)
class Job:
    """What the sides do, and how fast sgdsim is to be.

    Attributes:
        name: one word for the command line.
        title: what is run, for the table.
        unit: what `Side.work` counts, such as "particle-steps".
        sides: builds the sides, sgdsim's first; called when the job's turn comes.
        check: the first results, by side → the largest gap; raises ValueError where laws differ, and `Lost` where that
            is to be held against a peer.
        targets: side (or `BEST`) → how many times faster than it sgdsim is to be.
        gap_in: what the largest gap is counted in.
        error: a first result → its error, for the table, where there is something to measure it against.
    """

    name: str
    title: str
    unit: str
    sides: Callable[[], list[Side]]
    check: Callable[[dict[str, Result]], float]
    targets: dict[str, float] = field(default_factory=dict)
    gap_in: str = "standard errors"
    error: Callable[[Result], float] | None = None


def timed(compute: Callable[[int], Result]) -> Run:
    """A side that the clock stands beside. It must end with its result on the host, or ready there."""

    def run(seed: int) -> tuple[Result, float]:
        begin = time.perf_counter()
        result = jax.block_until_ready(compute(seed))
        return result, time.perf_counter() - begin

    return run


def measure(job: Job, turns: int) -> dict[str, Any]:
    """Warm up, compare the laws, take turns: the report as plain numbers. Raises ValueError where laws differ."""
    sides = job.sides()
    first = {side.name: side.run(seed)[0] for seed, side in enumerate(sides)}
    gap = job.check(first)
    seconds = take_turns(job.name, sides, turns)
    costs = {side.name: [s / side.work for s in seconds[side.name]] for side in sides}
    own = costs[sides[0].name]
    ratios = {name: [c / o for c, o in zip(cost, own, strict=False)] for name, cost in costs.items()}
    peers = {side.name for side in sides[1:] if not side.reference}
    if peers:  # the fastest of each turn would be luck; the fastest of all turns is a peer
        best = min(peers, key=lambda name: statistics.median(ratios[name]))
    return {
        "title": job.title,
        "unit": job.unit,
        "turns": turns,
        "largest_gap": gap,
        "gap_in": job.gap_in,
        "sides": {
            name: {
                "turns": len(cost),
                "rate": summary([1 / c for c in cost]),
                "ratio": summary(ratios[name]),
                "error": job.error(first[name]) if job.error else None,
            }
            for name, cost in costs.items()
        },
        "best_peer": best if peers else None,
        "targets": {
            name: verdict(statistics.median(ratios[best if name == BEST else name]), wanted)
            for name, wanted in job.targets.items()
        },
    }


def take_turns(label: str, sides: list[Side], turns: int) -> dict[str, list[float]]:
    """The seconds of every side, by its name: one for each turn, in order. Long sides may leave before the others."""
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in tqdm(range(turns), desc=label, unit=" turns"):
        first = turn % len(sides)
        for side in sides[first:] + sides[:first]:
            took = seconds[side.name]
            if side.turns is not None and turn >= side.turns and statistics.median(took) > LONG:
                continue
            time.sleep(PAUSE)
            took.append(side.run(100 + turn)[1])
    return seconds


def verdict(ratio: float, wanted: float) -> dict[str, Any]:
    return {"ratio": ratio, "wanted": wanted, "met": bool(ratio >= wanted)}


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def table(report: dict[str, Any]) -> str:
    """Speeds and ratios of one job, and the sides' errors where it has them."""
    rows, has_errors = [], any(side["error"] is not None for side in report["sides"].values())
    for name, side in report["sides"].items():
        ratio, rate = side["ratio"], side["rate"]
        spread = f"{ratio['median']:.3g} ({ratio['min']:.3g} … {ratio['max']:.3g})"
        target = report["targets"].get(name) or (report["targets"].get(BEST) if name == report["best_peer"] else None)
        said = "" if target is None else f"{'met' if target['met'] else 'missed'} (≥ {target['wanted']:g})"
        error = [f"{side['error']:.2e}"] if has_errors else []
        rows.append([name, *error, f"{rate['median']:.4g}", spread, said])
    header = ["side", *["error"] * has_errors, f"{report['unit']}/s", "time / sgdsim's (min … max)", "target"]
    align = ["left", *["right"] * (len(header) - 2), "left"]
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True, colalign=align)


def largest_gap(clouds: dict[str, np.ndarray]) -> float:
    """The largest gap of any two clouds' means and covariances, in standard errors.

    Raises:
        ValueError: beyond `SIGMAS`, naming the two.
    """
    moments = {name: (ss.measures.mean(cloud), ss.measures.covariance(cloud)) for name, cloud in clouds.items()}
    names, largest = list(moments), 0.0
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            for label, a, b in zip(("means", "covariances"), moments[one], moments[other], strict=True):
                error = np.hypot(a.standard_error, b.standard_error)
                score = float(np.max(np.abs(a.value - b.value) / error))
                if not score <= SIGMAS:
                    raise ValueError(f"{label} of {one} and {other} lie {score:.1f} standard errors apart")
                largest = max(largest, score)
    return largest


def environment() -> dict[str, Any]:
    """What the figures were measured on, without a name of the machine."""
    packages = {name: version(name) for name in ("sgdsim", "jax", "jaxlib", "numpy", "scipy", "diffrax")}
    machine = {"devices": [device.device_kind for device in jax.devices()], "cores": os.cpu_count()}
    return {"python": platform.python_version()} | packages | machine
