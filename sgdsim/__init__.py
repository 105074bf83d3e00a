"""sgdsim: three descriptions of the cloud of points that SGD moves, on one clock."""

from sgdsim import density, measures, plots, studies, theory
from sgdsim._versions import refuse_broken_jax
from sgdsim.density import ChainDensity, FokkerPlanck, Grid
from sgdsim.ensemble import FirstPassage, Gaussian, Previous, Totals, Trajectory, block_means, simulate
from sgdsim.problems import (
    AlphaStableNoise,
    EmpiricalRisk,
    GaussianNoise,
    GaussianRegression,
    NoisyPotential,
    Perturbed,
    Problem,
    datasets,
    networks,
    potentials,
    reshape_noise,
)
from sgdsim.processes import SGD, SVAG, ItoDiffusion, Langevin, Optimizer, ScheduledSGD, Underdamped
from sgdsim.studies import Comparison, compare

__all__ = [
    "SGD",
    "SVAG",
    "AlphaStableNoise",
    "ChainDensity",
    "Comparison",
    "EmpiricalRisk",
    "FirstPassage",
    "FokkerPlanck",
    "Gaussian",
    "GaussianNoise",
    "GaussianRegression",
    "Grid",
    "ItoDiffusion",
    "Langevin",
    "NoisyPotential",
    "Optimizer",
    "Perturbed",
    "Previous",
    "Problem",
    "ScheduledSGD",
    "Totals",
    "Trajectory",
    "Underdamped",
    "block_means",
    "compare",
    "datasets",
    "density",
    "measures",
    "networks",
    "plots",
    "potentials",
    "reshape_noise",
    "simulate",
    "studies",
    "theory",
]

refuse_broken_jax()
