"""Equations that several files of tests solve: double wells with a Gibbs state, and a rotation without one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim.density import FokkerPlanck, Grid

if hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:  # jax before 0.8
    from jax.experimental import enable_x64

__all__ = ["ROTATION", "double_well", "enable_x64", "gibbs_problem", "rotated_ou", "turned", "wells"]

ROTATION = np.array([[1.0, 0.8], [-0.6, 1.5]])  # b = −Fx


def wells(x: jax.Array) -> jax.Array:
    return (x[0] ** 2 - 1) ** 2 + jnp.sum(x[1:] ** 2) / 2


def gibbs_problem(
    cells: tuple[int, ...],
    temperature: float = 0.2,
    energy: Callable[[jax.Array], jax.Array] = wells,
    declared: bool = True,
) -> FokkerPlanck:
    """b = −∇V, A = T I on [−2.5, 2.5]ᵈ."""
    dim = len(cells)
    return FokkerPlanck(
        drift=lambda x: -jax.grad(energy)(x),
        diffusion=lambda x: temperature * jnp.eye(dim),
        grid=Grid([-2.5] * dim, [2.5] * dim, cells),
        potential=(lambda x: energy(x) / temperature) if declared else None,
    )


def double_well(cells: int, temperature: float = 0.2) -> FokkerPlanck:
    return gibbs_problem((cells,), temperature)


def turned(eigenvalues: tuple[float, float]) -> np.ndarray:
    """The tensor of these eigenvalues along axes at 30°."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    axes = np.array([[cos, -sin], [sin, cos]])
    return axes @ np.diag(eigenvalues) @ axes.T


def rotated_ou(cells: int, eigenvalues: tuple[float, float] = (0.5, 0.05)) -> FokkerPlanck:
    """b = −Fx with a full tensor on [−4, 4]²: a steady current."""
    tensor = turned(eigenvalues)
    return FokkerPlanck(lambda x: -ROTATION @ x, lambda x: tensor, Grid([-4.0] * 2, [4.0] * 2, [cells] * 2))
