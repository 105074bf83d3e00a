"""The densities of two limits of one chain, with its own noise and with isotropic noise, on one grid for both."""

import dataclasses
import warnings

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.grid_estimate import error_multiple
from sgdsim.ensemble import Gaussian
from sgdsim.measures import Estimate, kl_between_densities
from sgdsim.problems.noise_shapes import reshape_noise
from sgdsim.processes import SGD
from sgdsim.processes.limits import FirstOrderLimit
from sgdsim.studies.chain_comparison import floored_log

ROOM = 0.5  # of the box that may be added on each side


@dataclasses.dataclass(frozen=True)
class LimitDensities:
    """Cell masses at all saved times, the start's too, T of them.

    Attributes:
        grid: where they live.
        true, isotropic: of the limit with D(x) and of the one with Tr D(x)/d in all directions, (T, *cells).
        apart: KL(isotropic ‖ true), no sampling in it, (T,); its error is the grid's.
        boundary_mass: the most mass that the isotropic density ever had in the outermost cells. It runs away along
            directions in which the loss is flat: there is no true noise there, but its own share of the trace.
    """

    grid: Grid
    true: Float[np.ndarray, "times *cells"]
    isotropic: Float[np.ndarray, "times *cells"]
    apart: Estimate
    boundary_mass: float


def isotropic_limit(sgd: SGD) -> FirstOrderLimit:
    """dX = −∇f dt + √(2T Tr D(X)/d) dW at the chain's own T, which holds its s_B."""
    return FirstOrderLimit(reshape_noise(sgd.problem, "isotropic"), jnp.asarray(sgd.temperature))


def limit_densities(
    sgd: SGD, start: Gaussian, grid: Grid, path: Float[np.ndarray, "n d"], times: Float[np.ndarray, " T"]
) -> LimitDensities:
    """Both densities, on the grid and on one of half the cells.

    Args:
        sgd: the chain.
        start: where it starts.
        grid: a grid for the true limit, with even numbers of cells.
        path: where the isotropic cloud has been; the grid is widened to hold it, by half of its size on each side at
            the most.
        times: the common clock, (T,), from 0.
    """
    wide = _widened(grid, path)
    true, isotropic, boundary = _masses(sgd, start, wide, times)
    rough_true, rough_isotropic, _ = _masses(sgd, start, wide.coarsen(2), times)
    apart, rough = (
        np.array([kl_between_densities(p, q, log_q=floored_log(q)) for p, q in zip(*pair, strict=True)])
        for pair in ((isotropic, true), (rough_isotropic, rough_true))
    )
    return LimitDensities(wide, true, isotropic, Estimate(apart, np.abs(apart - rough) / error_multiple(2)), boundary)


def _masses(
    sgd: SGD, start: Gaussian, grid: Grid, times: Float[np.ndarray, " T"]
) -> tuple[Float[np.ndarray, "T *cells"], Float[np.ndarray, "T *cells"], float]:
    other = isotropic_limit(sgd)
    true = FokkerPlanck.limit_of(sgd, grid)
    isotropic = FokkerPlanck(other.drift, other.diffusion, grid, other.gibbs_potential)
    with warnings.catch_warnings():  # the isotropic density may run away: `boundary_mass` says how far
        warnings.filterwarnings("ignore", "the box cuts off mass")
        first, second = (fp.propagate(fp.density_of(start), times, grid_error=False) for fp in (true, isotropic))
    return first.masses, second.masses, float(np.max(second.boundary_mass))


def _widened(grid: Grid, path: Float[np.ndarray, "n d"]) -> Grid:
    """The grid with more cells of its own size, an even number at each end, as far as the path and `ROOM` reach."""
    room = ROOM * (grid.upper - grid.lower)
    below = np.clip(grid.lower - np.nanmin(path, axis=0), 0, room)
    above = np.clip(np.nanmax(path, axis=0) - grid.upper, 0, room)
    more_below, more_above = (2 * np.ceil(length / grid.widths / 2).astype(int) for length in (below, above))
    lower, upper = grid.lower - more_below * grid.widths, grid.upper + more_above * grid.widths
    return Grid(lower, upper, np.asarray(grid.cells) + more_below + more_above)
