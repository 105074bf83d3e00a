"""Densities on a grid: the Fokker–Planck equation as a Markov chain on cells."""

from sgdsim.density.fokker_planck import FokkerPlanck
from sgdsim.density.generator import Generator
from sgdsim.density.grid import Grid
from sgdsim.density.propagate import Propagation

__all__ = ["FokkerPlanck", "Generator", "Grid", "Propagation"]
