"""Data drawn from a teacher, or from Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sgdsim.problems.datasets.dataset import Dataset
from sgdsim.problems.losses import Model, output


def from_teacher(
    teacher: Model | Float[np.ndarray, "*w"],
    num_examples: int,
    *,
    noise: float,
    key: Key[Array, ""],
    inputs: int | None = None,
) -> Dataset:
    """Standard normal inputs x and labels teacher(x) + noise · ξ with standard normal ξ.

    Args:
        teacher: a model, or an array of weights w for the linear one, x ↦ w·x.
        num_examples: N.
        noise: the labels' standard deviation about the teacher's, ≥ 0.
        key: a typed key.
        inputs: the length of each x; by default that of w, and for a model x is a scalar: (N,).

    Raises:
        ValueError: on no examples, no inputs or negative noise.
    """
    if num_examples < 1 or not 0 <= noise < float("inf"):
        raise ValueError(f"num_examples must be positive and noise not negative, got {num_examples} and {noise}")
    if inputs is not None and inputs < 1:
        raise ValueError(f"inputs must be a positive number, got {inputs}")
    if not callable(teacher):
        teacher = jnp.asarray(teacher, float)
        if inputs is not None and teacher.shape != (inputs,):
            raise ValueError(f"inputs must be the length of the teacher's weights {teacher.shape}, got {inputs}")
        shape = teacher.shape
    else:
        shape = () if inputs is None else (inputs,)
    input_key, label_key = jax.random.split(key)
    x = jax.random.normal(input_key, (num_examples, *shape), float)
    clean = jax.vmap(lambda z: output(teacher, z))(x)
    y = clean + noise * jax.random.normal(label_key, clean.shape, float)
    kind = "linear" if not callable(teacher) else getattr(teacher, "__name__", type(teacher).__name__)
    history = (f"standard normal inputs, labels of a teacher ({kind}) with noise {noise:g}",)
    return Dataset("teacher", np.asarray(x), np.asarray(y), history=history)


def gaussian_blobs(
    centres: Float[np.ndarray, "K d"] | Float[Array, "K d"] | list,
    num_examples: int,
    *,
    spread: float,
    key: Key[Array, ""],
) -> Dataset:
    """x = c_k + spread · ξ with standard normal ξ and labels k = 0 … K − 1, as many of each as N allows.

    Args:
        centres: c, (K, d), for K ≥ 2 classes.
        num_examples: N ≥ K; example i is of class i mod K.
        spread: the standard deviation about a centre, ≥ 0.
        key: a typed key.

    Raises:
        ValueError: on centres that are not a finite (K ≥ 2, d) array, fewer examples than classes, negative spread.
    """
    middle = np.asarray(centres, float)
    if middle.ndim != 2 or len(middle) < 2 or middle.size == 0 or not np.all(np.isfinite(middle)):
        raise ValueError(f"centres must be a finite array (K, d) of at least 2 classes, got {middle.tolist()}")
    if num_examples < len(middle):
        raise ValueError(f"num_examples must be at least the {len(middle)} classes, got {num_examples}")
    if not 0 <= spread < float("inf"):
        raise ValueError(f"spread must be finite and not negative, got {spread}")
    labels = np.arange(num_examples) % len(middle)
    xi = np.asarray(jax.random.normal(key, (num_examples, middle.shape[1]), float))
    history = (f"normal with standard deviation {spread:g} about {len(middle)} centres",)
    return Dataset("gaussian blobs", middle[labels] + spread * xi, labels, history=history)
