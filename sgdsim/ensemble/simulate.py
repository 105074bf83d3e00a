"""The one time loop of the package."""

import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key, UInt32
from tqdm import tqdm

from sgdsim.draws import COUNTER_LIMIT, Draws, key_words
from sgdsim.ensemble.process import Clocked, Process
from sgdsim.ensemble.start import Gaussian
from sgdsim.ensemble.tally import Tallied, Tally
from sgdsim.ensemble.trajectory import Trajectory

# A cloud thinner than a vector register is compiled to scalar code, whose last bit may differ: a toy's is padded.
LANES, SMALL = 16, 16  # particles of the thinnest cloud, and the dimensions up to which a problem counts as a toy
# A generator is a long chain of dependent operations. The widest vectors have more chains in flight than XLA's default,
# 256 bits, and took 0.7 of the time; where a processor has no such registers the option means nothing.
CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
PER_THREAD = 2_048  # particles that are worth a thread
IN_CACHE = 2**18  # coordinates of the particles that a thread moves through all their steps before it takes others
SECONDS_PER_CALL = 0.25  # how long one compiled call may run before the progress bar hears of it
Cloud = tuple[Key[Array, ""], UInt32[Array | np.ndarray, " P"]]  # the key, and the particles' numbers


class Share(NamedTuple):
    """Some of a cloud's particles, moved together."""

    state: Any
    cloud: Cloud
    out: Float[np.ndarray, "T P d"]  # where their positions go


