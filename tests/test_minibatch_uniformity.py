"""Are minibatches uniform? Chi-square of single indices, of pairs and of their differences, on 8·10⁶ batches each.

Every p-value is held against LEVEL: all COMPARISONS of them share a level of 0.1 %. A p-value is small
as well where counts are too even, which chance does not do either.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.draws import Draws, Stream
from sgdsim.problems.minibatches import minibatch_indices, permute

COMPARISONS = 40
LEVEL = 1e-3 / COMPARISONS
SIZES = (50, 1_797, 1_000_000)
BATCHES = 8_000_000
CHUNK = 500_000  # particles whose batches are held at a time
STEP = 3  # within an epoch's first pass, and not at its start
GROUPS = 400  # of an index where N is too large for a cell of each pair
MOST_PAIRS = 4_000_000  # cells up to which pairs are counted one by one


@functools.partial(jax.jit, static_argnames=("size", "sampling", "rounds"))
def first_two(key, begin, size, sampling, rounds=None):
    """The first two examples of each particle's minibatch; of `rounds` of the permutation where they are given."""
    draws = Draws.of(key, begin + jnp.arange(CHUNK)).at(STEP)
    if rounds is None:
        return minibatch_indices(draws, 2, size, sampling)
    place = jnp.broadcast_to(jnp.arange(2, dtype=jnp.uint32)[:, None], (2, CHUNK))
    return permute(place, size, draws.words(Stream.MINIBATCH, np.zeros(1, np.uint32)), rounds)


def p_value(counts, weights):
    """Of counts in cells whose probabilities are proportional to the weights; a cell of none must be empty."""
    possible = weights > 0
    assert np.all(counts[~possible] == 0)
    counts, weights = counts[possible], weights[possible]
    expected = weights * (counts.sum() / weights.sum())
    # Cells that expect few are many and alike, where the sum's mean and variance are those of χ² all the same.
    assert expected.min() > (2 if len(counts) > 10_000 else 10)
    statistic, law = np.sum((counts - expected) ** 2 / expected), scipy.stats.chi2(len(counts) - 1)
    return 2 * min(law.sf(statistic), law.cdf(statistic))


def groupings(size):
    """{name: group of each index}: each by itself where pairs of them can be counted, high digits and low digits."""
    index = np.arange(size)
    found = {"one by one": index} if size**2 <= MOST_PAIRS else {}
    return found | ({"high": index * GROUPS // size, "low": index % GROUPS} if size > GROUPS else {})


def p_values(size, sampling, seed=0, rounds=None):
    """{test: p} for singles, for pairs in each grouping, and for differences where a batch has no example twice."""
    groups = groupings(size)
    singles, gaps = np.zeros(size, np.int64), np.zeros(size, np.int64)
    pairs = {name: np.zeros((g.max() + 1) ** 2, np.int64) for name, g in groups.items()}
    for begin in range(0, BATCHES, CHUNK):
        one, two = np.asarray(first_two(jax.random.key(seed), begin, size, sampling, rounds)).astype(np.int64)
        singles += np.bincount(one, minlength=size) + np.bincount(two, minlength=size)
        gaps += np.bincount((one - two) % size, minlength=size)
        for name, group in groups.items():
            count = group.max() + 1
            pairs[name] += np.bincount(group[one] * count + group[two], minlength=count**2)
    distinct = sampling != "with-replacement"
    ones = np.ones(size)
    found = {"singles": p_value(singles, ones)}
    for name, group in groups.items():
        held = np.bincount(group).astype(float)
        found[f"pairs, {name}"] = p_value(pairs[name], (np.outer(held, held) - distinct * np.diag(held)).ravel())
    if distinct:
        found["differences"] = p_value(gaps, ones - (np.arange(size) == 0))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", ["with-replacement", "without-replacement", "epoch"])
def test_singles_pairs_and_differences_are_uniform(sampling, size):
    found = p_values(size, sampling)
    assert min(found.values()) > LEVEL, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "rounds", "fails"),
    [
        (50, 6, "pairs, one by one"),
        (1_797, 2, "pairs, one by one"),
        (1_797, 4, "differences"),
        (1_000_000, 2, "pairs, high"),
    ],
)
def test_too_few_rounds_fail_on_pairs_alone(size, rounds, fails):
    """Single indices look uniform to the very test that sees at a glance that two of them are not independent."""
    found = p_values(size, "without-replacement", rounds=rounds)
    assert found["singles"] > LEVEL, found
    assert found[fails] < 1e-20, found


@pytest.mark.parametrize(("size", "batch"), [(50, 10), (50, 7), (1_797, 32), (1_797, 599), (23, 23)])
def test_every_epoch_visits_each_example_once(size, batch):
    """All N where B divides it, N − N mod B different ones where it does not; then another order."""
    draws, per_epoch = Draws.of(jax.random.key(1), jnp.arange(5)), size // batch
    step = jax.jit(lambda k: minibatch_indices(draws.at(k), batch, size, "epoch"))
    passes = []
    for epoch in range(3):
        passes.append(np.concatenate([np.asarray(step(jnp.uint32(epoch * per_epoch + k))) for k in range(per_epoch)]))
        ordered = np.sort(passes[-1], axis=0)
        assert passes[-1].shape == (size - size % batch, 5)
        assert np.all(np.diff(ordered, axis=0) > 0) and ordered.max() < size
    for other in (passes[1], passes[2], np.roll(passes[0], 1, axis=1)):
        assert np.all(np.any(passes[0] != other, axis=0))


@pytest.mark.slow
def test_what_an_epoch_drops_is_another_example_each_time():
    """N = 7, B = 3: one of 7 is left out of a pass, each as often, over particles and over passes; 2 p-values."""
    draws = Draws.of(jax.random.key(2), jnp.arange(20_000))
    dropped = []
    for epoch in range(2):
        seen = np.concatenate([np.asarray(minibatch_indices(draws.at(2 * epoch + k), 3, 7, "epoch")) for k in (0, 1)])
        dropped.append(21 - seen.sum(axis=0, dtype=np.int64))
    assert scipy.stats.chisquare(np.bincount(dropped[0], minlength=7)).pvalue > LEVEL
    together = np.bincount(7 * dropped[0] + dropped[1], minlength=49)
    assert scipy.stats.chisquare(together).pvalue > LEVEL
