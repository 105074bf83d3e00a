"""Wasserstein distances: exact on a line, sliced elsewhere."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.measures import sliced_wasserstein, wasserstein_1d

KEY = jax.random.key(0)


@pytest.mark.parametrize(("p", "q"), [(7, 7), (7, 5), (1, 9), (100, 64)])
def test_on_a_line_it_is_exact(p: int, q: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=p), rng.normal(size=q) + 0.3
    assert wasserstein_1d(a, b) == pytest.approx(scipy.stats.wasserstein_distance(a, b))
    repeated = np.mean((np.sort(np.repeat(a, q)) - np.sort(np.repeat(b, p))) ** 2) ** 0.5  # both at p·q particles
    assert wasserstein_1d(jnp.asarray(a), b, order=2) == pytest.approx(repeated)
    assert wasserstein_1d(a, a + 0.5, order=2) == pytest.approx(0.5)
    assert wasserstein_1d(a, a) == 0.0


def test_on_a_line_a_diverged_particle_is_an_error() -> None:
    with pytest.raises(ValueError, match="b must be a finite sample"):
        wasserstein_1d(np.zeros(3), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="a must be a finite sample"):
        wasserstein_1d(np.zeros(0), np.zeros(2))


@pytest.mark.parametrize("order", [1, 2])
def test_one_dimension_needs_one_direction(order: int) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(80, 1)), rng.normal(size=(70, 1))
    found = sliced_wasserstein(a, b, key=KEY, order=order, splits=5)
    assert found.value == pytest.approx(wasserstein_1d(a[:, 0], b[:, 0], order))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_shift_is_read_along_the_directions(dtype: type) -> None:
    # shifting a cloud by s gives SW₂ = |s|/√d in the mean over directions; far from the origin float32 must not lose it
    x = np.random.default_rng(2).normal(size=(500, 3)).astype(dtype) + dtype(1000)
    found = sliced_wasserstein(x, x + dtype(0.5), key=KEY, directions=500, splits=2)
    assert found.value == pytest.approx(0.5, rel=0.1)  # |s| = .5 √3; 500 directions leave 2 %


def test_it_depends_on_the_key_alone() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(60, 2)), rng.normal(size=(50, 2))
    first = sliced_wasserstein(a, b, key=KEY, splits=20)
    assert first == sliced_wasserstein(a, b, key=KEY, splits=20)
    assert first.value != sliced_wasserstein(a, b, key=jax.random.key(1), splits=20).value


@pytest.mark.parametrize(("shift", "order"), [(0.0, 2), (0.3, 1), (0.3, 2)])
def test_error_and_floor(shift: float, order: int) -> None:
    rng, repeats = np.random.default_rng(4), 80
    found = [
        sliced_wasserstein(
            rng.normal(size=(300, 3)) + np.array([shift, 0, 0]),
            rng.normal(size=(500, 3)) * np.array([1, 1 + shift, 1]),
            key=KEY,
            directions=8,
            order=order,
            splits=40,
        )
        for _ in range(repeats)
    ]
    spread = np.std([e.value for e in found], ddof=1)  # known to 8 %
    said = np.mean([e.standard_error for e in found])
    if shift:
        assert 0.75 * spread <= said <= 1.4 * spread  # 0.94 to 1.12 over six seeds of 150 repeats
        assert np.mean([e.above_floor for e in found]) > 0.9
    else:
        assert spread <= said <= 2 * spread  # cautious at agreement
        assert np.mean([e.above_floor for e in found]) <= 0.07 + 4 * math.sqrt(
            0.07 * 0.93 / repeats
        )  # 40 splits blur the 95 %


def test_diverged_particles_are_left_out_and_counted() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(60, 2)), rng.normal(size=(50, 2))
    dirty = sliced_wasserstein(
        jnp.asarray(np.vstack([a, [[np.nan, 0]]])), np.vstack([[[np.inf, 0]], b]), key=KEY, splits=10
    )
    clean = sliced_wasserstein(a, b, key=KEY, splits=10)
    assert dirty.left_out == 2
    assert (dirty.value, dirty.standard_error, dirty.floor) == (clean.value, clean.standard_error, clean.floor)
    assert sliced_wasserstein(a, a, key=KEY, splits=10).value == 0.0
    with pytest.raises(ValueError, match="diverged"):
        sliced_wasserstein(a * np.nan, b, key=KEY)
    with pytest.raises(ValueError, match="order"):
        sliced_wasserstein(a, b, key=KEY, order=3)


@pytest.mark.usefixtures("as_users_run")
def test_both_clouds_live_in_one_space() -> None:
    with pytest.raises(ValueError, match="same number of coordinates"):
        sliced_wasserstein(np.zeros((3, 2)), np.zeros((3, 1)), key=KEY)
