"""sgdsim: three descriptions of the cloud of points that SGD moves, on one clock."""

from sgdsim import density, measures, plots, studies, theory
from sgdsim._versions import refuse_broken_jax
from sgdsim.density import FokkerPlanck, Grid
from sgdsim.ensemble import Gaussian, Trajectory, simulate
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
from sgdsim.processes import SGD, ItoDiffusion, Langevin
from sgdsim.studies import Comparison, compare

__all__ = [
    "SGD",
    "Comparison",
    "EmpiricalRisk",
    "FokkerPlanck",
    "Gaussian",
    "GaussianNoise",
    "Grid",
    "ItoDiffusion",
    "Langevin",
    "NoisyPotential",
    "Perturbed",
    "Problem",
    "Trajectory",
    "compare",
    "datasets",
    "density",
    "measures",
    "networks",
    "plots",
    "potentials",
    "simulate",
    "studies",
    "theory",
]

refuse_broken_jax()
