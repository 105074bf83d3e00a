"""The roofline of a particle-step: what it must compute and move, what the machine can do, what `simulate` reaches.

Operations are counted in the traced step, one for each element of each elementwise primitive, so that the count is the
program's and not an estimate; a rotation counts as one, since it is one instruction where vectors have it. What the
machine can do is measured by two small loops, compiled as the step is: independent integer additions and exclusive ors
on numbers that stay in registers, and a copy of an array that does not fit the cache.

    python -m benchmarks.roofline
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from tabulate import tabulate

import sgdsim as ss
from sgdsim.draws import Draws
from sgdsim.ensemble.simulate import CPU_OPTIONS

PARTICLES, STEPS, TURNS = 20_000, 500, 7
START = np.array([0.2, 1.0], dtype=np.float32)
CHAINS, LENGTH = 8, 64  # independent chains of operations in registers, and how long each is
COPIED = 2**26  # bytes, more than a cache holds
MOVES = {  # primitives that compute nothing: XLA makes indices or nothing of them
    *("broadcast_in_dim", "reshape", "squeeze", "slice", "concatenate", "transpose", "copy", "stop_gradient"),
    *("bitcast_convert_type", "real", "imag", "complex", "dynamic_slice", "iota", "pad", "split"),
}


def processes() -> dict[str, Any]:
    well = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(1.0))
    sgd = ss.SGD(well, learning_rate=0.1, batch_size=1)
    one_euler = {"substeps": 1, "solver": diffrax.Euler()}
    return {
        "SGD, Gaussian noise": sgd,
        "Langevin, three-point, one Euler step": ss.Langevin.limit_of(sgd, increments="three-point", **one_euler),
    }


def operations(process: Any) -> float:
    """Elementwise operations of a particle-step, counted in its jaxpr; of a conditional, the dearer branch."""
    draws = Draws.of(jax.random.key(0), np.arange(PARTICLES))
    state = process.init(jnp.zeros((process.dim, PARTICLES), jnp.float32))
    dynamic, static = eqx.partition((process, state), eqx.is_array)

    def step(dynamic: Any, draws: Draws) -> Any:
        process, state = eqx.combine(dynamic, static)
        return jax.tree.leaves(process.step(state, draws))

    return count(jax.make_jaxpr(step)(dynamic, draws).jaxpr) / PARTICLES


def count(jaxpr: Jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        inner = [
            value for value in jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr) if is_jaxpr(value)
        ]
        if inner:
            counts = [count(getattr(each, "jaxpr", each)) for each in inner]
            total += max(counts) if equation.primitive.name in ("cond", "platform_index") else sum(counts)
        elif equation.primitive.name not in MOVES:
            total += max(np.prod(out.aval.shape, dtype=float) for out in equation.outvars)
    # x << r | x >> (32 − r) is one rotation
    return total - 2 * sum(np.prod(e.outvars[0].aval.shape) for e in jaxpr.eqns if e.primitive.name == "or")


def is_jaxpr(value: Any) -> bool:
    return isinstance(value, ClosedJaxpr | Jaxpr)


def rate(work: float, run: Callable[[], Any]) -> float:
    """Work per second, the best of several turns: what the machine can do when it is left alone."""
    run()
    times = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return work / min(times)


def compiled(function: Callable) -> Callable:
    return jax.jit(function, compiler_options=CPU_OPTIONS if jax.default_backend() == "cpu" else None)


def arithmetic() -> float:
    """Integer operations per second on numbers that stay in registers."""
    repeats = 50

    def chains(x: jax.Array) -> jax.Array:
        def once(_: Any, x: jax.Array) -> jax.Array:
            each = [x ^ np.uint32(i) for i in range(CHAINS)]
            for i in range(LENGTH // 2):
                each = [(y + np.uint32(2 * i + 1)) ^ np.uint32(0x9E3779B9 >> (i % 16)) for y in each]
            return sum(each[1:], each[0])

        return jax.lax.fori_loop(0, repeats, once, x)

    run, x = compiled(chains), jnp.arange(PARTICLES, dtype=jnp.uint32)
    return rate(repeats * CHAINS * LENGTH * PARTICLES, lambda: run(x).block_until_ready())


def bandwidth() -> float:
    """Bytes per second, read and written, of a copy that does not fit the cache."""
    run, x = compiled(lambda x: x + 1), jnp.zeros(COPIED // 4, jnp.float32)
    return rate(2 * COPIED, lambda: run(x).block_until_ready())


def reached(process: Any) -> float:
    """Particle-steps per second of stepping."""
    seconds = []
    for seed in range(TURNS + 1):
        run = ss.simulate(process, START, particles=PARTICLES, steps=STEPS, key=jax.random.key(seed))
        seconds.append(run.seconds)
    return PARTICLES * STEPS / min(seconds[1:])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="PATH", help="write the report here as well")
    options = parser.parse_args(arguments)
    peak, moved = arithmetic(), bandwidth()
    print(
        f"the machine: {peak / 1e9:.0f} G integer operations/s in registers, {moved / 1e9:.1f} GB/s beyond the cache\n"
    )
    rows, report = [], {"operations_per_second": peak, "bytes_per_second": moved, "processes": {}}
    for name, process in processes().items():
        needed, got = operations(process), reached(process)
        moves = 4 * (2 * process.dim + 2)  # the state read and written, two words of key read
        arithmetic_bound, memory_bound = peak / needed, moved / moves
        rows.append([name, f"{needed:.0f}", moves, *(f"{x / 1e6:.0f}" for x in (arithmetic_bound, memory_bound, got))])
        report["processes"][name] = {"operations": needed, "bytes": moves, "reached": got}
    header = ["process", "operations", "bytes", "by arithmetic", "by memory, were it not cached", "reached"]
    print(tabulate(rows, headers=header, tablefmt="github", disable_numparse=True))
    print("\noperations and bytes a particle-step; the rest in M particle-steps/s")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
