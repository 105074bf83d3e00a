"""Raising the batch size instead of cutting the learning rate: the same cloud on the clock, until it is not."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from tqdm import tqdm

from sgdsim import plots
from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, Trajectory, simulate
from sgdsim.measures import Estimate, over_times, sliced_wasserstein, total_variance
from sgdsim.measures.diverged import within_reach
from sgdsim.processes import SGD, ScheduledLangevin, ScheduledSGD
from sgdsim.studies.local_quadratic import LocalQuadratic
from sgdsim.studies.reading import departs, table
from sgdsim.studies.result import process_settings, write_study

BATCH_NOT_DECAY_FILES = ("batch_not_decay.png", "batch_not_decay.json", "batch_not_decay.npz")
ARMS = ("cut the rate", "raise the batch", "raise it, with momentum", "limit")
STABILITY = (0.1, 0.2, 0.4, 0.8, 1.2, 1.6)  # ηk_max of the learning rates, unless they are given
RELAXATIONS = 3.0  # how long each of the two stages lasts, in 1/k_min
STABLE_SUBSTEP, MOST_SUBSTEPS = 0.1, 16  # ηk_max of the limit's own sub-steps, which must not err as the chain does
SNAPSHOTS = 8  # of each stage


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of cooling at one learning rate.

    Attributes:
        times: the clock at the saved steps, (T,).
        widths: the cloud's total variance Tr Cov(x) there, (T,).
        excess: its relative excess over the limit's at the end; NaN if particles were lost.
        law: the same on the loss's quadratic at its minimum, exact; NaN where there is none, or more than one.
        distance: sliced Wasserstein distance at the end to the arm whose rate is cut; None for that one, and where
            either lost particles.
        diverged: particles lost by the end: not finite, or far out of the limit's reach.
    """

    times: Float[np.ndarray, " T"]
    widths: Estimate
    excess: Estimate
    law: float
    distance: Estimate | None
    diverged: int


