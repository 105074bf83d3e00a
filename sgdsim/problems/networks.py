"""Small networks: parameters as a pytree, and the loss of one example."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


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


def mlp(
    sizes: tuple[int, ...],
    *,
    key: Key[Array, ""],
    activation: Callable[[Array], Array] = jnp.tanh,
) -> eqx.nn.MLP:
    """A fully connected network with one hidden width, such as (64, 16, 10): Equinox's MLP, (in,) → (out,).

    Args:
        sizes: inputs, the hidden width as often as there are hidden layers, outputs.
        key: a typed key for Equinox's initial weights.
        activation: elementwise.
    """
    hidden = sizes[1:-1]
    if len(sizes) < 3 or len(set(hidden)) != 1 or min(sizes) < 1:
        raise ValueError(f"sizes must be (inputs, width, …, width, outputs) with one hidden width, got {sizes}")
    return eqx.nn.MLP(sizes[0], sizes[-1], hidden[0], len(hidden), activation=activation, key=key)


def squared_error(
    model: Callable[[Array], Array], example: tuple[Float[Array, "*in"], Float[Array, "*out"]]
) -> Float[Array, ""]:
    """½|model(x) − y|² of one example."""
    x, y = example
    return jnp.sum((model(x) - y) ** 2) / 2


def cross_entropy(
    model: Callable[[Array], Array], example: tuple[Float[Array, "*in"], Int[Array, ""]]
) -> Float[Array, ""]:
    """−log softmax(model(x))_label of one example; labels are 0 … classes − 1."""
    x, label = example
    return -jax.nn.log_softmax(model(x))[label]


def logistic_loss(
    weights: Float[Array, " d"], example: tuple[Float[Array, " d"], Float[Array, ""]]
) -> Float[Array, ""]:
    """log(1 + e^{−y w·x}) of one example with label y = ±1: logistic regression without intercept."""
    x, y = example
    return _softplus(-y * jnp.sum(weights * x))


@jax.custom_jvp
def _softplus(z: Float[Array, ""]) -> Float[Array, ""]:
    """log(1 + eᶻ), whose derivative is one logistic function; JAX's own goes through an exponential and a logarithm."""
    return jax.nn.softplus(z)


_softplus.defjvps(lambda tangent, _, z: tangent * jax.nn.sigmoid(z))
