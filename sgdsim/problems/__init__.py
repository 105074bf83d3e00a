"""What is descended: potentials with modelled noise, and finite sums over data."""

from sgdsim.problems import datasets, networks, potentials
from sgdsim.problems.gaussian_regression import GaussianRegression
from sgdsim.problems.noise import AlphaStableNoise, GaussianNoise
from sgdsim.problems.noise_shapes import NOISE_SHAPES, reshape_noise
from sgdsim.problems.noisy_potential import NoisyPotential
from sgdsim.problems.perturbed import Perturbed
from sgdsim.problems.problem import Problem
from sgdsim.problems.risk import EmpiricalRisk

__all__ = [
    "NOISE_SHAPES",
    "AlphaStableNoise",
    "EmpiricalRisk",
    "GaussianNoise",
    "GaussianRegression",
    "NoisyPotential",
    "Perturbed",
    "Problem",
    "datasets",
    "networks",
    "potentials",
    "reshape_noise",
]
