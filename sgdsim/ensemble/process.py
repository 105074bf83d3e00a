"""What the time loop asks of a process."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int

from sgdsim.draws import Draws


@runtime_checkable
class Process(Protocol):
    """A process turns the state of a whole cloud into its next state.

    It is a pytree (an Equinox module): its numbers are array leaves, so that changing one does not compile again.
    States are pytrees whose arrays end in the particle axis, (…, P); positions are coordinates first, (d, P). A step
    must treat particles independently and take every random number from `draws`.
    """

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        ...

    @property
    def time_step(self) -> Float[Array, ""]:
        """How far one step moves the common clock."""
        ...

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError where the process cannot start at x; called once, on concrete values."""
        ...

    def init(self, x: Float[Array, "d P"]) -> Any:
        """The state of a cloud that starts at x."""
        ...

    def step(self, state: Any, draws: Draws) -> Any:
        """The state one step later, from the draws of this step."""
        ...

    def position(self, state: Any) -> Float[Array, "d P"]:
        """Where the particles are."""
        ...


@runtime_checkable
class Clocked(Protocol):
    """A process whose steps are not all of one length: it tells the clock itself, and its `time_step` means nothing."""

    def times(self, steps: Int[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """The common clock after these numbers of steps."""
        ...
