"""Cyclic learning rates: a temperature that swings, and a cloud that follows it late and less."""

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from tqdm import tqdm

from sgdsim import plots
from sgdsim.density import Grid, propagate_scheduled
from sgdsim.density.fields import potential_at
from sgdsim.density.fit import fitted_grid
from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, simulate
from sgdsim.measures import Estimate, kl, mean_loss, over_times
from sgdsim.problems import Problem
from sgdsim.processes import SGD, ScheduledSGD
from sgdsim.studies.local_quadratic import LocalQuadratic
from sgdsim.studies.reading import departs, table
from sgdsim.studies.result import process_settings, write_study
from sgdsim.studies.steady_grid import steady_grid

CYCLIC_RATES_FILES = ("cyclic_rates.png", "cyclic_rates.json", "cyclic_rates.npz")
PERIODS = (0.5, 1.5, 5.0, 15.0)  # in relaxation times 1/k_min, unless they are given
TURNS = 2  # shown, after the cloud has forgotten its start
FORGET = 12.0  # relaxation times before that
PER_TURN = 16  # saved times of a turn


@dataclasses.dataclass(frozen=True)
class Cycle:
    """One period of the learning rate.

    Attributes:
        period: how long a turn is on the clock.
        times: the clock at the saved steps, (T,), over the turns shown.
        temperatures: T there, (T,).
        drive: first harmonic of T over the turns, relative to its mean: real and imaginary part.
        sgd, langevin: excess losses of the clouds, ⟨f⟩ − min f, (T,).
        density: the same of the Fokker–Planck density, (T,).
        quadratic: the same of the limit on the loss's quadratic at its minimum, ½Tr(KS), exact, (T,).
        sgd_kl, langevin_kl: KL of each cloud to the density, (T,).
        diverged: particles of SGD lost.
    """

    period: float
    times: Float[np.ndarray, " T"]
    temperatures: Float[np.ndarray, " T"]
    drive: tuple[float, float]
    sgd: Estimate
    langevin: Estimate
    density: Float[np.ndarray, " T"]
    quadratic: Float[np.ndarray, " T"]
    sgd_kl: tuple[Estimate, ...]
    langevin_kl: tuple[Estimate, ...]
    diverged: int

    def response(self, losses: Float[np.ndarray, " T"]) -> tuple[float, float]:
        """How the excess loss swings, relative to how T does, and how late, in turns: first harmonics."""
        turn = np.exp(-2j * np.pi * self.times / self.period)
        swing = np.trapezoid(turn * losses, self.times) / np.trapezoid(losses, self.times)
        share = swing / complex(*self.drive)
        return float(np.abs(share)), float((-np.angle(share) / (2 * np.pi)) % 1)