def simulate(
    process: Process,
    start: Gaussian | np.ndarray | Array | list,
    *,
    steps: int,
    key: Key[Array, ""],
    particles: int | None = None,
    save_every: int | None = None,
    chunk_size: int | None = None,
    dtype: Any = None,
    progress: bool | str = False,
    tally: Tally | None = None,
) -> Trajectory:
    """Run a cloud of independent particles.

    The same key gives the same particles whether the cloud is run whole, in chunks or on several devices, and the first
    thousand particles do not depend on how many follow. All local devices are used, and all cores.

    Args:
        process: what moves the particles: `SGD`, `Langevin`, or anything with the methods of `Process`.
        start: a `Gaussian`, one vector (d,) for all, or an array (P, d).
        steps: how many steps, k ≥ 0.
        key: a typed `jax.random.key`.
        particles: P; required unless the start is an array (P, d).
        save_every: steps between snapshots, counted from 0; the last step is always saved. By default only the first
            and the last are.
        chunk_size: how many particles to hold at a time. By default all of them; of a toy's cloud on the CPU, as many
            as stay in cache.
        dtype: float32 or float64; by default the start's, or JAX's default float for a `Gaussian`.
        progress: show a bar, under this name where one is given.
        tally: what to keep of every step as the cloud runs, such as `Totals` or a `FirstPassage`; the particles move as
            they would without it.

    Raises:
        ValueError: on counts that are not positive, a start of the wrong shape or not finite, or a loss that is not
            finite there. Nothing has been compiled by then.
        TypeError: on a key that is not a typed key, or a tally that is none.
    """
    key_words(key)
    if isinstance(tally, type) or not isinstance(tally, Tally | None):
        raise TypeError(f"tally must be an object with the methods of Tally, init and update; got {tally!r}")
    positions, count, dtype = _read_start(process, start, particles, dtype)
    saved = _saved_steps(steps, save_every)
    chunk = _chunk(process, count) if chunk_size is None else min(_positive("chunk_size", chunk_size), count)
    # before the cast: a float32 step would shift the clock
    clock = process.times(saved) if isinstance(process, Clocked) else saved * float(process.time_step)
    process = _cast(process if tally is None else Tallied(process, tally), dtype)
    process.check(jnp.asarray(positions.mean if isinstance(positions, Gaussian) else positions[0], dtype=dtype))

    snapshots = np.empty((len(saved), count, process.dim), dtype=dtype)
    seconds, kept = 0.0, []
    label = progress if isinstance(progress, str) else None
    with tqdm(total=steps * count, disable=not progress, desc=label, unit=" particle-steps", unit_scale=True) as bar:
        for begin in range(0, count, chunk):
            end = min(begin + chunk, count)
            # A toy's last share is filled up, and need not be compiled for; a network's extra replicas would cost more.
            size = -(-chunk // _threads(process, chunk)) if process.dim <= SMALL else end - begin
            shares = []
            for first in range(begin, end, size):
                last = min(first + size, end)
                x, cloud = _place(process, positions, np.arange(first, last), size, key, dtype)
                shares.append(Share(process.init(x), cloud, snapshots[:, first:last]))
            elapsed, records = _run_shares(process, shares, saved, bar)
            seconds += elapsed
            kept += records
    finite = np.isfinite(snapshots)
    if not finite.all():  # by particle only where need be: NumPy is slow along a short last axis
        snapshots[~finite.all(axis=-1)] = np.nan
    tallied = None if tally is None else jax.tree.map(lambda *chunks: np.concatenate(chunks, axis=1), *kept)
    return Trajectory(times=clock, steps=saved, particles=snapshots, seconds=seconds, tallied=tallied, tally=tally)


def _is_toy_on_cpu(process: Process) -> bool:
    """Whether a step is a few operations on one CPU, where caches and meeting threads cost more than arithmetic."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1 and process.dim <= SMALL


def _chunk(process: Process, count: int) -> int:
    """How many particles to hold at a time: all, or of a toy's cloud as many as stay in the CPU's caches."""
    if not _is_toy_on_cpu(process):
        return count
    chunks = -(-count * process.dim // (IN_CACHE * _threads(process, count)))
    return -(-count // chunks)


def _threads(process: Process, count: int) -> int:
    """How many host threads share a toy's cloud on the CPU, where XLA's threads meet after every loop of every step."""
    if not _is_toy_on_cpu(process):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, count // PER_THREAD))


def _run_shares(process: Process, shares: list[Share], saved: np.ndarray, bar: tqdm) -> tuple[float, list[Any]]:
    """Step the shares of a cloud, all of one size, at the same time; what `_run` returns of each, in their order."""
    # What `eqx.filter_jit` would do at every call, where it takes longer than a toy's step.
    numbers, others = eqx.partition(process, lambda leaf: isinstance(leaf, jax.Array | np.ndarray | np.generic))
    leaves, structure = jax.tree.flatten(others)
    # Compiled here: once, and under the caller's settings of JAX, which threads do not inherit.
    stepper, rest = _stepper_of(jax.default_backend()), (structure, tuple(leaves))
    lowered = stepper.lower(numbers, *shares[0][:2], *_words(0, 0), rest=rest)
    advance, stop = functools.partial(lowered.compile(), numbers), threading.Event()

    def run(share: Share) -> tuple[float, Any]:
        try:
            return _run(advance, process, share, saved, bar, stop)
        except BaseException:
            stop.set()
            raise

    if len(shares) == 1:
        runs = [run(shares[0])]
    else:
        with ThreadPoolExecutor(len(shares) - 1) as pool:
            running = [pool.submit(run, share) for share in shares[1:]]
            runs = [run(shares[0]), *(each.result() for each in running)]
    return max(seconds for seconds, _ in runs), [record for _, record in runs]


def _run(
    advance: Callable, process: Process, share: Share, saved: np.ndarray, bar: tqdm, stop: threading.Event
) -> tuple[float, Any]:
    """Step one share through the saved steps, unless told to stop, and write its positions where they go.

    Returns:
        The seconds of stepping, and what a tally kept by each saved step, a pytree of arrays (T, P, …).
    """
    state, cloud, out = share
    done, per_call, seconds = 0, 1, 0.0
    count, records = out.shape[1], []
    for i, target in enumerate(saved):
        while done < target and not stop.is_set():
            length = int(min(per_call, target - done))
            begin = time.perf_counter()
            state = jax.block_until_ready(advance(state, cloud, *_words(done, length)))
            elapsed = time.perf_counter() - begin
            done, seconds = done + length, seconds + elapsed
            # As many steps a call as fit the time: what a short call takes beside its steps errs on the safe side. The
            # numbers drawn do not depend on where the calls are cut.
            per_call = max(1, int(length * SECONDS_PER_CALL / max(elapsed, 1e-9)))
            with bar.get_lock():
                bar.update(length * count)
        out[i] = np.asarray(process.position(state)).T[:count]
        if isinstance(process, Tallied):
            records.append(jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf), -1, 0)[:count], state[1]))
    return seconds, jax.tree.map(lambda *times: np.stack(times), *records) if records else None


def _words(*numbers: int) -> tuple[UInt32[np.ndarray, ""], ...]:
    """Host arrays: to make one of JAX's takes longer than to call with it."""
    return tuple(np.asarray(number, dtype=np.uint32) for number in numbers)


@functools.cache
def _stepper_of(platform: str) -> Any:
    """`_advance`, compiled as suits a platform."""
    options: Any = CPU_OPTIONS if platform == "cpu" else None
    return jax.jit(_advance, static_argnames="rest", compiler_options=options)


def _advance(
    numbers: Any, state: Any, cloud: Cloud, begin: UInt32[Array, ""], length: UInt32[Array, ""], *, rest: tuple
) -> Any:
    """`length` steps from step `begin` of a process in two: its arrays, and the rest, flattened.

    Nothing need be frozen: what is not finite stays so under x − ηv.
    """
    process = eqx.combine(numbers, jax.tree.unflatten(*rest))
    draws = Draws.of(*cloud)  # in here, only the streams that the steps read are given keys
    dtypes = jax.tree.map(jnp.result_type, state)

    def step(k: UInt32[Array, ""], state: Any) -> Any:
        after = process.step(state, draws.at(begin + k))
        return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), after, dtypes)

    return jax.lax.fori_loop(jnp.uint32(0), length, step, state)


