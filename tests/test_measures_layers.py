"""Mean and spread of each layer's gradient, against all examples' gradients at once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import enable_x64

from sgdsim.measures.layers import layer_gradients, layers_of
from sgdsim.problems import EmpiricalRisk, networks

KEY = jax.random.key(0)


def risk_of(model, count=37, decay=0.05, **settings):
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(count, 4)), rng.integers(0, 3, count))
    return EmpiricalRisk(networks.cross_entropy, data, init=model, weight_decay=decay, **settings)


def cloud_of(risk, count=3):
    return np.asarray(risk.x0) + 0.3 * np.random.default_rng(1).normal(size=(count, risk.dim))


def test_layers_are_modules_with_a_weight_and_a_bias():
    risk = risk_of(networks.mlp((4, 5, 5, 3), key=KEY))
    layers = layers_of(risk)
    assert layers.paths == (".layers[0]", ".layers[2]", ".layers[4]")  # the activations between have no weights
    assert layers.names == ("layer 1", "layer 2", "layer 3")
    np.testing.assert_array_equal(np.bincount(layers.numbers), [25, 30, 18])
    # the flat vector's own order: marking a layer's leaves marks its numbers
    model = risk.parameters(jnp.asarray(layers.numbers, float))
    for i, layer in enumerate(model.layers[::2]):
        assert np.all(layer.weight == i) and np.all(layer.bias == i)


def test_layers_of_other_parameters():
    residual = layers_of(risk_of(networks.Residual((4, 6, 3), blocks=1, key=KEY)))
    assert residual.paths == (".first", ".blocks[0].layers[0]", ".blocks[0].layers[2]", ".last")
    assert layers_of(risk_of(networks.deep_linear((4, 5, 3), key=KEY))).paths == (".layers[0]", ".layers[1]")
    pairs = [(np.ones((3, 4)), np.zeros(3)), (np.ones((3, 3)), np.zeros(3))]
    apply = lambda p, x: p[1][0] @ jnp.tanh(p[0][0] @ x + p[0][1]) + p[1][1]  # noqa: E731
    assert layers_of(risk_of(pairs, apply=apply)).paths == (".params[0]", ".params[1]")
    plain = EmpiricalRisk(networks.squared_error, (np.eye(3), np.ones(3)), init=np.zeros(3))
    assert layers_of(plain).paths == ("",) and np.all(layers_of(plain).numbers == 0)


@pytest.mark.parametrize("tile", [None, 1, 10, 37, 100])
@pytest.mark.slow
def test_layers_sum_to_the_whole_and_agree_with_all_gradients_at_once(tile):
    """In tiles that do and do not divide N = 37, to rounding; weight decay is in the mean and not in the spread."""
    risk = risk_of(networks.mlp((4, 5, 5, 3), key=KEY))
    cloud = cloud_of(risk)
    found, layers = layer_gradients(risk, cloud, tile=tile), layers_of(risk)
    for x, means, traces in zip(cloud, found.squared_means, found.traces, strict=True):
        gradients = np.asarray(risk.example_gradients(jnp.asarray(x)))
        for i in range(3):
            own = gradients[:, layers.numbers == i]
            mean = own.mean(axis=0) + 0.05 * x[layers.numbers == i]
            assert means[i] == pytest.approx(np.sum(mean**2), rel=1e-10)
            assert traces[i] == pytest.approx(np.sum(own.var(axis=0)), rel=1e-10)
        assert traces.sum() == pytest.approx(float(risk.noise_trace(jnp.asarray(x))), rel=1e-10)
        assert means.sum() == pytest.approx(float(jnp.sum(risk.gradient(jnp.asarray(x)) ** 2)), rel=1e-10)


def test_spread_is_that_of_minibatches():
    """Variance of 20,000 batches of 5 without replacement: s_B Tr D_l/B, within 4 standard errors for 2 layers."""
    risk = risk_of(networks.mlp((4, 5, 3), key=KEY))
    x, layers = np.asarray(risk.x0), layers_of(risk)
    gradients = np.asarray(risk.example_gradients(jnp.asarray(x)))
    rng = np.random.default_rng(2)
    batches = np.array([gradients[rng.permutation(37)[:5]].mean(axis=0) for _ in range(20_000)])
    squares = layers.squared_norms(batches - gradients.mean(axis=0))
    truth = layer_gradients(risk, x[None]).traces[0] * (37 - 5) / 36 / 5
    scores = (squares.mean(axis=0) - truth) / (squares.std(axis=0) / np.sqrt(len(squares)))
    assert np.all(np.abs(scores) < 4)


def test_single_precision_of_a_large_mean():
    """Gradients 1,000 ± 1: the spread is right to 1e-4 in float32, where a difference of squares has nothing left."""
    data = 1000.0 + np.random.default_rng(0).normal(size=(50, 2))
    risk = EmpiricalRisk(lambda w, z: w @ z, data, init=np.zeros(2))
    risk = jax.tree.map(lambda a: a.astype(np.float32) if eqx.is_inexact_array(a) else a, risk)
    with enable_x64(False):
        found = layer_gradients(risk, np.zeros((1, 2), np.float32), tile=7)
    assert found.traces[0, 0] == pytest.approx(np.sum(data.astype(np.float32).var(axis=0, dtype=float)), rel=1e-4)


def test_bad_input():
    risk = risk_of(networks.mlp((4, 5, 3), key=KEY))
    cloud = cloud_of(risk)
    cloud[1, 0] = np.inf
    with pytest.raises(ValueError, match="particles must be finite, got 1 of 3 diverged"):
        layer_gradients(risk, cloud)
    with pytest.raises(ValueError, match=r"particles must have shape \(P, 43\), got \(3, 5\)"):
        layer_gradients(risk, np.zeros((3, 5)))
    with pytest.raises(ValueError, match="tile must be a positive whole number"):
        layer_gradients(risk, cloud_of(risk), tile=0)
