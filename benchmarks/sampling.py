"""What drawing without replacement costs: 128 digits MLPs × 1,000 steps at B = 32 by each way of sampling.

All go through `simulate` and take turns in one process after warm-up. Mean loss and spread with and without replacement
are compared before any speed is reported; reshuffled epochs have another law, since their batches are anticorrelated.

    python benchmarks/sampling.py
"""

import statistics
import sys

import jax
import numpy as np

import sgdsim as ss
from sgdsim.problems.minibatches import SAMPLINGS
from sgdsim.studies import preset

PARTICLES, STEPS, TURNS = 128, 1_000, 7
SIGMAS = 4.0  # how many standard errors two ways may lie apart


def run(process: ss.SGD, start: np.ndarray, seed: int, steps: int = STEPS) -> ss.Trajectory:
    return ss.simulate(process, start, particles=PARTICLES, steps=steps, key=jax.random.key(seed))


def largest_gap(problem: ss.EmpiricalRisk, one: np.ndarray, other: np.ndarray) -> float:
    """The larger gap of two clouds' mean losses and total variances, in standard errors."""
    scores = []
    for of in (lambda x: ss.measures.mean_loss(problem, x), ss.measures.total_variance):
        a, b = of(one), of(other)
        scores.append(abs(a.value - b.value) / np.hypot(a.standard_error, b.standard_error))
    return float(max(scores))


def main() -> int:
    problem, start = preset("digits-mlp").build()
    processes = {
        sampling: ss.SGD(problem, learning_rate=0.1, batch_size=32, sampling=sampling) for sampling in SAMPLINGS
    }
    clouds = {name: run(p, start, seed, steps=200).particles[-1] for seed, (name, p) in enumerate(processes.items())}
    gap = largest_gap(problem, clouds["with-replacement"], clouds["without-replacement"])
    if not gap <= SIGMAS:
        print(f"they did not compute the same law: {gap:.1f} standard errors apart", file=sys.stderr)
        return 1
    seconds = {sampling: [] for sampling in processes}
    for turn in range(TURNS):
        for sampling in list(processes)[:: 1 if turn % 2 else -1]:  # nobody always goes first
            seconds[sampling].append(run(processes[sampling], start, 100 + turn).seconds)
    print(f"{PARTICLES} digits MLPs × {STEPS:,} steps, B = 32; same law: yes, {gap:.1f} standard errors apart at most")
    for sampling, times in seconds.items():
        ratios = [own / plain for own, plain in zip(times, seconds["with-replacement"], strict=True)]
        rate = PARTICLES * STEPS / 1e3 / statistics.median(times)
        print(f"{sampling:20} {rate:7.1f} k particle-steps/s, {statistics.median(ratios):.2f} × with replacement")
    return 0


if __name__ == "__main__":
    sys.exit(main())
