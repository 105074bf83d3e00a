"""Clouds of particles in time."""

from sgdsim.ensemble.process import Process
from sgdsim.ensemble.simulate import simulate
from sgdsim.ensemble.start import Gaussian
from sgdsim.ensemble.trajectory import Trajectory

__all__ = ["Gaussian", "Process", "Trajectory", "simulate"]
