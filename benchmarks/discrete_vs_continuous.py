"""Where SGD may be thought of as a stochastic differential equation: atlases of four problems over (lr, B, momentum).

Each cell runs SGD and its limits as clouds on one clock and reads their distance in units of its floor, at a transient
time and a late one. With a folder every finished cell is kept, so that an interrupted run goes on where it stopped.

    python -m benchmarks.discrete_vs_continuous --folder atlas
    python -m benchmarks.discrete_vs_continuous --problem quadratic --quick
"""

import argparse
import sys
import time
from pathlib import Path

import jax

from sgdsim.studies import ATLASES, atlas, check_folder


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
            cells = None if options.folder is None else options.folder / "cells"
            key, progress = jax.random.key(0), sys.stderr.isatty()
            result = atlas(name, key=key, folder=cells, quick=options.quick, progress=progress)
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
