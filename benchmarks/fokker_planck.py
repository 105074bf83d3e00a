"""How fast a density moves: sgdsim's `FokkerPlanck` against fplanck, py-pde and SciPy's `expm_multiply`, in float64.

Every side gets the masses of the same cells at the start and gives back those at the end; the equations are in
`peers/jobs.py`. Each side's error is Σ|Δmass| to a reference. sgdsim has to be as exact as the best of its peers, and
to move the masses as the exponential of its own matrix does; a peer that is far less exact solved another equation.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.sparse.linalg import expm_multiply

import sgdsim as ss

from . import harness
from .harness import Lost, Run, Side, timed
from .peers.asked import asked_run
from .peers.jobs import EQUATIONS, PULL, VARIANCE, Equation, Field, bowl, bowl_drift, well, well_drift
from .peers.process import PeerError

if hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:  # jax before 0.8
    from jax.experimental import enable_x64

UNIT = "solves"
SHORT = 0.02  # seconds: of what is shorter a turn takes the median of five
TURNS = 3  # of a peer that takes long
FINE = 8_192  # cells of the reference on a line
WORSE = 1.2  # how much larger than the best peer's sgdsim's error may be
OTHER = 20  # times sgdsim's error: from here on a peer solved another equation
TIME_ERROR = 1e-10  # Σ|Δmass| that sgdsim may lie off the exact exponential of its own matrix

SCIPY = "SciPy, expm_multiply of sgdsim's matrix"
DENSE, LSODA = "fplanck, propagate, dense=True", "py-pde, SciPy's LSODA, banded Jacobian, compiled before"
SETTINGS = {  # a peer's sides → what its script is asked
    "fplanck": {"fplanck, propagate (expm_multiply)": "sparse", DENSE: "dense"},
    "py-pde": {
        "py-pde, solve() as called, compiling": "public",
        "py-pde, Euler, adaptive (its default), compiled before": "euler",
        "py-pde, Runge–Kutta, adaptive, compiled before": "runge-kutta",
        LSODA: "lsoda",
    },
}
ON_A_LINE = {DENSE, LSODA}  # no use in 2-D
TARGETS = {"fplanck": 100, "py-pde": 100}  # times faster than any of their settings
SCIPY_TARGET = 20

Masses = np.ndarray


def problem_of(e: Equation) -> ss.FokkerPlanck:
    """As a user states it, with the potential where there is one."""
    potential = e.potential
    return ss.FokkerPlanck(
        drift=lambda x: jnp.stack(e.drift(*x)),
        diffusion=lambda x: jnp.asarray(e.diffusion),
        grid=ss.Grid(e.lower, e.upper, e.cells),
        potential=None if potential is None else lambda x: potential(*x) / e.temperature,
    )


def start_of(e: Equation, fp: ss.FokkerPlanck) -> Masses:
    return fp.density_of(SimpleNamespace(mean=e.mean, covariance=VARIANCE * np.eye(e.dim)))


def factor(e: Equation, axis: int, drift: Field, potential: Field) -> Masses:
    """One factor of a law that is a product, on `FINE` cells, merged to the equation's."""
    box = {"lower": [e.lower[axis]], "upper": [e.upper[axis]], "cells": [FINE], "mean": [e.mean[axis]]}
    fields = {"drift": lambda x: [drift(x)], "diffusion": [[e.temperature]], "potential": potential}
    line = dataclasses.replace(e, **box, **fields)
    fp = problem_of(line)
    masses = fp.propagate(start_of(line, fp), [e.time], grid_error=False).masses[-1]
    return masses.reshape(e.cells[axis], -1).sum(axis=1)


@functools.cache
def reference(name: str) -> Masses:
    """The law at the end, far more exactly than any side can have it on the equation's cells.

    1-D double well: sgdsim on 8,192 cells, whose error is 256 times smaller than on 512. In 2-D, V = V₁(x) + V₂(y), so
    the law is a product of two such. Ornstein–Uhlenbeck: the exact Gaussian, of mean e^{−Ft}m and covariance
    Σ + e^{−Ft}(C − Σ)e^{−Fᵀt}, where FΣ + ΣFᵀ = 2A.
    """
    e = EQUATIONS[name]
    with enable_x64(True):
        if name == "well-1d":
            return factor(e, 0, well_drift, well)
        if name == "well-2d":
            return np.outer(factor(e, 0, well_drift, well), factor(e, 1, bowl_drift, bowl))
        steady, moved = solve_continuous_lyapunov(PULL, 2 * np.array(e.diffusion)), expm(-PULL * e.time)
        covariance = steady + moved @ (VARIANCE * np.eye(2) - steady) @ moved.T
        return problem_of(e).density_of(SimpleNamespace(mean=moved @ e.mean, covariance=covariance))


def distance(one: Masses, other: Masses) -> float:
    return float(np.sum(np.abs(one - other)))


