"""What every study of a network asks of its chain."""

from typing import Any

from sgdsim.problems import EmpiricalRisk
from sgdsim.processes import SGD


def checked_risk(sgd: Any) -> EmpiricalRisk:
    """The finite sum that a chain descends.

    Raises:
        TypeError: on a process that is not SGD over an `EmpiricalRisk`.
    """
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    if not isinstance(sgd.problem, EmpiricalRisk):
        raise TypeError(f"sgd must descend an EmpiricalRisk, a finite sum over data; got {type(sgd.problem).__name__}")
    return sgd.problem


def check_counts(**counts: tuple[Any, int]) -> None:
    """Raise ValueError unless each named number is a whole one, and not below the least that is given with it."""
    for name, (value, least) in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
