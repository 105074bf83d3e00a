"""Where SGD may be thought of as a stochastic differential equation: atlases of four problems over (lr, B, momentum).

Each cell runs SGD and its limits as clouds on one clock and reads their distance in units of its floor, at a transient
time and a late one. With a folder every finished cell is kept, so that an interrupted run goes on where it stopped.

    python -m benchmarks.discrete_vs_continuous --folder atlas
    python -m benchmarks.discrete_vs_continuous --problem quadratic --quick
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sgdsim.ensemble import Gaussian
from sgdsim.problems import GaussianNoise, NoisyPotential, potentials
from sgdsim.studies.breakdown import Breakdown, breakdown
from sgdsim.studies.presets import preset
from sgdsim.studies.result import check_folder

MOMENTA = (0.0, 0.9)


@dataclasses.dataclass(frozen=True)
class Atlas:
    """A problem and where to look at it: effective learning rates double up to beyond the edge of stability."""

    build: Callable[[], tuple[Any, Any]]
    fastest: float
    rates: int
    batch_sizes: tuple[int, ...]
    times: tuple[float, float]
    particles: int
    sampling: str = "with-replacement"
    distance: str = "moments"
    limit_step: float | None = None  # where the curvature on the way to the minimum asks for less than the minimum's

    def run(self, name: str, folder: Path | None, quick: bool) -> Breakdown:
        rates = [self.fastest / 2**i for i in range(self.rates)]
        problem, start = self.build()
        return breakdown(
            problem,
            start,
            effective_learning_rates=rates[:: 2 if quick else 1],
            batch_sizes=(self.batch_sizes[0], self.batch_sizes[-1]) if quick else self.batch_sizes,
            momenta=MOMENTA,
            times=self.times,
            particles=self.particles // (4 if quick else 1),
            key=jax.random.key(0),
            sampling=self.sampling,
            distance=self.distance,
            limit_step=self.limit_step,
            folder=None if folder is None else folder / "cells",
            progress=sys.stderr.isatty(),
            name=name,
        )


def quadratic() -> tuple[Any, Any]:
    problem = NoisyPotential(potentials.Quadratic(np.diag([2.0, 0.5])), GaussianNoise([1.0, 0.5]))
    return problem, Gaussian([1.0, 1.0], 0.04)


def two_weight_network() -> tuple[Any, Any]:
    """From one of its two wells: with both, the moments would hear of little but the distance between them."""
    return preset("two-weight-network").build()[0], Gaussian([1.0, 1.0], 0.02)


ATLASES = {
    "quadratic": Atlas(quadratic, 1.6, 7, (1, 4, 16, 64), (1.6, 16.0), 10_000),
    "double-well": Atlas(preset("double-well").build, 1.6, 7, (1, 4, 16, 64), (1.6, 16.0), 5_000, distance="energy"),
    "breast-cancer": Atlas(preset("breast-cancer").build, 16.0, 6, (1, 4, 16), (16.0, 64.0), 1_500, limit_step=0.2),
    "two-weight-network": Atlas(
        two_weight_network, 3.2, 6, (1, 4, 16), (3.2, 32.0), 1_500, sampling="without-replacement", limit_step=0.05
    ),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where figures, JSON and finished cells are kept")
    parser.add_argument("--quick", action="store_true", help="every other learning rate, two batch sizes, a quarter")
    parser.add_argument("--problem", choices=ATLASES, help="one of the four; all of them by default")
    options = parser.parse_args(arguments)
    try:
        if options.folder is not None:
            check_folder(options.folder)
        begin = time.perf_counter()
        for name in ATLASES if options.problem is None else [options.problem]:
            own = time.perf_counter()
            result = ATLASES[name].run(name, options.folder, options.quick)
            print(f"{result}\n\n{name}: {len(result.cells)} cells in {time.perf_counter() - own:.0f} s\n", flush=True)
            if options.folder is not None:
                paths = result.save(options.folder / name)
                print(f"wrote {', '.join(map(str, paths))}\n", flush=True)
        print(f"all: {time.perf_counter() - begin:.0f} s")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run it again with the same --folder to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
