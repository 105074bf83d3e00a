"""Where SGD may be thought of as a stochastic differential equation: an atlas over (η, B, μ)."""

import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, simulate
from sgdsim.measures import Estimate, energy_distance
from sgdsim.measures.diverged import within_reach
from sgdsim.measures.moment_kl import moment_kl
from sgdsim.problems import Problem
from sgdsim.processes import SGD, FirstOrderLimit, Langevin, SecondOrderLimit
from sgdsim.processes.underdamped import Underdamped
from sgdsim.studies.atlas import DISTANCE_NAMES, Breakdown, Cell
from sgdsim.studies.atlas_laws import Well, expected_distance, sharpest_well
from sgdsim.studies.result import check_folder, write_files, write_json

FORMAT = 1  # of a cell's file: what is written under another number is not read
SUBSTEP = 0.05  # h·k of the limits' solvers: small enough for their own error to stay below the floor
OWN_STEP = 0.05  # sub-step of the underdamped limit in its own time, over that of the minimum's oscillation, 1/√k
PERMUTATIONS = 200  # splits that make the floor of an energy distance


Clouds = Float[np.ndarray, "2 P d"]


class _Place(NamedTuple):
    """A cell's place in the atlas, in the numbers that were asked for; a chain's own are rounded to JAX's float.

    Args:
        time_step: η_e, the share of the clock that one update takes.
        batch_size, momentum: B, μ.
    """

    time_step: float
    batch_size: int
    momentum: float

    def chain(self, problem: Problem, sampling: str) -> SGD:
        """SGD of η = (1 − μ) η_e."""
        rate = self.time_step * (1 - self.momentum)
        return SGD(problem, learning_rate=rate, batch_size=self.batch_size, momentum=self.momentum, sampling=sampling)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """What all cells share, checked."""

    problem: Problem
    start: Gaussian | np.ndarray
    times: tuple[float, float]
    particles: int
    sampling: str
    distance: str
    limit_step: float
    dtype: str
    well: Well | None
    key: Key[Array, ""]
    first_order: dict[tuple[float, float], tuple[Clouds, Clouds]] = dataclasses.field(default_factory=dict)

    @property
    def ratio(self) -> int:
        """The late time in transient times."""
        return round(self.times[1] / self.times[0])


