"""The equations that are solved, as functions and numbers that every side can read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Field = Callable[..., Any]  # of the coordinates, each an array of NumPy or JAX


@dataclass(frozen=True)
class Equation:
    """∂p/∂t = −∇·(b p) + ∇·∇·(A p) in a box with reflecting walls, from a Gaussian of covariance 0.04 I.

    With a potential V, b = −∇V and A = T I. `drift_text` is the drift once more, for py-pde, which takes strings.
    """

    title: str
    lower: list[float]
    upper: list[float]
    cells: list[int]
    time: float
    drift: Field
    drift_text: list[str]
    diffusion: list[list[float]]
    mean: list[float]
    potential: Field | None = None

    @property
    def dim(self) -> int:
        return len(self.cells)

    @property
    def temperature(self) -> float:
        return self.diffusion[0][0]


VARIANCE = 0.04  # of the start, on every axis

PULL = np.array([[1.0, 0.8], [-0.6, 1.5]])  # F of the Ornstein–Uhlenbeck drift −Fx: not symmetric, no detailed balance
TURN = np.array([[np.cos(np.pi / 6), -0.5], [0.5, np.cos(np.pi / 6)]])  # by 30°
TENSOR = TURN @ np.diag([0.5, 0.05]) @ TURN.T  # its diffusion


def well(x: Any) -> Any:
    return (x**2 - 1) ** 2


def well_drift(x: Any) -> Any:
    return 4 * x - 4 * x**3


def bowl(y: Any) -> Any:
    return y**2 / 2


def bowl_drift(y: Any) -> Any:
    return -y


EQUATIONS = {
    "well-1d": Equation(
        "double well 1-D, 512 cells",
        [-2.5],
        [2.5],
        [512],
        5.0,
        lambda x: [well_drift(x)],
        ["4*x - 4*x**3"],
        [[0.2]],
        [-1.0],
        well,
    ),
    "well-2d": Equation(
        "double well 2-D, 128² cells",
        [-2.5, -2.5],
        [2.5, 2.5],
        [128, 128],
        2.0,
        lambda x, y: [well_drift(x), bowl_drift(y)],
        ["4*x - 4*x**3", "-y"],
        [[0.2, 0.0], [0.0, 0.2]],
        [-1.0, 0.0],
        lambda x, y: well(x) + bowl(y),
    ),
    "ou-2d": Equation(
        "rotated OU 2-D, 128² cells",
        [-4.0, -4.0],
        [4.0, 4.0],
        [128, 128],
        1.0,
        lambda x, y: [-(a * x + b * y) for a, b in PULL.tolist()],
        [f"-({a}*x + {b}*y)" for a, b in PULL.tolist()],
        TENSOR.tolist(),
        [-1.0, 0.5],
    ),
}
