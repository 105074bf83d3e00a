"""Numba: a `prange` over chunks of particles, each of which takes all its steps while it stays in registers.

Two generators. NumPy's, one `Generator` for each chunk, is what the documentation leads to; SFC64 is its fastest bit
generator. Numba calls it through pointers, so that nothing is inlined. What its users write who count nanoseconds is a
ziggurat of their own in float32 over xoroshiro128+ (Marsaglia and Tsang 2000; Blackman and Vigna 2021), one 64-bit word
a normal: two to three times as fast. `np.random.standard_normal`, the Mersenne Twister, was seven times slower.
"""

from collections.abc import Callable
from math import exp, log, sqrt
from typing import Any

import numba
import numpy as np
from answers import serve
from clouds import COVARIANCE, HESSIAN, LEARNING_RATE, REQUEST, STARTS, Run
from numba import njit, prange

CHUNKS = 16  # a tuple of many generators takes a minute to compile
EDGE = 3.442619855899  # where the ziggurat's tail begins, for 128 layers of area AREA
AREA = 9.91256303526217e-3
ETA, ONE, HALF = np.float32(LEARNING_RATE), np.float32(1), np.float32(0.5)
SHIFTS = [np.uint64(n) for n in (5, 18, 20, 23, 32, 40)]
BY_5, BY_18, BY_20, BY_23, BY_32, BY_40 = SHIFTS
LAYER_BITS, LOW_BITS, UNIT = np.uint64(127), np.uint64(0xFFFFFF), np.float32(2.0**-24)
TAIL = np.float32(EDGE)


def layers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each layer: integers below which a point surely lies inside, the width of one of them, the density there."""
    size, edge = 2.0**31, EDGE
    inside, width, density = np.zeros(128, np.int64), np.zeros(128), np.ones(128)
    base = AREA / exp(-0.5 * edge * edge)
    inside[0], width[0] = int(edge / base * size), base / size
    width[127], density[127] = edge / size, exp(-0.5 * edge * edge)
    for i in range(126, 0, -1):
        lower = sqrt(-2 * log(AREA / edge + exp(-0.5 * edge * edge)))
        inside[i + 1], width[i], density[i] = int(lower / edge * size), lower / size, exp(-0.5 * lower * lower)
        edge = lower
    return inside, width.astype(np.float32), density.astype(np.float32)


INSIDE, WIDTH, DENSITY = layers()


@njit(inline="always")
def next_word(a, b):
    c = a ^ (a << BY_23)
    return a + b, b, c ^ b ^ (c >> BY_18) ^ (b >> BY_5)


@njit
def outside(h, i, a, b):
    """The rare cases: the tail, and the wedges between a layer and the density."""
    while True:
        x = np.float32(h) * WIDTH[i]
        word, a, b = next_word(a, b)
        u = (np.float32(word >> BY_40) + HALF) * UNIT
        if i == 0:
            v = (np.float32((word >> BY_5) & LOW_BITS) + HALF) * UNIT
            over, bound = -np.log(u) / TAIL, -np.log(v)
            if bound + bound >= over * over:
                return (TAIL + over if h > 0 else -TAIL - over), a, b
            continue
        if DENSITY[i] + u * (DENSITY[i - 1] - DENSITY[i]) < np.exp(-HALF * x * x):
            return x, a, b
        word, a, b = next_word(a, b)
        h, i = np.int64(np.int32(word >> BY_32)), np.int64((word >> BY_20) & LAYER_BITS)
        if abs(h) < INSIDE[i]:
            return np.float32(h) * WIDTH[i], a, b


@njit(inline="always")
def ziggurat(state):
    word, a, b = next_word(state[0], state[1])
    h, i = np.int64(np.int32(word >> BY_32)), np.int64((word >> BY_20) & LAYER_BITS)
    if abs(h) < INSIDE[i]:
        return np.float32(h) * WIDTH[i], (a, b)
    x, a, b = outside(h, i, a, b)
    return x, (a, b)


@njit(inline="always")
def of_words(words, chunk):
    return words[chunk, 0], words[chunk, 1]


@njit(inline="always")
def of_generator(state):
    return np.float32(state.standard_normal()), state


@njit(inline="always")
def of_generators(generators, chunk):
    return generators[chunk]


@njit(inline="always")
def double_well(x, y, a, b):
    return x - ETA * (x * (x * x - ONE) + a), y - ETA * (y + b)


@njit(inline="always")
def state_dependent(x, y, a, b):
    a, b = a * np.sqrt(ONE + HALF * x * x), b * np.sqrt(ONE + HALF * y * y)
    return x - ETA * (x * (x * x - ONE) + a), y - ETA * (y + b)


def planar(step: Callable, normal: Callable, opened: Callable, start: np.ndarray) -> Callable:
    x0, y0 = start

    @njit(parallel=True, fastmath=True)
    def final(particles, steps, states):
        cloud = np.empty((particles, 2), np.float32)
        for chunk in prange(CHUNKS):
            state = opened(states, chunk)
            for p in range(chunk * particles // CHUNKS, (chunk + 1) * particles // CHUNKS):
                x, y = x0, y0
                for _ in range(steps):
                    a, state = normal(state)
                    b, state = normal(state)
                    x, y = step(x, y, a, b)
                cloud[p, 0], cloud[p, 1] = x, y
        return cloud

    return final


def quadratic(normal: Callable, opened: Callable, start: np.ndarray) -> Callable:
    """Columns outside, coordinates inside: the inner loop has a fixed length and becomes vector instructions."""
    dim = len(start)
    hessian = HESSIAN.astype(np.float32)
    root = np.ascontiguousarray(np.linalg.cholesky(COVARIANCE).T.astype(np.float32))

    @njit(parallel=True, fastmath=True)
    def final(particles, steps, states):
        cloud = np.empty((particles, dim), np.float32)
        for chunk in prange(CHUNKS):
            state = opened(states, chunk)
            x, move = np.empty(dim, np.float32), np.empty(dim, np.float32)
            for p in range(chunk * particles // CHUNKS, (chunk + 1) * particles // CHUNKS):
                x[:] = start
                for _ in range(steps):
                    move[:] = 0
                    for j in range(dim):
                        xi, state = normal(state)
                        for i in range(dim):
                            move[i] += hessian[j, i] * x[j] + root[j, i] * xi
                    for i in range(dim):
                        x[i] -= ETA * move[i]
                cloud[p] = x
        return cloud

    return final


def states_of(setting: str, seed: int) -> Any:
    """One stream of random numbers for each chunk."""
    seeds = np.random.SeedSequence(seed).spawn(CHUNKS)
    if setting == "Generator":
        return tuple(np.random.Generator(np.random.SFC64(s)) for s in seeds)
    return np.stack([s.generate_state(2, np.uint64) for s in seeds])


def build(setting: str, problem: str, particles: int, steps: int) -> Run:
    source = (of_generator, of_generators) if setting == "Generator" else (ziggurat, of_words)
    start = STARTS[problem]
    if problem == "quadratic-10d":
        final = quadratic(*source, start)
    else:
        final = planar(double_well if problem == "double-well" else state_dependent, *source, start)
    return lambda seed: final(particles, steps, states_of(setting, seed))


if __name__ == "__main__":
    serve(REQUEST, build, f"{numba.__version__} (NumPy {np.__version__})")
