"""How fast a cloud moves: sgdsim's `simulate` against NumPy and against a plain `lax.scan` with `jax.random.normal`.

The work is SGD with Gaussian gradient noise in the 2-D double well f(x) = (x₁² − 1)²/4 + x₂²/2, in float32. Every side
starts from one vector on the host and ends with the final cloud as a NumPy array. What is compiled is compiled before
the clock starts; then the sides take turns, so that what else the machine does meets all of them alike. No speed is
reported before all sides are seen to have computed the same law.

    python benchmarks/ensemble.py
    python -m benchmarks.ensemble --quick --json ensemble.json
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from tabulate import tabulate

import sgdsim as ss

LEARNING_RATE = 0.1
START = np.array([0.2, 1.0], dtype=np.float32)  # near the barrier, so that the cloud splits over both wells
SIGMAS = 4.0  # how many standard errors two sides may lie apart

REFERENCE = "sgdsim, whole call"
STEPPING = "sgdsim, stepping only"
NUMPY = "NumPy"
SCAN = "lax.scan + jax.random.normal"

Run = Callable[[int], tuple[np.ndarray, float]]  # seed → final cloud (P, 2), seconds


def timed(run: Callable[[int], np.ndarray]) -> Run:
    def call(seed: int) -> tuple[np.ndarray, float]:
        begin = time.perf_counter()
        cloud = run(seed)
        return cloud, time.perf_counter() - begin

    return call


def sgdsim_side(particles: int, steps: int) -> Callable[[int], ss.Trajectory]:
    """The public interface, as a user calls it."""
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=LEARNING_RATE, batch_size=1)

    def run(seed: int) -> ss.Trajectory:
        return ss.simulate(sgd, START, particles=particles, steps=steps, key=jax.random.key(seed))

    return run


def numpy_side(particles: int, steps: int) -> Callable[[int], np.ndarray]:
    """Vectorised over the particles, one contiguous row for each coordinate, normals drawn in place."""
    rate = np.float32(LEARNING_RATE)

    def run(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        cloud = np.repeat(START[:, None], particles, axis=1)
        move = np.empty_like(cloud)
        x, y = cloud
        for _ in range(steps):
            rng.standard_normal(dtype=np.float32, out=move)
            move[0] += x * (x * x - 1)
            move[1] += y
            move *= rate
            cloud -= move
        return cloud.T

    return run


def scan_side(particles: int, steps: int) -> Callable[[int], np.ndarray]:
    """One compiled scan over the steps' keys, the gradient by `vmap(grad)`, the cloud as (2, P): faster than (P, 2)."""
    well = ss.potentials.DoubleWell(dim=2)

    @jax.jit
    def final(key: jax.Array, cloud: jax.Array) -> jax.Array:
        def step(x: jax.Array, step_key: jax.Array) -> tuple[jax.Array, None]:
            noise = jax.random.normal(step_key, x.shape, x.dtype)
            return x - LEARNING_RATE * (jax.vmap(jax.grad(well), 1, 1)(x) + noise), None

        return jax.lax.scan(step, cloud, jax.random.split(key, steps))[0]

    def run(seed: int) -> np.ndarray:
        cloud = jnp.broadcast_to(START[:, None], (2, particles))
        return np.asarray(final(jax.random.key(seed), cloud)).T

    return run


def disagreements(clouds: dict[str, np.ndarray], steps: int) -> tuple[float, list[str]]:
    """The largest gap in standard errors, and every gap beyond `SIGMAS`.

    Mean and covariance of each side are held against each other side's, and those of x₂ against their exact values: x₂
    is an autoregression, of mean a^k x₂(0) and variance η²(1 − a^2k)/(1 − a²), a = 1 − η, at every step k.
    """
    a = 1 - LEARNING_RATE
    exact_mean, exact_variance = a**steps * START[1], LEARNING_RATE**2 * (1 - a ** (2 * steps)) / (1 - a**2)
    names = list(clouds)
    means = {name: ss.measures.mean(cloud) for name, cloud in clouds.items()}
    covariances = {name: ss.measures.covariance(cloud) for name, cloud in clouds.items()}
    gaps = {}
    for i, one in enumerate(names):
        gaps[f"mean of x₂, {one} against exact"] = (
            means[one].value[1] - exact_mean,
            means[one].standard_error[1],
        )
        gaps[f"variance of x₂, {one} against exact"] = (
            covariances[one].value[1, 1] - exact_variance,
            covariances[one].standard_error[1, 1],
        )
        for other in names[i + 1 :]:
            for label, of in (("mean", means), ("covariance", covariances)):
                error = np.hypot(of[one].standard_error, of[other].standard_error)
                for at in zip(*np.triu_indices(2), strict=True) if label == "covariance" else ((0,), (1,)):
                    where = "".join("₁₂"[j] for j in at)
                    gap = of[one].value[at] - of[other].value[at]
                    gaps[f"{label} {where}, {one} against {other}"] = (gap, error[at])
    scores = {name: abs(gap) / error for name, (gap, error) in gaps.items()}
    worst = [f"{name}: {score:.1f} standard errors" for name, score in scores.items() if not score <= SIGMAS]
    return float(max(scores.values())), worst


