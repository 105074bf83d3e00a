"""Drift, diffusion and temperature of a process, measured from single steps and held against what is predicted."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sgdsim.ensemble import Process, simulate
from sgdsim.measures import Estimate, kinetic_temperature, regress_diffusion, regress_drift
from sgdsim.problems import Problem

PAIRS, NUMBERS = 20_000, 500_000  # single steps to measure from, and coordinates: each of a step's d says something
BATCH = 64  # positions whose predicted fields are computed at a time


@dataclasses.dataclass(frozen=True)
class Local:
    """Measured over predicted: 1 where a process moves as its limit says.

    Attributes:
        drift: slope of Δx/Δt on −∇f.
        diffusion: ⟨|Δx + ∇f Δt|²⟩ / (2Δt ⟨Tr A⟩).
        temperature: T read off the same spread, ⟨|Δx + ∇f Δt|²⟩ / (2Δt ⟨Tr D⟩), on the common clock.
    """

    drift: Estimate
    diffusion: Estimate
    temperature: Estimate


def measure_local(
    process: Process,
    problem: Problem,
    positions: Float[np.ndarray, "n d"],
    *,
    duration: float,
    temperature: float,
    clock: float = 1.0,
    key: Key[Array, ""],
) -> Local:
    """Take one step of the process from rest at each position.

    Args:
        process: what steps; momentum starts from zero, so its first step is one of plain SGD.
        problem: the loss and its noise, from which drift and diffusion are predicted.
        positions: where to step from, (n, d), finite.
        duration: Δt of that step as it moves from rest.
        temperature: T predicted on the common clock.
        clock: how much longer a step is on the common clock than from rest, 1/(1 − μ) with momentum.
        key: a typed key.
    """
    moves = simulate(process, positions, steps=1, key=key).particles[-1].astype(float) - positions
    gradient, trace = (np.asarray(field, dtype=float) for field in _fields(problem, jnp.asarray(positions)))
    predicted_spread = temperature / clock * trace
    return Local(
        drift=regress_drift(positions, moves, duration, -gradient),
        diffusion=regress_diffusion(moves, duration, -gradient, predicted_spread),
        temperature=kinetic_temperature(moves, duration, -gradient, trace) * clock,
    )


def spread_over_path(particles: Float[np.ndarray, "T P d"]) -> Float[np.ndarray, "n d"]:
    """Finite positions from all along a path, each particle used as rarely as possible."""
    snapshots, count, dim = particles.shape
    per_snapshot = min(count, -(-min(PAIRS, NUMBERS // dim) // snapshots))
    chosen = [np.roll(particles[i], -i * per_snapshot, axis=0)[:per_snapshot] for i in range(snapshots)]
    rows = np.concatenate(chosen).reshape(-1, dim)
    return rows[np.isfinite(rows).all(axis=1)]


@eqx.filter_jit
def _fields(problem: Problem, x: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """∇f and Tr D at each position."""
    return jax.lax.map(lambda y: (problem.gradient(y), problem.noise_trace(y)), x, batch_size=BATCH)
