"""The real data that ship with scikit-learn."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from sgdsim.problems.datasets.dataset import Dataset


def breast_cancer(features: Sequence[str] | None = ("mean radius", "mean texture")) -> Dataset:
    """Wisconsin diagnostic breast cancer: standardised features (569, d) and labels −1 (malignant) or +1 (benign).

    Args:
        features: their names; None for all 30.

    Raises:
        ValueError: if a feature is not one of the set's 30.
    """
    bunch = _bundled("load_breast_cancer")
    names = list(bunch.feature_names)
    wanted = names if features is None else list(features)
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise ValueError(f"features must be among {', '.join(names)}; got {wanted}")
    x = bunch.data[:, [names.index(name) for name in wanted]]
    return Dataset("breast cancer", x, 2.0 * bunch.target - 1.0).standardised()


def diabetes() -> Dataset:
    """Progression of diabetes within a year, from 10 measurements: (442, 10) and values (442,), all standardised."""
    bunch = _bundled("load_diabetes", scaled=False)
    return Dataset("diabetes", bunch.data, bunch.target.astype(float)).standardised(labels=True)


def digits() -> Dataset:
    """Handwritten digits of 8 × 8 pixels: brightness scaled to 0 … 1, (1797, 64), and labels 0 … 9."""
    bunch = _bundled("load_digits")
    raw = Dataset("digits", bunch.data / 16.0, bunch.target, history=("brightness divided by 16",))
    return dataclasses.replace(raw, centre=np.zeros(64), scale=np.full(64, 16.0))


def wine() -> Dataset:
    """Wines of three cultivars, from 13 standardised chemical measurements: (178, 13) and labels 0 … 2."""
    bunch = _bundled("load_wine")
    return Dataset("wine", bunch.data, bunch.target).standardised()


def _bundled(loader: str, **options: Any) -> Any:
    try:
        import sklearn.datasets
    except ImportError as error:
        raise ImportError("real data needs scikit-learn: pip install 'sgdsim[data]'") from error
    return getattr(sklearn.datasets, loader)(**options)
