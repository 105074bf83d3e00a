"""Relations that hold in the steady state: fluctuation and dissipation, and the temperature by four thermometers."""

import jax
import numpy as np
from jaxtyping import Array, Key

from sgdsim import theory
from sgdsim.ensemble import Gaussian, Totals, simulate
from sgdsim.measures import FluctuationDissipation, fluctuation_dissipation, thermometers
from sgdsim.problems import GaussianNoise, NoisyPotential
from sgdsim.problems.potentials import Quadratic
from sgdsim.processes import SGD
from sgdsim.studies.laws.law import Check, late_cloud, law, scaled
from sgdsim.studies.presets import preset

RUNS = (  # preset, η, μ
    ("breast-cancer", 1.0, 0.0),
    ("breast-cancer", 8.0, 0.0),
    ("breast-cancer", 0.5, 0.9),
    ("two-weight-network", 0.2, 0.0),
    ("two-weight-network", 0.6, 0.0),
)
RATES, BATCH_SIZES = (0.02, 0.05, 0.1, 0.2), (1, 2, 4, 8)


@law(
    "fluctuation-dissipation",
    "⟨x·∇f⟩ = (1+μ)/(2η) ⟨|Δx|²⟩ for any loss and any η (residual over the right side)",
    "Yaida 2019; heavy ball derived",
)
def fluctuation_and_dissipation(key: Key[Array, ""], effort: float) -> list[Check]:
    """Both sides summed over the second half of a run, on real data and on a network, at small and at large rates."""
    checks = []
    for (name, eta, momentum), k in zip(RUNS, jax.random.split(key, len(RUNS)), strict=True):
        chosen = preset(name)
        problem, start = chosen.build()
        sgd = SGD(problem, learning_rate=eta, batch_size=chosen.batch_size, momentum=momentum, sampling=chosen.sampling)
        tally = Totals(FluctuationDissipation(sgd), every=4)  # a full gradient costs hundreds of steps' minibatches
        particles = scaled(2_000, effort)
        cloud = simulate(
            sgd, start, particles=particles, steps=2_000, save_every=1_000, key=k, tally=tally, dtype="float32"
        )
        heavy = f", μ = {momentum}" if momentum else ""
        checks.append(Check(f"{name}, η = {eta}{heavy}", 0.0, fluctuation_dissipation(cloud)))
    return checks


@law(
    "temperature",
    "T = lr/(2B) by four thermometers, each with its own excess at finite η",
    "Mandt, Hoffman, Blei 2017; excess derived",
)
def temperature(key: Key[Array, ""], effort: float) -> list[Check]:
    """A 4 × 4 grid of learning rates and batch sizes, on a quadratic of curvatures 1 and ½ with D = I."""
    curvatures = np.array([1.0, 0.5])
    problem = NoisyPotential(Quadratic(np.diag(curvatures)), GaussianNoise(1.0))
    checks = []
    for (eta, batch_size), k in zip(
        ((eta, batch_size) for eta in RATES for batch_size in BATCH_SIZES), jax.random.split(key, 16), strict=True
    ):
        sgd = SGD(problem, learning_rate=eta, batch_size=batch_size)
        run_key, read_key = jax.random.split(k)
        start = Gaussian([0.0, 0.0], float(sgd.temperature))
        cloud = late_cloud(sgd, start, particles=scaled(100_000, effort), time=16.0, key=run_key)
        found = thermometers(sgd, cloud, key=read_key)
        truth = theory.thermometer_readings(float(sgd.temperature), curvatures, np.ones(2), eta)
        for name in ("noise", "virial", "configurational", "boltzmann"):
            quantity = f"{name}, lr = {eta}, B = {batch_size} (lr/2B = {eta / 2 / batch_size:g})"
            checks.append(Check(quantity, getattr(truth, name), getattr(found, name)))
    return checks
