"""What a simulation leaves behind."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float


@dataclasses.dataclass(frozen=True, repr=False)
class Trajectory:
    """Snapshots of a cloud on the common clock.

    A particle that has diverged (a coordinate is not finite) is NaN in all its coordinates from then on, so that
    nothing can use its position without noticing.

    Attributes:
        times: the clock t = η_e k at each snapshot, (T,), in float64 from the whole number k of steps.
        steps: k itself, (T,).
        particles: positions, (T, P, d).
        seconds: wall time of the stepping, without compiling.
        tallied: what a tally kept by each snapshot, a pytree of arrays (T, P, …); None where none was carried. A
            particle that has diverged may hold anything there.
        tally: that tally itself.
    """

    times: Float[np.ndarray, " T"]
    steps: np.ndarray
    particles: Float[np.ndarray, "T P d"]
    seconds: float
    tallied: Any = None
    tally: Any = None

    @property
    def diverged(self) -> Bool[np.ndarray, "T P"]:
        """Which particles have diverged by each snapshot, (T, P)."""
        return np.isnan(self.particles[..., 0])

    @property
    def num_diverged(self) -> int:
        """How many particles have diverged by the end."""
        return int(self.diverged[-1].sum())

    @property
    def particle_steps_per_second(self) -> float:
        """Particles × steps over the wall time of the stepping; NaN where nothing was stepped."""
        work = self.particles.shape[1] * int(self.steps[-1])
        return work / self.seconds if self.seconds > 0 else float("nan")

    def __repr__(self) -> str:
        snapshots, particles, dim = self.particles.shape
        return (
            f"Trajectory({snapshots} snapshots × {particles:,} particles × {dim} coordinates, {self.particles.dtype}, "
            f"{self.particles.nbytes / 1e6:.1f} MB; t = {self.times[0]:g} … {self.times[-1]:g}, "
            f"{int(self.steps[-1]):,} steps; {self.num_diverged} diverged)"
        )
