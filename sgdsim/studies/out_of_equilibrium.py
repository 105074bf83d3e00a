"""Are the late weights of SGD Brownian? Their loops and their increments, beside a reversible twin."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, Totals, Trajectory, simulate
from sgdsim.ensemble.path import ProjectedPath, path_of
from sgdsim.measures import (
    Estimate,
    FluctuationDissipation,
    autocorrelation,
    circulation_matrix,
    fluctuation_dissipation,
    mean,
)
from sgdsim.processes import SGD
from sgdsim.processes.gaussian_chain import GaussianChain
from sgdsim.studies.finite_sum import check_counts
from sgdsim.studies.loops import Loops, Motion
from sgdsim.studies.result import process_settings
from sgdsim.theory.reversible_chain import ReversibleChain, reversible_chain

LOOKS = 16  # snapshots of the run before the window, of which the later half gives the directions
GRADIENTS = 200  # full gradients of each replica that test for the steady state
MEMORY = 10  # of heavy ball's memories 1/(1 − μ), the stride that leaves none of it
POINTS = 10  # lags, unless they are given
BLOCK = 500  # steps whose path is held on the device at a time


def out_of_equilibrium(
    sgd: SGD,
    start: Gaussian | np.ndarray | Array | list | None = None,
    *,
    key: Key[Array, ""],
    settle: int = 20_000,
    window: int = 10_000,
    replicas: int = 64,
    directions: int = 6,
    stride: int | None = None,
    lags: list[int] | None = None,
    progress: bool = False,
    name: str = "out_of_equilibrium",
) -> Loops:
    """Follow the late weights along the cloud's widest directions and ask what an equilibrium would not do.

    **"Not Brownian" is cheap, "not reversible" is the point.** The increments of a particle that sits in a bowl at
    equilibrium are *negatively* correlated, since what has moved away is drawn back; so a correlation that is not 0
    says only that there is a bowl. What no equilibrium does is to turn: the circulation ⟨x_i Δx_j − x_j Δx_i⟩ of every
    plane vanishes where detailed balance holds, in any landscape.

    All readings are made twice, on SGD and on its **reversible twin**: the one Gaussian chain in detailed balance that
    has the same covariance S and the same covariance of its steps (`reversible_chain`: the Ornstein–Uhlenbeck process
    with drift −A S⁻¹x and diffusion A, symmetric), for as many replicas and steps. The twin's circulation is what
    chance makes of 0, and its increments' correlations are what an equilibrium of this width and speed has. Where SGD's
    increments differ from these but nothing turns, it is the memory of directions not looked at, or a landscape that is
    no bowl. Where an increment is followed by one in its own direction no steady state is reversible (`Loops.travels`),
    and the usual reason is that there is no steady state yet.

    Directions are those of the cloud before the window, so that what is read does not choose them. Errors are those
    over replicas, and `chance_bound` says how large the largest of all |z| is by chance.

    Heavy ball's steps are correlated by construction, so with momentum motion is looked at every `stride` steps, ten of
    its memories 1/(1 − μ); where a cloud turns, it does so at any stride.

    Args:
        sgd: the chain, in two dimensions or more.
        start: as `simulate` takes it; by default the `init` of an `EmpiricalRisk` for all replicas.
        key: a typed `jax.random.key`.
        settle: steps before the window; with a `NotStationaryWarning` where they were not enough.
        window: steps that are looked at.
        replicas: of each process, at least 8, unless `start` is an array (P, d).
        directions: m, how many of the cloud's widest directions to look along; at most d are.
        stride: steps from one look to the next; by default 1, and with momentum as above.
        lags: in steps, multiples of the stride up to half of the window; by default ten of them to a quarter of it.
        progress: show bars.
        name: what to call the problem in the report.

    Raises:
        TypeError: on a process that is not SGD.
        ValueError: on counts that cannot be, or fewer than 8 replicas that have not diverged.

    Source: Chaudhari and Soatto, "Stochastic gradient descent performs variational inference, converges to limit cycles
    for deep networks", ICLR 2018, section 5.
    """
    key_words(key)
    positions = _checked_start(sgd, start)
    step = _checked_counts(sgd, settle, window, directions, stride, replicas)
    spans = _lags(lags, window, step)
    keys = jax.random.split(key, 3)
    count = replicas if isinstance(positions, Gaussian) or np.ndim(positions) == 1 else None
    early = _settled(sgd, positions, settle, count, keys[0], progress and f"{name}, before")
    kept = ~early.diverged[-1]
    if np.sum(kept) < 8:
        raise ValueError(f"learning_rate must let 8 replicas survive at least, got {np.sum(kept)} of {kept.size}")
    stationarity = None if sgd.sampling == "epoch" else fluctuation_dissipation(early)
    rows, shares = _widest(early.particles[:, kept], min(directions, sgd.dim))
    label = progress and f"{name}, window"
    path = _path(sgd, early.particles[-1, kept], rows, window, keys[1], progress=label)[::step]
    alive = np.isfinite(path[-1]).all(axis=1)
    if np.sum(alive) < 8:
        raise ValueError(f"learning_rate must let 8 replicas survive at least, got {np.sum(alive)} of {kept.size}")
    path = path[:, alive]
    clock, looks, planes = (
        float(sgd.time_step) * step,
        spans // step,
        np.argwhere(np.triu(np.ones((len(rows),) * 2), 1)),
    )
    twin = _twin(path)
    chain = GaussianChain(twin.transition, twin.noise, time_step=clock)
    rest = _path(
        chain, Gaussian(np.zeros(chain.dim), twin.covariance), np.eye(chain.dim), len(path), keys[2], path.shape[1]
    )
    seen = _motion(path, clock, looks, planes, None)
    plane = planes[int(np.argmax(np.abs(np.atleast_1d(seen.circulation.z()))))]
    extra = {"replicas": int(kept.size), "settle": int(early.steps[-1]), "window": window, "stride": step}
    return Loops(
        name=name,
        settings=process_settings(sgd) | extra,
        stationarity=stationarity,
        shares=shares,
        covariance=twin.covariance,
        lags=spans,
        times=spans * float(sgd.time_step),
        planes=planes,
        growth=_growth(path),
        sgd=dataclasses.replace(seen, sample=path[:, 0, plane]),
        twin=_motion(rest, clock, looks, planes, plane),
        lagged_law=twin.lagged_increments(looks),
        successive_law=twin.successive_increments(looks),
        replicas=path.shape[1],
        left_out=int(kept.size - path.shape[1]),
    )


def _settled(
    sgd: SGD, positions: Any, settle: int, count: int | None, key: Key[Array, ""], progress: str | bool
) -> Trajectory:
    """The run before the window, with what tells whether it is steady; whole passes where they are reshuffled."""
    tally = None
    if sgd.sampling == "epoch":
        # there are no passes without examples, as SGD has checked
        batches = sgd.problem.num_examples // sgd.batch_size  # pyrefly: ignore[unsupported-operation]
        settle = -(-settle // batches) * batches
    else:
        tally = Totals(FluctuationDissipation(sgd), every=max(settle // GRADIENTS, 1))
    return simulate(
        sgd,
        positions,
        steps=settle,
        particles=count,
        save_every=max(settle // LOOKS, 1),
        key=key,
        dtype="float32",
        tally=tally,
        progress=progress,
    )


def _widest(
    snapshots: Float[np.ndarray, "T P d"], count: int
) -> tuple[Float[np.ndarray, "m d"], Float[np.ndarray, " m"]]:
    """Principal directions of the later half of the snapshots, each about its own mean, and their shares of variance.

    The sign is such that the largest component of each is positive.
    """
    late = np.asarray(snapshots[len(snapshots) // 2 :], dtype=np.float64)
    rows = (late - late.mean(axis=1, keepdims=True)).reshape(-1, late.shape[2])
    _, sizes, vectors = np.linalg.svd(rows, full_matrices=False)
    leading = vectors[:count]
    signs = np.sign(leading[np.arange(count), np.argmax(np.abs(leading), axis=1)])
    return leading * signs[:, None], sizes[:count] ** 2 / np.sum(sizes**2)


def _path(
    process: SGD | GaussianChain,
    start: Gaussian | Float[np.ndarray, "P d"],
    rows: Float[np.ndarray, "m d"],
    window: int,
    key: Key[Array, ""],
    particles: int | None = None,
    progress: str | bool = False,
) -> Float[np.ndarray, "K P m"]:
    """The path over the window, seen along the directions from the start's mean, after each step.

    Heavy ball starts at rest; the steps in which it picks up speed, and some more, are run before the window.
    """
    every = min(window, BLOCK)
    steps = -(-(_memory(process) + window) // every) * every
    centre = start.mean if isinstance(start, Gaussian) else start.mean(axis=0)
    run = simulate(
        process,
        start,
        particles=particles,
        steps=steps,
        save_every=every,
        key=key,
        dtype="float32",
        tally=ProjectedPath(rows, centre, every=every),
        progress=progress,
    )
    return path_of(run)[-window:]


def _memory(process: SGD | GaussianChain) -> int:
    """Steps in which heavy ball forgets its speed; 0 without momentum."""
    if not (isinstance(process, SGD) and process.has_momentum):
        return 0
    return math.ceil(MEMORY / (1 - float(process.momentum)))


def _twin(path: Float[np.ndarray, "K P m"]) -> ReversibleChain:
    """The reversible chain of the path's covariance and that of its steps, both averaged over the window."""

    def spread(x: Float[np.ndarray, "T P m"]) -> Float[np.ndarray, "m m"]:
        rest = x - x.mean(axis=1, keepdims=True)
        return np.einsum("tpi,tpj->ij", rest, rest) / (len(x) * (x.shape[1] - 1))

    return reversible_chain(spread(path), spread(np.diff(path, axis=0)))


