"""How particles move: discrete SGD and its continuum limits."""

from sgdsim.processes.langevin import Langevin
from sgdsim.processes.limits import AbstractDiffusion, FirstOrderLimit, ItoDiffusion
from sgdsim.processes.sgd import SGD

__all__ = ["SGD", "AbstractDiffusion", "FirstOrderLimit", "ItoDiffusion", "Langevin"]
