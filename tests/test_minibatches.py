"""Which examples a minibatch holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.draws import Draws
from sgdsim.problems.minibatches import minibatch_indices, permute, sampling_factor


def draws(particles, seed=0):
    return Draws.of(jax.random.key(seed), np.arange(particles))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 50, 499, 500, 1797])
def test_permute_is_a_bijection(size):
    key = tuple(jnp.asarray(np.random.default_rng(size).integers(0, 2**32, (1, 3)), jnp.uint32) for _ in range(2))
    place = jnp.broadcast_to(jnp.arange(size, dtype=jnp.uint32)[:, None], (size, 3))
    out = np.asarray(permute(place, size, key))
    assert all(np.array_equal(np.sort(column), np.arange(size)) for column in out.T)


@pytest.mark.parametrize("size", [50, 1797])
def test_singles_and_pairs_without_replacement_are_uniform(size):
    # Single indices, differences of neighbours and (N = 50) ordered pairs, by chi-square: 5 p-values above 1e-4.
    indices = np.asarray(jax.jit(lambda d: minibatch_indices(d, 10, size, "without-replacement"))(draws(200_000)))
    assert scipy.stats.chisquare(np.bincount(indices.ravel(), minlength=size)).pvalue > 1e-4
    first, second = indices[0].astype(np.int64), indices[1].astype(np.int64)
    differences = np.bincount((second - first) % size, minlength=size)
    assert differences[0] == 0
    assert scipy.stats.chisquare(differences[1:]).pvalue > 1e-4
    if size == 50:
        pairs = np.bincount(first * size + second, minlength=size**2).reshape(size, size)
        assert scipy.stats.chisquare(pairs[~np.eye(size, dtype=bool)]).pvalue > 1e-4


@pytest.mark.slow
def test_every_epoch_visits_each_example_once():
    d = draws(4)
    size, batch = 23, 5  # 4 batches a pass; the last 3 examples of it are dropped
    passes = [
        np.concatenate([np.asarray(minibatch_indices(d.at(4 * epoch + k), batch, size, "epoch")) for k in range(4)])
        for epoch in range(3)
    ]
    for visited in passes:
        assert all(len(set(column)) == 20 for column in visited.T.tolist())
    assert not np.array_equal(passes[0], passes[1])
    assert not np.array_equal(passes[0][:, 0], passes[0][:, 1])


def test_sampling_factor_and_its_refusals():
    assert sampling_factor(50, 10, "with-replacement") == 1
    assert sampling_factor(50, 10, "without-replacement") == pytest.approx(40 / 49)
    assert sampling_factor(50, 50, "epoch") == 0
    with pytest.raises(ValueError, match="batch_size must be at most N = 50"):
        sampling_factor(50, 51, "without-replacement")
    with pytest.raises(ValueError, match="sampling must be one of"):
        sampling_factor(50, 5, "shuffle")
    with pytest.raises(ValueError, match="sampling must be 'with-replacement' for modelled noise"):
        sampling_factor(None, 5, "epoch")
