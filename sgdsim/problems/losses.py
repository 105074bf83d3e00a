"""The loss of one example: what a model says of an input against the example's label."""

import types
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PyTree

Model = Callable[..., Array] | Float[Array, "*w"]


def output(model: Model, x: PyTree[Array]) -> Float[Array, "*out"]:
    """model(x); a plain array of weights w is the linear model x ↦ w·x."""
    return model(x) if callable(model) else jnp.sum(model * x)


def squared_error(model: Model, example: tuple[PyTree[Array], Num[Array, "*out"]]) -> Float[Array, ""]:
    """½|model(x) − y|² of one example; with an array of weights for a model it is linear regression."""
    x, y = example
    return jnp.sum((output(model, x) - y) ** 2) / 2


def cross_entropy(model: Model, example: tuple[PyTree[Array], Int[Array, ""]]) -> Float[Array, ""]:
    """−log softmax(model(x))_label of one example; labels are 0 … classes − 1, one for each of the model's outputs."""
    x, label = example
    return -jax.nn.log_softmax(output(model, x))[label]


def hinge(model: Model, example: tuple[PyTree[Array], Num[Array, "*one"]]) -> Float[Array, ""]:
    """The margin that one example lacks: max(0, 1 − y·model(x)) for a model of one output and labels y = ±1.

    For K ≥ 2 outputs f and labels y = 0 … K − 1 it is max(0, 1 + max_{j≠y} f_j − f_y).

    Source: Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR
    2001.
    """
    x, y = example
    f = output(model, x)
    if f.size == 1:
        return jax.nn.relu(1 - jnp.sum(y * f))
    # The label's own entry is 0, so that the maximum is never below it.
    return jnp.max(f - f[y] + (jnp.arange(f.size) != y))


def logistic_loss(model: Model, example: tuple[PyTree[Array], Num[Array, "*one"]]) -> Float[Array, ""]:
    """log(1 + e^{−y·model(x)}) of one example with label y = ±1, for a model of one output.

    With an array of weights for a model it is logistic regression without intercept.
    """
    x, y = example
    return _softplus(jnp.sum(-y * output(model, x)))


@jax.custom_jvp
def _softplus(z: Float[Array, ""]) -> Float[Array, ""]:
    """log(1 + eᶻ), whose derivative is one logistic function; JAX's own goes through an exponential and a logarithm."""
    return jax.nn.softplus(z)


_softplus.defjvps(lambda tangent, _, z: tangent * jax.nn.sigmoid(z))


def example_of(data: PyTree[Array]) -> PyTree[jax.ShapeDtypeStruct]:
    """Shape and dtype of one example."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), data)


def check_labels(example_loss: Callable, model: PyTree, data: PyTree[Array]) -> None:
    """Raise ValueError unless the data's labels are such as this loss takes; nothing is compiled or computed.

    JAX clamps an index out of range and broadcasts shapes that differ: a wrong label would give a wrong loss, and no
    error. Losses that are not of this file are not known here, and let through.
    """
    rule = _RULES.get(example_loss) if isinstance(example_loss, types.FunctionType) else None
    if rule is None:
        return
    name = example_loss.__name__
    if not isinstance(data, tuple | list) or len(data) != 2 or not hasattr(data[1], "shape"):
        raise ValueError(f"data must be a pair (inputs, labels) for {name}, got {jax.tree.structure(data)}")
    try:
        out = eqx.filter_eval_shape(output, model, example_of(data[0]))
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"init must be a model of one example's input for {name} (parameters alone want apply=), but it raised "
            f"{reason}"
        ) from error
    if not isinstance(out, jax.ShapeDtypeStruct):
        raise ValueError(f"init must be a model that returns one array for {name}, got {out}")
    rule(name, out.shape, np.asarray(data[1]))


def _require_values(name: str, shape: tuple[int, ...], labels: np.ndarray) -> None:
    each = labels.shape[1:]
    try:
        size = int(np.prod(np.broadcast_shapes(shape, each)))
    except ValueError:
        size = -1
    if not size == np.prod(shape) == np.prod(each):
        raise ValueError(f"data must have labels of the shape of the model's output, {shape}, for {name}, got {each}")


def _require_classes(name: str, shape: tuple[int, ...], labels: np.ndarray) -> None:
    if len(shape) != 1 or shape[0] < 2:
        raise ValueError(f"init must be a model with one output for each class for {name}, got outputs {shape}")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"data must have one whole number as each label for {name}, got {labels.dtype} of shape {labels.shape}"
        )
    _require(name, (labels >= 0) & (labels < shape[0]), labels, f"0 … {shape[0] - 1} (the model's outputs)")


def _require_signs(name: str, shape: tuple[int, ...], labels: np.ndarray) -> None:
    if np.prod(shape) != 1:
        raise ValueError(f"init must be a model with one output for {name}, got outputs {shape}")
    if labels.size != len(labels):
        raise ValueError(f"data must have one label for each example for {name}, got shape {labels.shape}")
    _require(name, np.abs(labels.ravel()) == 1, labels.ravel(), "−1 or 1")


def _require_signs_or_classes(name: str, shape: tuple[int, ...], labels: np.ndarray) -> None:
    (_require_signs if np.prod(shape) == 1 else _require_classes)(name, shape, labels)


def _require(name: str, good: np.ndarray, labels: np.ndarray, wanted: str) -> None:
    if not np.all(good):
        bad = int(np.argmin(good))
        raise ValueError(f"data must have labels {wanted} for {name}, got {labels[bad]} for example {bad}")


_RULES: dict[Any, Callable[[str, tuple[int, ...], np.ndarray], None]] = {
    squared_error: _require_values,
    cross_entropy: _require_classes,
    hinge: _require_signs_or_classes,
    logistic_loss: _require_signs,
}
