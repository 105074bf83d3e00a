"""Closed-form laws: exact answers that simulations are checked against. Host NumPy and SciPy, float64.

K is the Hessian of a quadratic loss f = ½ xᵀKx, C = s_B D/B the covariance of the minibatch gradient, η the learning
rate, μ the momentum (v ← μv + g, x ← x − ηv), S the stationary covariance. Everything is dimensionless.
"""

from sgdsim.theory.circulating_double_well import CirculatingDoubleWellLaw, circulating_double_well
from sgdsim.theory.epoch_sampling import epoch_crossover, epoch_mean_variance, epoch_variance, window_share
from sgdsim.theory.escape import kramers_time, mean_passage_time
from sgdsim.theory.fluctuation_dissipation import fluctuation_dissipation
from sgdsim.theory.gibbs import gibbs, log_gibbs
from sgdsim.theory.linear_regression import linear_regression_covariance
from sgdsim.theory.linear_scaling import critical_batch_size, linear_scaling
from sgdsim.theory.ornstein_uhlenbeck import ou_mean_covariance
from sgdsim.theory.relative_entropy import gaussian_kl, kl_dissipation
from sgdsim.theory.reversible_chain import ReversibleChain, reversible_chain
from sgdsim.theory.rotation import Rotation, ou_circulation, rotation
from sgdsim.theory.stationary import (
    heavy_ball_covariance,
    heavy_ball_recursion,
    heavy_ball_variance,
    ou_stationary_covariance,
    second_order_stationary_covariance,
    sgd_stationary_covariance,
    svag_variance,
)
from sgdsim.theory.temperature import sampling_factor, temperature
from sgdsim.theory.thermometers import ThermometerReadings, thermometer_readings
from sgdsim.theory.weak_order import quadratic_moments

__all__ = [
    "CirculatingDoubleWellLaw",
    "ReversibleChain",
    "Rotation",
    "ThermometerReadings",
    "circulating_double_well",
    "critical_batch_size",
    "epoch_crossover",
    "epoch_mean_variance",
    "epoch_variance",
    "fluctuation_dissipation",
    "gaussian_kl",
    "gibbs",
    "heavy_ball_covariance",
    "heavy_ball_recursion",
    "heavy_ball_variance",
    "kl_dissipation",
    "kramers_time",
    "linear_regression_covariance",
    "linear_scaling",
    "log_gibbs",
    "mean_passage_time",
    "ou_circulation",
    "ou_mean_covariance",
    "ou_stationary_covariance",
    "quadratic_moments",
    "reversible_chain",
    "rotation",
    "sampling_factor",
    "second_order_stationary_covariance",
    "sgd_stationary_covariance",
    "svag_variance",
    "temperature",
    "thermometer_readings",
    "window_share",
]
