"""Questions asked of the rooms below, one to a file: from a problem, settings and a key to a frozen result."""

from sgdsim.studies.compare import compare
from sgdsim.studies.comparison import COMPARISON_FILES, Comparison
from sgdsim.studies.effective_potential import POTENTIAL_FILES, EffectivePotential
from sgdsim.studies.laws import LAWS, Check, Law
from sgdsim.studies.paper_table import TABLE_FILES, PaperTable, paper_table
from sgdsim.studies.potential import potential, potential_of
from sgdsim.studies.presets import PRESETS, preset
from sgdsim.studies.result import StudyResult, as_json, check_folder

__all__ = [
    "COMPARISON_FILES",
    "LAWS",
    "POTENTIAL_FILES",
    "PRESETS",
    "TABLE_FILES",
    "Check",
    "Comparison",
    "EffectivePotential",
    "Law",
    "PaperTable",
    "StudyResult",
    "as_json",
    "check_folder",
    "compare",
    "paper_table",
    "potential",
    "potential_of",
    "preset",
]
