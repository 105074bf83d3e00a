"""The draws against published vectors, exact integer arithmetic and their own law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.draws import Draws, Stream, multiply_high, threefry2x32

P = 200_000


def draws(seed=0, particles=P):
    return Draws.of(jax.random.key(seed), np.arange(particles))


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's known-answer tests for threefry2x32, 20 rounds
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_published_vectors(counter, key, expected):
    words = threefry2x32(tuple(map(jnp.uint32, key)), tuple(map(jnp.uint32, counter)))
    assert tuple(int(w) for w in words) == expected


def test_multiply_high_is_exact():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2**32, (2, 10_000), dtype=np.uint64)
    expected = (a * b) >> np.uint64(32)
    got = multiply_high(jnp.asarray(a, jnp.uint32), jnp.asarray(b, jnp.uint32))
    assert np.array_equal(np.asarray(got, np.uint64), expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_normals_have_their_law(dtype):
    # 3 slots, mean to kurtosis and Kolmogorov-Smirnov: 15 comparisons at 4.5 sigmas
    z = np.asarray(draws(1).at(7).normals(3, dtype=dtype), dtype=float)
    for row in z:
        assert abs(row.mean()) < 4.5 / np.sqrt(P)
        assert abs(row.var() - 1) < 4.5 * np.sqrt(2 / P)
        assert abs((row**3).mean()) < 4.5 * np.sqrt(15 / P)
        assert abs((row**4).mean() - 3) < 4.5 * np.sqrt(96 / P)
        assert scipy.stats.kstest(row, "norm").pvalue > 1e-5


def test_normals_are_independent_of_slot_step_stream_and_particle():
    d = draws(2)
    base = np.asarray(d.normals(2))
    others = [base[1], np.asarray(d.at(1).normals(1))[0], np.asarray(d.normals(1, stream=Stream.PERTURBATION))[0]]
    others += [np.roll(base[0], 1), np.asarray(draws(3).normals(1))[0]]
    for other in others:  # 5 pairs, of the values and of their squares, at 4.5 sigmas
        assert abs(np.corrcoef(base[0], other)[0, 1]) < 4.5 / np.sqrt(P)
        assert abs(np.corrcoef(base[0] ** 2, other**2)[0, 1]) < 4.5 / np.sqrt(P)


def test_normals_are_the_same_in_both_precisions_and_by_any_cut():
    d = draws(4, 1000).at(3)
    double = np.asarray(d.normals(5, dtype=jnp.float64))
    assert np.allclose(np.asarray(d.normals(5, dtype=jnp.float32)), double, atol=2e-5)
    tail = Draws.of(jax.random.key(4), np.arange(600, 1000)).at(3)
    assert np.array_equal(np.asarray(tail.normals(5)), double[:, 600:])
    assert np.array_equal(np.asarray(d.normals(3, first=2)), double[2:])


def test_below_is_uniform():
    counts = np.bincount(np.asarray(draws(5).below(7, 4)).ravel(), minlength=7)
    assert len(counts) == 7
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_normals_come_in_pairs():
    with pytest.raises(ValueError, match="first must be even"):
        draws(0, 3).normals(2, first=1)


def test_uniforms_are_the_words_of_which_normals_are_made():
    draws = Draws.of(jax.random.key(5), np.arange(50_000))
    u = np.asarray(draws.uniforms(3, first=2))
    word0, word1 = (np.asarray(w, dtype=float) for w in draws.words(Stream.NOISE, np.array([1, 2], np.uint32)))
    np.testing.assert_allclose(u, (np.stack([word0[0], word1[0], word0[1]]) + 0.5) / 2**32, rtol=1e-15)
    assert np.all((u > 0) & (u <= 1))
    assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_three_points_are_base_six_digits(dtype):
    """Against whole-number arithmetic: digit j of w/2³² in base 6 is ⌊6^{j+1} w/2³²⌋ mod 6."""
    d = draws(6, 5_000).at(3)
    words = [np.asarray(w[0], dtype=object) for w in d.words(Stream.THREE_POINT, np.array([9], np.uint32))]
    got = np.asarray(d.three_points(8, first=72, dtype=dtype))
    assert got.dtype == dtype
    for number in range(8):
        digit = np.array([(6 ** (number % 4 + 1) * int(w) >> 32) % 6 for w in words[number // 4]])
        expected = np.where(digit == 0, -(3**0.5), np.where(digit == 5, 3**0.5, 0.0))
        np.testing.assert_allclose(got[number], expected, rtol=1e-6)


def test_three_points_have_their_law_alone_and_in_pairs():
    """8 numbers of a slot, one of the next slot and one of the next step: 10 laws and 45 pairs, none below 1e-5."""
    d = draws(7)
    rows = [*d.three_points(9), d.at(1).three_points(1)[0]]
    points = np.sign(np.asarray(rows)).astype(int) + 1
    law = np.array([1 / 6, 2 / 3, 1 / 6])
    for row in points:
        assert scipy.stats.chisquare(np.bincount(row, minlength=3), P * law).pvalue > 1e-5
    for i, j in zip(*np.triu_indices(len(points), 1), strict=True):
        counts = np.bincount(3 * points[i] + points[j], minlength=9)
        assert scipy.stats.chisquare(counts, P * np.outer(law, law).ravel()).pvalue > 1e-5


def test_three_points_come_by_slots_of_eight():
    d = draws(0, 3)
    with pytest.raises(ValueError, match="first must be a multiple of 8, a slot's numbers, got 4"):
        d.three_points(1, first=4)
    with pytest.raises(OverflowError, match="count must leave slots below"):
        d.three_points(9, first=8 * (2**32 - 1))
    many = d.three_points(21)
    np.testing.assert_array_equal(d.three_points(3, first=16), many[16:19])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_what_is_drawn_in_one_loop_is_the_same_to_the_bit(dtype):
    """Against the words by themselves, compiled and not: every bit of 2·10⁵ words, NaN patterns among them."""
    d = draws(8).at(5)
    slots = np.arange(3, dtype=np.uint32)
    keys = d.keys[int(Stream.NOISE)]
    plain = threefry2x32(keys, (jnp.uint32(5), jnp.asarray(slots)[:, None]))
    for words in (d.words(Stream.NOISE, slots), jax.jit(lambda d: d.words(Stream.NOISE, slots))(d)):
        np.testing.assert_array_equal(words, plain)
    assert np.isnan(np.asarray(plain[0]).view(np.float32)).sum() > 100
    radius = np.sqrt(-2 * np.log((np.asarray(plain[0], float) + 0.5) / 2**32))
    angle = 2 * np.pi * np.asarray(plain[1], float) / 2**32
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(6, -1)
    np.testing.assert_allclose(d.normals(6, dtype=dtype), expected, atol=2e-5 if dtype == jnp.float32 else 1e-13)
