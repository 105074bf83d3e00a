"""What is measured on a cloud. Every number is an `Estimate`; diverged particles are counted, never used."""

from sgdsim.measures.estimate import Estimate
from sgdsim.measures.kl import KLEstimate, kl, kl_between_densities, score_interval
from sgdsim.measures.kramers_moyal import BinnedKramersMoyal, binned, regress_diffusion, regress_drift
from sgdsim.measures.kurtosis import excess_kurtosis
from sgdsim.measures.moments import covariance, mean, mean_distance
from sgdsim.measures.partition import Partition, merge
from sgdsim.measures.projection import Projection, leading_plane, project, slice_plane
from sgdsim.measures.temperature import kinetic_temperature, virial_temperature
from sgdsim.measures.wasserstein import sliced_wasserstein, wasserstein_1d
from sgdsim.measures.weak_error import paired_kl

__all__ = [
    "BinnedKramersMoyal",
    "Estimate",
    "KLEstimate",
    "Partition",
    "Projection",
    "binned",
    "covariance",
    "excess_kurtosis",
    "kinetic_temperature",
    "kl",
    "kl_between_densities",
    "leading_plane",
    "mean",
    "mean_distance",
    "merge",
    "paired_kl",
    "project",
    "regress_diffusion",
    "regress_drift",
    "score_interval",
    "slice_plane",
    "sliced_wasserstein",
    "virial_temperature",
    "wasserstein_1d",
]
