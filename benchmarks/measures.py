"""Measures against the packages that compute the very same number from the very same samples, in float64 or as said.

sgdsim's functions return more than the number: its standard error, and for distances the floor that perfect agreement
would read. The titles say what each side returns. There is nothing random in the compared number, so sides are held
against each other by their relative difference.
"""

from collections.abc import Callable

import jax
import numpy as np
import scipy.signal
import scipy.stats
from scipy.spatial.distance import cdist, pdist

import sgdsim as ss

from .harness import Job, Side, timed
from .peers.asked import asked

OWN = "sgdsim"
DIRECTIONS, KEY = 64, 5

Results = dict[str, np.ndarray]


def same(tolerance: float) -> Callable[[Results], float]:
    """A check: the largest relative difference from sgdsim's number; raises ValueError beyond `tolerance`."""

    def check(results: Results) -> float:
        own, largest = np.asarray(results[OWN]), 0.0
        for name, result in results.items():
            gap = float(np.max(np.abs(np.asarray(result) - own)) / np.max(np.abs(own)))
            if not gap <= tolerance:
                raise ValueError(f"{name} differs from sgdsim by {gap:.1e} of the number, allowed: {tolerance:g}")
            largest = max(largest, gap)
        return largest

    return check


def clouds(size: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A standard Gaussian cloud and one that is shifted and wider."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, dim)), 0.3 + 1.2 * rng.normal(size=(size, dim))


def side(name: str, compute: Callable[[], object], work: float, reference: bool = False) -> Side:
    return Side(name, timed(lambda seed: np.asarray(compute())), work, reference)


def wasserstein_line(size: int, install: bool) -> list[Side]:
    a, b = (cloud[:, 0].copy() for cloud in clouds(size, 1))
    return [
        side(OWN, lambda: ss.measures.wasserstein_1d(a, b), 2 * size),
        side("SciPy, wasserstein_distance", lambda: scipy.stats.wasserstein_distance(a, b), 2 * size),
        *asked(
            "pot",
            "pot_side.py",
            {"POT, wasserstein_1d": ("wasserstein_1d", {"a": a, "b": b}, 2 * size)},
            install=install,
        ),
    ]


def sliced(size: int, install: bool) -> list[Side]:
    """Along the directions that sgdsim draws of its key, which POT is given."""
    (a, b), key = clouds(size, 3), jax.random.key(KEY)
    normals = np.asarray(jax.random.normal(jax.random.split(key)[0], (DIRECTIONS, 3)), dtype=np.float64)
    directions = normals / np.linalg.norm(normals, axis=1, keepdims=True)

    def own(splits: int) -> object:
        return ss.measures.sliced_wasserstein(a, b, key=key, directions=DIRECTIONS, splits=splits).value

    inputs = {"a": a, "b": b, "directions": directions}
    return [
        side(OWN, lambda: own(200), 2 * size),
        side("sgdsim, one split: value and error, no floor", lambda: own(1), 2 * size, reference=True),
        *asked("pot", "pot_side.py", {"POT, same directions": ("sliced", inputs, 2 * size)}, install=install),
    ]


def energy(size: int, install: bool) -> list[Side]:
    """The U-statistic. SciPy's `energy_distance` is the root of the V-statistic, on a line: another number."""
    a, b = clouds(size, 2)

    def plain() -> float:
        return 2 * cdist(a, b).mean() - pdist(a).mean() - pdist(b).mean()

    return [
        side(OWN, lambda: ss.measures.energy_distance(a, b, key=jax.random.key(KEY)).value, 2 * size),
        side("SciPy's cdist and pdist: value only", plain, 2 * size),
    ]


def stein(size: int, install: bool) -> list[Side]:
    """From N(0, I), of a cloud that is not; the unit of length is given, as the NumPy side has it."""
    x = clouds(size, 2)[1]

    def plain() -> float:
        square = cdist(x, x, "sqeuclidean")
        k, product = (1 + square) ** -0.5, x @ x.T  # the score is −x, so (s − s')·(y − y') = −|y − y'|²
        h = product * k + (2 - square) * k**3 - 3 * square * k**5
        return (h.sum() - np.trace(h)) / (size * (size - 1))

    def own() -> object:
        return ss.measures.stein_discrepancy(x, -x, key=jax.random.key(KEY), covariance=1.0).value

    return [side(OWN, own, size), side("NumPy: value only", plain, size)]


def divergence(cells: int, install: bool) -> list[Side]:
    p, q = (cloud[:, 0] ** 2 for cloud in clouds(cells, 1))
    p, q = p / p.sum(), q / q.sum()
    return [
        side(OWN, lambda: ss.measures.kl_between_densities(p, q), cells),
        side("SciPy, stats.entropy(p, q)", lambda: scipy.stats.entropy(p, q), cells),
    ]


def kramers_moyal(size: int, install: bool) -> list[Side]:
    """The drift in cells, of one long series of an Ornstein–Uhlenbeck process. All give the diffusion with it."""
    dt, cells = 0.01, 40
    noise = np.sqrt(2 * dt) * np.random.default_rng(0).normal(size=size)
    series = scipy.signal.lfilter([1.0], [1.0, dt - 1.0], noise)
    x, dx = series[:-1], np.diff(series)
    grid, edges = ss.Grid([-2.0], [2.0], [cells]), np.linspace(-2.0, 2.0, cells + 1)

    def plain() -> np.ndarray:
        first = scipy.stats.binned_statistic(x, [dx, dx**2], "mean", edges)
        return first.statistic[0] / dt

    def own() -> np.ndarray:
        return ss.measures.kramers_moyal.binned(x[:, None], dx[:, None], dt, grid).drift[:, 0]

    inputs = {"series": series, "edges": edges, "dt": np.asarray(dt)}
    return [
        side(OWN, own, size),
        side("SciPy, binned_statistic: means of Δx and Δx²", plain, size),
        *asked(
            "kramersmoyal",
            "kramersmoyal_side.py",
            {"kramersmoyal, kernel within a bin": ("binned", inputs, size)},
            install=install,
        ),
    ]


Build = Callable[[int, bool], list[Side]]
JOBS: dict[str, tuple[str, str, Build, int, int, float]] = {  # title, unit, sides, size, quick size, tolerance
    "wasserstein-1d": (
        "W₁ on a line; every side the value alone",
        "points",
        wasserstein_line,
        1_000_000,
        100_000,
        1e-9,
    ),
    "sliced": (
        "sliced W₂ in 3-D along 64 directions; sgdsim with its error and floor of 200 splits, POT the value",
        "points",
        sliced,
        10_000,
        2_000,
        1e-6,
    ),
    "energy": (
        "energy distance in 2-D (float32 in sgdsim); sgdsim with its error and floor of 1,000 splits",
        "points",
        energy,
        5_000,
        2_000,
        1e-3,
    ),
    "stein": (
        "kernel Stein discrepancy in 2-D (float32 in sgdsim); sgdsim with its error and floor of 1,000 resamples",
        "points",
        stein,
        5_000,
        2_000,
        1e-3,
    ),
    "kl": ("KL between masses on cells; every side the value alone", "cells", divergence, 4_000_000, 400_000, 1e-9),
    "kramers-moyal": (
        "drift and diffusion in 40 bins of a series; sgdsim with the errors of both",
        "points",
        kramers_moyal,
        1_000_000,
        100_000,
        1e-9,
    ),
}

LEFT_OUT = ("sliced", "stein")  # of a quick run


def jobs(quick: bool) -> list[Job]:
    found = []
    for name, (title, unit, build, size, small, tolerance) in JOBS.items():
        if quick and name in LEFT_OUT:
            continue
        count = small if quick else size

        def sides(build: Build = build, count: int = count) -> list[Side]:
            return build(count, not quick)

        found.append(Job(name, f"{title}; {count:,} {unit}", unit, sides, same(tolerance), gap_in="of the number"))
    return found
