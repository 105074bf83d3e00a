"""Sums over examples in tiles: the same numbers, in memory that does not grow with N."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.draws import Draws
from sgdsim.problems import networks
from sgdsim.problems.tiles import EXAMPLES, fold_over_tiles, gradient_tile, sum_over_tiles

KEY = jax.random.key(0)
RNG = np.random.default_rng(3)
N = 2 * EXAMPLES + 76  # two tiles and a rest


def regression(count=N, dim=3, **settings):
    inputs = np.random.default_rng(0).normal(size=(count, dim))
    return ss.EmpiricalRisk(
        networks.squared_error, (inputs, inputs[:, 0] ** 2), init=np.zeros(dim), weight_decay=0.1, **settings
    )


def residual_gradients(risk, x):
    inputs, labels = map(np.asarray, risk.data)
    return (inputs @ x - labels)[:, None] * inputs


@pytest.mark.parametrize("tile", [1, 3, 5, 10, 64])
def test_every_example_is_counted_once_and_in_order(tile):
    data = {"a": jnp.arange(10.0), "b": jnp.arange(20.0).reshape(10, 2)}
    total = jax.jit(lambda d: sum_over_tiles(lambda t: jnp.sum(t["a"][:, None] * t["b"], axis=0), d, tile))(data)
    assert np.allclose(total, np.sum(np.arange(10.0)[:, None] * np.arange(20.0).reshape(10, 2), axis=0))
    digits = fold_over_tiles(
        lambda n, t: jnp.polyval(t["a"], 10.0) + n * 10.0 ** len(t["a"]), jnp.zeros(()), data, tile
    )
    assert digits == 123456789


def test_gradient_and_root_over_several_tiles_are_the_plain_sums():
    risk, x = regression(root="weighted"), RNG.normal(size=3)
    gradients = residual_gradients(risk, x)
    mean = gradients.mean(0)
    assert np.allclose(risk.gradient(jnp.asarray(x)), mean + 0.1 * x, atol=1e-13)
    xi = RNG.normal(size=(N, 2))
    cloud = jnp.stack([jnp.asarray(x)] * 2, axis=1)
    noise = (gradients - mean).T @ xi / np.sqrt(N)
    assert np.allclose(risk.noise(cloud, jnp.asarray(xi)), noise, atol=1e-12)
    increment = risk.langevin_increment(cloud, jnp.asarray(xi), jnp.asarray(0.3), jnp.asarray(0.7))
    assert np.allclose(increment, 0.7 * noise - 0.3 * (mean + 0.1 * x)[:, None], atol=1e-12)


def temporary_bytes(count, what):
    """Of a compiled pass over `count` examples through a hidden layer of 64: XLA's own account."""
    inputs, labels = np.ones((count, 4)), np.zeros(count, dtype=int)
    model = networks.mlp((4, 64, 3), key=KEY)
    risk = ss.EmpiricalRisk(networks.cross_entropy, (inputs, labels), init=model)
    arguments = {"gradient": (risk.x0,), "noise": (risk.x0[:, None], jnp.ones((count, 1))), "noise_trace": (risk.x0,)}
    arrays, rest = eqx.partition(risk, eqx.is_array)  # data as arguments: constants of the program would be counted
    program = jax.jit(lambda a, args: getattr(eqx.combine(a, rest), what)(*args)).lower(arrays, arguments[what])
    return program.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("what", ["gradient", "noise", "noise_trace"])
def test_memory_does_not_grow_with_the_examples_activations(what):
    few, many = temporary_bytes(4_096, what), temporary_bytes(32_768, what)
    hidden = (32_768 - 4_096) * 64 * 8  # bytes of one hidden layer's further activations
    assert many - few < hidden / 8


def test_a_tile_of_gradients_holds_a_bounded_number_of_them():
    assert [gradient_tile(d) for d in (1, 1_210, 100_000, 10**7)] == [32, 32, 2, 1]


@pytest.mark.slow
def test_the_trace_of_weights_of_any_shape_is_that_of_the_covariance():
    inputs, labels = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 2))
    for init, loss in (
        (np.ones((2, 3)), lambda w, z: jnp.sum((w @ z[0] - z[1]) ** 2)),
        ({"w": np.ones((2, 3)), "b": np.ones(2)}, lambda p, z: jnp.sum((jnp.sin(p["w"] @ z[0]) + p["b"] - z[1]) ** 2)),
    ):
        risk = ss.EmpiricalRisk(loss, (inputs, labels), init=init)
        assert np.allclose(risk.noise_trace(risk.x0), np.trace(risk.noise_covariance(risk.x0)), rtol=1e-12)


def test_a_perturbed_network_shares_the_pass():
    risk, x = regression(root="weighted"), jnp.asarray(RNG.normal(size=(3, 2)))
    perturbed = ss.Perturbed(risk, 0.3)
    xi = jnp.asarray(RNG.normal(size=(perturbed.noise_size, 2)))
    drift, noise = jnp.asarray(0.3), jnp.asarray(0.7)
    apart = noise * perturbed.noise(x, xi) - drift * jax.vmap(perturbed.gradient, 1, 1)(x)
    assert np.allclose(perturbed.langevin_increment(x, xi, drift, noise), apart, atol=1e-13)


def test_a_random_subset_has_the_covariance_of_all_examples():
    """Nine entries of M⁻¹ Σ cᵢcⱼ over 40,000 draws, within 4.5 standard errors."""
    risk, x = regression(count=40, root=7), RNG.normal(size=3)
    assert risk.noise_size == 9
    count = 40_000
    xi = Draws.of(KEY, np.arange(count)).normals(risk.noise_size)
    noise = np.asarray(eqx.filter_jit(risk.noise)(jnp.broadcast_to(jnp.asarray(x)[:, None], (3, count)), xi))
    products = noise[:, None] * noise[None]
    error = products.std(-1) / np.sqrt(count)
    expected = np.cov(residual_gradients(risk, x).T, bias=True)
    assert np.max(np.abs(products.mean(-1) - expected) / error) < 4.5
    assert np.max(np.abs(noise.mean(-1) / noise.std(-1)) * np.sqrt(count)) < 4.5


def test_a_subset_of_all_examples_is_the_weighted_root_in_another_order():
    every, weighted = regression(count=12, root=12), regression(count=12, root="weighted")
    x = jnp.broadcast_to(jnp.asarray(RNG.normal(size=3))[:, None], (3, 12))
    columns = every.noise(x, jnp.concatenate([jnp.eye(12), jnp.full((2, 12), 0.3)]))
    reordered = np.asarray(weighted.noise(x, jnp.eye(12)))
    places = [int(np.argmin(np.abs(reordered - column[:, None]).sum(0))) for column in np.asarray(columns).T]
    assert sorted(places) == list(range(12)) and np.allclose(columns, reordered[:, places], atol=1e-12)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("root", [0, 13, True, 2.0, "sparse"])
def test_roots_that_are_none(root):
    with pytest.raises(ValueError, match="root must be 'dense', 'weighted' or a number of examples up to N = 12"):
        regression(count=12, root=root)