def _place(
    process: Process, positions: Gaussian | np.ndarray, numbers: np.ndarray, size: int, key: Key[Array, ""], dtype: Any
) -> tuple[Float[Array, "d P"], Cloud]:
    """A share's positions, coordinates first, and who its particles are, padded to a size, over the local devices."""
    devices = jax.device_count()
    share = -(-size // devices)
    if process.dim <= SMALL:
        share = max(share, LANES)
    padded = np.arange(numbers[0], numbers[0] + share * devices, dtype=np.uint32)  # the extra ones are dropped
    if isinstance(positions, Gaussian):
        x = _sample(positions, (key, padded), np.dtype(dtype))
    else:
        rows, extra = positions[numbers[0] : numbers[-1] + 1].T, len(padded) - len(numbers)
        x = jnp.asarray(np.pad(rows, ((0, 0), (0, extra)), mode="edge") if extra else rows, dtype=dtype)
    if devices == 1:
        return x, (key, padded)
    # Automatic axes: sharded particles meet unsharded parameters in every step.
    mesh = jax.make_mesh((devices,), ("particles",), axis_types=(AxisType.Auto,))

    def spread(array: Array | np.ndarray) -> Array:
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*[None] * (array.ndim - 1), "particles")))

    return spread(x), (key, spread(padded))


@eqx.filter_jit
def _sample(start: Gaussian, cloud: Cloud, dtype: np.dtype) -> Float[Array, "d P"]:
    return start.sample(Draws.of(*cloud), dtype)


def _read_start(
    process: Process, start: Any, particles: int | None, dtype: Any
) -> tuple[Gaussian | np.ndarray, int, np.dtype]:
    """The start as a `Gaussian` or an array (P, d), the number of particles, and the dtype to compute in."""
    if isinstance(start, Gaussian):
        if start.dim != process.dim:
            raise ValueError(
                f"start must have the problem's dimension {process.dim}, got a Gaussian of dimension {start.dim}"
            )
        given = jnp.result_type(float)
    else:
        array = np.asarray(start)
        given = jnp.result_type(array if np.issubdtype(array.dtype, np.floating) else float)
        if array.ndim not in (1, 2) or array.shape[-1] != process.dim:
            raise ValueError(f"start must have shape ({process.dim},) or (P, {process.dim}), got {array.shape}")
        if not np.all(np.isfinite(array.astype(float))):
            raise ValueError("start must be finite, got NaN or infinite entries")
        if array.ndim == 2:
            if particles not in (None, len(array)):
                raise ValueError(f"particles must be {len(array)}, the rows of start, or not given; got {particles}")
            particles = len(array)
        start = array
    if particles is None:
        raise ValueError("particles must be given unless start is an array (P, d)")
    count = _positive("particles", particles)
    if count >= COUNTER_LIMIT:
        raise ValueError(f"particles must be below 2³², got {count}")
    dtype = given if dtype is None else dtype
    if dtype not in ("float32", "float64", jnp.float32, jnp.float64) or jnp.result_type(dtype) != dtype:
        raise ValueError(f"dtype must be float32, or float64 with jax_enable_x64 on; got {dtype}")
    if not isinstance(start, Gaussian):
        start = np.broadcast_to(start.astype(dtype), (count, process.dim))
    return start, count, np.dtype(dtype)


def _saved_steps(steps: int, save_every: int | None) -> np.ndarray:
    """The steps at which the cloud is saved: 0, save_every, …, and the last."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or not 0 <= steps < COUNTER_LIMIT:
        raise ValueError(f"steps must be a whole number, 0 ≤ steps < 2³², got {steps!r}")
    every = max(steps, 1) if save_every is None else _positive("save_every", save_every)
    return np.unique(np.append(np.arange(0, steps + 1, every), steps))


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return int(value)


def _cast(process: Process, dtype: Any) -> Process:
    """The process with its floating-point numbers in the particles' dtype."""

    def cast(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if eqx.is_inexact_array(leaf) and leaf.dtype != dtype else leaf

    return jax.tree.map(cast, process)
