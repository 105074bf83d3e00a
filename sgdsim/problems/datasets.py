"""Real data that ships with scikit-learn, and synthetic data drawn from a teacher."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key


def breast_cancer(
    features: Sequence[str] = ("mean radius", "mean texture"),
) -> tuple[Float[np.ndarray, "569 d"], Float[np.ndarray, " 569"]]:
    """Wisconsin diagnostic breast cancer: standardised features (569, d) and labels −1 (malignant) or +1 (benign).

    Each feature is centred and divided by its standard deviation over all 569 examples.

    Raises:
        ValueError: if a feature is not one of the set's 30.
    """
    bunch = _bundled("load_breast_cancer")
    names = list(bunch.feature_names)
    unknown = [name for name in features if name not in names]
    if unknown or not features:
        raise ValueError(f"features must be among {', '.join(names)}; got {list(features)}")
    x = bunch.data[:, [names.index(name) for name in features]]
    return (x - x.mean(axis=0)) / x.std(axis=0), 2.0 * bunch.target - 1.0


def digits() -> tuple[Float[np.ndarray, "1797 64"], Int[np.ndarray, " 1797"]]:
    """Handwritten digits of 8 × 8 pixels: brightness scaled to 0 … 1, (1797, 64), and labels 0 … 9."""
    bunch = _bundled("load_digits")
    return bunch.data / 16.0, bunch.target


def from_teacher(
    teacher: Callable[[Array], Array], num_examples: int, *, noise: float, key: Key[Array, ""]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Standard normal inputs x, (N,), and labels teacher(x) + noise · ξ, (N,)."""
    if num_examples < 1 or not noise >= 0:
        raise ValueError(f"num_examples must be positive and noise not negative, got {num_examples} and {noise}")
    input_key, label_key = jax.random.split(key)
    x = jax.random.normal(input_key, (num_examples,), float)
    y = jax.vmap(teacher)(x) + noise * jax.random.normal(label_key, (num_examples,), float)
    return np.asarray(x), np.asarray(y)


def _bundled(loader: str) -> Any:
    try:
        import sklearn.datasets
    except ImportError as error:
        raise ImportError("real data needs scikit-learn: pip install 'sgdsim[data]'") from error
    return getattr(sklearn.datasets, loader)()
