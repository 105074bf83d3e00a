"""Data that say what was done to them: scikit-learn's bundled sets, synthetic ones, and a user's own."""

from sgdsim.problems.datasets.bundled import breast_cancer, diabetes, digits, wine
from sgdsim.problems.datasets.dataset import Dataset
from sgdsim.problems.datasets.own import from_arrays, from_csv, from_npz
from sgdsim.problems.datasets.synthetic import from_teacher, gaussian_blobs

__all__ = [
    "Dataset",
    "breast_cancer",
    "diabetes",
    "digits",
    "from_arrays",
    "from_csv",
    "from_npz",
    "from_teacher",
    "gaussian_blobs",
    "wine",
]
