"""A law of the literature as the paper table holds it: what is expected, and what is measured."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, Key

from sgdsim.ensemble import Gaussian, Process, simulate
from sgdsim.measures import Estimate, covariance

SIGMAS = 4.0  # standard errors by which a reading may miss; with 150 readings a table fails by chance once in 100


@dataclasses.dataclass(frozen=True)
class Check:
    """One number of a law.

    Attributes:
        quantity: what it is, with its settings.
        expected: what the law says.
        measured: what was found, with its error: of the particles, or of the grid for a density.
        is_random: whether that error is one of chance; a grid's is not.
    """

    quantity: str
    expected: float
    measured: Estimate
    is_random: bool = True

    @property
    def z(self) -> float:
        """(measured − expected) in standard errors."""
        return float(self.measured.z(self.expected))

    @property
    def holds(self) -> bool:
        """Whether it lies within `SIGMAS` standard errors; NaN does not."""
        return self.measured.agrees_with(self.expected, sigmas=SIGMAS)


Measure = Callable[[Key[Array, ""], float], list[Check]]


@dataclasses.dataclass(frozen=True)
class Law:
    """A law and how it is measured.

    Attributes:
        name: what the command line calls it.
        statement: the law, in one line.
        source: where it is from.
        measure: from a key and an effort (the share of the full table's particles) to its checks.
    """

    name: str
    statement: str
    source: str
    measure: Measure


def law(name: str, statement: str, source: str) -> Callable[[Measure], Law]:
    """Make a law of the function that measures it."""
    return lambda measure: Law(name, statement, source, measure)


def scaled(full: int, effort: float) -> int:
    """How many particles of the full table's to run."""
    return max(round(full * effort), 500)


def late_cloud(
    process: Process, start: Gaussian | list[float], *, particles: int, time: float, key: Key[Array, ""]
) -> Float[np.ndarray, "P d"]:
    """The cloud after this much time on the clock."""
    steps = int(np.ceil(time / float(process.time_step)))
    return simulate(process, start, particles=particles, steps=steps, key=key, dtype="float32").particles[-1]


def covariance_checks(
    process: Process,
    start: Gaussian,
    expected: Float[np.ndarray, "d d"],
    settings: str,
    *,
    particles: int,
    time: float,
    key: Key[Array, ""],
) -> list[Check]:
    """The upper triangle of a late cloud's covariance, entry by entry."""
    measured = covariance(late_cloud(process, start, particles=particles, time=time, key=key))
    return [
        Check(f"S{i + 1}{j + 1}, {settings}", float(expected[i, j]), measured[int(i), int(j)])
        for i, j in zip(*np.triu_indices(len(expected)), strict=True)
    ]