@dataclasses.dataclass(frozen=True, repr=False)
class BatchNotDecay:
    """Three ways of cooling by the same factor, and their common limit, at several learning rates.

    Attributes:
        name: what the problem is called.
        settings: what was run.
        learning_rates: η of the first stage, (R,).
        top_curvature: k_max at the minimum; NaN where none was found.
        factor: by how much the temperature falls.
        stage_ends: the clock at the end of both stages.
        arms: by name, one for each learning rate.
    """

    name: str
    settings: dict[str, Any]
    learning_rates: Float[np.ndarray, " R"]
    top_curvature: float
    factor: int
    stage_ends: tuple[float, float]
    arms: dict[str, tuple[Arm, ...]]

    def __str__(self) -> str:
        header = [
            "η",
            "ηk_max",
            "cooled by",
            "width Tr Cov",
            "over the limit",
            "its quadratic",
            "distance to the first",
            "lost",
        ]
        rows = []
        for i, rate in enumerate(self.learning_rates):
            for name in ARMS:
                arm = self.arms[name][i]
                rows.append(
                    [
                        f"{rate:.4g}",
                        f"{rate * self.top_curvature:.3g}",
                        name,
                        str(arm.widths[-1]),
                        "" if name == "limit" else str(arm.excess),
                        "" if name == "limit" else f"{arm.law:.3f}",
                        "" if arm.distance is None else str(arm.distance),
                        str(arm.diverged),
                    ]
                )
        return "\n\n".join([f"{self.name}: T falls by {self.factor}", table(header, rows), self.reading])

    __repr__ = __str__

    @property
    def reading(self) -> str:
        """One plain paragraph: up to which learning rate the three agree, and what happens beyond."""
        rates, k = self.learning_rates, self.top_curvature
        same = [self._agree(i) for i in range(len(rates))]
        first = same.index(False) if False in same else len(same)
        start = f"Raising B by {self.factor} does what cutting η by {self.factor} does, on the clock,"
        if first == 0:
            start += (
                f" at none of the learning rates looked at, from η = {rates[0]:.3g} (ηk_max = {rates[0] * k:.2g}) on."
            )
        else:
            where = f"η = {rates[first - 1]:.3g} (ηk_max = {rates[first - 1] * k:.2g})"
            start += f" up to {where}: the final clouds are no further apart than chance."
        ends = [start]
        for name in ARMS[:3]:
            whole = [i for i, arm in enumerate(self.arms[name]) if arm.diverged == 0]
            if not whole:
                continue
            arm = self.arms[name][whole[-1]]
            law = "" if np.isnan(arm.law) else f" (its quadratic: {arm.law:+.0%})"
            side = "wider" if arm.excess.value >= 0 else "narrower"
            ends.append(
                f"At ηk_max = {rates[whole[-1]] * k:.2g} the arm “{name}” ends {abs(arm.excess.value):.0%} ± "
                f"{arm.excess.standard_error:.0%} {side} than the limit{law}."
            )
        lost = sum(arm.diverged > 0 for name in ARMS[:3] for arm in self.arms[name])
        if lost:
            ends.append(f"{lost} of {3 * len(rates)} runs lost particles to infinity, and agree with nothing.")
        return " ".join(ends)

    def _agree(self, i: int) -> bool:
        """Whether neither cloud lost a particle, and the final clouds are no further apart than chance."""
        distance = self.arms["raise the batch"][i].distance
        return distance is not None and not departs(distance)

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "name": self.name,
            "settings": self.settings,
            "learning_rates": self.learning_rates,
            "top_curvature": self.top_curvature,
            "factor": self.factor,
            "stage_ends": list(self.stage_ends),
            "arms": {
                name: [
                    {field.name: getattr(arm, field.name) for field in dataclasses.fields(arm)}
                    for arm in self.arms[name]
                ]
                for name in ARMS
            },
            "reading": self.reading,
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the widths on the clock, and the excess over the limit against ηk_max with its law."""
        plots.save(plots.batch_not_decay(self), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        arrays = {"learning_rates": self.learning_rates}
        for number, name in enumerate(ARMS):
            for i, arm in enumerate(self.arms[name]):
                arrays |= {f"times_{number}_{i}": arm.times, f"widths_{number}_{i}": np.asarray(arm.widths.value)}
        return write_study(folder, BATCH_NOT_DECAY_FILES, self.plot, self.to_dict(), arrays)


def batch_not_decay(
    sgd: SGD,
    start: Gaussian | np.ndarray | Array | list,
    *,
    key: Key[Array, ""],
    factor: int = 5,
    momentum: float = 0.9,
    learning_rates: Sequence[float] | None = None,
    stage: float | None = None,
    particles: int = 4_000,
    progress: bool = False,
    name: str = "batch_not_decay",
) -> BatchNotDecay:
    """Cool a cloud by a factor in two stages, by the learning rate or by the batch size, at several learning rates.

    The limit dX = −∇f dt + √(2T D(X)) dW knows η and B by T = s_B η/(2B(1 − μ)) alone, so that on the clock it cannot
    tell whether η was cut or B was raised, nor whether momentum carried a part of η. Three chains that share T(t):

    - η for a stage, then η/factor, at the same B;
    - η throughout, B for a stage and then factor·B: as many times fewer steps in the second stage;
    - the same with momentum μ and the learning rate η(1 − μ).

    What they do not share is ηk. On a quadratic their steady variances in the second stage are (ηC/2k) times
    1/(1 − ηk/(2·factor)), 1/(1 − ηk/2) and 1/(1 − η(1 − μ)k/(2(1 + μ))); and momentum has inertia, a memory of
    1/(1 − μ) steps, which is longer than a relaxation where ηk > 1 − μ: its cloud then cools too late. The law that is
    drawn has all of this, by the exact recursion of the covariance with the loss's Hessian and D at its minimum.

    Args:
        sgd: the chain without momentum; its batch size is that of the first stage, its learning rate plays no part.
        start: as `simulate` takes it.
        key: a typed `jax.random.key`; every cloud has its own.
        factor: by how much T falls, a whole number of at least 2.
        momentum: μ of the third chain, 0 < μ < 1.
        learning_rates: η of the first stage; by default ηk_max = .1 … 1.6 at the minimum of the loss (d ≤ 3).
        stage: how long each stage lasts on the clock; by default three relaxation times 1/k_min.
        particles: of each cloud.
        progress: show a bar.
        name: what to call the problem in the report.

    Raises:
        ValueError: on settings that cannot work, before anything is run.

    Source: Smith, Kindermans, Ying, Le, "Don't decay the learning rate, increase the batch size", ICLR 2018.
    """
    key_words(key)
    _check(sgd, factor, momentum)
    quadratic = LocalQuadratic.of(sgd, start)
    if quadratic is None and (learning_rates is None or stage is None):
        raise ValueError("learning_rates and stage must be given where no minimum of the loss is known")
    values = np.array([np.nan]) if quadratic is None else quadratic.curvatures
    rates = np.asarray(np.array(STABILITY) / values[-1] if learning_rates is None else learning_rates, dtype=float)
    if rates.ndim != 1 or len(rates) == 0 or not np.all(np.isfinite(rates) & (rates > 0)):
        raise ValueError(f"learning_rates must be positive and finite, got {learning_rates}")
    rates = np.sort(rates)
    length = RELAXATIONS / values[0] if stage is None else float(stage)
    if not length >= rates[-1]:
        raise ValueError(f"stage must last a step at least, {rates[-1]:.4g} at the largest learning rate; got {stage}")
    arms: dict[str, list[Arm]] = {name: [] for name in ARMS}
    with tqdm(total=len(rates) * len(ARMS), disable=not progress, desc=name, unit=" clouds") as bar:
        for rate, own in zip(rates, jax.random.split(key, len(rates)), strict=True):
            keys = jax.random.split(own, len(ARMS) + 1)
            clouds, own_arms = [], _arms(sgd, float(rate), factor, momentum, length, float(values[-1]))
            every = max(round(length / rate) // SNAPSHOTS, 1)
            for (process, steps), k in zip(own_arms, keys[1:], strict=True):
                run = {"particles": particles, "steps": steps, "save_every": every, "dtype": "float32"}
                clouds.append(simulate(process, start, key=k, **run))
                bar.update()
            for arm_name, arm in zip(ARMS, _measured(clouds, _laws(quadratic, own_arms), keys[0]), strict=True):
                arms[arm_name].append(arm)
    return BatchNotDecay(
        name=name,
        settings={k: v for k, v in process_settings(sgd).items() if k != "learning_rate"}
        | {"momentum_of_the_third": momentum, "particles": particles, "stage": length},
        learning_rates=rates,
        top_curvature=float(values[-1]),
        factor=factor,
        stage_ends=(length, 2 * length),
        arms={arm_name: tuple(each) for arm_name, each in arms.items()},
    )


def _check(sgd: SGD, factor: int, momentum: float) -> None:
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    if sgd.has_momentum:
        raise ValueError(f"sgd must have no momentum: one of the arms adds its own; got {float(sgd.momentum):g}")
    if sgd.sampling == "epoch":
        raise ValueError("sampling must draw each batch independently, got 'epoch'")
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 2:
        raise ValueError(f"factor must be a whole number of at least 2, got {factor!r}")
    if not 0 < momentum < 1:
        raise ValueError(f"momentum must lie above 0 and below 1, got {momentum}")
    sgd.with_batch_size(factor * sgd.batch_size)
    if float(sgd.with_batch_size(factor * sgd.batch_size).temperature) == 0:
        raise ValueError(f"factor must leave some noise: {factor * sgd.batch_size} examples are the whole data")


def _arms(
    sgd: SGD, rate: float, factor: int, momentum: float, length: float, top: float
) -> tuple[tuple[ScheduledSGD | ScheduledLangevin, int], ...]:
    """The three chains and their limit, each with its number of steps."""
    steps = max(1, round(length / rate))
    plain, heavy = (
        SGD(
            sgd.problem,
            learning_rate=rate * (1 - mu),
            batch_size=sgd.batch_size,
            momentum=mu,
            sampling=sgd.sampling,
        )
        for mu in (0.0, momentum)
    )
    # without replacement s_B changes with B, so the batches that cool exactly by the factor are not factor·B
    ratio = float(plain.temperature / plain.with_batch_size(factor * sgd.batch_size).temperature)
    phases = [(steps, sgd.batch_size), (1, factor * sgd.batch_size)]
    # numbers as leaves of the schedule, so that another learning rate does not compile again
    stages = jax.tree_util.Partial(_two_rates, jnp.asarray(steps), jnp.asarray(rate), jnp.asarray(rate / ratio))
    cut = ScheduledSGD(plain, learning_rate=stages)
    raised = ScheduledSGD(plain, batch_size=phases)
    heavy_raised = ScheduledSGD(heavy, batch_size=phases)
    wanted = rate * top / STABLE_SUBSTEP if np.isfinite(top) else MOST_SUBSTEPS
    substeps = int(2 ** np.clip(np.ceil(np.log2(wanted)), 1, np.log2(MOST_SUBSTEPS)))
    many, few = steps + round(steps * ratio), 2 * steps
    return (cut, many), (raised, few), (heavy_raised, few), (raised.langevin(substeps=substeps), few)


def _two_rates(
    steps: Int[Array, ""], first: Float[Array, ""], second: Float[Array, ""], step: Int[Array, ""]
) -> Float[Array, ""]:
    return jnp.where(step < steps, first, second)


def _laws(
    quadratic: LocalQuadratic | None, arms: Sequence[tuple[ScheduledSGD | ScheduledLangevin, int]]
) -> list[float]:
    """Each arm's excess over the limit at its end, on the quadratic at the minimum, if there is but one."""
    if quadratic is None or quadratic.count > 1:
        return [np.nan] * len(arms)
    widths = [
        quadratic.limit_widths(process.scheduled, steps)[-1]
        if isinstance(process, ScheduledLangevin)
        else quadratic.chain_widths(process, steps)[-1]
        for process, steps in arms
    ]
    return [float(width / widths[-1] - 1) for width in widths]


