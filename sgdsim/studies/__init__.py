"""Questions asked of the rooms below, one to a file: from a problem, settings and a key to a frozen result."""

from sgdsim.studies.atlas import BREAKDOWN_FILES, Breakdown
from sgdsim.studies.atlases import ATLASES, atlas
from sgdsim.studies.batch_not_decay import BATCH_NOT_DECAY_FILES, BatchNotDecay, batch_not_decay
from sgdsim.studies.breakdown import breakdown
from sgdsim.studies.candidates import NETWORK_LIMITS_FILES, Candidates
from sgdsim.studies.compare import compare
from sgdsim.studies.comparison import COMPARISON_FILES, Comparison
from sgdsim.studies.cyclic_rates import CYCLIC_RATES_FILES, CyclicRates, cyclic_rates
from sgdsim.studies.effective_potential import POTENTIAL_FILES, EffectivePotential
from sgdsim.studies.escape import escape
from sgdsim.studies.escape_times import ESCAPE_FILES, EscapeTimes
from sgdsim.studies.flat_or_sharp import flat_or_sharp
from sgdsim.studies.inverse_variance_flatness import inverse_variance_flatness
from sgdsim.studies.laws import LAWS, Check, Law
from sgdsim.studies.loops import OUT_OF_EQUILIBRIUM_FILES, Loops
from sgdsim.studies.network_limits import network_limits
from sgdsim.studies.noise_scale import noise_scale, noise_scale_of_digits, noisy_digits
from sgdsim.studies.noise_scales import NOISE_SCALE_FILES, NoiseScales
from sgdsim.studies.noise_spectrum import NOISE_SPECTRUM_FILES, NoiseRanks, noise_spectrum
from sgdsim.studies.occupations import FLAT_OR_SHARP_FILES, Occupations
from sgdsim.studies.out_of_equilibrium import out_of_equilibrium
from sgdsim.studies.paper_table import TABLE_FILES, PaperTable, paper_table
from sgdsim.studies.phases import TWO_PHASES_FILES, TwoPhases
from sgdsim.studies.potential import potential, potential_of
from sgdsim.studies.presets import PRESETS, preset
from sgdsim.studies.result import StudyResult, as_json, check_folder
from sgdsim.studies.two_phases import two_phases
from sgdsim.studies.variance_flatness import INVERSE_VARIANCE_FLATNESS_FILES, VarianceFlatness

__all__ = [
    "ATLASES",
    "BATCH_NOT_DECAY_FILES",
    "BREAKDOWN_FILES",
    "COMPARISON_FILES",
    "CYCLIC_RATES_FILES",
    "ESCAPE_FILES",
    "FLAT_OR_SHARP_FILES",
    "INVERSE_VARIANCE_FLATNESS_FILES",
    "LAWS",
    "NETWORK_LIMITS_FILES",
    "NOISE_SCALE_FILES",
    "NOISE_SPECTRUM_FILES",
    "OUT_OF_EQUILIBRIUM_FILES",
    "POTENTIAL_FILES",
    "PRESETS",
    "TABLE_FILES",
    "TWO_PHASES_FILES",
    "BatchNotDecay",
    "Breakdown",
    "Candidates",
    "Check",
    "Comparison",
    "CyclicRates",
    "EffectivePotential",
    "EscapeTimes",
    "Law",
    "Loops",
    "NoiseRanks",
    "NoiseScales",
    "Occupations",
    "PaperTable",
    "StudyResult",
    "TwoPhases",
    "VarianceFlatness",
    "as_json",
    "atlas",
    "batch_not_decay",
    "breakdown",
    "check_folder",
    "compare",
    "cyclic_rates",
    "escape",
    "flat_or_sharp",
    "inverse_variance_flatness",
    "network_limits",
    "noise_scale",
    "noise_scale_of_digits",
    "noise_spectrum",
    "noisy_digits",
    "out_of_equilibrium",
    "paper_table",
    "potential",
    "potential_of",
    "preset",
    "two_phases",
]
