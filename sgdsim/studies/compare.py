"""The main job: one problem, its discrete SGD, its Langevin limit and its Fokker–Planck equation, on one clock."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.fit import fitted_grid
from sgdsim.density.grid import merge_cells
from sgdsim.density.grid_estimate import error_multiple
from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, Trajectory, simulate
from sgdsim.measures import (
    Estimate,
    covariance,
    curvature,
    kl,
    kl_between_densities,
    mean,
    mean_distance,
    mean_loss,
    paired_kl,
    sliced_wasserstein,
    total_variance,
)
from sgdsim.measures.diverged import within_reach
from sgdsim.processes import SGD, Langevin
from sgdsim.studies.chain_comparison import chain_comparison, floored_log
from sgdsim.studies.comparison import Comparison, DensityComparison, DistanceComparison, Moments
from sgdsim.studies.local import Local, measure_local, spread_over_path
from sgdsim.studies.result import process_settings
from sgdsim.studies.steady_grid import steady_widths
from sgdsim.studies.validity import validity

GRID_DIMENSIONS = 3  # a density is put on a grid up to here
BIAS_PARTICLES, BIAS_REPLICAS = 2_000, 4  # particles run again with half the sub-step, on a grid and beyond
FEWEST_ON_GRID, FEWEST = 100, 10  # particles below which a divergence, or a distance, says nothing
SHORT = 0.01  # of a relaxation time: the step over which Langevin's own drift and diffusion are measured
LATE_POINTS = 16  # late positions from which minima are looked for
SNAPSHOTS = 10  # saved times after the start, unless asked otherwise


def compare(
    sgd: SGD,
    start: Gaussian | np.ndarray | Array | list,
    *,
    steps: int,
    key: Key[Array, ""],
    particles: int | None = None,
    save_every: int | None = None,
    grid: Grid | None = None,
    cells: int | Sequence[int] | None = None,
    substeps: int = 4,
    chunk_size: int | None = None,
    dtype: Any = "float32",
    progress: bool = False,
    name: str = "comparison",
) -> Comparison:
    """Run the descriptions of one cloud side by side and measure where they agree.

    Up to three dimensions SGD and Langevin clouds are each held against the Fokker–Planck density; beyond, where no
    grid can be, they are held against each other. In one and two dimensions, without momentum and with noise that is
    Gaussian (or, in 1-D, a few batches), the chain's own density is the fourth description.

    Args:
        sgd: the discrete chain; the limit and its density are derived from it.
        start: a `Gaussian` where there is a density (its cell masses are then exact); anything that `simulate` takes
            beyond.
        steps: how many SGD steps.
        key: a typed `jax.random.key`; the two clouds get independent ones from it.
        particles: P of each cloud, at least a hundred for a density; not needed where the start is an array (P, d).
        save_every: steps between saved times; a tenth of the run by default.
        grid: where the density lives, with even numbers of cells; by default fitted to the run.
        cells: cells per axis of the fitted box, one number for all axes or one for each; by default fitted as well.
        substeps: the SDE solver's sub-steps of one SGD step, a power of two.
        chunk_size: particles held at a time.
        dtype: of the clouds. The density is in JAX's default float, so switch on x64 to have it in float64.
        progress: show bars.
        name: what to call the run in its report.

    Raises:
        ValueError: on settings that cannot work, before anything is run.
    """
    key_words(key)
    _check(sgd, start, steps, particles)
    if sgd.dim > GRID_DIMENSIONS:
        _check_no_grid(sgd, grid, cells)
    else:
        _check_density(sgd, start, grid, cells)
    every = max(steps // SNAPSHOTS, 1) if save_every is None else save_every
    sgd_key, langevin_key, local_key, validity_key, distance_key = jax.random.split(key, 5)
    run = {"steps": steps, "save_every": every, "chunk_size": chunk_size, "dtype": dtype}
    limit = Langevin.limit_of(sgd, substeps=substeps)

    chain = simulate(sgd, start, particles=particles, key=sgd_key, progress=_bar("SGD", progress), **run)
    cloud = simulate(limit, start, particles=particles, key=langevin_key, progress=_bar("Langevin", progress), **run)
    # Particles are keyed by number, so these are the cloud's first ones again, on the same Brownian paths.
    few = min(cloud.particles.shape[1], BIAS_PARTICLES if sgd.dim <= GRID_DIMENSIONS else BIAS_REPLICAS)
    head = start if isinstance(start, Gaussian) or np.ndim(start) == 1 else np.asarray(start)[:few]
    halved = simulate(
        limit.halved(),
        head,
        particles=few,
        key=langevin_key,
        progress=_bar("Langevin, half the sub-step", progress),
        **run,
    )

    late = _in_reach(chain.particles[-1], cloud)[:LATE_POINTS]
    if len(late) == 0:
        rate = float(sgd.learning_rate)
        raise ValueError(
            f"learning_rate must keep the chain in reach of its limit; at {rate:g} every particle diverged"
        )
    minima = curvature.minima(sgd.problem, late) if sgd.dim <= GRID_DIMENSIONS else np.empty((0, sgd.dim))
    common: dict[str, Any] = {"name": name, "settings": _settings(sgd, limit, start, chain, steps, every)}
    common |= {"sgd": chain, "langevin": cloud}
    has_grid = isinstance(start, Gaussian) and sgd.dim <= GRID_DIMENSIONS
    with tqdm(total=3 if has_grid else 4, desc="measures", disable=not progress) as bar:
        common["validity"] = validity(sgd, late, minima, run_length=float(chain.times[-1]), key=validity_key)
        bar.update()
        common["sgd_local"] = _sgd_local(sgd, chain, cloud, local_key)
        bar.update()
        common["langevin_local"] = _langevin_local(sgd, limit, cloud, late, local_key)
        bar.update()
        if not has_grid:
            distance = _distances(sgd, chain, cloud, halved, distance_key)
            bar.update()
            return Comparison(distance=distance, density=None, **common)
    widths = steady_widths(sgd, minima)
    if grid is None:
        grid = fitted_grid(*_box(start, chain, cloud, widths), widths, cells)
    density = _densities(sgd, limit, start, grid, widths, chain, cloud, halved, progress)
    return Comparison(density=density, distance=None, **common)


def _check(sgd: SGD, start: Any, steps: int, particles: int | None) -> None:
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise ValueError(f"steps must be a positive whole number, got {steps!r}")
    if float(sgd.temperature) == 0:
        raise ValueError(
            "batch_size must leave some noise: with the whole data in each batch T = 0, and there is no cloud"
        )
    count = len(np.atleast_2d(start)) if particles is None and not isinstance(start, Gaussian) else particles
    least = FEWEST_ON_GRID if sgd.dim <= GRID_DIMENSIONS else FEWEST
    if isinstance(count, int) and 0 < count < least:
        raise ValueError(f"particles must be at least {least} for anything to be read off the clouds, got {count}")


def _check_no_grid(sgd: SGD, grid: Grid | None, cells: Any) -> None:
    if not (grid is None and cells is None):
        raise ValueError(f"grid and cells must not be given in {sgd.dim:,}-D: a density lives in d ≤ 3")


def _check_density(sgd: SGD, start: Any, grid: Grid | None, cells: int | Sequence[int] | None) -> None:
    """Raise ValueError on what would fail only once the clouds have been run."""
    if not isinstance(start, Gaussian):
        raise ValueError(f"start must be a Gaussian for a density in {sgd.dim}-D (its cell masses are then exact)")
    if start.dim != sgd.dim:
        raise ValueError(f"start must have the problem's dimension {sgd.dim}, got a Gaussian of dimension {start.dim}")
    if not _is_definite(start.covariance):
        raise ValueError(f"start must have a positive definite covariance, got {start.covariance.tolist()}")
    if not _is_definite(np.asarray(sgd.problem.noise_covariance(jnp.asarray(start.mean)), dtype=float)):
        raise ValueError(
            "problem must have a noise covariance that is not singular at the start's mean: there is no density on a "
            "grid where D is; ss.Perturbed adds the isotropic noise that cures it"
        )
    if grid is not None and not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, got {type(grid).__name__}")
    if grid is not None and cells is not None:
        raise ValueError("cells must not be given beside a grid, which has its own")
    if grid is not None and grid.dim != sgd.dim:
        raise ValueError(f"grid must have the problem's {sgd.dim} dimensions, got {grid.dim}")
    given = np.atleast_1d(np.asarray(grid.cells if grid is not None else 4 if cells is None else cells))
    if len(given) not in {1, sgd.dim} or any(n < 4 or n % 2 for n in given):
        raise ValueError(
            f"cells must be even numbers of at least 4, so that half of them make a grid too, one for each of "
            f"{sgd.dim} axes; got {given.tolist()}"
        )


def _is_definite(covariance: Float[np.ndarray, "d d"]) -> bool:
    values = np.linalg.eigvalsh(covariance)
    return bool(values[0] > 1e-12 * values[-1])


def _in_reach(rows: Float[np.ndarray, "n d"], cloud: Trajectory) -> Float[np.ndarray, "m d"]:
    """The rows within three times the range of Langevin's path."""
    return _finite(within_reach(rows, *_range(cloud), reach=1.0))


