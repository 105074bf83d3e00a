"""The fluctuation–dissipation relation: whether a run has reached its steady state, at any learning rate."""

import warnings
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.ensemble import Trajectory
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.ratio import ratio
from sgdsim.measures.window import window_means
from sgdsim.processes import SGD

SIGMAS = 4.0  # by which the two sides must differ before a run is called unsteady


class NotStationaryWarning(UserWarning):
    """A cloud is not in its steady state, and what was read off it holds only there."""


class FluctuationDissipation(eqx.Module):
    """Both sides of Yaida's relation for one step of one particle, an observable for `Totals`.

        (x − c)·∇f(x)    and    (1 + μ)/(2η) |Δx|²,

    Args:
        sgd: the chain.
        centre: c, (d,); the origin by default.
    """

    sgd: SGD
    centre: Float[Array, " d"]

    def __init__(self, sgd: SGD, centre: Float[np.ndarray | Array, " d"] | None = None):
        if not isinstance(sgd, SGD):
            raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
        if sgd.sampling == "epoch":
            raise ValueError("sampling must draw each batch independently for this relation, got 'epoch'")
        point = np.zeros(sgd.dim) if centre is None else np.asarray(centre, dtype=float)
        if point.shape != (sgd.dim,) or not np.all(np.isfinite(point)):
            raise ValueError(f"centre must be a finite vector of shape {(sgd.dim,)}, got {point.tolist()}")
        self.sgd, self.centre = sgd, jnp.asarray(point, dtype=float)

    def __call__(self, x: Float[Array, " d"], dx: Float[Array, " d"]) -> Float[Array, "2"]:
        work = jnp.sum((x - self.centre) * self.sgd.problem.gradient(x))
        return jnp.stack([work, (1 + self.sgd.momentum) / (2 * self.sgd.learning_rate) * jnp.sum(dx * dx)])


def fluctuation_dissipation(trajectory: Trajectory, *, since: float | None = None) -> Estimate:
    """The residual ⟨(x−c)·∇f⟩ / ((1+μ)/(2η) ⟨|Δx|²⟩) − 1, zero in the steady state of any loss, at any η and μ.

    ⟨|x−c|²⟩ does not change in a steady state. For μ = 0, |x−c−ηg|² = |x−c|² − 2η(x−c)·g + η²|g|² on average gives
    ⟨(x−c)·∇f⟩ = (η/2)⟨|g_B|²⟩, as batches are independent of x; for heavy ball, with u the last step, x·u′ = μ x·u −
    η x·g and ⟨x·u′⟩ = −½⟨|u|²⟩, ⟨x·u⟩ = +½⟨|u|²⟩ give the factor 1 + μ. Neither side knows of a temperature or of a
    continuum: where they differ, the run is not in its steady state, and thermometers, Gibbs states and KL divergences
    to a steady state say nothing.

    Its `z()` is the z-score: beyond 4 a `NotStationaryWarning` is given. Both sides are averaged over every step of the
    window for each particle, and the error is that of the ratio of two means over independent particles. It is as large
    as the residual itself makes it: a few dozen particles with heavy tails can hide a residual of several.

    Args:
        trajectory: a run with `tally=Totals(FluctuationDissipation(sgd))`, saved at the start of the window at least.
        since: the time at which the window starts, up to the next saved time; by default half of the run.

    Raises:
        ValueError: if the run carried no such tally, no saved times lie in the window, or all particles diverged.

    Source: Yaida, "Fluctuation–dissipation relations for stochastic gradient descent", 2019, eq. (FDR1).
    """
    sides, left_out = window_means(trajectory, since, _is_this, "FluctuationDissipation(sgd)")
    residual = ratio(sides[:, 0], sides[:, 1], name="the spread of the steps", left_out=left_out) - 1.0
    warn_unless_stationary(residual)
    return residual


def _is_this(observable: Any) -> bool:
    return isinstance(observable, FluctuationDissipation)


def warn_unless_stationary(residual: Estimate) -> None:
    """Give a `NotStationaryWarning` where the residual of the relation lies more than four standard errors from 0."""
    score = float(residual.z())
    if not abs(score) <= SIGMAS:  # NaN, the error of one particle, does not vouch for anything
        warnings.warn(
            f"the cloud is not in its steady state: the fluctuation–dissipation relation is missed by {residual}, "
            f"z = {score:.1f}. What is read off it as a steady state is not one",
            NotStationaryWarning,
            stacklevel=3,
        )
