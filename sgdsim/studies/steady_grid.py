"""A grid that holds a steady state, found without a cloud."""

import dataclasses
import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sgdsim import theory
from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.fit import fitted_grid
from sgdsim.measures import curvature
from sgdsim.processes import SGD

LATTICE = (-3.0, -1.0, 0.1, 1.2, 3.2)  # along each axis: where minima are looked for, and nowhere on a symmetry line
REACH = 8.0  # steady widths around each minimum that the first box covers
LEAST = 1.0  # and the last one at least
WALL = 1e-7  # mass in the cells at one wall from which the box is moved out there
SHED = 1e-9  # mass that may be shed on each side where the box was too large
ROUNDS, STEP = 8, 0.5  # how often the box is widened, and by which share of its length
SCOUT = {1: 512, 2: 64}  # cells along each axis of the grids on which the box is sought


@dataclasses.dataclass(frozen=True)
class SteadyGrid:
    """A box around a steady state.

    Attributes:
        grid: the box and its cells.
        minima: of the loss, as far as they were found, (m, d).
        widths: the narrowest steady width along each axis at any of them, (d,); NaN without a minimum.
        rounds: how often the box had to be widened.
    """

    grid: Grid
    minima: Float[np.ndarray, "m d"]
    widths: Float[np.ndarray, " d"]
    rounds: int


def steady_grid(sgd: SGD, cells: int | Sequence[int] | None = None) -> SteadyGrid:
    """A box outside of which the limit's steady state has next to no mass, eight cells to its narrowest width.

    It starts with eight steady widths around every minimum of the loss that BFGS finds from a lattice of points (around
    the parameters that the problem starts from, if it has some); then the walls that have mass move out until none has,
    on a coarse grid, and those that stand too far out move in.

    Args:
        sgd: the discrete chain.
        cells: cells per axis of the box, one number for all axes or one for each, instead of fitted ones.

    Raises:
        ValueError: if no minimum is found.
    """
    minima = loss_minima(sgd)
    if len(minima) == 0:
        raise ValueError("grid must be given: no minimum of the loss was found around which to put one")
    hessians = [curvature.hessian(sgd.problem, x) for x in minima]
    noises = [np.asarray(sgd.problem.noise_covariance(jnp.asarray(x)), dtype=float) for x in minima]
    twice = 2 * float(sgd.temperature)
    spreads = [
        np.sqrt(np.diag(theory.ou_stationary_covariance(k, d, twice))) for k, d in zip(hessians, noises, strict=True)
    ]
    lower, upper = _around(minima, spreads, REACH)
    scout = Grid(lower, upper, [SCOUT[sgd.dim]] * sgd.dim)
    for rounds in range(ROUNDS + 1):
        masses = FokkerPlanck.limit_of(sgd, scout).stationary()
        low, high = (np.array([_wall(masses, axis, end) > WALL for axis in range(sgd.dim)]) for end in (0, -1))
        if rounds == ROUNDS or not np.any(low | high):
            break
        span = scout.upper - scout.lower
        scout = Grid(scout.lower - STEP * span * low, scout.upper + STEP * span * high, scout.cells)
    shed_lower, shed_upper = _without_tails(scout, masses)
    least_lower, least_upper = _around(minima, spreads, LEAST)
    widths = steady_widths(sgd, minima)
    grid = fitted_grid(np.minimum(shed_lower, least_lower), np.maximum(shed_upper, least_upper), widths, cells)
    return SteadyGrid(grid, minima, widths, rounds)


def loss_minima(sgd: SGD) -> Float[np.ndarray, "m d"]:
    """The minima of the loss that BFGS finds from a lattice around the problem's own start, (m, d)."""
    inner = getattr(sgd.problem, "problem", sgd.problem)  # a perturbed problem starts where its own does
    centre = np.asarray(getattr(inner, "x0", np.zeros(sgd.dim)), dtype=float)
    lattice = np.array(list(itertools.product(LATTICE, repeat=sgd.dim)))
    return curvature.minima(sgd.problem, centre + lattice)


def steady_widths(sgd: SGD, minima: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " d"]:
    """The narrowest steady width along each axis over the minima, (d,); NaN where there is none."""
    widths = [curvature.steady_widths(sgd.problem, x, float(sgd.temperature)) for x in minima]
    return np.min(widths, axis=0) if widths else np.full(sgd.dim, np.nan)


def _around(
    minima: Float[np.ndarray, "m d"], spreads: list[Float[np.ndarray, " d"]], reach: float
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """The box that reaches this many steady widths from every minimum."""
    return np.min(minima - reach * np.array(spreads), axis=0), np.max(minima + reach * np.array(spreads), axis=0)


def _wall(masses: Float[np.ndarray, "*cells"], axis: int, end: int) -> float:
    """The mass in the cells at one wall."""
    return float(np.sum(np.take(masses, end, axis=axis)))


def _without_tails(
    grid: Grid, masses: Float[np.ndarray, "*cells"]
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """The box within which all but `SHED` of the mass lies on either side of each axis, and one cell more."""
    lower, upper = grid.lower.copy(), grid.upper.copy()
    for axis in range(grid.dim):
        along = masses.sum(axis=tuple(a for a in range(grid.dim) if a != axis))
        edges = grid.edges(axis)
        below = int(np.searchsorted(np.cumsum(along), SHED))
        above = int(np.searchsorted(np.cumsum(along[::-1]), SHED))
        lower[axis], upper[axis] = edges[max(below - 1, 0)], edges[len(edges) - 1 - max(above - 1, 0)]
    return lower, upper
