"""Clouds of particles in time."""

from sgdsim.ensemble.first_passage import FirstPassage
from sgdsim.ensemble.path import ProjectedPath, path_of
from sgdsim.ensemble.process import Process
from sgdsim.ensemble.simulate import simulate
from sgdsim.ensemble.start import Gaussian
from sgdsim.ensemble.tally import Previous, Tally, Totals, block_means
from sgdsim.ensemble.trajectory import Trajectory

__all__ = [
    "FirstPassage",
    "Gaussian",
    "Previous",
    "Process",
    "ProjectedPath",
    "Tally",
    "Totals",
    "Trajectory",
    "block_means",
    "path_of",
    "simulate",
]
