"""The 1-D double well from −1 to +1: the chain, the exact time, and how an arrival is told."""

import numpy as np
from jaxtyping import Array, Float

from sgdsim import theory
from sgdsim.density import Grid
from sgdsim.problems import GaussianNoise, NoisyPotential
from sgdsim.problems.potentials import DoubleWell
from sgdsim.processes import SGD

# +1 is a centre of these cells and of the ones three times as wide, where a target's first cell absorbs
LINE = Grid([-2.495], [2.515], [501])


def well(temperature: float, step: float) -> SGD:
    """SGD on the double well, its temperature set by the noise: σ² = 2BT/η."""
    noise = GaussianNoise(2 * temperature / step)
    return SGD(NoisyPotential(DoubleWell(1), noise), learning_rate=step, batch_size=1)


def exact_time(temperature: float, target: float = 1.0) -> float:
    """The limit's mean time from −1 to the target."""
    return theory.mean_passage_time(lambda x: (x**2 - 1) ** 2 / 4, -1.0, target, temperature)


def to_go(x: Float[Array, " d"]) -> Float[Array, ""]:
    """How far x₁ = 1 still is: the level of a `FirstPassage`."""
    return 1 - x[0]


def arrived(points: Float[np.ndarray, "*batch d"]) -> np.ndarray:
    """Which cells' centres have x₁ ≥ 1, to rounding."""
    return points[..., 0] >= 1 - 1e-9
