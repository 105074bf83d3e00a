"""The loss of one example: what a model says of an input against the example's label.

Each is a criterion of the model's outputs f and the label y. Criteria take features first and examples, if there are
several, after them, as the layers of `layers.py` do.
"""

import types
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from sgdsim.problems.layers import Network

Model = Callable[..., Array] | Float[Array, "*w"]


def output(model: Model, x: PyTree[Array]) -> Float[Array, "*out"]:
    """model(x); a plain array of weights w is the linear model x ↦ w·x."""
    return model(x) if callable(model) else jnp.sum(model * x)


def squared_error(model: Model, example: tuple[PyTree[Array], Num[Array, "*out"]]) -> Float[Array, ""]:
    """½|model(x) − y|² of one example; with an array of weights for a model it is linear regression."""
    x, y = example
    return _half_square(jnp.ravel(output(model, x)), y)


def cross_entropy(model: Model, example: tuple[PyTree[Array], Int[Array, ""]]) -> Float[Array, ""]:
    """−log softmax(model(x))_label of one example; labels are 0 … classes − 1, one for each of the model's outputs."""
    x, label = example
    return _log_share(output(model, x), label)


def hinge(model: Model, example: tuple[PyTree[Array], Num[Array, "*one"]]) -> Float[Array, ""]:
    """The margin that one example lacks: max(0, 1 − y·model(x)) for a model of one output and labels y = ±1.

    For K ≥ 2 outputs f and labels y = 0 … K − 1 it is max(0, 1 + max_{j≠y} f_j − f_y).

    Source: Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR
    2001.
    """
    x, y = example
    return _missing_margin(jnp.ravel(output(model, x)), y)


def logistic_loss(model: Model, example: tuple[PyTree[Array], Num[Array, "*one"]]) -> Float[Array, ""]:
    """log(1 + e^{−y·model(x)}) of one example with label y = ±1, for a model of one output.

    With an array of weights for a model it is logistic regression without intercept.
    """
    x, y = example
    return _softplus_of_margin(jnp.ravel(output(model, x)), y)


def losses(
    example_loss: Callable[[Any, PyTree[Array]], Float[Array, ""]], model: PyTree, data: PyTree[Array]
) -> Float[Array, " n"]:
    """example_loss(model, zᵢ) of each example along the leading axis of the data.

    Where the loss is of this file and the model of `networks`, all examples go through it in one call.
    """
    criterion = _CRITERIA.get(example_loss) if isinstance(example_loss, types.FunctionType) else None
    if criterion is None or not isinstance(model, Network):
        return jax.vmap(lambda z: example_loss(model, z))(data)
    x, y = data
    return criterion(model(jnp.moveaxis(x, 0, -1)), jnp.moveaxis(y, 0, -1))


def _half_square(f: Float[Array, "out *n"], y: Num[Array, "..."]) -> Float[Array, "*n"]:
    return jnp.sum((f - y.reshape(f.shape)) ** 2, axis=0) / 2


def _log_share(f: Float[Array, "classes *n"], label: Int[Array, "*n"]) -> Float[Array, "*n"]:
    # log_softmax[label] is a gather, whose derivative is a scatter: slow where the cloud makes it a batch of them.
    is_label = _is_label(f, label)
    return -jnp.sum(jnp.where(is_label, jax.nn.log_softmax(f, axis=0), 0), axis=0)


def _is_label(f: Float[Array, "classes *n"], label: Int[Array, "*n"]) -> Bool[Array, "classes *n"]:
    return jnp.arange(f.shape[0]).reshape(-1, *[1] * label.ndim) == label


def _missing_margin(f: Float[Array, "out *n"], y: Num[Array, "..."]) -> Float[Array, "*n"]:
    if f.shape[0] == 1:
        return jax.nn.relu(1 - jnp.sum(y.reshape(f.shape) * f, axis=0))
    is_label = _is_label(f, y)
    # The label's own entry is 0, so that the maximum is never below it.
    return jnp.max(f - jnp.sum(jnp.where(is_label, f, 0), axis=0) + ~is_label, axis=0)


def _softplus_of_margin(f: Float[Array, "1 *n"], y: Num[Array, "..."]) -> Float[Array, "*n"]:
    return _softplus(-jnp.sum(y.reshape(f.shape) * f, axis=0))


@jax.custom_jvp
def _softplus(z: Float[Array, "*n"]) -> Float[Array, "*n"]:
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

_CRITERIA: dict[Any, Callable[[Array, Array], Float[Array, "*n"]]] = {
    squared_error: _half_square,
    cross_entropy: _log_share,
    hinge: _missing_margin,
    logistic_loss: _softplus_of_margin,
}