def breakdown(
    problem: Problem,
    start: Gaussian | np.ndarray | Array | list,
    *,
    effective_learning_rates: Sequence[float],
    batch_sizes: Sequence[int],
    momenta: Sequence[float] = (0.0,),
    times: tuple[float, float],
    particles: int,
    key: Key[Array, ""],
    sampling: str = "with-replacement",
    distance: str = "moments",
    limit_step: float | None = None,
    dtype: Any = "float32",
    folder: str | os.PathLike[str] | None = None,
    progress: bool = False,
    name: str = "breakdown",
) -> Breakdown:
    """Hold SGD against each of its continuum limits, transient and late, at every (η, B, μ).

    In each cell SGD and its limits run as clouds of their own, from one start to one clock: the first-order limit (one
    cloud for all cells of one temperature), the second-order one for μ = 0, underdamped Langevin for μ > 0. The limits
    take their own small steps h, whatever η is, and a cloud at 2h says how much of a distance is theirs.

    Two distances are offered. `"moments"` is KL between the Gaussians with the clouds' means and covariances: it sees
    two moments only, does not depend on the coordinates, and is by far the most telling where the cloud has one lump
    (at 5,000 particles a variance off by 20 % in the narrow one of two directions reads 7 floors, where the energy
    distance reads 0.7 and sliced Wasserstein 1.4). `"energy"` sees every difference, and is the more telling where
    the shape breaks before the moments do (in the 1-D double well 10 floors where the moments read 2).

    Args:
        problem: what is descended; it must have a D(x).
        start: anything that `simulate` takes: a `Gaussian`, a vector (d,), or an array (P, d).
        effective_learning_rates: η_e = η/(1 − μ), each > 0: at one η_e all momenta have one clock and one temperature.
        batch_sizes: B, each ≥ 1.
        momenta: μ, each in [0, 1).
        times: a transient time and a late one on the clock, the second a whole multiple of the first, which must hold
            one update. Each chain is read at the whole number of updates nearest to the first, and that multiple of it.
        particles: P of each cloud, at least 20.
        key: a typed `jax.random.key`; every cell has its own from it, whichever others there are.
        sampling: `"with-replacement"` or `"without-replacement"`.
        distance: `"moments"` or `"energy"`.
        limit_step: h; by default 0.05/k, with k the largest curvature at a minimum.
        dtype: of the clouds.
        folder: where each cell is written as soon as it is done, and read from instead of being run again. Settings,
            problem and key are hashed into the file's name, so that those of another atlas may lie beside it; of a
            function in the problem only the name counts.
        progress: show a bar.
        name: what to call the atlas in its report.

    Raises:
        ValueError: on settings that cannot work, before anything is run; on a file in `folder` that has a cell's name
            but does not hold it.
        TypeError: on a problem, key or start of another type.
    """
    key_words(key)
    rates, sizes, mus = _checked_axes(effective_learning_rates, batch_sizes, momenta)
    start, times = _checked_start(start), _checked_times(times)
    if sampling == "epoch":
        raise ValueError("sampling must draw each batch independently for these limits, got 'epoch'")
    if distance not in DISTANCE_NAMES:
        raise ValueError(f"distance must be one of {', '.join(DISTANCE_NAMES)}; got {distance!r}")
    if isinstance(particles, bool) or not isinstance(particles, int) or particles < 20:
        raise ValueError(f"particles must be a whole number of at least 20, got {particles!r}")
    if isinstance(start, np.ndarray) and start.ndim == 2 and len(start) != particles:
        raise ValueError(f"particles must be {len(start)}, the rows of start, got {particles}")
    places = [_Place(rate, size, mu) for mu, size, rate in itertools.product(mus, sizes, rates)]
    chains = {place: place.chain(problem, sampling) for place in places}
    _check_chains(chains, times[0])
    problem.require_covariance()
    target = None if folder is None else check_folder(folder)
    well = sharpest_well(chains[places[0]], np.atleast_2d(start.mean if isinstance(start, Gaussian) else start)[:1])
    plan = _Plan(
        problem, start, times, particles, sampling, distance, _limit_step(well, limit_step), str(dtype), well, key
    )
    settings = _settings(plan) | {"effective_learning_rates": rates, "batch_sizes": sizes, "momenta": mus}
    cells = [
        _cell(plan, place, sgd, target)
        for place, sgd in tqdm(chains.items(), disable=not progress, desc=name, unit=" cell")
    ]
    return Breakdown(name, settings, tuple(cells), math.nan if well is None else well.top_curvature)


def _checked_axes(rates: Any, sizes: Any, momenta: Any) -> tuple[list[float], list[int], list[float]]:
    """The three axes in increasing order, without repeats; batch sizes are checked by SGD itself."""
    axes = {"effective_learning_rates": rates, "batch_sizes": sizes, "momenta": momenta}
    for label, values in axes.items():
        if np.ndim(values) != 1 or len(values) == 0:
            raise ValueError(f"{label} must be a sequence of at least one number, got {values!r}")
    for rate in rates:
        if not 0 < rate < math.inf:
            raise ValueError(f"effective_learning_rates must be positive and finite, got {rate}")
    for momentum in momenta:
        if not 0 <= momentum < 1:
            raise ValueError(f"momenta must be at least 0 and below 1, got {momentum}")
    return sorted(map(float, set(rates))), sorted(map(int, set(sizes))), sorted(map(float, set(momenta)))


def _checked_start(start: Any) -> Gaussian | np.ndarray:
    return start if isinstance(start, Gaussian) else np.asarray(start, dtype=float)


def _checked_times(times: Any) -> tuple[float, float]:
    is_pair = np.shape(times) == (2,) and np.all(np.isfinite(times)) and 0 < times[0] < times[1]
    if not is_pair or abs(times[1] / times[0] - round(times[1] / times[0])) > 1e-9:
        raise ValueError(f"times must be two, the second a whole multiple of the first, got {times!r}")
    return float(times[0]), float(times[1])


