"""How cost grows: seconds against particles, steps, dimension, examples and cells; memory; time to the first result.

    python -m benchmarks.growth --json growth.json --chart growth.png        # --quick for a glance

Seconds are those of whole calls of the public interface after warm-up. The sizes of a ladder take turns and the least
of several turns counts, since what else the machine does can only add. The exponent is the slope of log seconds on log
size from the geometric mean of the ladder's ends upwards, where fixed costs show least.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from tabulate import tabulate
from tqdm import tqdm

import sgdsim as ss
from benchmarks.harness import environment

TURNS, QUICK_TURNS = 5, 2
STARTS, QUICK_STARTS = 7, 3  # new processes, where starting one is what is timed
EXPONENT = 1.05  # of time against particles and steps, at most
MEMORY = 200  # MB over the import's that 10⁶ particles may take
IMPORT, COMPARE = 0.7, 12.0  # seconds at most
CACHE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}

Call = Callable[[int], Any]  # seed → a result on the host

CLOUD = """
problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(1.0))
sgd = ss.SGD(problem, learning_rate=0.1, batch_size=1)
run = lambda: ss.simulate(sgd, [0.2, 1.0], particles={particles}, steps={steps}, key=jax.random.key(0))
"""
# VmHWM and not ru_maxrss: the latter begins at what the parent had when it started this process.
PEAK = """
import json, jax, sgdsim as ss
def resident(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what)) / 1024
jax.devices(), ss.SGD, ss.simulate, ss.potentials  # parts are imported when they are first named
before = resident("VmRSS:")
{cloud}
run()
print(json.dumps(resident("VmHWM:") - before))
"""
FIRST = """
import json, time
begin = time.perf_counter()
import jax, sgdsim as ss
ss.SGD, ss.simulate, ss.potentials  # parts are imported when they are first named
imported = time.perf_counter()
{cloud}
run()
first = time.perf_counter()
run()
print(json.dumps([imported - begin, first - imported, time.perf_counter() - first]))
"""


@dataclass(frozen=True)
class Ladder:
    """One thing that grows.

    Attributes:
        name: what, for the table.
        axis: its symbol and unit, for the chart.
        sizes: from small to large.
        build: a size → what is timed.
        most: the largest exponent allowed; None without a target.
        panel: ladders of one panel share a chart.
    """

    name: str
    axis: str
    sizes: list[int]
    build: Callable[[int], Call]
    most: float | None = None
    panel: str = ""


def cloud_call(dim: int, particles: int, steps: int) -> Call:
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=dim), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=0.1, batch_size=1)
    start = np.full(dim, 0.2, dtype=np.float32)
    return lambda seed: ss.simulate(sgd, start, particles=particles, steps=steps, key=jax.random.key(seed))


def _squared(x: jax.Array, example: tuple[jax.Array, jax.Array]) -> jax.Array:
    features, label = example
    return (features @ x - label) ** 2 / 2


def regression_call(examples: int, batch: int, particles: int, steps: int) -> Call:
    """Linear regression on five features; B = N without replacement is the full gradient."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((examples, 5)).astype(np.float32)
    labels = (features.sum(axis=1) + rng.standard_normal(examples)).astype(np.float32)
    risk = ss.EmpiricalRisk(_squared, (features, labels), init=np.zeros(5, dtype=np.float32))
    sampling = "without-replacement" if batch == examples else "with-replacement"
    sgd = ss.SGD(risk, learning_rate=0.05, batch_size=batch, sampling=sampling)
    start = np.zeros(5, dtype=np.float32)
    return lambda seed: ss.simulate(sgd, start, particles=particles, steps=steps, key=jax.random.key(seed))


def density_call(cells: int, dim: int) -> Call:
    """The density of the double well at t = 1; `cells` of the whole grid."""
    each = round(cells ** (1 / dim))

    def drift(x: jax.Array) -> jax.Array:
        return -jax.grad(_well)(x)

    grid = ss.Grid([-2.5] * dim, [2.5] * dim, [each] * dim)
    fp = ss.FokkerPlanck(
        drift=drift, diffusion=lambda x: 0.2 * jnp.eye(dim), grid=grid, potential=lambda x: _well(x) / 0.2
    )
    start = fp.density_of(ss.Gaussian([-0.3] * dim, 0.04))
    return lambda seed: fp.propagate(start, [1.0], grid_error=False)


def _well(x: jax.Array) -> jax.Array:
    return (x[0] ** 2 - 1) ** 2 + jnp.sum(x[1:] ** 2) / 2


