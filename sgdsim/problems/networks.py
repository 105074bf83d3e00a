"""Small networks: parameters as a pytree. Their losses, from `problems/losses.py`, are here too.

Linear and logistic regression need no network: `squared_error` and `logistic_loss` take an array of weights for the
linear model, and softmax regression is an `mlp` without a hidden layer.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from sgdsim.problems.layers import Activation, Linear, Network, Sequential
from sgdsim.problems.losses import cross_entropy, hinge, logistic_loss, squared_error

__all__ = [
    "Applied",
    "Residual",
    "ThreeWeightNetwork",
    "TwoWeightNetwork",
    "cross_entropy",
    "deep_linear",
    "hinge",
    "logistic_loss",
    "mlp",
    "quadratic",
    "squared_error",
    "teacher_student",
]


class TwoWeightNetwork(eqx.Module):
    """y = w₂ tanh(w₁ x): the smallest network with a symmetry.

    (w₁, w₂) and (−w₁, −w₂) are the same function, so the loss has two equal minima and a saddle at the origin; where a
    weight is 0 the other's gradient vanishes for every example, and the noise covariance is singular there.
    """

    input_weight: Float[Array, ""]
    output_weight: Float[Array, ""]

    def __init__(self, input_weight: float = 0.0, output_weight: float = 0.0):
        self.input_weight, self.output_weight = jnp.asarray(input_weight, float), jnp.asarray(output_weight, float)

    def __call__(self, x: Float[Array, ""]) -> Float[Array, ""]:
        return self.output_weight * jnp.tanh(self.input_weight * x)


class ThreeWeightNetwork(eqx.Module):
    """y = w₂ tanh(w₁ x + b): the two-weight network with a bias.

    (w₁, b, w₂) and (−w₁, −b, −w₂) are the same function. Where w₂ is 0 the gradients by w₁ and b vanish for every
    example: a whole plane of singular noise covariances. The flat vector is (w₁, b, w₂).
    """

    input_weight: Float[Array, ""]
    bias: Float[Array, ""]
    output_weight: Float[Array, ""]

    def __init__(self, input_weight: float = 0.0, bias: float = 0.0, output_weight: float = 0.0):
        self.input_weight, self.bias = jnp.asarray(input_weight, float), jnp.asarray(bias, float)
        self.output_weight = jnp.asarray(output_weight, float)

    def __call__(self, x: Float[Array, ""]) -> Float[Array, ""]:
        return self.output_weight * jnp.tanh(self.input_weight * x + self.bias)


class Applied(eqx.Module):
    """x ↦ apply(params, x): the model that a pair of functions `init`, `apply` in the manner of Flax or Haiku means.

    Args:
        apply: params, one input → outputs, a pure JAX function; `hk.without_apply_rng` makes such a one of Haiku's.
        params: what `init` returned, any pytree of floating-point arrays or numbers.
    """

    apply: Callable = eqx.field(static=True)
    params: PyTree

    def __init__(self, apply: Callable, params: PyTree[Any]):
        if not callable(apply):
            raise TypeError(f"apply must be a callable (params, x) → outputs, got {type(apply).__name__}")
        self.apply = apply
        self.params = jax.tree.map(lambda leaf: jnp.asarray(leaf) if eqx.is_array_like(leaf) else leaf, params)

    def __call__(self, x: PyTree[Array]) -> Float[Array, "*out"]:
        return self.apply(self.params, x)


class Residual(Network):
    """h₀ = W x + c, h_{l+1} = h_l + V_l φ(U_l h_l + b_l) + a_l, y = Z h_L + e: L residual blocks, (in,) → (out,).

    Args:
        sizes: inputs, the width of h, outputs.
        blocks: L ≥ 1.
        key: a typed key for Equinox's initial weights.
        activation: φ, elementwise.

    Raises:
        ValueError: on sizes that are not three positive numbers, or no block.

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016.
    """

    first: Linear
    blocks: tuple[Sequential, ...]
    last: Linear

    def __init__(
        self,
        sizes: tuple[int, int, int],
        *,
        blocks: int,
        key: Key[Array, ""],
        activation: Callable[[Array], Array] = jnp.tanh,
    ):
        if len(sizes) != 3 or min(sizes) < 1:
            raise ValueError(f"sizes must be (inputs, width, outputs), got {sizes}")
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}")
        inputs, width, outputs = sizes
        first, last, *inner = jax.random.split(key, blocks + 2)
        self.first = Linear(inputs, width, key=first)
        self.blocks = tuple(mlp((width, width, width), key=k, activation=activation) for k in inner)
        self.last = Linear(width, outputs, key=last)

    def __call__(self, x: Float[Array, "in *examples"]) -> Float[Array, "out *examples"]:
        h = self.first(x)
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


def mlp(
    sizes: tuple[int, ...],
    *,
    key: Key[Array, ""],
    activation: Callable[[Array], Array] = jnp.tanh,
) -> Sequential:
    """A fully connected network such as (64, 32, 16, 10), of any depth and widths: (in,) → (out,).

    Args:
        sizes: inputs, the width of each hidden layer, outputs; without a hidden layer, the linear model.
        key: a typed key for Equinox's initial weights.
        activation: elementwise, such as `jnp.tanh`, `jax.nn.relu` or `quadratic`.

    Raises:
        ValueError: on sizes that are not at least two positive numbers.
    """
    return _stack(sizes, activation, use_bias=True, key=key)


def deep_linear(sizes: tuple[int, ...], *, key: Key[Array, ""]) -> Sequential:
    """y = W_L ⋯ W₁ x without biases: linear in x, and not convex in its weights. Sizes as for `mlp`.

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", ICLR 2014.
    """
    return _stack(sizes, None, use_bias=False, key=key)


def _stack(
    sizes: tuple[int, ...], activation: Callable[[Array], Array] | None, *, use_bias: bool, key: Key[Array, ""]
) -> Sequential:
    """Linear layers, with the activation between them."""
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be inputs, hidden widths and outputs, all positive; got {sizes}")
    layers: list[Any] = []
    keys = jax.random.split(key, len(sizes) - 1)
    for width, following, layer_key in zip(sizes, sizes[1:], keys, strict=False):
        if layers and activation is not None:
            layers.append(Activation(activation))
        layers.append(Linear(width, following, use_bias=use_bias, key=layer_key))
    return Sequential(tuple(layers))


def teacher_student(
    sizes: tuple[int, int, int],
    student_width: int,
    *,
    key: Key[Array, ""],
    activation: Callable[[Array], Array] = jnp.tanh,
) -> tuple[Sequential, Sequential]:
    """Two networks of one hidden layer and independent weights; the teacher labels the data that the student learns.

    `datasets.from_teacher(teacher, N, inputs=…, noise=…, key=…)` makes those data. A student at least as wide as the
    teacher can fit them.

    Args:
        sizes: the teacher's inputs, hidden width and outputs.
        student_width: the student's hidden width.
        key: a typed key for both.
        activation: elementwise, of both.

    Source: Saad and Solla, "On-line learning in soft committee machines", Phys. Rev. E 52 (1995) 4225.
    """
    teacher_key, student_key = jax.random.split(key)
    teacher = mlp(sizes, key=teacher_key, activation=activation)
    return teacher, mlp((sizes[0], student_width, sizes[-1]), key=student_key, activation=activation)


def quadratic(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """z², the quadratic activation."""
    return z * z
