"""How particles move: discrete SGD and its continuum limits."""

from sgdsim.processes.gaussian_chain import GaussianChain
from sgdsim.processes.langevin import Langevin
from sgdsim.processes.limits import (
    AbstractDiffusion,
    BackwardErrorLimit,
    FirstOrderLimit,
    ItoDiffusion,
    SecondOrderLimit,
)
from sgdsim.processes.optimizers import Optimizer
from sgdsim.processes.scheduled import ScheduledLangevin, ScheduledSGD
from sgdsim.processes.sgd import SGD
from sgdsim.processes.svag import SVAG
from sgdsim.processes.underdamped import Underdamped

__all__ = [
    "SGD",
    "SVAG",
    "AbstractDiffusion",
    "BackwardErrorLimit",
    "FirstOrderLimit",
    "GaussianChain",
    "ItoDiffusion",
    "Langevin",
    "Optimizer",
    "ScheduledLangevin",
    "ScheduledSGD",
    "SecondOrderLimit",
    "Underdamped",
]
