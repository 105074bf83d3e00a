"""SGD on a network against its continuum candidates: true noise, isotropic noise of the same trace, and SVAG."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, Process, Trajectory, simulate
from sgdsim.measures import (
    Estimate,
    covariance,
    kl,
    mean_distance,
    over_times,
    sliced_wasserstein,
    total_variance,
)
from sgdsim.measures.covariance_distance import FEWEST, covariance_distance
from sgdsim.measures.diverged import within_reach
from sgdsim.measures.loss import losses, mean_loss
from sgdsim.measures.operators import NoiseCovariance
from sgdsim.measures.principal_variances import principal_variances
from sgdsim.measures.spectrum import top_eigenpairs
from sgdsim.problems.problem import Problem
from sgdsim.processes import SGD, SVAG, Langevin
from sgdsim.studies.candidates import Candidate, Candidates, Cloud
from sgdsim.studies.compare import GRID_DIMENSIONS, compare
from sgdsim.studies.limit_densities import LimitDensities, isotropic_limit, limit_densities

DEFAULT_PARTICLES = {True: 10_000, False: 64}  # where there is a grid, and where there is none
AXES = 6  # leading directions of D along which variances are compared
POINTS = 4  # late positions of SGD over which D is averaged for them
CELLS = {1: 512, 2: 96, 3: 32}  # along each axis; the report says whether the grid's error is below the floor
# A distance of 20,000 particles costs seconds, which are saved where a few directions say all.
DISTANCE_PARTICLES, SPLITS = 10_000, 100
DIRECTIONS = {True: 8, False: 64}  # of the sliced distance, where there is a grid and where there is none


def network_limits(
    sgd: SGD,
    start: Gaussian | np.ndarray | Array | list,
    *,
    steps: int,
    key: Key[Array, ""],
    particles: int | None = None,
    save_every: int | None = None,
    cells: int | Sequence[int] | None = None,
    substeps: int = 2,
    svag: Sequence[int] = (2, 4),
    chunk_size: int | None = None,
    dtype: Any = "float32",
    progress: bool = False,
    name: str = "network_limits",
) -> Candidates:
    """Which diffusion is SGD's: what of D(x) must a continuum limit keep?

    Beside `compare`'s two clouds, SGD and Langevin with the true D(x), it runs

    - Langevin with **isotropic noise of the same trace**, dX = −∇f dt + √(2T Tr D(X)/d) dW: as much heat at every x as
      SGD makes there, spread evenly over all directions ("GLD dynamic" of Zhu et al.);
    - SVAG(l): true minibatches, amplified and in smaller steps, which tends to the true D(x)'s limit as l grows. Where
      SGD and SVAG(l) are one cloud, the limit is a fair description, whatever a solver of it costs.

    Each is held against SGD's cloud by sliced W₁, by the distance of covariances and by the mean loss, each with its
    floor (W₁, since W₂ of clouds in two wells mostly reads how many chance to be in which); variances are compared
    along the leading directions of D, which are fitted to no cloud. In up to three dimensions each cloud, SGD's too, is
    held against the Fokker–Planck density of the **true** limit, and so is the density of the isotropic one. No two
    clouds share random numbers: true minibatches cannot be coupled to a Brownian path.

    Args:
        sgd: the discrete chain.
        start: as for `compare`: a `Gaussian` in d ≤ 3, anything that `simulate` takes beyond.
        steps: how many SGD steps.
        key: a typed `jax.random.key`; all clouds get independent ones from it.
        particles: P of each cloud; by default the rows of start, or else 64, and 10,000 in d ≤ 3.
        save_every: steps between saved times; a tenth of the run by default.
        cells: of the grid in d ≤ 3, as for `compare`; by default 512, 96 or 32 along each axis.
        substeps: of both Langevin clouds in one SGD step, a power of two.
        svag: the refinements l to run; left out with momentum or reshuffled passes, for which there is no SVAG.
        chunk_size: particles held at a time.
        dtype: of the clouds.
        progress: show bars.
        name: what to call the problem in the report.

    Raises:
        TypeError: on a process that is not SGD.
        ValueError: on settings that cannot work, before anything is run.

    Source: Zhu, Wu, Yu, Wu, Ma, "The anisotropic noise in stochastic gradient descent", ICML 2019; Li, Malladi, Arora,
    "On the validity of modeling SGD with stochastic differential equations", NeurIPS 2021.
    """
    key_words(key)
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    refinements = tuple(svag) if not sgd.has_momentum and sgd.sampling != "epoch" else ()
    others: dict[str, Process] = {
        "isotropic": Langevin(isotropic_limit(sgd), step_size=sgd.time_step, substeps=substeps)
    }
    others |= {f"SVAG({l})": SVAG(sgd, l) for l in refinements}  # noqa: E741
    if particles is None and (isinstance(start, Gaussian) or np.ndim(start) == 1):
        particles = DEFAULT_PARTICLES[sgd.dim <= GRID_DIMENSIONS]
    compare_key, axes_key, distance_key, *keys = jax.random.split(key, 3 + len(others))
    run: dict[str, Any] = {"particles": particles, "chunk_size": chunk_size, "dtype": dtype}
    comparison = compare(
        sgd,
        start,
        steps=steps,
        key=compare_key,
        save_every=save_every,
        cells=CELLS.get(sgd.dim) if cells is None else cells,
        substeps=substeps,
        progress=progress,
        name=name,
        **run,
    )
    paths = {"SGD": comparison.sgd, "D(x)": comparison.langevin}
    for (label, process), own in zip(others.items(), keys, strict=True):
        finer = process.refinement if isinstance(process, SVAG) else 1
        run |= {"steps": finer * steps, "save_every": finer * comparison.settings["save_every"]}
        paths[label] = simulate(process, start, key=own, progress=progress and f"{name}, {label}", **run)
    densities = None
    if comparison.density is not None and isinstance(start, Gaussian):
        path = paths["isotropic"].particles.reshape(-1, sgd.dim)
        densities = limit_densities(sgd, start, comparison.density.grid, path, comparison.times)
    snapshots, lost = _survivors(paths, comparison.langevin)
    axes = noise_axes(sgd.problem, snapshots["SGD"][-1], key=axes_key)
    clouds = [_cloud(label, x, sgd.problem, axes, densities) for label, x in snapshots.items()]
    return Candidates(
        name=name,
        settings=comparison.settings | {"substeps": substeps, "svag": refinements, "axes": len(axes)},
        comparison=comparison,
        sgd=clouds[0],
        candidates=tuple(
            _held_against(snapshots["SGD"], snapshots[cloud.name], cloud, sgd.problem, distance_key)
            for cloud in clouds[1:]
        ),
        densities=densities,
        axes=axes,
        late={label: x[-1] for label, x in snapshots.items()},
        lost=lost,
    )


class MeanNoise(eqx.Module):
    """v ↦ (1/m) Σ D(xᵢ) v."""

    operators: tuple[NoiseCovariance, ...]

    @property
    def dim(self) -> int:
        return self.operators[0].dim

    def __call__(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return sum((operator(v) for operator in self.operators), jnp.zeros_like(v)) / len(self.operators)


def noise_axes(problem: Problem, late: Float[np.ndarray, "P d"], *, key: Key[Array, ""]) -> Float[np.ndarray, "k d"]:
    """The leading eigenvectors of D, averaged over the first few late positions that have not diverged, one a row."""
    points = late[np.isfinite(late).all(axis=1)][:POINTS]
    operator = MeanNoise(tuple(NoiseCovariance(problem, x) for x in points))
    return top_eigenpairs(operator, min(AXES, problem.dim), key=key).vectors


def _survivors(
    paths: dict[str, Trajectory], limit: Trajectory
) -> tuple[dict[str, Float[np.ndarray, "T P d"]], dict[str, int]]:
    """The clouds at the saved times after the start, particles that have run away NaN, and how many did of each.

    A candidate of which too few are left to be measured is not among the clouds.
    """
    path = limit.particles.reshape(-1, limit.particles.shape[-1])
    low, high = np.nanmin(path, axis=0), np.nanmax(path, axis=0)
    # One size for all axes: where the true noise has no component, isotropic noise has one, and does not run away.
    middle, half = (low + high) / 2, float(np.max(high - low)) / 2
    clouds = {label: within_reach(each.particles[1:], middle - half, middle + half) for label, each in paths.items()}
    finite = {label: np.isfinite(x).all(axis=2).sum(axis=1) for label, x in clouds.items()}
    lost = {label: int(x.shape[1] - finite[label][-1]) for label, x in clouds.items()}
    return {label: x for label, x in clouds.items() if finite[label].min() >= FEWEST}, lost


def _cloud(
    label: str,
    x: Float[np.ndarray, "T P d"],
    problem: Problem,
    axes: Float[np.ndarray, "k d"],
    densities: LimitDensities | None,
) -> Cloud:
    held = {}
    if densities is not None:
        limits = {"kl": densities.true} | ({"own_kl": densities.isotropic} if label == "isotropic" else {})
        for part, masses in limits.items():
            held[part] = tuple(kl(y, densities.grid, p) for y, p in zip(x, masses[1:], strict=True))
    return Cloud(
        name=label,
        loss=over_times(partial(mean_loss, problem), x),
        total_variance=over_times(total_variance, x),
        along_axes=over_times(lambda y: _diagonal(covariance(y @ axes.T)), x),
        principal=principal_variances(x[-1], min(x.shape[1:])),
        **held,
    )


def _held_against(
    sgd: Float[np.ndarray, "T P d"],
    x: Float[np.ndarray, "T P d"],
    cloud: Cloud,
    problem: Problem,
    key: Key[Array, ""],
) -> Candidate:
    few, directions = slice(DISTANCE_PARTICLES), DIRECTIONS[problem.dim <= GRID_DIMENSIONS]

    def pairs(measure: Callable[..., Estimate]) -> Estimate:
        """A measure of both clouds at each time, as `over_times` has it for one."""
        readings = [measure(a, b) for a, b in zip(sgd, x, strict=True)]
        parts = {part: np.array([getattr(r, part) for r in readings]) for part in ("value", "standard_error", "floor")}
        return Estimate(**parts, left_out=max(r.left_out for r in readings))

    return Candidate(
        cloud=cloud,
        distance=pairs(
            lambda a, b: sliced_wasserstein(a[few], b[few], key=key, directions=directions, order=1, splits=SPLITS)
        ),
        covariance=pairs(lambda a, b: covariance_distance(a, b, key=key, permutations=SPLITS)),
        loss_gap=pairs(lambda a, b: mean_distance(losses(problem, a)[:, None], losses(problem, b)[:, None])),
    )


def _diagonal(matrix: Estimate) -> Estimate:
    values, errors = np.diag(np.asarray(matrix.value)), np.diag(np.asarray(matrix.standard_error))
    return Estimate(values, errors, np.zeros(len(values)), matrix.left_out)