def _bar(label: str, progress: bool) -> str | bool:
    return label if progress else False


def _finite(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m d"]:
    return rows[np.isfinite(rows).all(axis=1)]


def _range(trajectory: Trajectory) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """The corners of the box that holds every finite position of a path."""
    path = _finite(trajectory.particles.reshape(-1, trajectory.particles.shape[-1]))
    return path.min(axis=0), path.max(axis=0)


def _settings(sgd: SGD, limit: Langevin, start: Any, chain: Trajectory, steps: int, every: int) -> dict[str, Any]:
    """What was run, as the report and the JSON say it."""
    return process_settings(sgd) | {
        "temperature": float(sgd.temperature),
        "steps": steps,
        "save_every": every,
        "particles": chain.particles.shape[1],
        "dtype": str(chain.particles.dtype),
        "solver": type(limit.solver).__name__,
        "substeps": limit.substeps,
        "start": {"mean": start.mean, "covariance": start.covariance}
        if isinstance(start, Gaussian)
        else "given points",
    }


def _sgd_local(sgd: SGD, chain: Trajectory, cloud: Trajectory, key: Key[Array, ""]) -> Local:
    # From rest one update is Δx = −η g_B whatever the momentum, and its temperature is (1 − μ) times the clock's.
    return measure_local(
        sgd,
        sgd.problem,
        _in_reach(spread_over_path(chain.particles), cloud),
        duration=float(sgd.learning_rate),
        temperature=float(sgd.temperature),
        clock=float(sgd.effective_learning_rate / sgd.learning_rate),
        key=key,
    )


def _langevin_local(
    sgd: SGD, limit: Langevin, cloud: Trajectory, late: Float[np.ndarray, "n d"], key: Key[Array, ""]
) -> Local:
    # A step short enough for its drift not to turn: drift and diffusion are those of x to 1 %.
    duration = float(limit.step_size) / limit.substeps
    if sgd.dim <= GRID_DIMENSIONS:
        fastest = max(np.abs(np.linalg.eigvalsh(curvature.hessian(sgd.problem, x))).max() for x in late)
        duration = min(duration, SHORT / float(fastest))
    short = Langevin(limit.limit, step_size=duration, substeps=1, solver=limit.solver)
    return measure_local(
        short,
        sgd.problem,
        spread_over_path(cloud.particles),
        duration=duration,
        temperature=float(sgd.temperature),
        key=key,
    )


def _moments(trajectory: Trajectory) -> tuple[Moments, ...]:
    return tuple(Moments(mean(x), covariance(x)) for x in trajectory.particles)


def _box(
    start: Gaussian, chain: Trajectory, cloud: Trajectory, widths: Float[np.ndarray, " d"]
) -> tuple[np.ndarray, np.ndarray]:
    """A box over the path of both clouds, with room for the tails that these particles did not reach.

    The density belongs to the limit, so Langevin's cloud sets the box; SGD's may widen it to at most twice its size,
    and particles that stray beyond are counted as outside.
    """
    (low, high), (own_low, own_high) = _range(cloud), _range(chain)
    span = high - low
    low = np.minimum(low, np.maximum(own_low, low - span / 2))
    high = np.maximum(high, np.minimum(own_high, high + span / 2))
    margin = np.fmin(1.5 * _finite(cloud.particles[-1]).std(axis=0), 2.5 * widths)  # a cloud over two wells is wide
    reach = 6 * np.sqrt(np.diag(start.covariance))
    return np.minimum(low - margin, start.mean - reach), np.maximum(high + margin, start.mean + reach)


def _densities(
    sgd: SGD,
    limit: Langevin,
    start: Gaussian,
    grid: Grid,
    widths: Float[np.ndarray, " d"],
    chain: Trajectory,
    cloud: Trajectory,
    halved: Trajectory,
    progress: bool,
) -> DensityComparison:
    """Propagate the density on the grid, and on one of half the cells, and hold both clouds against it."""
    fp = FokkerPlanck.limit_of(sgd, grid)
    density = fp.propagate(fp.density_of(start), chain.times, progress=progress, grid_error=False)
    steady = fp.stationary()
    rough = fp.coarsen(2)
    rough_density = rough.propagate(rough.density_of(start), chain.times, progress=progress, grid_error=False)
    to_steady = [kl_between_densities(p, steady, log_q=fp.log_stationary()) for p in density.masses]
    rough_steady = [
        kl_between_densities(p, rough.stationary(), log_q=rough.log_stationary()) for p in rough_density.masses
    ]
    multiple = error_multiple(2)
    to_steady_error = [abs(a - b) / multiple for a, b in zip(to_steady, rough_steady, strict=True)]
    grid_error = [
        kl_between_densities(merge_cells(p, 2), q, log_q=floored_log(q)) / multiple**2
        for p, q in zip(density.masses, rough_density.masses, strict=True)
    ]
    few = halved.particles.shape[1]
    own = chain_comparison(sgd, start, chain, ((fp, density), (rough, rough_density)))
    return DensityComparison(
        grid=grid,
        widths=widths,
        masses=density.masses,
        steady=steady,
        propagation=repr(density),
        boundary_mass=float(np.max(density.boundary_mass)),
        sgd=tuple(kl(x, grid, p) for x, p in zip(chain.particles, density.masses, strict=True)),
        langevin=tuple(kl(x, grid, p) for x, p in zip(cloud.particles, density.masses, strict=True)),
        to_steady=tuple(Estimate(v, e) for v, e in zip(to_steady, to_steady_error, strict=True)),
        grid_error=np.array(grid_error),
        solver_bias=tuple(
            paired_kl(a[:few], b, order=limit.weak_order)
            for a, b in zip(cloud.particles[1:], halved.particles[1:], strict=True)
        ),
        chain=None if isinstance(own, str) else own,
        no_chain=own if isinstance(own, str) else "",
        outside=_outside(grid, chain),
        langevin_outside=_outside(grid, cloud),
        sgd_moments=_moments(chain),
        langevin_moments=_moments(cloud),
    )


def _outside(grid: Grid, trajectory: Trajectory) -> tuple[int, ...]:
    """How many finite particles lie outside the grid at each saved time."""
    return tuple(int(np.sum(grid.locate(_finite(x)) < 0)) for x in trajectory.particles)


def _distances(
    sgd: SGD, chain: Trajectory, cloud: Trajectory, halved: Trajectory, key: Key[Array, ""]
) -> DistanceComparison:
    """Hold the two clouds against each other where no grid can be."""
    few = halved.particles.shape[1]

    def losses(trajectory: Trajectory) -> tuple[Estimate, ...]:
        return tuple(mean_loss(sgd.problem, x) for x in trajectory.particles)

    gap = cloud.particles[:, :few].astype(float) - halved.particles
    # Halving the step leaves 2^−p of a path's error, p the strong order: 1 with additive noise, ½ for Euler with D(x).
    whole = 1 / (1 - 2 ** -(1.0 if sgd.problem.has_additive_noise else 0.5))
    return DistanceComparison(
        distance=tuple(
            sliced_wasserstein(a, b, key=k)
            for a, b, k in zip(chain.particles, cloud.particles, jax.random.split(key, len(chain.times)), strict=True)
        ),
        # Coupled clouds bound the distance of their laws: along a random direction, W₂² ≤ E|Δ|²/d.
        solver_bias=whole * np.sqrt(np.nanmean(np.sum(gap**2, axis=2), axis=1) / sgd.dim),
        mean_gap=tuple(mean_distance(a, b) for a, b in zip(chain.particles, cloud.particles, strict=True)),
        sgd_loss=losses(chain),
        langevin_loss=losses(cloud),
        sgd_spread=tuple(map(total_variance, chain.particles)),
        langevin_spread=tuple(map(total_variance, cloud.particles)),
    )