def _check_chains(chains: dict[_Place, SGD], transient: float) -> None:
    """Raise ValueError unless every chain has noise, and an update or more by the transient time."""
    for place, sgd in chains.items():
        if float(sgd.temperature) == 0:
            raise ValueError(
                f"batch_sizes must leave some noise, got {sgd.batch_size}, the whole data, for which T = 0"
            )
        if place.time_step > transient * (1 + 1e-9):
            raise ValueError(
                f"effective_learning_rates must be at most the transient time {transient:g}, got {place.time_step:g}"
            )


def _limit_step(well: Well | None, given: float | None) -> float:
    if given is not None:
        if not 0 < given < math.inf:
            raise ValueError(f"limit_step must be positive and finite, got {given}")
        return float(given)
    if well is None:
        raise ValueError("limit_step must be given: no minimum of the loss was found whose curvature would set it")
    return SUBSTEP / well.top_curvature


def _settings(plan: _Plan) -> dict[str, Any]:
    """What was run, as the report and the JSON say it."""
    return {
        "dimension": plan.problem.dim,
        "num_examples": plan.problem.num_examples,
        "sampling": plan.sampling,
        "times": list(plan.times),
        "particles": plan.particles,
        "distance": plan.distance,
        "limit_step": plan.limit_step,
        "is_linear": plan.well is not None and plan.well.is_exact,
        "dtype": plan.dtype,
    }


def _cell(plan: _Plan, place: _Place, sgd: SGD, folder: Path | None) -> Cell:
    """The cell from its file where there is one, or measured, and written at once."""
    if folder is None:
        return _measure(plan, place, sgd)
    identity = _identity(plan, place)
    path = folder / f"cell-{identity[:24]}.json"
    if path.exists():
        return _read(path, identity)
    cell = _measure(plan, place, sgd)
    content = {"format": FORMAT, "identity": identity, "settings": _settings(plan), "cell": cell.to_dict()}
    write_files(folder, {path.name: partial(write_json, content=content)})
    return cell


