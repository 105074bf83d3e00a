"""The suite: sgdsim through its public interface against its peers, in one run, once they were seen to agree.

    python -m benchmarks                                  # all jobs
    python -m benchmarks double-well three-point --json report.json --chart report.png
    python -m benchmarks --quick                          # 3 turns of smaller work, peers that are installed already
    python -m benchmarks --list

A job whose sides did not compute the same law ends with an error line, and the run with status 1, after the others ran.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import fokker_planck, harness, langevin, measures, minibatches, toys
from .chart import save_chart
from .harness import BEST, LONG, QUICK_TURNS, TURNS, Job, Lost, Result, Run, Side, measure, table
from .peers.process import VERSIONS

SUITES: list[Callable[[bool], list[Job]]] = [
    toys.jobs,
    langevin.jobs,
    minibatches.jobs,
    measures.jobs,
    fokker_planck.jobs,
]


def guarded(side: Side) -> Side:
    """A peer whose failure says whose it was, whatever it was."""

    def run(seed: int) -> tuple[Result, float]:
        try:
            return side.run(seed)
        except Exception as error:
            raise Lost(side.name, error) from error

    guard: Run = run
    return dataclasses.replace(side, run=guard)


def report_of(job: Job, turns: int) -> dict[str, Any]:
    """One job's report, without the peers that failed: they are named, and the turns begin anew with the others.

    What sgdsim's own side raises, and laws that differ, are the job's error.
    """
    skipped: dict[str, str] = {}
    report: dict[str, Any] = {"name": job.name, "title": job.title}
    try:
        own, *peers = job.sides()
        sides = [own, *map(guarded, peers)]
        while True:
            kept = [side for side in sides if side.name not in skipped]
            there = {side.name for side in kept[1:]} | ({BEST} if any(not s.reference for s in kept[1:]) else set())
            targets = {name: wanted for name, wanted in job.targets.items() if name in there}
            now = dataclasses.replace(job, sides=lambda kept=kept: kept, targets=targets)
            try:
                report |= measure(now, turns)
                break
            except Lost as lost:
                skipped[lost.side] = lost.reason
    except Exception as error:
        report["error"] = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    return report | {"skipped": skipped}


def show(report: dict[str, Any]) -> None:
    print(f"## {report['name']}: {report['title']}\n")
    if "error" not in report:
        fewest = min(side["turns"] for side in report["sides"].values())
        fewer = f" ({fewest} where one takes over {LONG:g} s)" if fewest < report["turns"] else ""
        print(
            f"median of {report['turns']} turns{fewer} after warm-up; same law: yes, the largest gap is "
            f"{report['largest_gap']:.2g} {report['gap_in']}\n\n{table(report)}\n"
        )
    for name, reason in report["skipped"].items():
        print(f"skipped: {name}: {reason}")
    print(flush=True)
    if "error" in report:
        print(f"{report['name']}: {report['error']}", file=sys.stderr, flush=True)


def save_json(path: Path, report: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message}\n")


def several(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return number


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="which jobs (all); --list names them")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_TURNS} turns of smaller work; nothing is installed"
    )
    parser.add_argument("--turns", type=several, metavar="N", help=f"turns of each job ({TURNS}; quick: {QUICK_TURNS})")
    parser.add_argument("--json", metavar="PATH", type=Path, help="write environment and reports here as well")
    parser.add_argument("--chart", metavar="PATH.png", type=Path, help="draw the ratios here as well")
    parser.add_argument("--list", action="store_true", help="name the jobs and end")
    options = parser.parse_args(arguments)
    for flag in ("json", "chart"):
        path = getattr(options, flag)
        if path and not (path.parent.is_dir() and not path.is_dir()):
            parser.error(f"--{flag} must be a file in a folder that exists, got {path}")
    if options.chart and options.chart.suffix != ".png":
        parser.error(f"--chart must end in .png, got {options.chart}")
    options.jobs = {job.name: job for suite in SUITES for job in suite(options.quick)}
    wrong = [name for name in options.names if name not in options.jobs]
    if wrong:
        parser.error(f"no job is named {', '.join(wrong)}; there are {', '.join(options.jobs)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    if options.list:
        for job in options.jobs.values():
            print(f"{job.name:<18} {job.title}")
        return 0
    turns = options.turns or (QUICK_TURNS if options.quick else TURNS)
    reports = []
    for name in dict.fromkeys(options.names or options.jobs):
        reports.append(report_of(options.jobs[name], turns))
        show(reports[-1])
    if options.json:
        save_json(options.json, {"environment": harness.environment() | {"peers": VERSIONS}, "jobs": reports})
    if options.chart:
        save_chart(reports, options.chart)
    return 1 if any("error" in report for report in reports) else 0


if __name__ == "__main__":
    raise SystemExit(main())