def _growth(path: Float[np.ndarray, "K P m"]) -> Estimate:
    """(second half − first half)/whole of the variance along each direction, with its error over replicas, (m,)."""
    squares = (path - path.mean(axis=1, keepdims=True)) ** 2
    first, second = (half.mean(axis=0) for half in np.array_split(squares, 2))
    change = (second - first) / squares.mean(axis=(0, 1))
    return mean(change)


def _motion(
    path: Float[np.ndarray, "K P m"],
    clock: float,
    lags: Int[np.ndarray, " lags"],
    planes: Int[np.ndarray, "planes 2"],
    plane: Int[np.ndarray, " 2"] | None,
) -> Motion:
    """What is read off a path: lags in looks, and the clock from one look to the next."""
    dx = np.diff(path, axis=0)
    lagged, successive = [], []
    for i in range(path.shape[2]):
        steps = autocorrelation(dx[..., i], int(lags[-1]))
        lagged.append([steps[int(lag)] for lag in lags])
        wide = [path[lag:, :, i] - path[:-lag, :, i] for lag in lags]
        successive.append([autocorrelation(w, int(lag))[int(lag)] for w, lag in zip(wide, lags, strict=True)])
    turning, (i, j) = circulation_matrix(path[:-1], dx, clock), planes.T
    return Motion(
        lagged=_joined(lagged),
        successive=_joined(successive),
        circulation=Estimate(np.asarray(turning.value)[i, j], np.asarray(turning.standard_error)[i, j]),
        sample=path[:, 0, :2] if plane is None else path[:, 0, plane],
    )