def _measured(clouds: list[Trajectory], laws: list[float], key: Key[Array, ""]) -> list[Arm]:
    """Each cloud's widths, and how it ends beside the limit and beside the first arm."""
    path = clouds[-1].particles.reshape(-1, clouds[-1].particles.shape[-1])
    low, high = np.nanmin(path, axis=0), np.nanmax(path, axis=0)
    paths = [within_reach(cloud.particles, low, high) for cloud in clouds]
    lost = [int(np.isnan(x[-1, :, 0]).sum()) for x in paths]
    limit, arms = total_variance(paths[-1][-1]), []
    for number, (cloud, x, law) in enumerate(zip(clouds, paths, laws, strict=True)):
        readable = np.isfinite(x[..., 0]).sum(axis=1).min() > 1
        unread = np.full(len(cloud.times), np.nan)
        widths = over_times(total_variance, x) if readable else Estimate(unread, unread)
        whole = number > 0 and lost[0] == lost[number] == 0
        arms.append(
            Arm(
                times=cloud.times,
                widths=widths,
                excess=Estimate(np.nan, np.nan) if lost[number] else _relative(widths[-1], limit),
                law=law,
                distance=sliced_wasserstein(paths[0][-1], x[-1], key=key) if whole else None,
                diverged=lost[number],
            )
        )
    return arms


def _relative(width: Estimate, limit: Estimate) -> Estimate:
    """width/limit − 1 for independent clouds, with the delta method's error."""
    share = width.value / limit.value
    return Estimate(share - 1, share * np.hypot(width.standard_error / width.value, limit.standard_error / limit.value))
