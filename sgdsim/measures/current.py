"""The probability current of a cloud and what it circulates, read off steps of its particles.

For dX = b dt + √(2A) dW the current is J = bρ − ∇·(Aρ), and for any smooth vector field w, by Itô's formula,

    ⟨w(x + Δx/2)·Δx⟩ = Δt ⟨w·b + A:∇w⟩ + O(Δt²) = Δt ∫ w·J dx + O(Δt²):

the step is held against w at its **midpoint**, which is Stratonovich's rule; at its start the second term would be
missing. `binned_current` takes the indicator of each cell for w, `circulation` the rotation about a point. Both are odd
under exchange of x and x + Δx, so that a reversible chain in its steady state reads 0 on average at any step.

Particles are independent, the successive steps of one particle are not: what a particle contributes is averaged over
its steps first, and errors come from the spread over particles. One short step tells little, as its noise is √(2AΔt)
and the error grows as 1/√Δt; K steps of each particle reduce it by about √K.

Sources: Li, Horowitz, Gingrich and Fakhri 2019 (currents from trajectories); Ghanta, Neu and Teitsworth 2017 (the area
swept); Zia 2024, arXiv:2402.14738 (the same as a probability angular momentum).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sgdsim.density.grid import Grid
from sgdsim.ensemble import Trajectory
from sgdsim.measures.diverged import finite_rows
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.kramers_moyal import checked_step, sum_by_cell
from sgdsim.measures.moments import mean
from sgdsim.measures.window import window_means

Steps = Float[np.ndarray | Array, "*steps P d"]
"""One row for each particle, (P, d), or one for each particle and each of K successive steps, (K, P, d)."""


def circulation(x: Steps, dx: Steps, dt: float, centre: Float[np.ndarray | Array, " 2"] | None = None) -> Estimate:
    """∫ (x − c) × J dx in 2-D: twice the area that the mean particle sweeps around c per time, in x²/time.

    Counterclockwise is positive, as in `FokkerPlanck.circulation`. See `circulation_matrix`, of which this is the
    entry 12: ⟨(x−c)₁Δx₂ − (x−c)₂Δx₁⟩/Δt.

    Args:
        x: where the particles were, (P, 2) or (K, P, 2).
        dx: their increments over one step, of that shape.
        dt: the step on the process's clock.
        centre: c, (2,); by default the cloud's mean.

    Raises:
        ValueError: as `circulation_matrix`, or if d is not 2.
    """
    if np.shape(x)[-1] != 2:
        raise ValueError(f"x must have 2 coordinates for a circulation, got {np.shape(x)[-1]}: use circulation_matrix")
    return circulation_matrix(x, dx, dt, centre)[0, 1]


def swept_area(x: Float[Array, " 2"], dx: Float[Array, " 2"]) -> Float[Array, "1"]:
    """x × Δx of one particle's step in the plane, (1,), in x²: an observable for `Totals`; see `run_circulation`."""
    if x.shape != (2,):
        raise ValueError(f"swept_area must be given positions in the plane, got {x.shape[0]} coordinates")
    return jnp.array([x[0] * dx[1] - x[1] * dx[0]])


def run_circulation(trajectory: Trajectory, *, since: float | None = None) -> Estimate:
    """The circulation about the origin of a run that summed `swept_area` in its loop, over every step since a time.

    The same number as `circulation`, without a saved path: a long run reads it to √(2⟨|x|²_A⟩/(P t)).

    Args:
        trajectory: a run with `tally=Totals(swept_area)`, saved at the start of the window at least.
        since: the time at which the window starts, up to the next saved time; by default half of the run.

    Raises:
        ValueError: as `window_means`, or if the run followed a schedule.
    """
    rows, left_out = window_means(trajectory, since, lambda observable: observable is swept_area, "swept_area")
    lengths = np.diff(trajectory.times) / np.diff(trajectory.steps)
    step = float(lengths[-1])
    if not np.allclose(lengths, step, rtol=1e-6):
        raise ValueError("trajectory must have steps of one length: along a schedule there is no one rate")
    return dataclasses.replace(mean(rows)[0] * (1 / step), left_out=left_out)


