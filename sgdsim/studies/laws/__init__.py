"""The laws of the literature that the paper table measures, in the order of its rows."""

from sgdsim.studies.laws.escape import escape
from sgdsim.studies.laws.law import SIGMAS, Check, Law
from sgdsim.studies.laws.relations import fluctuation_and_dissipation, temperature
from sgdsim.studies.laws.relaxation import example_19, kl_decay, rotation
from sgdsim.studies.laws.stationary import (
    heavy_ball,
    langevin_covariance,
    linear_regression,
    linear_scaling,
    sampling,
    sgd_covariance,
    svag,
)
from sgdsim.studies.laws.weak_order import second_order_steady, weak_order

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        langevin_covariance,
        sgd_covariance,
        heavy_ball,
        linear_regression,
        sampling,
        fluctuation_and_dissipation,
        svag,
        linear_scaling,
        temperature,
        weak_order,
        second_order_steady,
        kl_decay,
        rotation,
        example_19,
        escape,
    )
}

__all__ = ["LAWS", "SIGMAS", "Check", "Law"]