def measure(particles: int, steps: int, repeats: int) -> dict[str, object]:
    """Warm up, check the laws, take turns; the report as plain numbers. Raises ValueError where laws differ."""
    simulate = sgdsim_side(particles, steps)
    inner = []

    def whole_call(seed: int) -> np.ndarray:
        trajectory = simulate(seed)
        inner.append(trajectory.seconds)
        return trajectory.particles[-1]

    sides = {
        REFERENCE: timed(whole_call),
        NUMPY: timed(numpy_side(particles, steps)),
        SCAN: timed(scan_side(particles, steps)),
    }
    clouds = {name: run(seed)[0] for seed, (name, run) in enumerate(sides.items())}  # and this compiles
    for name, cloud in clouds.items():
        if cloud.shape != (particles, 2) or cloud.dtype != np.float32:
            raise ValueError(f"{name} must return float32 of shape ({particles}, 2), got {cloud.dtype} {cloud.shape}")
    largest, worst = disagreements(clouds, steps)
    if worst:
        raise ValueError("the sides did not compute the same law:\n  " + "\n  ".join(worst))

    seconds: dict[str, list[float]] = {name: [] for name in (REFERENCE, STEPPING, NUMPY, SCAN)}
    inner.clear()
    names = list(sides)
    for turn in range(repeats):
        for name in names[turn % 3 :] + names[: turn % 3]:  # nobody always goes first
            seconds[name].append(sides[name](100 + turn)[1])
    seconds[STEPPING] = inner

    work = particles * steps / 1e6
    return {
        "particles": particles,
        "steps": steps,
        "repeats": repeats,
        "dtype": "float32",
        "largest_gap_in_standard_errors": largest,
        "million_particle_steps_per_second": {name: summary([work / s for s in t]) for name, t in seconds.items()},
        # Turn by turn, since both halves of a turn met the same machine.
        "times_slower_than_sgdsim": {
            name: summary([s / r for s, r in zip(t, seconds[REFERENCE], strict=True)]) for name, t in seconds.items()
        },
        "environment": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
            "devices": [device.device_kind for device in jax.devices()],
            "cores": os.cpu_count(),
        },
    }


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def table(report: dict) -> str:
    rates, slower = report["million_particle_steps_per_second"], report["times_slower_than_sgdsim"]
    rows = []
    for name, rate in rates.items():
        ratio = slower[name]
        spread = "1" if name == REFERENCE else f"{ratio['median']:.2f} ({ratio['min']:.2f} … {ratio['max']:.2f})"
        rows.append([name, f"{rate['median']:.1f}", f"{rate['min']:.1f} … {rate['max']:.1f}", spread])
    header = ["side", "M particle-steps/s", "min … max", "time / sgdsim's (min … max)"]
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True, colalign=("left", *["right"] * 3))


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def several(text: str) -> int:
    number = int(text)
    if number < 100:
        raise argparse.ArgumentTypeError(f"must be at least 100, so that laws can be compared, got {number}")
    return number


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=several, default=20_000, help="particles of the cloud (20000)")
    parser.add_argument("--steps", type=positive, help="steps of the run (500; quick: 200)")
    parser.add_argument("--quick", action="store_true", help="3 turns of 200 steps instead of 15 of 500")
    parser.add_argument("--json", metavar="PATH", help="write the report here as well")
    options = parser.parse_args(arguments)
    repeats, steps = (3, options.steps or 200) if options.quick else (15, options.steps or 500)

    try:
        report = measure(options.particles, steps, repeats)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"2-D double well, Gaussian noise, {options.particles:,} particles × {steps:,} steps, float32; "
        f"median of {repeats} turns after warm-up\n"
        f"same law: yes; over all means and covariances at the end the largest gap is "
        f"{report['largest_gap_in_standard_errors']:.1f} standard errors (allowed: {SIGMAS:g})\n"
    )
    print(table(report))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
            file.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
