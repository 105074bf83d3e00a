"""Evidence for the random stream: 10⁹ of the package's normals against a normal's law, and a dump for test batteries.

    python -m benchmarks.stream                              # --quick for 10⁷ normals
    python -m benchmarks.stream --dump | dieharder -a -g 200
    python -m benchmarks.stream --dump --steps-fast | RNG_test stdin32

All is drawn through the public interface: `Draws.of(key, particles).at(step)`. Tiles of steps × normals × particles are
drawn one after the other, so that memory is bounded; what is summed in float32 is 128 terms that are zero on average,
and all else is summed on the host in float64.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats
from tabulate import tabulate
from tqdm import tqdm

from sgdsim.draws import THREE_POINTS_PER_SLOT, Draws, Stream, threefry2x32

LEVEL = 1e-4  # of all tests together
STEPS, COORDINATES, PARTICLES, BLOCKS = 16, 8, 2**15, 4  # of a tile, and how many sets of particles take turns
TILE = STEPS * COORDINATES * PARTICLES
SIDE_TESTS = 8  # other streams, words and three-point numbers are looked at in one tile of so many
REACH, WIDTH = 8, 2.0**-12  # bins with edges that float32 has exactly: no normal falls into the wrong one by rounding
BINS = int(2 * REACH / WIDTH)
FEWEST = 10  # expected in a bin of a chi-square test; rarer bins at the two ends are put together
LARGEST = np.sqrt(-2 * np.log(2.0**-33))  # of a radius made from a 32-bit word: (0 + 1/2)/2³²
MOMENTS = (0, 1, 0, 3, 0, 15, 0, 105, 0, 945, 0, 10395)  # of a standard normal, from the first
SHIFTS = {  # the partner of normal (step, i, particle): how far along each axis
    "neighbouring particles": (0, 0, 1),
    "particles 8 apart": (0, 0, 8),
    "neighbouring steps": (1, 0, 0),
    "steps 4 apart": (4, 0, 0),
    "normals i, i+2 of a particle": (0, 2, 0),
    "normals i, i+4 of a particle": (0, 4, 0),
    "a step and a particle on": (1, 0, 1),
}
PAIR = "cosine and sine of a pair"
STREAMS = (Stream.START, Stream.PERTURBATION, Stream.TALLY)  # others that normals are drawn from

VECTORS = (  # Random123's known-answer tests of threefry2x32, 20 rounds: counter, key, words
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
)


class Test(NamedTuple):
    """One line of the table. Without a p-value it is either right or wrong."""

    name: str
    value: float
    expected: float
    error: float | None  # standard error, where the test is a z-score
    p: float

    @classmethod
    def score(cls, name: str, value: float, expected: float, error: float) -> "Test":
        return cls(
            name,
            float(value),
            float(expected),
            float(error),
            float(2 * scipy.special.ndtr(-abs(value - expected) / error)),
        )

    @classmethod
    def chi_square(cls, name: str, counts: np.ndarray, expected: np.ndarray) -> "Test":
        value, freedom = float(np.sum((counts - expected) ** 2 / expected)), len(counts) - 1
        return cls(
            f"{name}, chi-square of {len(counts):,}", value, freedom, None, float(scipy.stats.chi2.sf(value, freedom))
        )


@jax.jit
def _normals(draws: Draws, first: jax.Array) -> jax.Array:
    """A tile. Mapped and not vmapped over steps, so that a step is drawn by the code that `simulate` runs."""
    steps = first + jnp.arange(STEPS, dtype=jnp.uint32)
    return jax.lax.map(lambda k: draws.at(k).normals(COORDINATES, dtype=jnp.float32), steps)


@jax.jit
def _sums(x: jax.Array) -> jax.Array:
    """Each particle's sums of what is zero on average: xᵏ − E xᵏ, products of neighbours, products of their squares."""
    powers = [x**k - MOMENTS[k - 1] for k in range(1, 7)]
    rows = [p.sum((0, 1)) for p in powers]
    pairs = [(x[:, ::2], x[:, 1::2])] + [_shifted(x, shift) for shift in SHIFTS.values()]
    for a, b in pairs:
        for product in (a * b, (a * a - 1) * (b * b - 1)):
            total = product.sum((0, 1))
            rows.append(jnp.pad(total, (0, PARTICLES - len(total))))
    return jnp.stack(rows)


