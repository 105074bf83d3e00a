"""The effective potential Φ = −T log ρ_ss: what SGD minimises where its noise is not that of a thermostat."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.drift_split import DriftSplit, split_drift
from sgdsim.density.drift_zeros import drift_zeros
from sgdsim.density.fields import ScalarField, potential_at
from sgdsim.density.grid_estimate import GridEstimate, error_multiple
from sgdsim.density.grid_minima import grid_minima
from sgdsim.density.nearest_gibbs import NearestGibbs, nearest_gibbs
from sgdsim.processes import SGD
from sgdsim.studies.effective_potential import EffectivePotential, PotentialMinimum
from sgdsim.studies.result import process_settings
from sgdsim.studies.steady_grid import loss_minima, steady_grid, steady_widths

GRID_DIMENSIONS = 2  # what can be drawn, and solved directly on enough cells
FEWEST_CELLS = 8  # along an axis: half of them must still show a minimum
DEPTH = 30.0  # minima of Φ that lie this many T above the lowest have less than 1e-13 of its density
STAGES = 4


def potential(
    sgd: SGD,
    *,
    grid: Grid | None = None,
    cells: int | Sequence[int] | None = None,
    name: str = "potential",
    progress: bool = False,
) -> EffectivePotential:
    """Hold the effective potential Φ = −T log ρ_ss of SGD's limit against its loss, and the current against ∇f.

    The limit dX = −∇f dt + √(2T D(X)) dW has a drift that splits into

        −∇f = −D∇Φ + T∇·D + j,    ∇·(j ρ_ss) = 0:

    a descent of Φ, the noise-induced drift of Itô's calculus and a part that circulates. So a cloud of SGD's particles
    settles at the minima of Φ and keeps turning around them, and only where D = σ²I is Φ = f/σ² and j = 0. (That noise
    which is not isotropic always makes a current is often said and not quite so: where D commutes with the Hessian,
    as on a quadratic whose axes are the noise's own, Φ differs from f and nothing turns.)

    Nothing here is random: the density is solved for on a grid, and every number carries the grid's error.

    Args:
        sgd: the discrete chain, d ≤ 2.
        grid: where the density lives; by default a box that holds ρ_ss, with eight cells to its narrowest width.
        cells: cells per axis of the fitted box, one number for all axes or one for each; by default fitted as well.
        name: what to call the problem in the report.
        progress: show a bar over the stages.

    Raises:
        ValueError: if d > 2, T = 0, D is singular in the box, or the grid cannot be used.

    Source: Chaudhari and Soatto, "Stochastic gradient descent performs variational inference", 2018, §3.
    """
    _check(sgd, grid, cells)
    bar = _bar(name, progress)
    rounds = 0
    if grid is None:
        fitted = steady_grid(sgd, cells)
        grid, widths, rounds = fitted.grid, fitted.widths, fitted.rounds
    else:
        widths = steady_widths(sgd, loss_minima(sgd))
    bar.update()
    return _measure(
        FokkerPlanck.limit_of(sgd, grid),
        loss=sgd.problem.loss,
        temperature=float(sgd.temperature),
        settings=process_settings(sgd) | {"box_widened": rounds},
        widths=widths,
        name=name,
        bar=bar,
    )


def potential_of(
    fp: FokkerPlanck,
    *,
    loss: ScalarField | None = None,
    temperature: float = 1.0,
    name: str = "potential",
    progress: bool = False,
) -> EffectivePotential:
    """The same of any Fokker–Planck equation, with nothing of SGD in it: b = −D∇Φ + T∇·D + j, A = T D.

        well = potentials.CirculatingDoubleWell(0.5)
        fp = FokkerPlanck(well.drift, well.diffusion, Grid([-3.0, -4.0], [3.0, 4.0], [96, 96]))
        print(potential_of(fp))

    Args:
        fp: the equation, d ≤ 2.
        loss: f, (d,) → scalar, to hold Φ against, if there is one.
        temperature: T > 0, the unit of Φ. An equation knows A = T D alone, so it has to be said.
        name, progress: as for `potential`.

    Raises:
        ValueError: if d > 2, T is not positive and finite, or the grid has odd numbers of cells or too few.
    """
    if not isinstance(fp, FokkerPlanck):
        raise TypeError(f"fp must be a FokkerPlanck equation, got {type(fp).__name__}")
    _check_dimension("fp", fp.grid.dim)
    _check_cells("fp's grid", fp.grid.cells)
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    bar = _bar(name, progress)
    bar.update()
    widths = np.full(fp.grid.dim, np.nan)
    return _measure(fp, loss=loss, temperature=temperature, settings={}, widths=widths, name=name, bar=bar)


def _measure(
    fp: FokkerPlanck,
    *,
    loss: ScalarField | None,
    temperature: float,
    settings: dict[str, Any],
    widths: Float[np.ndarray, " d"],
    name: str,
    bar: Any,
) -> EffectivePotential:
    """Everything that the result holds, on the grid and on the coarser one for the errors."""
    coarse = fp.coarser
    assert coarse is not None  # checked by both doors
    fine, rough = _level(fp, loss, temperature, bar), _level(coarse, loss, temperature, bar)
    multiple = error_multiple(fp.grid.ratio_to(coarse.grid))
    estimates = {
        key: GridEstimate(value, abs(value - rough.numbers[key]) / multiple) for key, value in fine.numbers.items()
    }
    estimates["relaxation_time"] = _relaxation_time(fp)
    zeros = drift_zeros(fp.grid, fp.drift)
    bar.update()
    bar.close()
    return EffectivePotential(
        name=name,
        settings={"dimension": fp.grid.dim, "temperature": temperature} | settings,
        grid=fp.grid,
        widths=widths,
        boundary_mass=fp.boundary_mass(fine.split.masses),
        is_balanced=fp.is_balanced,
        split=fine.split,
        loss=fine.loss,
        gibbs=fine.gibbs,
        estimates=estimates,
        zeros=zeros,
        zero_potentials=tuple(fp.interpolate(fine.split.potential, zero.position) for zero in zeros),
        minima=_minima(fp.grid, fine.split.potential, coarse.grid, rough.split.potential, DEPTH * temperature),
    )


def _relaxation_time(fp: FokkerPlanck) -> GridEstimate:
    """1/gap; NaN where wells exchange mass at a rate that rounding hides."""
    try:
        gap = fp.gap()
    except ArithmeticError:
        return GridEstimate(math.nan)
    return GridEstimate(1 / gap.value, gap.grid_error / gap.value**2)


class _Level(NamedTuple):
    """What was computed on one grid."""

    split: DriftSplit
    loss: Float[np.ndarray, "*cells"] | None
    gibbs: NearestGibbs | None
    numbers: dict[str, float]


def _level(fp: FokkerPlanck, loss: ScalarField | None, temperature: float, bar: Any) -> _Level:
    """The split, the loss and its nearest Gibbs density on one grid, and the scalars of the report."""
    split = split_drift(fp, temperature)
    numbers = {
        "circulating_share": split.circulating_share,
        "induced_share": split.induced_share,
        "mean_noise": split.mean_noise / temperature,
        "housekeeping": fp.entropy_production(split.masses).housekeeping,
    }
    if fp.grid.dim == 2 and not any(fp.grid.periodic):
        numbers["circulation"] = fp.circulation(split.masses)
    heights = gibbs = None
    if loss is not None:
        heights = potential_at(loss, fp.grid.centres.reshape(-1, fp.grid.dim)).reshape(fp.grid.cells)
        gibbs = nearest_gibbs(heights, fp.log_stationary())
        numbers |= {
            "gibbs_noise": gibbs.temperature / temperature,
            "gibbs_correlation": gibbs.correlation,
            "gibbs_spread": gibbs.spread,
        }
    bar.update()
    return _Level(split, heights, gibbs, numbers)


def _minima(
    grid: Grid,
    potential: Float[np.ndarray, "*cells"],
    coarse: Grid,
    rough: Float[np.ndarray, "*merged"],
    depth: float,
) -> tuple[PotentialMinimum, ...]:
    """The minima of Φ up to a depth, each with the error that its distance to the coarser grid's nearest tells."""
    found, others = grid_minima(grid, potential), grid_minima(coarse, rough)
    minima = []
    for point, value in zip(found.points, found.values, strict=True):
        apart = np.linalg.norm(grid.separation(others.points, point), axis=1)
        if value - found.values[0] <= depth:
            error = float(np.min(apart, initial=np.inf)) / error_multiple(grid.ratio_to(coarse))
            minima.append(PotentialMinimum(point, error, float(value)))
    return tuple(minima)


def _bar(name: str, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=STAGES, desc=name, unit=" stages", disable=not progress)


def _check(sgd: SGD, grid: Grid | None, cells: int | Sequence[int] | None) -> None:
    """Raise ValueError on what would fail only once something has been computed."""
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    _check_dimension("sgd", sgd.dim)
    if float(sgd.temperature) == 0:
        raise ValueError(
            "batch_size must leave some noise: with the whole data in each batch T = 0, and there is no steady density"
        )
    if grid is not None and cells is not None:
        raise ValueError("cells must not be given beside a grid, which has its own")
    if grid is not None:
        if not isinstance(grid, Grid):
            raise TypeError(f"grid must be a Grid, got {type(grid).__name__}")
        if grid.dim != sgd.dim:
            raise ValueError(f"grid must have the problem's {sgd.dim} dimensions, got {grid.dim}")
        _check_cells("grid", grid.cells)
    if cells is not None:
        given = np.atleast_1d(np.asarray(cells))
        if len(given) not in {1, sgd.dim}:
            raise ValueError(f"cells must be one number, or one for each of {sgd.dim} axes; got {given.tolist()}")
        _check_cells("cells", given.tolist())


def _check_dimension(name: str, dim: int) -> None:
    if dim > GRID_DIMENSIONS:
        raise ValueError(
            f"{name} must have at most {GRID_DIMENSIONS} dimensions for an effective potential, got {dim:,}"
        )


def _check_cells(name: str, cells: Sequence[int]) -> None:
    if any(n < FEWEST_CELLS or n % 2 for n in cells):
        raise ValueError(
            f"{name} must have even numbers of at least {FEWEST_CELLS} cells, so that half of them make a grid too; "
            f"got {list(cells)}"
        )