def _read(path: Path, identity: str) -> Cell:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["identity"] != identity or content["format"] != FORMAT:
            raise ValueError("it is of another atlas")
        return Cell.from_dict(content["cell"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"folder must hold only cells that were written whole, but {path} cannot be read: "
            f"{type(error).__name__}: {error}; remove it to run the cell again"
        ) from error


def _identity(plan: _Plan, place: _Place) -> str:
    """A hash of everything that a cell's numbers depend on."""
    said = _settings(plan) | {
        "format": FORMAT,
        "version": importlib.metadata.version("sgdsim"),
        "chain": place,
        "key": [int(word) for word in key_words(plan.key)],
        "problem": _fingerprint(plan.problem),
        "start": _fingerprint(plan.start),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _fingerprint(tree: Any) -> str:
    """A hash of a pytree: its structure as text, in which a function is its name, and every number of its arrays."""
    digest = hashlib.sha256(eqx.tree_pformat(tree).encode())
    for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array_like)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _key_of(plan: _Plan, numbers: list[float]) -> Key[Array, ""]:
    """A key that depends on these numbers alone, so that a cell is the same in every atlas."""
    word = hashlib.sha256(json.dumps(numbers).encode()).digest()[:4]
    return jax.random.fold_in(plan.key, int.from_bytes(word, "little") >> 1)


def _measure(plan: _Plan, place: _Place, sgd: SGD) -> Cell:
    """Run the chain and its limits, and read their distances."""
    updates = round(plan.times[0] / place.time_step)
    transient = updates * place.time_step
    sgd_key, own_key, distance_key = jax.random.split(_key_of(plan, list(place)), 3)
    chain = _snapshots(plan, sgd, updates, sgd_key)
    diverged, distances, solver, expected = (0, 0), {}, {}, {}
    for limit, (cloud, rough) in _limit_clouds(plan, place, sgd, transient, own_key).items():
        reached = _within_reach(chain[0], cloud[0]), _within_reach(chain[1], cloud[1])
        diverged = max(diverged[0], _lost(reached[0])), max(diverged[1], _lost(reached[1]))
        distances[limit] = tuple(_distance(plan, *pair, distance_key) for pair in zip(reached, cloud, strict=True))
        solver[limit] = tuple(_distance(plan, *pair, distance_key) for pair in zip(rough, cloud, strict=True))
        expected[limit] = tuple(
            expected_distance(sgd, plan.well, limit, plan.start, n, plan.distance, is_late=n > updates)
            for n in (updates, updates * plan.ratio)
        )
    times = (transient, transient * plan.ratio)
    return Cell(*place, float(sgd.learning_rate), float(sgd.temperature), times, diverged, distances, solver, expected)


def _limit_clouds(
    plan: _Plan, place: _Place, sgd: SGD, transient: float, key: Key[Array, ""]
) -> dict[str, tuple[Clouds, Clouds]]:
    """Each limit of the chain at both times, and at twice the sub-step.

    The first-order limit is the same for all chains of one temperature, whatever η, B and μ are, and is run once.
    """
    steps = 2 * math.ceil(transient / plan.limit_step / 2)

    def langevin(limit: FirstOrderLimit, key: Key[Array, ""]) -> tuple[Clouds, Clouds]:
        # One sub-step for each step, whose length is a number: nothing compiles again.
        runs = [(Langevin(limit, step_size=transient / n, substeps=1), n) for n in (steps, steps // 2)]
        return _pair(plan, runs, key)

    shared = (sgd.sampling_factor * place.time_step / (2 * place.batch_size), transient)
    if shared not in plan.first_order:
        plan.first_order[shared] = langevin(FirstOrderLimit.of(sgd), _key_of(plan, list(shared)))
    clouds = {"first-order": plan.first_order[shared]}
    if not sgd.has_momentum:
        return clouds | {"second-order": langevin(SecondOrderLimit.of(sgd), key)}
    # In its own time an update takes √η, and the minimum's frequency is √k.
    turn = math.sqrt(float(sgd.learning_rate) * SUBSTEP / plan.limit_step)
    substeps = max(2, 2 ** math.ceil(math.log2(turn / OWN_STEP)))
    updates = round(transient / place.time_step)
    runs = [(Underdamped.limit_of(sgd, substeps=n), updates) for n in (substeps, substeps // 2)]
    return clouds | {"underdamped": _pair(plan, runs, key)}


def _pair(plan: _Plan, runs: list[tuple[Any, int]], key: Key[Array, ""]) -> tuple[Clouds, Clouds]:
    """A limit and its rougher self, each a process and its steps to the transient time, independent of each other."""
    (fine, n), (rough, m) = runs
    one, other = jax.random.split(key)
    return _snapshots(plan, fine, n, one), _snapshots(plan, rough, m, other)


def _snapshots(plan: _Plan, process: Any, steps: int, key: Key[Array, ""]) -> Clouds:
    """The cloud after so many steps, the transient time, and at the late one."""
    run = simulate(
        process,
        plan.start,
        particles=plan.particles,
        steps=steps * plan.ratio,
        save_every=steps,
        key=key,
        dtype=plan.dtype,
    )
    return run.particles[[1, -1]]


def _within_reach(chain: Float[np.ndarray, "P d"], cloud: Float[np.ndarray, "P d"]) -> Float[np.ndarray, "P d"]:
    """The chain's cloud with those particles NaN that have left the limit's range."""
    return within_reach(chain, np.nanmin(cloud, axis=0), np.nanmax(cloud, axis=0))


def _distance(
    plan: _Plan, one: Float[np.ndarray, "P d"], other: Float[np.ndarray, "P d"], key: Key[Array, ""]
) -> Estimate:
    """The distance of two clouds; NaN where too few particles are left."""
    lost = _lost(one), _lost(other)
    if len(one) - max(lost) < one.shape[1] + 3:
        return Estimate(math.nan, math.nan, math.nan, left_out=sum(lost))
    if plan.distance == "moments":
        return moment_kl(one, other)
    return energy_distance(one, other, key=key, permutations=PERMUTATIONS)


def _lost(cloud: Float[np.ndarray, "P d"]) -> int:
    """How many particles have diverged."""
    return int(np.isnan(cloud).any(axis=1).sum())