def _shifted(x: jax.Array, shift: tuple[int, int, int]) -> tuple[jax.Array, jax.Array]:
    back = tuple(slice(None, n - s) for s, n in zip(shift, x.shape, strict=True))
    return x[back], x[tuple(slice(s, None) for s in shift)]


@jax.jit
def _bins(x: jax.Array) -> jax.Array:
    return jnp.clip(jnp.floor(x * (1 / WIDTH)).astype(jnp.int32) + BINS // 2, 0, BINS - 1)


@jax.jit
def _others(draws: Draws, other_key: Draws, step: jax.Array) -> dict[str, jax.Array]:
    """At one step: products of normals across streams and keys, and the bits and bytes of every stream's words."""
    draws, other_key = draws.at(step), other_key.at(step)
    noise = draws.normals(COORDINATES, dtype=jnp.float32)
    partners = [draws.normals(COORDINATES, stream=s, dtype=jnp.float32) for s in STREAMS]
    partners.append(other_key.normals(COORDINATES, dtype=jnp.float32))
    found = {
        "products": jnp.stack([(noise * y).sum(0) for y in partners]),
        "squares": jnp.stack([((noise * noise - 1) * (y * y - 1)).sum(0) for y in partners]),
    }
    words = jnp.stack([jnp.stack(draws.words(s, np.arange(COORDINATES, dtype=np.uint32))) for s in Stream])
    flat = words.reshape(len(Stream), -1)
    found["bits"] = jnp.stack([((flat >> np.uint32(b)) & 1).sum(1) for b in range(32)])
    found["high"], found["low"] = flat >> np.uint32(24), flat & np.uint32(255)
    points = draws.three_points(COORDINATES * THREE_POINTS_PER_SLOT, dtype=jnp.float32)
    points = list(jnp.moveaxis(points.reshape(COORDINATES, THREE_POINTS_PER_SLOT, -1), 1, 0))
    found["points"] = jnp.sign(jnp.stack(points)).astype(jnp.int32) + 1  # 0, 1, 2
    return found


class Tally:
    """All that is summed over tiles."""

    def __init__(self, seed: int):
        self.draws = [_block(seed, b) for b in range(BLOCKS)]
        self.other_key = [_block(seed + 1, b) for b in range(BLOCKS)]
        self.sums = np.zeros(6 + 2 * (1 + len(SHIFTS)))
        self.counts = np.zeros(BINS, dtype=np.int64)
        self.tiles = self.sides = 0
        self.largest = 0.0
        self.across = np.zeros((2, len(STREAMS) + 1))
        self.bits = np.zeros((32, len(Stream)))
        self.bytes = np.zeros((len(Stream), 2, 256), dtype=np.int64)
        self.points = np.zeros((THREE_POINTS_PER_SLOT, 3), dtype=np.int64)
        self.together = np.zeros((THREE_POINTS_PER_SLOT, THREE_POINTS_PER_SLOT))

    def add(self) -> None:
        """The next tile: another set of particles, or the next steps of the same."""
        draws = self.draws[self.tiles % BLOCKS]
        step = jnp.uint32(self.tiles // BLOCKS * STEPS)
        x = _normals(draws, step)
        self.sums += np.asarray(_sums(x)).sum(axis=1, dtype=float)
        self.counts += np.bincount(np.asarray(_bins(x)).ravel(), minlength=BINS)
        self.largest = max(self.largest, float(jnp.abs(x).max()))
        if self.tiles % SIDE_TESTS == 0:
            block = self.sides % BLOCKS
            self._add_others(_others(self.draws[block], self.other_key[block], step))
        self.tiles += 1

    def _add_others(self, found: dict[str, jax.Array]) -> None:
        self.across += np.stack([np.asarray(found[n]).sum(axis=1, dtype=float) for n in ("products", "squares")])
        self.bits += np.asarray(found["bits"])
        for i, end in enumerate(("high", "low")):
            for s, row in enumerate(np.asarray(found[end])):
                self.bytes[s, i] += np.bincount(row, minlength=256)
        points = np.asarray(found["points"]).reshape(THREE_POINTS_PER_SLOT, -1)
        self.points += np.stack([np.bincount(row, minlength=3) for row in points])
        centred = (points - 1).astype(np.float32)  # integers far below 2²⁴: the products' sums are exact
        self.together += centred @ centred.T
        self.sides += 1


def _block(seed: int, block: int) -> Draws:
    return Draws.of(jax.random.key(seed), block * PARTICLES + np.arange(PARTICLES))


def tests(tally: Tally) -> list[Test]:
    return [
        *_vector_tests(),
        *_moment_tests(tally),
        *_shape_tests(tally.counts),
        *_correlation_tests(tally),
        *_word_tests(tally),
        *_three_point_tests(tally),
    ]


def _vector_tests() -> Iterator[Test]:
    for i, (counter, key, expected) in enumerate(VECTORS):
        words = threefry2x32(tuple(map(jnp.uint32, key)), tuple(map(jnp.uint32, counter)))
        right = tuple(map(int, words)) == expected
        yield Test(f"Threefry-2x32-20, published vector {i + 1} (1: equal)", right, 1, None, 1.0 if right else 0.0)


def _moment_tests(tally: Tally) -> Iterator[Test]:
    count = tally.tiles * TILE
    for k in range(1, 7):
        expected = MOMENTS[k - 1]
        error = np.sqrt((MOMENTS[2 * k - 1] - expected**2) / count)
        yield Test.score(f"moment {k}", expected + tally.sums[k - 1] / count, expected, error)


def _shape_tests(counts: np.ndarray) -> Iterator[Test]:
    count = int(counts.sum())
    edges = np.arange(-BINS // 2, BINS // 2 + 1) * WIDTH
    low, high = scipy.special.ndtr(edges), scipy.special.ndtr(-edges)
    low[0], low[-1], high[0], high[-1] = 0, 1, 1, 0
    distance = np.max(np.abs(np.cumsum(counts) / count - low[1:]))
    p = scipy.stats.kstwobign.sf(distance * np.sqrt(count))
    yield Test(f"Kolmogorov–Smirnov distance at {BINS:,} edges", distance, 0.8276 / np.sqrt(count), None, float(p))
    expected = count * np.where(edges[1:] <= 0, np.diff(low), -np.diff(high))
    common = np.flatnonzero(expected >= FEWEST)
    first, last = common[0], common[-1] + 1
    yield Test.chi_square("normals in bins", _ends(counts, first, last), _ends(expected, first, last))
    for sigma in (3, 4, 5, 6):
        reach = int(sigma / WIDTH)
        beyond = int(counts[: BINS // 2 - reach].sum() + counts[BINS // 2 + reach :].sum())
        mean = 2 * count * scipy.special.ndtr(-float(sigma))
        sides = scipy.stats.poisson.cdf(beyond, mean), scipy.stats.poisson.sf(beyond - 1, mean)
        yield Test(f"beyond {sigma} σ", beyond, mean, np.sqrt(mean), float(min(1, 2 * min(sides))))


def _ends(values: np.ndarray, first: int, last: int) -> np.ndarray:
    """The bins from `first` to before `last`, the first and last of them with all that lies beyond."""
    kept = values[first:last].astype(float)
    kept[0] += values[:first].sum()
    kept[-1] += values[last:].sum()
    return kept


def _correlation_tests(tally: Tally) -> Iterator[Test]:
    sizes = [TILE // 2] + [np.prod(np.subtract((STEPS, COORDINATES, PARTICLES), s)) for s in SHIFTS.values()]
    for i, (name, size) in enumerate(zip((PAIR, *SHIFTS), sizes, strict=True)):
        count = float(size) * tally.tiles
        yield Test.score(f"correlation, {name}", tally.sums[6 + 2 * i] / count, 0, count**-0.5)
        yield Test.score(f"… of squares, {name}", tally.sums[7 + 2 * i] / count / 2, 0, count**-0.5)
    count = float(tally.sides * COORDINATES * PARTICLES)
    for i, name in enumerate([f"streams NOISE and {s.name}" for s in STREAMS] + ["keys of seeds s and s+1"]):
        yield Test.score(f"correlation, {name}", tally.across[0, i] / count, 0, count**-0.5)
        yield Test.score(f"… of squares, {name}", tally.across[1, i] / count / 2, 0, count**-0.5)


def _word_tests(tally: Tally) -> Iterator[Test]:
    count = float(tally.sides * 2 * COORDINATES * PARTICLES)
    for stream in Stream:
        scores = (tally.bits[:, stream] - count / 2) / np.sqrt(count / 4)
        value = float(np.sum(scores**2))
        yield Test(
            f"words of {stream.name}: 32 bits, chi-square", value, 32, None, float(scipy.stats.chi2.sf(value, 32))
        )
        for i, end in enumerate(("highest", "lowest")):
            counts = tally.bytes[stream, i]
            yield Test.chi_square(f"words of {stream.name}: {end} byte", counts, np.full(256, counts.sum() / 256))


def _three_point_tests(tally: Tally) -> Iterator[Test]:
    count = tally.points[0].sum()
    expected = count * np.array([1, 4, 1]) / 6
    for number, counts in enumerate(tally.points):
        yield Test.chi_square(f"three-point number {number}", counts, expected)
    upper = np.triu_indices(THREE_POINTS_PER_SLOT, 1)
    scores = 3 * tally.together[upper] / np.sqrt(count)  # ±1 with probability 1/6 each has variance 1/3
    value = float(np.sum(scores**2))
    p = float(scipy.stats.chi2.sf(value, len(scores)))
    yield Test(f"three-point numbers of a slot, {len(scores)} correlations, chi-square", value, len(scores), None, p)


def heading(tally: Tally, seed: int, count: int) -> str:
    return (
        f"{tally.tiles * TILE:,} float32 normals of stream NOISE, seed {seed}; {count} tests share the level {LEVEL:g}:"
        f"\none fails below p = {LEVEL / count:.2g}; the smallest p of so many is expected near {1 / (count + 1):.2g}."
        f"\nWords have 32 bits, so no normal is beyond ±{LARGEST:.2f}; the largest here is {tally.largest:.2f}."
    )


def table(found: list[Test]) -> str:
    rows = [
        [
            t.name,
            f"{t.value:.7g}",
            f"{t.expected:.7g}",
            "" if t.error is None else f"{(t.value - t.expected) / t.error:+.2f}",
            f"{t.p:.3g}",
        ]
        for t in found
    ]
    header = ["test", "value", "expected", "z", "p"]
    align = ("left", "right", "right", "right", "right")
    return tabulate(rows, headers=header, tablefmt="github", disable_numparse=True, colalign=align)


def dump(seed: int, stream: Stream, steps_fast: bool, write: Callable[[bytes], object]) -> None:
    """All words of a stream, little-endian, until nobody reads on.

    Fastest first: the two words of a slot, then 2¹⁶ particles, then 4 slots, then the steps; or, with `steps_fast`, the
    two words, then 2¹⁶ steps, then 4 slots, then the particles.
    """
    slots, many, few = np.arange(4, dtype=np.uint32), 2**16, 8

    @jax.jit
    def words(draws: Draws, first: jax.Array, count: jax.Array) -> jax.Array:
        pairs = jax.lax.map(lambda k: jnp.stack(draws.at(k).words(stream, slots), axis=-1), first + count)
        return pairs.transpose(2, 1, 0, 3) if steps_fast else pairs  # (step, slot, particle, 2)

    key, number = jax.random.key(seed), np.arange(few if steps_fast else many)
    draws, first = Draws.of(key, number), jnp.uint32(0)
    count = jnp.arange(many if steps_fast else few, dtype=jnp.uint32)
    for block in range(2**32 // few):
        if steps_fast:
            draws = Draws.of(key, block * few + number)
        else:
            first = jnp.uint32(block * few)
        write(np.asarray(words(draws, first, count)).astype("<u4", copy=False).tobytes())


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests of the random stream, or a dump of it for test batteries.")
    parser.add_argument("--normals", type=float, default=1e9)
    parser.add_argument("--quick", action="store_true", help="10⁷ normals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dump", action="store_true", help="write raw 32-bit little-endian words to stdout for ever")
    parser.add_argument("--steps-fast", action="store_true", help="with --dump: steps before particles")
    parser.add_argument("--stream", choices=[s.name for s in Stream], default="NOISE", help="with --dump")
    given = parser.parse_args()
    if given.dump:
        try:
            dump(given.seed, Stream[given.stream], given.steps_fast, sys.stdout.buffer.write)
        except BrokenPipeError:  # the battery has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    tally = Tally(given.seed)
    for _ in tqdm(range(max(1, round((1e7 if given.quick else given.normals) / TILE))), unit=" tiles", desc="normals"):
        tally.add()
    found = tests(tally)
    failed = [t.name for t in found if not t.p * len(found) >= LEVEL]
    print(heading(tally, given.seed, len(found)), table(found), sep="\n\n")
    print(f"\n{'failed: ' + '; '.join(failed) if failed else 'all passed'}")
    if given.json is not None:
        report = {"normals": tally.tiles * TILE, "seed": given.seed, "level": LEVEL, "failed": failed}
        rows = [test._asdict() for test in found]
        given.json.write_text(json.dumps(report | {"largest": tally.largest, "tests": rows}, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