def circulation_matrix(
    x: Steps, dx: Steps, dt: float, centre: Float[np.ndarray | Array, " d"] | None = None
) -> Estimate:
    """⟨(x−c)_i Δx_j − (x−c)_j Δx_i⟩/Δt = ∫ [(x−c)_i J_j − (x−c)_j J_i] dx, antisymmetric, of shape (d, d), in x²/time.

    The midpoint makes no difference here, as Δx ∧ Δx = 0. What is read on average is ⟨(x−c) ∧ E[Δx | x]⟩/Δt:

    - for SGD without momentum exactly ⟨(x−c) ∧ b⟩ with b = −∇f, at any η: that of the chain's own law;
    - for the diffusion over a step Δt ⟨(x−c) ∧ (b + Δt/2 𝓛b)⟩ to O(Δt²) (`finite_step_moments`): chords cut off arcs.

    In a steady state it does not depend on c, as ∫ J dx = 0; elsewhere it does.

    Args:
        x: where the particles were, (P, d), d ≥ 2, or (K, P, d) for K successive steps of the same particles, such as
            `particles[:-1]` of a trajectory that saves every step.
        dx: their increments over one step, of that shape: `np.diff(particles, axis=0)`.
        dt: the step on the process's clock.
        centre: c, (d,). By default the mean of the cloud at each step, and the reading is the unbiased covariance of x
            and Δx, which has the smaller error because the chance offset of both means drops out.

    Returns:
        The estimate. A particle that diverges in any of its steps is left out and counted.

    Raises:
        ValueError: if dt is not positive, the shapes differ, d < 2, fewer than two particles are finite, or the centre
            is not d finite numbers.
    """
    checked_step(dt)
    positions, increments, left_out = _by_particle(x, dx)
    count, steps, dim = positions.shape
    if dim < 2 or count < 2:
        raise ValueError(f"x must hold two finite particles of two coordinates or more, got {count} of {dim}")
    if centre is None:
        positions = (positions - np.mean(positions, axis=0)) * (count / (count - 1))
        increments = increments - np.mean(increments, axis=0)
    else:
        point = np.asarray(centre, dtype=np.float64)
        if point.shape != (dim,) or not np.all(np.isfinite(point)):
            raise ValueError(f"centre must be {dim} finite numbers, got {point.tolist()}")
        positions = positions - point
    products = np.swapaxes(positions, 1, 2) @ increments / (steps * dt)
    swept = products - np.swapaxes(products, 1, 2)
    return Estimate(np.mean(swept, axis=0), np.std(swept, axis=0, ddof=1) / np.sqrt(count), left_out=left_out)


@dataclasses.dataclass(frozen=True, eq=False)
class BinnedCurrent:
    """The probability current in each cell of a grid; NaN in cells that too few particles have crossed.

    Args:
        grid: the grid, of d axes.
        current: J averaged over the cell, (*cells, d), in 1/(time · x^{d−1}).
        current_error: its standard error, (*cells, d).
        counts: particles with a midpoint in each cell, (*cells,).
        outside: midpoints outside the box; their particles count in the normalisation of ρ all the same.
        left_out: diverged particles, which do not.
    """

    grid: Grid
    current: Float[np.ndarray, "*cells d"]
    current_error: Float[np.ndarray, "*cells d"]
    counts: Int[np.ndarray, "*cells"]
    outside: int
    left_out: int


def binned_current(x: Steps, dx: Steps, dt: float, grid: Grid, *, fewest: int = 10) -> BinnedCurrent:
    """J in each cell of a grid: Σ Δx over the steps whose midpoint lies in the cell, by P, Δt and the cell's volume.

    That is J averaged over the cell, to O(Δt): the module says why the midpoint. The step √(2AΔt) must be short beside
    the scale on which ρ and J vary, not beside the cell.

    Args:
        x: where the particles were, (P, d), or (K, P, d) for K successive steps of the same particles.
        dx: their increments over one step, of that shape; along a periodic axis not reduced modulo the box.
        dt: the step on the process's clock.
        grid: the grid, of d axes.
        fewest: cells that fewer particles than this (at least 2) have crossed read NaN.

    Raises:
        ValueError: if dt is not positive, the shapes differ, d is not the grid's, fewest is below 2, or all particles
            have diverged.
    """
    checked_step(dt)
    if fewest < 2:
        raise ValueError(f"fewest must be at least 2, got {fewest}")
    positions, increments, left_out = _by_particle(x, dx)
    count, steps, dim = positions.shape
    if dim != grid.dim:
        raise ValueError(f"x must have the grid's {grid.dim} coordinates, got {dim}")
    cells = grid.locate(positions + increments / 2)
    inside = cells >= 0
    visits = (np.arange(count)[:, None] * grid.num_cells + cells)[inside]
    particle_cells, visit = np.unique(visits, return_inverse=True)  # all that a particle did in a cell is one number
    moved = sum_by_cell(visit, increments[inside] / (steps * dt * grid.cell_volume), len(particle_cells))
    crossed = particle_cells % grid.num_cells
    counts = np.bincount(crossed, minlength=grid.num_cells)
    n = np.where(counts >= fewest, count, np.nan)[:, None]  # of which most contribute 0
    average = sum_by_cell(crossed, moved, grid.num_cells) / n
    variance = (sum_by_cell(crossed, moved**2, grid.num_cells) - n * average**2) / (n - 1)
    return BinnedCurrent(
        grid=grid,
        current=average.reshape(*grid.cells, dim),
        current_error=np.sqrt(np.maximum(variance, 0) / n).reshape(*grid.cells, dim),
        counts=counts.reshape(grid.cells),
        outside=int(np.sum(~inside)),
        left_out=left_out,
    )


def _by_particle(x: Steps, dx: Steps) -> tuple[Float[np.ndarray, "n K d"], Float[np.ndarray, "n K d"], int]:
    """Positions and increments of the finite particles, particle first, and how many were left out."""
    shape = np.shape(x)
    if len(shape) < 2 or np.shape(dx) != shape:
        raise ValueError(f"x and dx must be of one shape (P, d) or (K, P, d), got {shape} and {np.shape(dx)}")
    rows = [np.moveaxis(np.asarray(a, dtype=np.float64), -2, 0).reshape(shape[-2], -1, shape[-1]) for a in (x, dx)]
    (positions, increments), left_out = finite_rows(*rows)
    return positions, increments, left_out
