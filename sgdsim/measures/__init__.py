"""What is measured on a cloud. Every number is an `Estimate`; diverged particles are counted, never used."""

from sgdsim.measures.autocorrelation import autocorrelation, effective_sample_size, integrated_time
from sgdsim.measures.bootstrap import bootstrap
from sgdsim.measures.common_motion import common_share
from sgdsim.measures.covariance_distance import covariance_distance
from sgdsim.measures.current import (
    BinnedCurrent,
    binned_current,
    circulation,
    circulation_matrix,
    run_circulation,
    swept_area,
)
from sgdsim.measures.energy import energy_distance
from sgdsim.measures.entropy import entropy, entropy_of_masses
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.flatness import flatness
from sgdsim.measures.fluctuation_dissipation import (
    FluctuationDissipation,
    NotStationaryWarning,
    fluctuation_dissipation,
)
from sgdsim.measures.kl import KLEstimate, kl, kl_between_densities, score_interval
from sgdsim.measures.kramers_moyal import (
    BinnedKramersMoyal,
    binned,
    finite_step_moments,
    regress_diffusion,
    regress_drift,
)
from sgdsim.measures.kurtosis import excess_kurtosis
from sgdsim.measures.layers import layer_gradients, layers_of
from sgdsim.measures.loss import mean_loss
from sgdsim.measures.moment_kl import moment_kl
from sgdsim.measures.moments import covariance, mean, mean_distance, total_variance
from sgdsim.measures.noise_spectrum import NoiseSpectrum, noise_spectrum
from sgdsim.measures.operators import Fisher, Hessian, NoiseCovariance
from sgdsim.measures.over_times import over_times
from sgdsim.measures.partition import Partition, merge
from sgdsim.measures.passage import passage_time, tail_drift
from sgdsim.measures.principal_variances import principal_variances
from sgdsim.measures.projection import Projection, leading_plane, project, slice_plane
from sgdsim.measures.spectrum import EigenPairs, alignment, overlap, top_eigenpairs, trace
from sgdsim.measures.stein import stein_discrepancy
from sgdsim.measures.tail_index import hill_tail_index, stable_index
from sgdsim.measures.temperature import (
    boltzmann_temperature,
    configurational_temperature,
    kinetic_temperature,
    virial_temperature,
)
from sgdsim.measures.thermometers import Thermometers, thermometers
from sgdsim.measures.variance_exponent import variance_exponent
from sgdsim.measures.wasserstein import sliced_wasserstein, wasserstein_1d
from sgdsim.measures.weak_error import paired_kl

__all__ = [
    "BinnedCurrent",
    "BinnedKramersMoyal",
    "EigenPairs",
    "Estimate",
    "Fisher",
    "FluctuationDissipation",
    "Hessian",
    "KLEstimate",
    "NoiseCovariance",
    "NoiseSpectrum",
    "NotStationaryWarning",
    "Partition",
    "Projection",
    "Thermometers",
    "alignment",
    "autocorrelation",
    "binned",
    "binned_current",
    "boltzmann_temperature",
    "bootstrap",
    "circulation",
    "circulation_matrix",
    "common_share",
    "configurational_temperature",
    "covariance",
    "covariance_distance",
    "effective_sample_size",
    "energy_distance",
    "entropy",
    "entropy_of_masses",
    "excess_kurtosis",
    "finite_step_moments",
    "flatness",
    "fluctuation_dissipation",
    "hill_tail_index",
    "integrated_time",
    "kinetic_temperature",
    "kl",
    "kl_between_densities",
    "layer_gradients",
    "layers_of",
    "leading_plane",
    "mean",
    "mean_distance",
    "mean_loss",
    "merge",
    "moment_kl",
    "noise_spectrum",
    "over_times",
    "overlap",
    "paired_kl",
    "passage_time",
    "principal_variances",
    "project",
    "regress_diffusion",
    "regress_drift",
    "run_circulation",
    "score_interval",
    "slice_plane",
    "sliced_wasserstein",
    "stable_index",
    "stein_discrepancy",
    "swept_area",
    "tail_drift",
    "thermometers",
    "top_eigenpairs",
    "total_variance",
    "trace",
    "variance_exponent",
    "virial_temperature",
    "wasserstein_1d",
]
