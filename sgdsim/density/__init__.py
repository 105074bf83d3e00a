"""Densities on a grid: the Fokker–Planck equation as a Markov chain on cells."""

from sgdsim.density.chain import ChainDensity
from sgdsim.density.fokker_planck import FokkerPlanck
from sgdsim.density.generator import Generator
from sgdsim.density.grid import Grid
from sgdsim.density.grid_estimate import GridEstimate
from sgdsim.density.propagate import Propagation
from sgdsim.density.schedule import propagate_schedule, propagate_scheduled
from sgdsim.density.sweep import propagate_sweep

__all__ = [
    "ChainDensity",
    "FokkerPlanck",
    "Generator",
    "Grid",
    "GridEstimate",
    "Propagation",
    "propagate_schedule",
    "propagate_scheduled",
    "propagate_sweep",
]
