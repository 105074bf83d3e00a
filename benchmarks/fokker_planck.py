"""How fast a density moves: sgdsim's `FokkerPlanck` against fplanck, py-pde and SciPy's `expm_multiply`.

Every side gets the masses of the same cells at the start and gives back those at the end. fplanck and py-pde need other
versions of NumPy than sgdsim, so each runs in an environment of its own, which is made when it is first needed. Every
side's error is measured against a reference, Σ|Δmass|; no speed is reported before sgdsim is seen to be as exact as the
best of them.

    python benchmarks/fokker_planck.py
    python -m benchmarks.fokker_planck --quick --jobs well-1d --peers scipy py-pde --json fokker_planck.json
"""

import argparse
import dataclasses
import inspect
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.sparse.linalg import expm_multiply
from tabulate import tabulate
from tqdm import tqdm

import sgdsim as ss

if __package__:
    from .peers.jobs import BOWL, JOBS, PULL, VARIANCE, WELL, Job
    from .peers.process import REQUIREMENTS, Peer, PeerError
else:  # run as a file
    from peers.jobs import BOWL, JOBS, PULL, VARIANCE, WELL, Job
    from peers.process import REQUIREMENTS, Peer, PeerError

TARGETS = {"fplanck": 100, "py-pde": 100, "scipy": 20}  # times faster than
SLOW, SHORT = 2.0, 0.02  # seconds: slower sides get fewer turns; in a turn of a shorter one there are several solves
WORSE = 1.2  # how much larger than the best peer's sgdsim's error may be
OTHER = 20  # times sgdsim's error: from here on a peer solved another equation
TIME_ERROR = 1e-10  # Σ|Δmass| that sgdsim may lie off the exact exponential of its own matrix
EXACT = "sgdsim"

Masses = np.ndarray


def value_of(text: str, x: jax.Array) -> jax.Array:
    return eval(text, {}, dict(zip("xy", x, strict=False)))


def problem_of(job: Job) -> ss.FokkerPlanck:
    """As a user states it, with the potential where there is one."""
    potential = None if job.potential is None else lambda x: value_of(job.potential, x) / job.temperature
    return ss.FokkerPlanck(
        drift=lambda x: jnp.stack([value_of(text, x) for text in job.drift]),
        diffusion=lambda x: jnp.asarray(job.diffusion),
        grid=ss.Grid(job.lower, job.upper, job.cells),
        potential=potential,
    )


def start_of(job: Job, fp: ss.FokkerPlanck) -> Masses:
    return fp.density_of(SimpleNamespace(mean=job.mean, covariance=VARIANCE * np.eye(len(job.cells))))


def density_at_end(job: Job, fp: ss.FokkerPlanck, start: Masses) -> tuple[Masses, str]:
    """The public interface; without the second run on a coarser grid by which it estimates its own error."""
    keywords = {"grid_error": False} if "grid_error" in inspect.signature(fp.propagate).parameters else {}
    answer = fp.propagate(start, [job.time], **keywords)
    return answer.masses[-1], answer.method


def fine(job: Job, axis: int, drift: str, potential: str, cells: int = 8_192) -> Masses:
    """One factor of a law that is a product, on `cells` cells, merged to the job's."""
    axes = {"lower": [job.lower[axis]], "upper": [job.upper[axis]], "cells": [cells], "mean": [job.mean[axis]]}
    line = dataclasses.replace(job, drift=[drift], potential=potential, diffusion=[[job.temperature]], **axes)
    fp = problem_of(line)
    masses, _ = density_at_end(line, fp, start_of(line, fp))
    return masses.reshape(job.cells[axis], -1).sum(axis=1)


def reference(name: str) -> Masses:
    """The law at the end, far more exactly than any side can have it on the job's cells.

    1-D double well: sgdsim on 8,192 cells, whose error is 256 times smaller than on 512. In 2-D, V = V₁(x) + V₂(y), so
    the law is a product of two such. Ornstein–Uhlenbeck: the exact Gaussian, of mean e^{−Ft}m and covariance
    Σ + e^{−Ft}(C − Σ)e^{−Fᵀt}, where FΣ + ΣFᵀ = 2A.
    """
    job = JOBS[name]
    if name == "well-1d":
        return fine(job, 0, job.drift[0], WELL)
    if name == "well-2d":
        return np.outer(fine(job, 0, job.drift[0], WELL), fine(job, 1, "-x", BOWL.replace("y", "x")))
    steady, moved = solve_continuous_lyapunov(PULL, 2 * np.array(job.diffusion)), expm(-PULL * job.time)
    covariance = steady + moved @ (VARIANCE * np.eye(2) - steady) @ moved.T
    return problem_of(job).density_of(SimpleNamespace(mean=moved @ job.mean, covariance=covariance))


