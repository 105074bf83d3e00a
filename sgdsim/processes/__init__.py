"""How particles move: discrete SGD and its continuum limits."""

from sgdsim.processes.langevin import Langevin
from sgdsim.processes.limits import AbstractDiffusion, FirstOrderLimit, ItoDiffusion, SecondOrderLimit
from sgdsim.processes.sgd import SGD
from sgdsim.processes.svag import SVAG

__all__ = [
    "SGD",
    "SVAG",
    "AbstractDiffusion",
    "FirstOrderLimit",
    "ItoDiffusion",
    "Langevin",
    "SecondOrderLimit",
]
