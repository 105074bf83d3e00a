"""Questions asked of the rooms below, one to a file: from a problem, settings and a key to a frozen result."""

from sgdsim.studies.compare import compare
from sgdsim.studies.comparison import COMPARISON_FILES, Comparison
from sgdsim.studies.effective_potential import POTENTIAL_FILES, EffectivePotential
from sgdsim.studies.potential import potential, potential_of
from sgdsim.studies.presets import PRESETS, preset
from sgdsim.studies.result import StudyResult, check_folder

__all__ = [
    "COMPARISON_FILES",
    "POTENTIAL_FILES",
    "PRESETS",
    "Comparison",
    "EffectivePotential",
    "StudyResult",
    "check_folder",
    "compare",
    "potential",
    "potential_of",
    "preset",
]