def ladders(quick: bool) -> list[Ladder]:
    top, steps = (10**5, 50) if quick else (10**6, 200)
    particles = [n for e in (3, 4, 5) for n in (10**e, 3 * 10**e)] + [10**6]
    lengths, dimensions = [100, 300, 1_000, 3_000, 10_000, 30_000], [2, 4, 8, 16, 32, 64]
    examples, full = [100, 1_000, 10_000, 100_000], [100, 300, 1_000, 3_000, 10_000]
    lines, planes = [128, 256, 512, 1_024, 2_048, 4_096, 8_192], [n * n for n in (16, 32, 64, 128, 256)]
    if quick:  # every size is compiled anew, and that is most of the time
        lengths, dimensions, examples, full = lengths[:4], dimensions[::2], examples[:3], full[1:4]
        lines, planes = lines[::2], planes[1:4]
    return [
        Ladder(
            "particles", "particles P", [n for n in particles if n <= top], lambda n: cloud_call(2, n, steps), EXPONENT
        ),
        Ladder("steps, 10⁴ particles", "steps K", lengths, lambda n: cloud_call(2, 10_000, n), EXPONENT),
        Ladder(
            "dimension, 2·10⁴ particles",
            "dimension d",
            dimensions,
            lambda n: cloud_call(n, 20_000, steps // 2),
        ),
        Ladder(
            "examples, minibatches of 8", "examples N", examples, lambda n: regression_call(n, 8, 2_000, 100), panel="N"
        ),
        Ladder("examples, full gradient", "examples N", full, lambda n: regression_call(n, n, 100, 50), panel="N"),
        Ladder("cells, density in 1-D", "grid cells", lines, lambda n: density_call(n, 1), panel="cells"),
        Ladder("cells, density in 2-D", "grid cells", planes, lambda n: density_call(n, 2), panel="cells"),
    ]


def climb(ladder: Ladder, turns: int) -> dict[str, Any]:
    """Each size's least seconds, and the exponent of its upper range."""
    calls = [ladder.build(size) for size in ladder.sizes]
    for call in tqdm(calls, desc=f"{ladder.name}: warm-up"):
        call(0)
    least = np.full(len(calls), np.inf)
    for turn in tqdm(range(turns), desc=ladder.name, unit=" turns"):
        for i, call in enumerate(calls):
            begin = time.perf_counter()
            jax.block_until_ready(call(1 + turn))
            least[i] = min(least[i], time.perf_counter() - begin)
    middle = 0.999 * math.sqrt(ladder.sizes[0] * ladder.sizes[-1])
    upper = np.array(ladder.sizes) >= min(middle, ladder.sizes[-3])  # three points at least, for a standard error
    slope, error = slope_of(np.log(np.array(ladder.sizes)[upper]), np.log(least[upper]))
    report = {"sizes": ladder.sizes, "seconds": least.tolist(), "exponent": slope, "standard_error": error}
    report["range"] = [int(np.array(ladder.sizes)[upper][0]), ladder.sizes[-1]]
    if ladder.most is not None:
        report |= {"at_most": ladder.most, "met": bool(slope <= ladder.most)}
    return report


def slope_of(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The least-squares slope and its standard error; NaN for two points, which have no scatter."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    rest = y - y.mean() - slope * centred
    error = math.sqrt(rest @ rest / (len(x) - 2) / (centred @ centred)) if len(x) > 2 else math.nan
    return slope, error


def child(code: str, **environment: str) -> tuple[str, float]:
    """What a new Python process prints last, and its seconds from start to end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"a new process failed: {done.stderr.strip().splitlines()[-1:]}")
    return (done.stdout.strip().splitlines() or [""])[-1], seconds


def memory(quick: bool) -> dict[str, Any]:
    """Peak MB over the import's, against steps, saving nothing."""
    particles = 10**5 if quick else 10**6
    steps = [10, 100] if quick else [10, 100, 1_000]
    peaks = [
        json.loads(child(PEAK.format(cloud=CLOUD.format(particles=particles, steps=n)))[0])
        for n in tqdm(steps, desc="memory")
    ]
    return {"particles": particles, "steps": steps, "megabytes": peaks} | limit(peaks[-1], MEMORY)


def limit(value: float, most: float) -> dict[str, Any]:
    return {"value": value, "at_most": most, "met": bool(value <= most)}


def first_result(starts: int) -> dict[str, float]:
    """A new process with no compilation cache: seconds of its import, first call, second call, and of all of it."""
    rows = []
    for _ in tqdm(range(starts), desc="first result"):
        said, whole = child(FIRST.format(cloud=CLOUD.format(particles=1_000, steps=100)))
        rows.append([*json.loads(said), whole])
    imported, first, second, whole = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"import": imported, "first_call": first, "second_call": second, "compile": first - second, "whole": whole}


def imports(starts: int) -> dict[str, Any]:
    """`import sgdsim` beside `import jax`, taking turns."""
    seconds: dict[str, list[float]] = {"jax": [], "sgdsim": []}
    for turn in tqdm(range(starts), desc="import"):
        for name in list(seconds)[:: 1 if turn % 2 else -1]:
            seconds[name].append(child(f"import {name}")[1])
    over = [s - j for s, j in zip(seconds["sgdsim"], seconds["jax"], strict=True)]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return medians | limit(statistics.median(over), IMPORT)


def comparison(runs: int) -> dict[str, Any]:
    """`sgdsim compare double-well` from start to end of a new process; the first one fills the compilation cache."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["compare", "double-well", "--quiet", "--output", str(Path(folder) / "out")]
        code = f"import sys; from sgdsim.cli import main; sys.exit(main({arguments!r}))"
        cache = CACHE | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "cache")}
        seconds = [child(code, **cache)[1] for _ in tqdm(range(1 + runs), desc="compare double-well")]
    return {"filling_the_cache": seconds[0]} | limit(statistics.median(seconds[1:]), COMPARE)


def table(report: dict[str, Any]) -> str:
    rows = []
    for name, r in report["growth"].items():
        said = f"{r['exponent']:.3f} ± {r['standard_error']:.3f}"
        ends = f"{r['seconds'][0]:.2g} … {r['seconds'][-1]:.2g} s"
        rows.append([f"time against {name}", f"{r['range'][0]:,} … {r['range'][1]:,}", ends, said, target(r)])
    m = report["memory"]
    for steps, peak in zip(m["steps"], m["megabytes"], strict=True):
        said = target(m, " MB") if steps == m["steps"][-1] else ""
        rows.append(
            [f"peak over the import's, {m['particles']:,} particles", f"{steps:,} steps", "", f"{peak:.0f} MB", said]
        )
    first = report["first_result"]
    for label in ("import", "first_call", "second_call", "compile", "whole"):
        rows.append([f"new process: {label.replace('_', ' ')}", "", "", f"{first[label]:.2f} s", ""])
    i = report["import"]
    names = f"jax {i['jax']:.2f} s, sgdsim {i['sgdsim']:.2f} s"
    rows.append(["import sgdsim over import jax", "", names, f"{i['value']:.2f} s", target(i, " s")])
    if (c := report["compare"]) is not None:
        filling = f"filling the cache {c['filling_the_cache']:.1f} s"
        rows.append(["sgdsim compare double-well, new process", "", filling, f"{c['value']:.1f} s", target(c, " s")])
    header = ["what", "fitted range", "least … largest", "exponent or value", "target"]
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)


def target(report: dict[str, Any], unit: str = "") -> str:
    return f"{'met' if report['met'] else 'missed'} (≤ {report['at_most']:g}{unit})" if "met" in report else ""


def draw(report: dict[str, Any], path: Path, climbed: list[Ladder]) -> None:
    """A panel for each thing that grows: seconds over size, with the fitted power beside its range."""
    panels = list(dict.fromkeys(ladder.panel or ladder.name for ladder in climbed))
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for ladder in climbed:
        r, ax = report["growth"][ladder.name], axes[panels.index(ladder.panel or ladder.name)]
        sizes, seconds = np.array(r["sizes"]), np.array(r["seconds"])
        (line,) = ax.loglog(
            sizes, seconds, "o", markersize=4, label=f"{ladder.name}: {r['exponent']:.2f} ± {r['standard_error']:.2f}"
        )
        upper = sizes >= r["range"][0]
        middle = np.exp(np.mean(np.log(seconds[upper]) - r["exponent"] * np.log(sizes[upper])))
        ax.loglog(sizes[upper], middle * sizes[upper] ** r["exponent"], color=line.get_color(), linewidth=1)
        ax.set(xlabel=ladder.axis, ylabel="time of a call t / s")
        if sizes[-1] < 100 * sizes[0]:  # less than two decades: the sizes themselves are clearer than powers of ten
            ax.set_xticks(sizes, [f"{size:g}" for size in sizes])
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    m, ax = report["memory"], axes[len(panels)]
    ax.semilogx(m["steps"], m["megabytes"], "o-", markersize=4, linewidth=1)
    ax.axhline(m["at_most"], color="0.5", linestyle="--", linewidth=1)
    ax.set(
        xlabel="steps K",
        ylabel="peak memory over the import's / MB",
        ylim=(0, 1.1 * max(m["at_most"], *m["megabytes"])),
    )
    ax.set_title(f"{m['particles']:,} particles; dashed: target", fontsize=9)
    for ax in axes[len(panels) + 1 :]:
        ax.set_visible(False)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description="How sgdsim's cost grows, and what starting it takes.")
    parser.add_argument("--quick", action="store_true", help="smaller ladders, and no `compare`")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    given = parser.parse_args()
    climbed = ladders(given.quick)
    starts, turns = (QUICK_STARTS, QUICK_TURNS) if given.quick else (STARTS, TURNS)
    report: dict[str, Any] = {"environment": environment()}
    report["import"], report["first_result"] = imports(starts), first_result(1 if given.quick else 3)
    report["compare"] = None if given.quick else comparison(3)
    report["memory"] = memory(given.quick)
    report["growth"] = {ladder.name: climb(ladder, turns) for ladder in climbed}
    print(table(report))
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=2))
    if given.chart is not None:
        draw(report, given.chart, climbed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
