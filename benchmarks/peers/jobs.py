"""The equations that are solved, as text and numbers that every side can read."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Job:
    """∂p/∂t = −∇·(b p) + ∇·∇·(A p) in a box with reflecting walls, from a Gaussian of covariance 0.04 I.

    Drift and potential are text in x and y, so that all sides read the same. With a potential, b = −∇V and A = T I.
    """

    label: str
    lower: list[float]
    upper: list[float]
    cells: list[int]
    time: float
    drift: list[str]
    diffusion: list[list[float]]
    mean: list[float]
    potential: str | None = None

    @property
    def temperature(self) -> float:
        return self.diffusion[0][0]


VARIANCE = 0.04  # of the start, on every axis
WELL, BOWL = "(x**2 - 1)**2", "y**2 / 2"

PULL = np.array([[1.0, 0.8], [-0.6, 1.5]])  # F of the Ornstein–Uhlenbeck drift −Fx: not symmetric, no detailed balance
TURN = np.array([[np.cos(np.pi / 6), -0.5], [0.5, np.cos(np.pi / 6)]])  # by 30°
TENSOR = TURN @ np.diag([0.5, 0.05]) @ TURN.T  # its diffusion

JOBS = {
    "well-1d": Job("double well 1-D, 512", [-2.5], [2.5], [512], 5.0, ["4*x - 4*x**3"], [[0.2]], [-1.0], WELL),
    "well-2d": Job(
        "double well 2-D, 128²",
        [-2.5, -2.5],
        [2.5, 2.5],
        [128, 128],
        2.0,
        ["4*x - 4*x**3", "-y"],
        [[0.2, 0.0], [0.0, 0.2]],
        [-1.0, 0.0],
        f"{WELL} + {BOWL}",
    ),
    "ou-2d": Job(
        "rotated OU 2-D, 128²",
        [-4.0, -4.0],
        [4.0, 4.0],
        [128, 128],
        1.0,
        [f"-({row[0]}*x + {row[1]}*y)" for row in PULL],
        TENSOR.tolist(),
        [-1.0, 0.5],
    ),
}
