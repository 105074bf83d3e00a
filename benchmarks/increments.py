"""What weak three-point increments save: the Langevin limit by them and by Gaussian increments, through `simulate`.

The 2-D double well f(x) = (x₁² − 1)²/4 + x₂²/2 in float32, the default solver and its default four sub-steps. The two
take turns in one process after warm-up, and their laws are compared before any speed is reported.

    python benchmarks/increments.py
"""

import statistics
import sys
import time

import jax
import numpy as np

import sgdsim as ss

START = np.array([0.2, 1.0], dtype=np.float32)
PARTICLES, STEPS, TURNS = 20_000, 500, 7
SIGMAS = 4.0  # how many standard errors the two may lie apart


def sides() -> dict[str, ss.Langevin]:
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=0.1, batch_size=1)
    return {name: ss.Langevin.limit_of(sgd, increments=name) for name in ("gaussian", "three-point")}


def run(process: ss.Langevin, seed: int) -> ss.Trajectory:
    return ss.simulate(process, START, particles=PARTICLES, steps=STEPS, key=jax.random.key(seed))


def largest_gap(one: np.ndarray, other: np.ndarray) -> float:
    """The largest gap of two clouds' means and covariances, in standard errors."""
    scores = []
    for of in (ss.measures.mean, ss.measures.covariance):
        a, b = of(one), of(other)
        scores.append(np.max(np.abs(a.value - b.value) / np.hypot(a.standard_error, b.standard_error)))
    return float(max(scores))


def main() -> int:
    processes = sides()
    clouds = [run(process, seed).particles[-1] for seed, process in enumerate(processes.values())]  # and this compiles
    gap = largest_gap(*clouds)
    if not gap <= SIGMAS:
        print(f"the two did not compute the same law: {gap:.1f} standard errors apart", file=sys.stderr)
        return 1
    whole, stepping = ({name: [] for name in processes} for _ in range(2))
    for turn in range(TURNS):
        for name in list(processes)[:: 1 if turn % 2 else -1]:  # nobody always goes first
            begin = time.perf_counter()
            trajectory = run(processes[name], 100 + turn)
            whole[name].append(time.perf_counter() - begin)
            stepping[name].append(trajectory.seconds)
    print(f"{PARTICLES:,} particles × {STEPS} steps; same law: yes, {gap:.1f} standard errors apart at most")
    for label, seconds in (("whole call", whole), ("stepping only", stepping)):
        rates = {name: PARTICLES * STEPS / 1e6 / statistics.median(times) for name, times in seconds.items()}
        ratio = statistics.median(g / t for g, t in zip(seconds["gaussian"], seconds["three-point"], strict=True))
        listed = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
        print(f"{label}: {listed} M particle-steps/s; three-point is {ratio:.2f} times as fast")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