@dataclass
class Side:
    """Whoever solves a job, warmed up. `solve` gives the masses at the end and the seconds of that one solve."""

    peer: str
    setting: str
    solve: Callable[[], tuple[Masses, float]]
    first: float  # seconds to the first masses, building and compiling included
    masses: Masses
    warm: float  # seconds of a second solve
    error: float = np.nan  # Σ|Δmass| to the reference
    seconds: list[float] = field(default_factory=list)  # one for each turn

    def take_turn(self) -> None:
        times = [self.solve()[1] for _ in range(5 if self.warm < SHORT else 1)]
        self.seconds.append(statistics.median(times))


def timed(solve: Callable[[], Masses]) -> Callable[[], tuple[Masses, float]]:
    def call() -> tuple[Masses, float]:
        begin = time.perf_counter()
        masses = solve()
        return masses, time.perf_counter() - begin

    return call


def local_side(peer: str, setting: str, build: Callable[[], Callable[[], Masses]]) -> Side:
    begin = time.perf_counter()
    solve = timed(build())
    solve()
    first = time.perf_counter() - begin
    return Side(peer, setting, solve, first, *solve())


def sgdsim_side(job: Job) -> Side:
    def build() -> Callable[[], Masses]:
        fp = problem_of(job)
        start = start_of(job, fp)
        return lambda: density_at_end(job, fp, start)[0]

    side = local_side(EXACT, "", build)
    fp = problem_of(job)
    side.setting = density_at_end(job, fp, start_of(job, fp))[1]
    return side


def scipy_side(job: Job) -> Side:
    """e^{tL} p by a Taylor polynomial, for the very matrix that sgdsim moves the masses with."""

    def build() -> Callable[[], Masses]:
        fp = problem_of(job)
        start, scaled = start_of(job, fp).reshape(-1), fp.generator.as_sparse() * job.time
        return lambda: expm_multiply(scaled, start).reshape(job.cells)

    return local_side("scipy", "expm_multiply", build)


def foreign_sides(
    peer: str, job: Job, stack: ExitStack, skipped: list[str], versions: dict[str, str]
) -> Iterator[Side]:
    """One side for each setting of a peer in its own process, which lives as long as `stack`."""
    try:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        process = Peer(peer, job, start_of(job, problem_of(job)), folder, stack)
    except PeerError as error:
        skipped.append(f"{job.label}: {peer}, {error}")
        return
    versions[peer] = process.version
    for setting in process.settings:
        progress(f"{job.label}: {peer}, {setting}")

        def solve(setting: str = setting) -> tuple[Masses, float]:
            answer = process.ask(setting)
            return np.load(answer["file"]), answer["seconds"]

        try:
            answer = process.ask(setting)
            yield Side(peer, setting, solve, answer["first"], np.load(answer["file"]), answer["seconds"])
        except PeerError as error:
            skipped.append(f"{job.label}: {peer}, {setting}: {error}")


def reason_to_leave_out(peer: str, job: Job, quick: bool) -> str:
    if peer == "fplanck" and job.potential is None:
        return "cannot: it has no full diffusion tensor"
    long = peer in REQUIREMENTS and len(job.cells) > 1  # to solve, or to compile
    return "not in a quick run" if quick and long else ""


def sides_of(
    job: Job, peers: list[str], quick: bool, stack: ExitStack, skipped: list[str], versions: dict[str, str]
) -> list[Side]:
    progress(f"{job.label}: sgdsim")
    sides = [sgdsim_side(job)]
    for peer in peers:
        if reason := reason_to_leave_out(peer, job, quick):
            skipped.append(f"{job.label}: {peer}, {reason}")
        elif peer == "scipy":
            progress(f"{job.label}: scipy")
            sides.append(scipy_side(job))
        else:
            sides += foreign_sides(peer, job, stack, skipped, versions)
    return sides


def complaints(job: Job, sides: list[Side]) -> list[str]:
    """Why sgdsim's speed must not be reported."""
    ours, peers = sides[0], [side for side in sides[1:] if side.peer != "scipy" and np.isfinite(side.error)]
    found = []
    best = min(peers, key=lambda side: side.error, default=ours)
    if not ours.error <= WORSE * best.error:
        found.append(f"{job.label}: sgdsim's error is {ours.error:.2e}, that of {best.peer} {best.error:.2e}")
    for side in sides[1:]:
        gap = float(np.sum(np.abs(ours.masses - side.masses)))
        if side.peer == "scipy" and not gap <= TIME_ERROR:
            found.append(f"{job.label}: sgdsim is {gap:.1e} off the exponential of its own matrix ({TIME_ERROR:g})")
    return found


