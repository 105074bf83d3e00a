"""Escape from a well: SGD and its limit against Kramers and against exact times, across T and across noise shapes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from sgdsim import theory
from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.grid_estimate import GridEstimate
from sgdsim.draws import key_words
from sgdsim.ensemble import FirstPassage, Trajectory, simulate
from sgdsim.measures import Estimate, bootstrap, curvature, passage_time
from sgdsim.problems import GaussianNoise, NoisyPotential, Perturbed, Problem, potentials
from sgdsim.problems.noise_shapes import reshape_noise
from sgdsim.processes import SGD, Langevin
from sgdsim.studies.double_well import LINE, arrived, exact_time, to_go, well
from sgdsim.studies.escape_times import EscapeTimes, MonitoringRow, ShapeRow, TemperatureRow

SHAPES = ("hessian", "isotropic", "diagonal", "constant", "true", "alpha-stable")
RUN = 1.5  # mean times that a run lasts
# −ζ(½)/√(2π): by how many standard deviations of a step a boundary that is watched at steps only lies further out
OVERSHOOT = 0.5826
PLANE = Grid([-2.225, -2.225], [2.425, 2.425], [93, 93])
FINE = Grid(PLANE.lower, PLANE.upper, [279, 279])  # for noise that nearly vanishes across a line
WELL = np.array([-1.0, -0.5])  # the left minimum of the slanted double well
TILTED = np.array([[1.4, 0.5], [0.5, 0.6]])  # its noise: most of it along the valley
FLOOR = 0.2  # isotropic noise beside every shape, so that a grid can hold each


def escape(
    *,
    key: Key[Array, ""],
    temperatures: Sequence[float] = (0.2, 0.15, 0.1, 0.08, 0.06),
    learning_rate: float = 0.02,
    particles: int = 20_000,
    monitored_temperature: float = 0.1,
    learning_rates: Sequence[float] = (0.08, 0.04, 0.02, 0.01),
    paired_particles: int = 50_000,
    shape_temperature: float = 0.15,
    alpha: float = 1.8,
    progress: bool = False,
) -> EscapeTimes:
    """Mean escape times of clouds, censored where not all escape, against Kramers' law and the exact ones.

    In one dimension, −1 → +1 in (x² − 1)²/4 with A = T: SGD (the noise σ² = 2BT/η holds T fixed whatever η), and its
    Langevin limit looked at at its steps, and with a Brownian bridge between them. A path that is looked at at times
    h apart only is found to have crossed too late by O(√h): to leading order as if the boundary lay 0.5826 √(2Th)
    further out. This is far below the error of a mean of independent clouds, so it is shown by pairs: one key, the
    same paths, with bridges and without; their draws come from a stream of their own.

    In two dimensions, out of a well of the `SlantedDoubleWell`, under noise of one trace and six shapes
    (`reshape_noise`), each above the same small isotropic floor: what counts is the noise along the way out. Without a
    floor noise in the Hessian's shape would be singular where a curvature changes sign, on a line that every path has
    to cross, and no grid could hold it.

    Args:
        key: a typed `jax.random.key`.
        temperatures: T of the first part.
        learning_rate: η of the first and the last part, which is the time between looks as well.
        particles: of each cloud of the first and last part.
        monitored_temperature, learning_rates, paired_particles: of the second part, the monitoring bias.
        shape_temperature: T of the last part, where Tr D = 2 at the well.
        alpha: the index of the α-stable shape.
        progress: show a bar over the clouds.

    Raises:
        ValueError: on numbers out of their range, or if too few particles escape within 1.5 mean times.

    Source: Kramers (1940); Asmussen, Glynn, Pitman (1995) and Gobet, Menozzi (2010) for the shifted boundary; Zhu et
    al. (2019) for the shapes.
    """
    key_words(key)
    if len(temperatures) < 1:
        raise ValueError("temperatures must be one at least, got none")
    if len(learning_rates) < 2:
        raise ValueError(f"learning_rates must be two at least, for an exponent; got {list(learning_rates)}")
    for name, values in {
        "temperatures": temperatures,
        "learning_rate": [learning_rate],
        "monitored_temperature": [monitored_temperature],
        "learning_rates": learning_rates,
        "shape_temperature": [shape_temperature],
    }.items():
        for value in values:
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value:g}")
    _slanted("alpha-stable", 1.0, alpha)  # which has more to say of α
    keys = jax.random.split(key, 3)
    count = len(temperatures) + len(learning_rates) + len(SHAPES)
    with tqdm(total=count, desc="escape", unit=" rows", disable=not progress) as bar:
        first = [
            _temperature_row(t, learning_rate, particles, k, bar)
            for t, k in zip(temperatures, jax.random.split(keys[0], len(temperatures)), strict=True)
        ]
        rates = sorted(learning_rates, reverse=True)
        second = [
            _monitoring_row(monitored_temperature, eta, paired_particles, k, bar)
            for eta, k in zip(rates, jax.random.split(keys[1], len(rates)), strict=True)
        ]
        third = _shape_rows(shape_temperature, learning_rate, alpha, particles, keys[2], bar)
    settings = {
        "learning_rate": learning_rate,
        "particles": particles,
        "monitored_temperature": monitored_temperature,
        "monitored_exact": exact_time(monitored_temperature),
        "paired_particles": paired_particles,
        "shape_temperature": shape_temperature,
        "alpha": alpha,
        "floor": FLOOR / 2,
    }
    return EscapeTimes(settings, tuple(first), tuple(second), tuple(third), _exponent(second))


def _temperature_row(temperature: float, step: float, particles: int, key: Key[Array, ""], bar: tqdm) -> TemperatureRow:
    sgd, exact = well(temperature, step), exact_time(temperature)
    limit = Langevin.limit_of(sgd, substeps=1)
    keys = jax.random.split(key, 3)
    runs = [
        _run(process, [-1.0], RUN * exact, particles, k, bridge)
        for process, k, bridge in (
            (sgd, keys[0], None),
            (limit, keys[1], None),
            (limit, keys[2], limit.limit.diffusion),
        )
    ]
    density = FokkerPlanck.limit_of(sgd, LINE).mean_passage_time([-1.0], arrived)
    bar.update()
    kramers = theory.kramers_time(2.0, -1.0, 0.25, temperature)
    return TemperatureRow(temperature, exact, kramers, density, *map(passage_time, runs))


def _monitoring_row(temperature: float, step: float, particles: int, key: Key[Array, ""], bar: tqdm) -> MonitoringRow:
    sgd, exact = well(temperature, step), exact_time(temperature)
    bridges = (None, Langevin.limit_of(sgd).limit.diffusion)
    looked, bridged = (_run(sgd, [-1.0], RUN * exact, particles, key, bridge) for bridge in bridges)
    shifted = exact_time(temperature, 1 + OVERSHOOT * math.sqrt(2 * temperature * step))
    bar.update()
    bias = _paired_difference(looked, bridged, key)
    # a bridge's passage is booked at the end of its step, half a step late on average
    return MonitoringRow(step, passage_time(looked), passage_time(bridged), bias, shifted - exact - step / 2)


def _shape_rows(
    temperature: float, step: float, alpha: float, particles: int, key: Key[Array, ""], bar: tqdm
) -> list[ShapeRow]:
    rows, end = [], 0.0
    for shape, k in zip(SHAPES, jax.random.split(key, len(SHAPES)), strict=True):
        sgd = SGD(_slanted(shape, 2 * temperature / step, alpha), learning_rate=step, batch_size=1)
        along, exact = math.nan, GridEstimate(math.nan)
        if shape != "alpha-stable":  # which runs as long as the last one that has a limit
            fp = FokkerPlanck.limit_of(sgd, FINE if shape == "hessian" else PLANE)
            exact = fp.mean_passage_time(WELL, arrived)
            along, end = _along(sgd.problem, float(sgd.temperature)), RUN * exact.value
        rows.append(ShapeRow(shape, along, passage_time(_run(sgd, WELL, end, particles, k)), exact))
        bar.update()
    return rows


def _slanted(shape: Any, scale: float, alpha: float) -> Problem:
    """The slanted double well with reshaped noise of trace 2 · `scale` at the wells, less between, above the floor."""
    tilted = jnp.asarray(TILTED)

    def covariance(x: Float[Array, " 2"]) -> Float[Array, "2 2"]:
        return scale * (1 + (jnp.sum(x * x) - WELL @ WELL) / 8) * tilted.astype(x.dtype)

    source = NoisyPotential(potentials.SlantedDoubleWell(WELL[1] / WELL[0]), GaussianNoise(covariance))
    options: dict[str, Any] = {"constant": {"at": WELL}, "alpha-stable": {"alpha": alpha}}.get(shape, {})
    return Perturbed(reshape_noise(source, shape, **options), FLOOR * scale)


def _run(process: Any, start: Any, end: float, particles: int, key: Key[Array, ""], bridge: Any = None) -> Trajectory:
    """A cloud that is watched for arrivals at x₁ = 1, with bridges of this diffusion where one is given."""
    steps = math.ceil(end / float(process.time_step))
    tally = FirstPassage(to_go, diffusion=bridge)
    return simulate(process, start, particles=particles, steps=steps, key=key, tally=tally, dtype="float32")


def _paired_difference(looked: Trajectory, bridged: Trajectory, key: Key[Array, ""]) -> Estimate:
    """The difference of two mean passage times over the same particles; each is censored, so by the bootstrap."""

    def difference(rows: Float[np.ndarray, "P 1"]) -> float:
        chosen = rows[:, 0].astype(int)
        return float(passage_time(_some(looked, chosen)).value) - float(passage_time(_some(bridged, chosen)).value)

    return bootstrap(difference, np.arange(float(looked.particles.shape[1]))[:, None], key=key)


def _some(run: Trajectory, chosen: np.ndarray) -> Trajectory:
    return dataclasses.replace(run, particles=run.particles[:, chosen], tallied=run.tallied[:, chosen])


def _exponent(rows: Sequence[MonitoringRow]) -> Estimate:
    """p of bias ~ η^p, by least squares of the logarithms weighted with their errors."""
    rates, biases, errors = np.array([(r.learning_rate, r.bias.value, r.bias.standard_error) for r in rows]).T
    if np.any(biases <= 0):
        return Estimate(math.nan, math.nan)
    fit, covariance = np.polyfit(np.log(rates), np.log(biases), 1, w=biases / errors, cov="unscaled")
    return Estimate(fit[0], math.sqrt(covariance[0, 0]))


def _along(problem: Problem, temperature: float) -> float:
    """eᵀAe at the saddle, e the unstable direction there, in x²/time."""
    saddle = np.zeros(2)
    direction = np.linalg.eigh(curvature.hessian(problem, saddle))[1][:, 0]
    return float(temperature * direction @ np.asarray(problem.noise_covariance(jnp.asarray(saddle))) @ direction)
