"""The loss over a cloud."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.measures.diverged import Cloud
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.moments import mean
from sgdsim.problems import Problem

HELD = 2**17  # losses of single examples, or of particles where there are none, computed at a time


def mean_loss(problem: Problem, particles: Cloud) -> Estimate:
    """⟨f(x)⟩ over a cloud; diverged particles are left out and counted.

    Args:
        problem: whose loss f is meant, weight decay inside it.
        particles: independent particles, (P, d).

    Raises:
        ValueError: if fewer than two particles are finite.
    """
    return mean(losses(problem, particles)[:, None])[0]


def losses(problem: Problem, particles: Cloud) -> Float[np.ndarray, " P"]:
    """f(x) of each particle, computed in JAX's default float, (P,); NaN for one that has diverged."""
    return np.asarray(_losses(problem, jnp.asarray(particles, dtype=float)), dtype=np.float64)


@eqx.filter_jit
def _losses(problem: Problem, x: Float[Array, "P d"]) -> Float[Array, " P"]:
    return jax.lax.map(problem.loss, x, batch_size=max(1, HELD // (problem.num_examples or 1)))