def _joined(readings: list[list[Estimate]]) -> Estimate:
    """Estimates by direction and lag as one of shape (lags, m)."""
    value, error = (np.array([[getattr(e, f) for e in row] for row in readings]).T for f in ("value", "standard_error"))
    return Estimate(value, error)


def _checked_start(sgd: SGD, start: Any) -> Any:
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    if sgd.dim < 2:
        raise ValueError(f"sgd must have two dimensions or more for something to turn in, got {sgd.dim}")
    if start is not None:
        return start
    if not hasattr(sgd.problem, "x0"):
        raise ValueError("start must be given where the problem has no initial parameters of its own")
    return sgd.problem.x0


def _checked_counts(sgd: SGD, settle: int, window: int, directions: int, stride: int | None, replicas: int) -> int:
    """The stride, or a ValueError on a count that cannot be."""
    check_counts(settle=(settle, LOOKS), window=(window, 8), directions=(directions, 2), replicas=(replicas, 8))
    step = max(_memory(sgd), 1) if stride is None else stride
    if isinstance(step, bool) or not isinstance(step, int) or not 1 <= step <= window // 8:
        raise ValueError(f"stride must be a whole number from 1 to an eighth of window = {window}, got {step!r}")
    return step


def _lags(lags: list[int] | None, window: int, stride: int) -> Int[np.ndarray, " lags"]:
    """The lags in steps, increasing multiples of the stride."""
    if lags is None:
        most = window // stride // 4
        return np.unique(np.geomspace(1, most, POINTS).round().astype(int)) * stride
    given = np.asarray(lags)
    fits = given.ndim == 1 and given.size and given.dtype.kind in "iu" and given.min() >= 1
    if not (fits and given.max() <= window // 2 and not np.any(given % stride)):
        raise ValueError(f"lags must be multiples of the stride {stride} up to half of window = {window}, got {lags}")
    return np.unique(given)
