"""SVAG(l): a chain of small steps with amplified noise, which tends to SGD's stochastic differential equation."""

import equinox as eqx
from jaxtyping import Array, Float

from sgdsim.draws import Draws
from sgdsim.processes.sgd import SGD


class SVAG(eqx.Module):
    """Stochastic variance amplified gradient: l steps of SVAG(l) are one step of SGD on the clock.

        x ← x − (η/l) [ (1+√(2l−1))/2 · g_B(x) + (1−√(2l−1))/2 · g'_B(x) ],

    with two independent minibatches of B each. The weights sum to 1 and their squares to l, so that the mean is ∇f and
    the covariance l·s_B D/B: over a unit of time drift and diffusion are SGD's for every l, and l → ∞ is its SDE, with
    true minibatches all the way. l = 1 is SGD itself. Where SGD and SVAG(l) agree, the SDE is a fair description.

    Args:
        sgd: the chain, without momentum; batches drawn independently.
        refinement: l ≥ 1.

    Raises:
        ValueError: on l below 1, momentum, or reshuffled passes, whose batches are not independent.

    Source: Li, Malladi, Arora, "On the validity of modeling SGD with stochastic differential equations", 2021, eq. 7.
    Their code splits one loaded batch, so each half has B/2 examples; here each has B, as in the paper.
    """

    sgd: SGD
    refinement: int = eqx.field(static=True)

    def __init__(self, sgd: SGD, refinement: int):
        if not isinstance(sgd, SGD):
            raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
        if isinstance(refinement, bool) or not isinstance(refinement, int) or refinement < 1:
            raise ValueError(f"refinement must be a positive whole number, got {refinement!r}")
        if sgd.has_momentum:
            raise ValueError(f"sgd must have no momentum for SVAG, got momentum {float(sgd.momentum):g}")
        if sgd.sampling == "epoch":
            raise ValueError("sampling must draw each batch independently for SVAG, got 'epoch'")
        self.sgd, self.refinement = sgd, refinement

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.sgd.dim

    @property
    def time_step(self) -> Float[Array, ""]:
        """One step's share of the common clock, η/l."""
        return self.sgd.time_step / self.refinement

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless the loss and its gradient are finite at x."""
        self.sgd.check(x)

    def init(self, x: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """The state is the position."""
        return x

    def step(self, state: Float[Array, "d P"], draws: Draws) -> Float[Array, "d P"]:
        """One update from two minibatches of each particle: the draws of SGD's steps 2k and 2k + 1, for k < 2³¹."""
        sgd = self.sgd
        first, second = (
            sgd.problem.minibatch_gradient(state, draws.at(2 * draws.step + i), sgd.batch_size, sgd.sampling)
            for i in (0, 1)
        )
        root = (2 * self.refinement - 1) ** 0.5
        gradient = (1 + root) / 2 * first + (1 - root) / 2 * second
        return state - sgd.learning_rate / self.refinement * gradient

    def position(self, state: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """x."""
        return state