def by_five(run: Run) -> Run:
    """The same, timed by the median of five from when one was seen to be `SHORT`."""
    least = math.inf

    def several(seed: int) -> tuple[Masses, float]:
        nonlocal least
        masses, seconds = run(seed)
        least = min(least, seconds)
        if least < SHORT:
            seconds = statistics.median([seconds, *(run(seed)[1] for _ in range(4))])
        return masses, seconds

    return several


def local_side(name: str, solve: Callable[[], Masses], turns: int | None = None) -> Side:
    """A side of this process, in float64. JAX is told so before the clock starts."""
    run = timed(lambda seed: solve())

    def in_float64(seed: int) -> tuple[Masses, float]:
        with enable_x64(True):
            return run(seed)

    return Side(name, by_five(in_float64), 1, turns=turns)


def absent(name: str, reason: str) -> Side:
    def run(seed: int) -> tuple[Masses, float]:
        raise PeerError(reason)

    return Side(name, run, 1)


def names_of(peer: str, e: Equation) -> list[str]:
    """The peer's sides, none where it cannot."""
    if peer == "fplanck" and e.potential is None:
        return []
    return [name for name in SETTINGS[peer] if e.dim == 1 or name not in ON_A_LINE]


def peer_sides(peer: str, name: str, start: Masses, quick: bool) -> list[Side]:
    """One side for each setting of a peer, in its own process; those that are left out are named."""
    e = EQUATIONS[name]
    if not (names := names_of(peer, e)):
        return [absent(peer, "cannot: it has no full diffusion tensor")]
    if quick:
        return [absent(peer, "not in a quick run: long to solve, or to compile")]
    inputs, script = {"equation": np.asarray(name), "start": start}, f"{peer.replace('-', '_')}_side.py"
    runs = {side: asked_run(peer, script, SETTINGS[peer][side], inputs, install=True) for side in names}
    return [Side(side, by_five(run), 1, turns=TURNS) for side, run in runs.items()]


def sides_of(name: str, quick: bool) -> list[Side]:
    """sgdsim through its public interface, without the second run on a coarser grid that estimates its own error.

    SciPy has e^{tL} p by a Taylor polynomial, for the very matrix that sgdsim moves the masses with.
    """
    e = EQUATIONS[name]
    with enable_x64(True):
        fp = problem_of(e)
        start, matrix = start_of(e, fp), fp.generator.as_sparse() * e.time
        method = fp.propagate(start, [e.time], grid_error=False).method
    return [
        local_side(f"sgdsim, {method}", lambda: fp.propagate(start, [e.time], grid_error=False).masses[-1]),
        *(side for peer in SETTINGS for side in peer_sides(peer, name, start, quick)),
        local_side(SCIPY, lambda: expm_multiply(matrix, start.reshape(-1)).reshape(e.cells), 1 if quick else None),
    ]


def check(name: str, masses: dict[str, Masses]) -> float:
    """How far sgdsim is off the exponential of its own matrix, Σ|Δmass|.

    Raises:
        ValueError: if that is over `TIME_ERROR`, or its error over `WORSE` times that of the best peer.
        Lost: a peer whose error is over `OTHER` times sgdsim's.
    """
    own = next(iter(masses))
    errors = {side: distance(result, reference(name)) for side, result in masses.items() if side != SCIPY}
    best = min((side for side in errors if np.isfinite(errors[side])), key=errors.__getitem__, default=own)
    if not errors[own] <= WORSE * errors[best]:
        raise ValueError(f"sgdsim's error is {errors[own]:.2e}, that of {best} {errors[best]:.2e}")
    gap = distance(masses[own], masses[SCIPY])
    if not gap <= TIME_ERROR:
        raise ValueError(f"sgdsim is {gap:.1e} off the exponential of its own matrix, allowed: {TIME_ERROR:g}")
    for side, error in errors.items():
        if not error <= OTHER * errors[own]:
            raise Lost(side, f"solved another equation: its error is {error:.2e}, sgdsim's {errors[own]:.2e}")
    return gap


def job_of(name: str, quick: bool) -> harness.Job:
    e = EQUATIONS[name]
    return harness.Job(
        name,
        f"Fokker–Planck, {e.title}, t = {e.time:g}, float64; error: Σ|Δmass| to the reference",
        UNIT,
        lambda: sides_of(name, quick),
        functools.partial(check, name),
        {side: TARGETS[peer] for peer in SETTINGS for side in names_of(peer, e)} | {SCIPY: SCIPY_TARGET},
        gap_in="in Σ|Δmass|, of sgdsim's masses to the exponential of its own matrix",
        error=lambda masses: distance(masses, reference(name)),
    )


def jobs(quick: bool) -> list[harness.Job]:
    return [job_of(name, quick) for name in EQUATIONS]
