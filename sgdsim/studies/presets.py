"""The settings of the main job: problems for which limit, grid and run length fit together."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from sgdsim.ensemble import Gaussian
from sgdsim.problems import (
    EmpiricalRisk,
    GaussianNoise,
    NoisyPotential,
    Perturbed,
    Problem,
    datasets,
    networks,
    potentials,
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A problem with settings that any of them may be overridden.

    Attributes:
        name: what the command line calls it.
        summary: one line on what it is.
        build: makes the problem and its start; called only when the preset is run.
        learning_rate, batch_size, sampling, steps, save_every, particles: the run.
        cells: of the grid, where they are not fitted.
        substeps: of the Langevin limit's solver, for each SGD step.
    """

    name: str
    summary: str
    build: Callable[[], tuple[Problem, Any]]
    learning_rate: float
    batch_size: int
    sampling: str
    steps: int
    save_every: int
    particles: int
    cells: tuple[int, ...] | None = None
    substeps: int = 4


def _double_well() -> tuple[Problem, Any]:
    return NoisyPotential(potentials.DoubleWell(dim=1), GaussianNoise(1.0)), Gaussian([-0.3], [[0.0225]])


def _breast_cancer() -> tuple[Problem, Any]:
    data = datasets.breast_cancer(("mean radius", "mean texture"))
    risk = EmpiricalRisk(networks.logistic_loss, data, init=np.zeros(2), weight_decay=0.01)
    return risk, Gaussian([0.0, 0.0], 0.04)


def _two_weight_network() -> tuple[Problem, Any]:
    # Weights of 1.5 put the wells many widths from the saddle; the label noise makes them wide enough for the grid.
    teacher = networks.TwoWeightNetwork(1.5, 1.5)
    data = datasets.from_teacher(teacher, 100, noise=1.2, key=jax.random.key(7))
    risk = EmpiricalRisk(networks.squared_error, data, init=networks.TwoWeightNetwork())
    return Perturbed(risk, 0.1), Gaussian([0.0, 0.0], 0.02)


def _digits(*hidden: int, weight_decay: float = 1e-3) -> tuple[Problem, Any]:
    model = networks.mlp((64, *hidden, 10), key=jax.random.key(1))
    risk = EmpiricalRisk(networks.cross_entropy, datasets.digits(), init=model, weight_decay=weight_decay)
    return risk, risk.x0


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="breast-cancer",
            summary="logistic regression on two features of the breast-cancer data, true minibatches (2-D)",
            build=_breast_cancer,
            learning_rate=1.0,
            batch_size=1,
            sampling="with-replacement",
            steps=200,
            save_every=20,
            particles=20_000,
        ),
        Preset(
            name="double-well",
            summary="double well (x² − 1)²/4 with Gaussian gradient noise (1-D)",
            build=_double_well,
            learning_rate=0.01,
            batch_size=1,
            sampling="with-replacement",
            steps=2_000,
            save_every=100,
            particles=100_000,
            cells=(512,),
        ),
        Preset(
            name="two-weight-network",
            summary="y = w₂ tanh(w₁ x): two minima and a saddle, true minibatches and a little isotropic noise (2-D)",
            build=_two_weight_network,
            learning_rate=0.2,
            batch_size=4,
            sampling="without-replacement",
            steps=400,
            save_every=40,
            particles=20_000,
        ),
        Preset(
            name="digits-mlp",
            summary="a 64-16-10 network on handwritten digits, true minibatches (1,210-D: SGD against Langevin only)",
            build=partial(_digits, 16),
            learning_rate=0.1,
            batch_size=32,
            sampling="without-replacement",
            steps=1_000,
            save_every=100,
            particles=128,
            substeps=2,  # each is a pass over all examples; the report holds the solver's own bias against the floor
        ),
        Preset(
            name="digits-softmax",
            summary="softmax regression on handwritten digits: convex, so that it has a steady state (650-D)",
            build=partial(_digits, weight_decay=0.01),
            learning_rate=0.5,
            batch_size=32,
            sampling="without-replacement",
            steps=400,
            save_every=40,
            particles=128,
        ),
        Preset(
            name="digits-wide",
            summary="a 64-150-10 network on handwritten digits, whose noise has few of its directions (11,260-D)",
            build=partial(_digits, 150),
            learning_rate=0.1,
            batch_size=32,
            sampling="without-replacement",
            steps=300,
            save_every=30,
            particles=16,
            substeps=2,
        ),
    )
}


def preset(name: str) -> Preset:
    """The preset of this name, or a ValueError that lists them."""
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}; got {name!r}")
    return PRESETS[name]
