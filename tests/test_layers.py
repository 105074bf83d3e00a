"""Layers take examples after features, and the losses take all examples in one call: the same numbers as one by one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.problems import networks

RNG = np.random.default_rng(0)
N = 7
X = jnp.asarray(RNG.normal(size=(N, 3)))
KEY = jax.random.key(0)
SIGNS, CLASSES = np.sign(RNG.normal(size=N)), RNG.integers(0, 3, N)

MODELS = {
    "tanh": networks.mlp((3, 5, 4, 3), key=KEY),
    "softmax inside": networks.mlp((3, 5, 3), key=KEY, activation=jax.nn.softmax),  # not elementwise
    "activation with parameters": networks.mlp((3, 5, 3), key=KEY, activation=eqx.nn.PReLU(0.3)),
    "no bias": networks.deep_linear((3, 5, 3), key=KEY),
    "residual": networks.Residual((3, 4, 3), blocks=2, key=KEY),
}


@pytest.mark.parametrize("name", MODELS)
def test_examples_after_features(name):
    model = MODELS[name]
    one_by_one = jax.vmap(model)(X)
    np.testing.assert_allclose(model(X.T), one_by_one.T, rtol=1e-12)
    grid = jnp.stack([X, -X], axis=-1)  # two axes of examples
    np.testing.assert_allclose(model(jnp.moveaxis(grid, 1, 0))[..., 0], one_by_one.T, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "outputs", "labels"),
    [
        (networks.squared_error, 3, RNG.normal(size=(N, 3))),
        (networks.squared_error, 1, SIGNS),
        (networks.squared_error, 1, SIGNS[:, None]),
        (networks.cross_entropy, 3, CLASSES),
        (networks.hinge, 3, CLASSES),
        (networks.hinge, 1, SIGNS),
        (networks.logistic_loss, 1, SIGNS[:, None]),
    ],
)
def test_losses_in_one_call(loss, outputs, labels):
    """Values and per-example gradients, against one example at a time; and the labels do matter."""
    risk = ss.EmpiricalRisk(loss, (X, labels), init=networks.mlp((3, 4, outputs), key=KEY))
    one_by_one = jax.vmap(lambda z: loss(risk.parameters(risk.x0), z))(risk.data)
    np.testing.assert_allclose(risk.losses(risk.x0), one_by_one, rtol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(risk.losses)(risk.x0), risk.example_gradients(risk.x0), atol=1e-12)
    assert np.abs(np.asarray(risk.losses(risk.x0, (X, jnp.asarray(labels[::-1])))) - one_by_one).max() > 1e-3
