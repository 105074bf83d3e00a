"""Pictures. Figures are made without pyplot, so that nothing global is touched."""

from sgdsim.plots.base import (
    CHAIN_COLOUR,
    DENSITY_COLOUR,
    LANGEVIN_COLOUR,
    SGD_COLOUR,
    STEADY_COLOUR,
    cloud_1d,
    cloud_2d,
    density_1d,
    density_2d,
    divergence_curve,
    floor_curve,
    highest_density_levels,
    save,
)
from sgdsim.plots.batch_not_decay import batch_not_decay
from sgdsim.plots.breakdown import breakdown
from sgdsim.plots.compare import compare_clouds, compare_densities
from sgdsim.plots.cyclic_rates import cyclic_rates
from sgdsim.plots.effective_potential import effective_potential
from sgdsim.plots.escape import escape
from sgdsim.plots.flat_or_sharp import flat_or_sharp
from sgdsim.plots.inverse_variance_flatness import inverse_variance_flatness
from sgdsim.plots.network_limits import network_limits
from sgdsim.plots.noise_scale import noise_scale
from sgdsim.plots.noise_spectrum import noise_spectrum
from sgdsim.plots.out_of_equilibrium import out_of_equilibrium
from sgdsim.plots.scores import scores
from sgdsim.plots.two_phases import two_phases

__all__ = [
    "CHAIN_COLOUR",
    "DENSITY_COLOUR",
    "LANGEVIN_COLOUR",
    "SGD_COLOUR",
    "STEADY_COLOUR",
    "batch_not_decay",
    "breakdown",
    "cloud_1d",
    "cloud_2d",
    "compare_clouds",
    "compare_densities",
    "cyclic_rates",
    "density_1d",
    "density_2d",
    "divergence_curve",
    "effective_potential",
    "escape",
    "flat_or_sharp",
    "floor_curve",
    "highest_density_levels",
    "inverse_variance_flatness",
    "network_limits",
    "noise_scale",
    "noise_spectrum",
    "out_of_equilibrium",
    "save",
    "scores",
    "two_phases",
]
