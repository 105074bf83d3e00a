"""The settings of four atlases: problems, and where to look at them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array, Key

from sgdsim.ensemble import Gaussian
from sgdsim.problems import GaussianNoise, NoisyPotential, potentials
from sgdsim.studies.atlas import Breakdown
from sgdsim.studies.breakdown import breakdown
from sgdsim.studies.presets import preset

MOMENTA = (0.0, 0.9)


@dataclasses.dataclass(frozen=True)
class Atlas:
    """A problem and where to look at it: effective learning rates double up to beyond the edge of stability."""

    build: Callable[[], tuple[Any, Any]]
    fastest: float
    rates: int
    batch_sizes: tuple[int, ...]
    times: tuple[float, float]
    particles: int
    sampling: str = "with-replacement"
    distance: str = "moments"
    limit_step: float | None = None  # where the curvature on the way to the minimum asks for less than the minimum's

    def run(
        self, name: str, *, key: Key[Array, ""], folder: Any = None, quick: bool = False, progress: bool = False
    ) -> Breakdown:
        """The atlas; quick: every other learning rate, two batch sizes, a quarter of the particles."""
        rates = [self.fastest / 2**i for i in range(self.rates)]
        problem, start = self.build()
        return breakdown(
            problem,
            start,
            effective_learning_rates=rates[:: 2 if quick else 1],
            batch_sizes=(self.batch_sizes[0], self.batch_sizes[-1]) if quick else self.batch_sizes,
            momenta=MOMENTA,
            times=self.times,
            particles=self.particles // (4 if quick else 1),
            key=key,
            sampling=self.sampling,
            distance=self.distance,
            limit_step=self.limit_step,
            folder=folder,
            progress=progress,
            name=name,
        )


def _quadratic() -> tuple[Any, Any]:
    problem = NoisyPotential(potentials.Quadratic(np.diag([2.0, 0.5])), GaussianNoise([1.0, 0.5]))
    return problem, Gaussian([1.0, 1.0], 0.04)


def _two_weight_network() -> tuple[Any, Any]:
    """From one of its two wells: with both, the moments would hear of little but the distance between them."""
    return preset("two-weight-network").build()[0], Gaussian([1.0, 1.0], 0.02)


ATLASES = {
    "quadratic": Atlas(_quadratic, 1.6, 7, (1, 4, 16, 64), (1.6, 16.0), 10_000),
    "double-well": Atlas(preset("double-well").build, 1.6, 7, (1, 4, 16, 64), (1.6, 16.0), 5_000, distance="energy"),
    "breast-cancer": Atlas(preset("breast-cancer").build, 16.0, 6, (1, 4, 16), (16.0, 64.0), 1_500, limit_step=0.2),
    "two-weight-network": Atlas(
        _two_weight_network, 3.2, 6, (1, 4, 16), (3.2, 32.0), 1_500, sampling="without-replacement", limit_step=0.05
    ),
}


def atlas(
    problem: str = "quadratic",
    *,
    key: Key[Array, ""],
    folder: Any = None,
    quick: bool = False,
    progress: bool = False,
) -> Breakdown:
    """The `breakdown` of one of four problems, with settings that fit it, in one to three minutes on two cores.

    Args:
        problem: one of `ATLASES`.
        key: a typed `jax.random.key`.
        folder: where finished cells are kept, and read from instead of being run again.
        quick: every other learning rate, two batch sizes, a quarter of the particles.
        progress: show a bar.

    Raises:
        ValueError: on another problem, or as `breakdown`.
    """
    if problem not in ATLASES:
        raise ValueError(f"problem must be one of {', '.join(ATLASES)}; got {problem!r}")
    return ATLASES[problem].run(problem, key=key, folder=folder, quick=quick, progress=progress)