def take_turns(job: Job, sides: list[Side], quick: bool, skipped: list[str]) -> None:
    """Slow peers drop out after a few turns, and one that fails for good; who goes first changes."""
    turns = 3 if quick else 7
    for turn in tqdm(range(turns), desc=job.label, unit=" turns", disable=None):
        k = turn % len(sides)
        for side in sides[k:] + sides[:k]:  # a copy: a side may leave
            slow = side.warm > SLOW and side.peer in REQUIREMENTS
            if slow and turn >= (1 if quick else 3):
                continue
            try:
                side.take_turn()
            except PeerError as error:
                skipped.append(f"{job.label}: {side.peer}, {side.setting}: {error}")
                sides.remove(side)


def row_of(job: Job, side: Side, ours: Side) -> dict[str, object]:
    # Turn by turn, since both halves of a turn met the same machine.
    ratios = [theirs / mine for theirs, mine in zip(side.seconds, ours.seconds, strict=False)]
    row = {
        "job": job.label,
        "side": side.peer,
        "setting": side.setting,
        "error": side.error,
        "smallest_mass": float(np.min(side.masses)),
        "turns": len(side.seconds),
        "seconds": summary(side.seconds),
        "set_up_seconds": max(0.0, side.first - statistics.median(side.seconds)),
    }
    if side is ours:
        return row
    if not side.error <= OTHER * ours.error:
        return row | {"ratio": None, "verdict": "another answer"}
    target, ratio = TARGETS[side.peer], summary(ratios)
    verdict = f"{'met' if ratio['median'] >= target else 'missed'} (≥ {target})"
    return row | {"ratio": ratio, "verdict": verdict}


def measure(names: list[str], peers: list[str], quick: bool) -> dict[str, object]:
    """Warm up, check the laws, take turns; the report as plain numbers. Raises ValueError where sgdsim is worse."""
    rows, skipped, found, versions, time_errors = [], [], [], {}, {}
    for name in names:
        job, law = JOBS[name], reference(name)
        with ExitStack() as stack:
            sides = sides_of(job, peers, quick, stack, skipped, versions)
            for side in sides:
                side.error = float(np.sum(np.abs(side.masses - law)))
                if side.peer == "scipy":
                    time_errors[job.label] = float(np.sum(np.abs(side.masses - sides[0].masses)))
            found += complaints(job, sides)
            if not found:
                take_turns(job, sides, quick, skipped)
                rows += [row_of(job, side, sides[0]) for side in sides]
    if found:
        raise ValueError("\n".join(found))
    return {"rows": rows, "skipped": skipped, "time_errors": time_errors, "environment": environment() | versions}


def environment() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "cores": os.cpu_count(),
    }


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        seconds, ratio = row["seconds"], row.get("ratio")
        lines.append(
            [
                row["job"],
                row["side"],
                row["setting"],
                f"{row['error']:.2e}",
                "{median:.2g} ({min:.2g} … {max:.2g})".format(**seconds),
                row["turns"],
                f"{row['set_up_seconds']:.2g}",
                "1" if row["side"] == EXACT else "–" if ratio is None else f"{ratio['median']:.3g}",
                row.get("verdict", ""),
            ]
        )
    header = [
        "job",
        "side",
        "method",
        "error",
        "solve, s (min … max)",
        "turns",
        "set-up, s",
        "time / sgdsim's",
        "target",
    ]
    return tabulate(lines, headers=header, tablefmt="github", disable_numparse=True)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message}\n")


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    peers = list(TARGETS)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS), help="what is solved (all)")
    parser.add_argument("--peers", nargs="+", choices=peers, default=peers, help="whom to compare with (all)")
    parser.add_argument("--quick", action="store_true", help="3 turns instead of 7, and without what takes long")
    parser.add_argument("--json", metavar="PATH", type=Path, help="write the report here as well")
    options = parser.parse_args(arguments)
    if options.json and not (options.json.parent.is_dir() and not options.json.is_dir()):
        parser.error(f"--json must be a file in a folder that exists, got {options.json}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    jax.config.update("jax_enable_x64", True)  # as all peers compute
    try:
        report = measure(options.jobs, options.peers, options.quick)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print("error: Σ|Δmass| to the reference; solve: median over turns after warm-up; set-up: building and compiling\n")
    print(table(report["rows"]), "\n")
    for label, gap in report["time_errors"].items():
        print(f"{label}: sgdsim is {gap:.1e} off the exponential of its own matrix (allowed: {TIME_ERROR:g})")
    for line in report["skipped"]:
        print(f"skipped: {line}")
    print("versions: " + ", ".join(f"{name} {version}" for name, version in report["environment"].items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