@dataclasses.dataclass(frozen=True, repr=False)
class CyclicRates:
    """The three descriptions under a learning rate that swings, at several periods.

    Attributes:
        name: what the problem is called.
        settings: what was run.
        swing: the learning rate goes between η(1 − swing) and η(1 + swing).
        relaxation_time: 1/k_min at the minimum.
        cycles: one for each period, from the shortest.
    """

    name: str
    settings: dict[str, Any]
    swing: float
    relaxation_time: float
    cycles: tuple[Cycle, ...]

    def __str__(self) -> str:
        header = [
            "period",
            "in 1/k_min",
            "description",
            "swing of ⟨f⟩ − min f over T's",
            "lag (turns)",
            "worst KL (floors)",
        ]
        rows = []
        for cycle in self.cycles:
            for label, losses, readings in (
                ("SGD", cycle.sgd.value, cycle.sgd_kl),
                ("Langevin", cycle.langevin.value, cycle.langevin_kl),
                ("Fokker–Planck", cycle.density, ()),
                ("its quadratic", cycle.quadratic, ()),
            ):
                size, lag = cycle.response(np.asarray(losses))
                worst = f"{max(float(r.floors) for r in readings):.2f}" if readings else ""
                period = [f"{cycle.period:.4g}", f"{cycle.period / self.relaxation_time:.3g}"]
                rows.append([*period, label, f"{size:.3f}", f"{lag:.3f}", worst])
        return "\n\n".join([f"{self.name}: η swings by ± {self.swing:.0%}", table(header, rows), self.reading])

    __repr__ = __str__

    @property
    def reading(self) -> str:
        """One plain paragraph: how well the loss follows, fast and slow, and whether the descriptions agree."""
        fast, slow = self.cycles[0], self.cycles[-1]
        ends = []
        for cycle in (fast, slow):
            size, lag = cycle.response(cycle.density)
            ends.append(
                f"with a period of {cycle.period / self.relaxation_time:.2g} relaxation times the excess loss "
                f"swings {size:.0%} as much as the temperature does, {lag:.2f} of a turn late"
            )
        parts = [f"{'; '.join(ends)}.".capitalize()]
        readings = [r for cycle in self.cycles for r in cycle.langevin_kl]
        parts.append(f"Langevin departs from the density at {_share(readings)}.")
        for cycle in self.cycles:
            away = sum(departs(r) for r in cycle.sgd_kl)
            if away:
                worst = max(float(r.floors) for r in cycle.sgd_kl)
                parts.append(
                    f"SGD departs at {away} of {len(cycle.sgd_kl)} times at the period {cycle.period:.3g}, by up to "
                    f"{worst:.2g} floors."
                )
        if not any(departs(r) for cycle in self.cycles for r in cycle.sgd_kl):
            parts.append("SGD follows the same density at every period: one clock holds all of it.")
        lost = sum(cycle.diverged for cycle in self.cycles)
        return " ".join([*parts, *([f"{lost} SGD particles diverged."] if lost else [])])

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "name": self.name,
            "settings": self.settings,
            "swing": self.swing,
            "relaxation_time": self.relaxation_time,
            "cycles": [{f.name: getattr(c, f.name) for f in dataclasses.fields(c)} for c in self.cycles],
            "reading": self.reading,
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the excess losses over two turns at each period, and how far and how late they follow."""
        plots.save(plots.cyclic_rates(self), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        arrays = {}
        for i, cycle in enumerate(self.cycles):
            for name in ("times", "temperatures", "density", "quadratic"):
                arrays[f"{name}_{i}"] = getattr(cycle, name)
            arrays |= {f"sgd_{i}": np.asarray(cycle.sgd.value), f"langevin_{i}": np.asarray(cycle.langevin.value)}
        return write_study(folder, CYCLIC_RATES_FILES, self.plot, self.to_dict(), arrays)


def cyclic_rates(
    sgd: SGD,
    start: Gaussian,
    *,
    key: Key[Array, ""],
    swing: float = 0.7,
    periods: Sequence[float] | None = None,
    particles: int = 20_000,
    progress: bool = False,
    name: str = "cyclic_rates",
) -> CyclicRates:
    """Swing the learning rate and watch the three descriptions of the cloud on one clock.

    The rate is η_k = η(1 + swing · cos 2πk/n), so that the temperature swings about its mean while the clock goes on at
    the mean rate η n over a turn. Near a minimum the limit's covariance obeys dS/dt = −KS − SK + 2T(t)D, and the excess
    loss ⟨f⟩ − min f = ½Tr(KS) with it: a low-pass filter, through which a small swing of period τ comes with the
    amplitude 1/√(1 + (π/(kτ))²) and atan(π/(kτ))/2π of a turn late. Slow cycles are followed, fast ones are seen as
    their mean: the cloud then does not know that there was a cycle.

    Args:
        sgd: the chain, d ≤ 2, with the mean learning rate.
        start: a Gaussian.
        key: a typed `jax.random.key`; every cloud has its own.
        swing: 0 < swing < 1.
        periods: lengths of a turn on the clock; by default .5, 1.5, 5 and 15 relaxation times 1/k_min.
        particles: of each cloud.
        progress: show a bar.
        name: what to call the problem in the report.

    Raises:
        ValueError: on settings that cannot work, before anything is run.

    Source: Smith, "Cyclical learning rates for training neural networks", 2017, for the schedule.
    """
    key_words(key)
    _check(sgd, start, swing)
    quadratic = LocalQuadratic.of(sgd, start)
    if quadratic is None:
        raise ValueError("sgd must descend a loss with a minimum: its curvature is the clock of the cycles")
    relaxation = 1 / float(quadratic.curvatures[0])
    lengths = np.sort(np.asarray(np.array(PERIODS) * relaxation if periods is None else periods, dtype=float))
    fewest = 4 * float(sgd.time_step)
    if lengths.ndim != 1 or len(lengths) == 0 or not np.all(np.isfinite(lengths) & (lengths >= fewest)):
        raise ValueError(f"periods must be finite and four steps long at least, {fewest:.4g}; got {lengths.tolist()}")
    grid = _grid(sgd, start, swing)
    cycles = []
    for length, own in zip(
        tqdm(lengths, disable=not progress, desc=name, unit=" periods"),
        jax.random.split(key, len(lengths)),
        strict=True,
    ):
        cycles.append(_cycle(sgd, start, float(length), swing, grid, quadratic, particles, relaxation, own))
    settings = process_settings(sgd) | {"particles": particles, "cells": list(grid.cells)}
    return CyclicRates(name, settings, swing, relaxation, tuple(cycles))


def _check(sgd: SGD, start: Any, swing: float) -> None:
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    if sgd.dim > 2:
        raise ValueError(f"sgd must have at most two dimensions, for its density; got {sgd.dim:,}")
    if not isinstance(start, Gaussian):
        raise ValueError(f"start must be a Gaussian (its cell masses are then exact), got {type(start).__name__}")
    if float(sgd.temperature) == 0:
        raise ValueError("batch_size must leave some noise: with the whole data in each batch T = 0")
    if sgd.sampling == "epoch":
        raise ValueError("sampling must draw each batch independently, got 'epoch'")
    if not 0 < swing < 1:
        raise ValueError(f"swing must lie above 0 and below 1, got {swing}")


def _grid(sgd: SGD, start: Gaussian, swing: float) -> Grid:
    """A box for the hottest steady state and the start, with cells for the coldest one."""
    rate = float(sgd.learning_rate)
    hot, reach = steady_grid(sgd.with_rate(rate * (1 + swing))), 6 * np.sqrt(np.diag(start.covariance))
    lower = np.minimum(hot.grid.lower, start.mean - reach)
    upper = np.maximum(hot.grid.upper, start.mean + reach)
    return fitted_grid(lower, upper, hot.widths * np.sqrt((1 - swing) / (1 + swing)))


def _cycle(
    sgd: SGD,
    start: Gaussian,
    length: float,
    swing: float,
    grid: Grid,
    quadratic: LocalQuadratic,
    particles: int,
    relaxation: float,
    key: Key[Array, ""],
) -> Cycle:
    """All descriptions over the last two turns of a run that has forgotten its start."""
    turn = round(length / float(sgd.time_step))
    every = max(turn // PER_TURN, 1)
    turn -= turn % every  # whole turns are saved, so that harmonics are those of the cycle
    # numbers as leaves of the schedule, so that another period does not compile again
    rate = jax.tree_util.Partial(_cosine, sgd.learning_rate, jnp.asarray(swing), jnp.asarray(turn))
    chain = ScheduledSGD(sgd, learning_rate=rate)
    before = turn * int(np.ceil(FORGET * relaxation / length))
    steps = before + TURNS * turn
    run = {"particles": particles, "steps": steps, "save_every": every, "dtype": "float32"}
    keys = jax.random.split(key)
    cloud = simulate(chain, start, key=keys[0], **run)
    limit = simulate(chain.langevin(), start, key=keys[1], **run)
    shown = np.flatnonzero(cloud.steps >= before)
    when = cloud.steps[shown]
    masses = propagate_scheduled(chain, grid, start, when, grid_error=False).masses
    least = float(sgd.problem.loss(jnp.asarray(quadratic.minimum)))
    excess = partial(_mean_loss, sgd.problem, least)
    centres = potential_at(sgd.problem.loss, grid.centres.reshape(-1, grid.dim)) - least
    return Cycle(
        period=turn * float(sgd.time_step),
        times=cloud.times[shown],
        temperatures=chain.temperatures(steps + 1)[when],
        drive=_harmonic(chain, before, steps),
        sgd=over_times(excess, cloud.particles[shown]),
        langevin=over_times(excess, limit.particles[shown]),
        density=masses.reshape(len(masses), -1) @ centres,
        quadratic=quadratic.limit_widths(chain, steps, quadratic.hessian / 2)[when],
        sgd_kl=tuple(kl(x, grid, p) for x, p in zip(cloud.particles[shown], masses, strict=True)),
        langevin_kl=tuple(kl(x, grid, p) for x, p in zip(limit.particles[shown], masses, strict=True)),
        diverged=cloud.num_diverged,
    )


def _harmonic(chain: ScheduledSGD, begin: int, end: int) -> tuple[float, float]:
    """∫T e^{−iωt} dt/∫T dt from step to step, within which T is constant while the clock moves on."""
    clock, heat = chain.times(np.arange(begin, end + 1)), chain.temperatures(end)[begin:]
    omega = 2 * np.pi * TURNS / (clock[-1] - clock[0])
    waves = np.diff(np.exp(-1j * omega * clock)) / (-1j * omega)
    value = np.sum(heat * waves) / np.sum(heat * np.diff(clock))
    return float(value.real), float(value.imag)


def _mean_loss(problem: Problem, least: float, particles: Float[np.ndarray, "P d"]) -> Estimate:
    """⟨f⟩ − min f; diverged particles are left out and counted."""
    return mean_loss(problem, particles) - least


def _cosine(
    rate: Float[Array, ""], swing: Float[Array, ""], turn: Int[Array, ""], step: Int[Array, ""]
) -> Float[Array, ""]:
    """η(1 + swing · cos 2πk/n); k is taken modulo n first, where float32 would lose it."""
    return rate * (1 + swing * jnp.cos(2 * jnp.pi * (step % turn) / turn))


def _share(readings: Sequence[Estimate]) -> str:
    return f"{sum(departs(r) for r in readings)} of {len(readings)} times"
