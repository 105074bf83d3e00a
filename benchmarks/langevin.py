"""The Langevin limit of the 2-D double well through `ss.Langevin`, one Euler step of diffrax for one step of SGD.

Euler–Maruyama at the learning rate's step is SGD with Gaussian noise in law, so the peers are those of `toys.py`: the
same arithmetic. Three-point increments (Kloeden and Platen 1992, section 14.2) keep the moments that the laws are
compared by, and are what someone takes who wants laws and no paths; peers have to draw normals.
"""

import diffrax
import numpy as np

import sgdsim as ss

from .harness import BEST, Job, Side
from .peers.clouds import LEARNING_RATE, STARTS
from .toys import (
    COMPILED,
    EAGER,
    NUMBA,
    NUMPY,
    QUICK_STEPS,
    SCAN,
    STEPS,
    TORCHSDE,
    TREE,
    UNIT,
    UNSAFE,
    WHOLE,
    ZIGGURAT,
    Run,
    chain_of,
    exact_gap,
)

PROBLEM = "double-well"
DEFAULT = "sgdsim, its default solver (Heun, 4 sub-steps)"


def euler(increments: str) -> ss.Langevin:
    return ss.Langevin.limit_of(chain_of(PROBLEM), substeps=1, solver=diffrax.Euler(), increments=increments)


def limit_moments(steps: int) -> tuple[slice, np.ndarray, np.ndarray]:
    """x₂ of the limit itself, dX = −X dt + √η dW: which the default solver has to meet, and Euler's step does not."""
    decay = np.exp(-LEARNING_RATE * steps)
    variance = LEARNING_RATE / 2 * (1 - decay**2)
    return slice(1, 2), np.array([decay * STARTS[PROBLEM][1]]), np.array([[variance]])


def three_point(run: Run) -> Job:
    peers = [NUMPY, ZIGGURAT, SCAN] + ([] if run.quick else [EAGER, NUMBA, COMPILED])

    def sides() -> list[Side]:
        default = ss.Langevin.limit_of(chain_of(PROBLEM), increments="three-point")
        own = [run.own("sgdsim", euler("three-point")), run.own(DEFAULT, default, reference=True)]
        return own + [run.side(peer) for peer in peers]

    def check(clouds: dict[str, np.ndarray]) -> float:
        """The default solver is held against the limit's own law: another one, by O(η)."""
        same = {name: cloud for name, cloud in clouds.items() if name != DEFAULT}
        gap = run.check(same)
        if DEFAULT in clouds:
            gap = max(gap, exact_gap(DEFAULT, clouds[DEFAULT], *limit_moments(run.steps)))
        return gap

    title = (
        f"Langevin, three-point increments, Euler; peers draw normals, {run.particles:,} particles × {run.steps} steps"
    )
    return Job("three-point", title, UNIT, sides, check, {BEST: 6})


def through_diffrax(run: Run) -> Job:
    shares = {UNSAFE: 4, WHOLE: 1, TREE: 20} | ({} if run.quick else {TORCHSDE: 1})

    def sides() -> list[Side]:
        return [run.own("sgdsim", euler("gaussian")), *(run.side(peer, share) for peer, share in shares.items())]

    title = f"Langevin through diffrax, Gaussian increments, Euler, {run.particles:,} particles × {run.steps} steps"
    return Job("diffrax", title, UNIT, sides, run.check, {UNSAFE: 8, TREE: 150})


def jobs(quick: bool) -> list[Job]:
    """Both, at the size of the toy ensembles."""
    run = Run(PROBLEM, QUICK_STEPS if quick else STEPS, quick)
    return [three_point(run), through_diffrax(run)]
