"""The distance of covariances: the U-statistic itself, its mean, spread and level, in few and in many dimensions."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.measures.covariance_distance import covariance_distance

module = importlib.import_module("sgdsim.measures.covariance_distance")  # hidden by the function of its name
KEY = jax.random.key(0)


def squared_trace(x):
    """Tr Σ² without bias, as Li and Chen write it: means over pairs, triples and quadruples of different particles."""
    dot, every = x @ x.T, range(len(x))
    pairs = np.mean([dot[i, j] ** 2 for i, j in itertools.permutations(every, 2)])
    triples = np.mean([dot[i, j] * dot[j, k] for i, j, k in itertools.permutations(every, 3)])
    quadruples = np.mean([dot[i, j] * dot[k, m] for i, j, k, m in itertools.permutations(every, 4)])
    return pairs - 2 * triples + quadruples


@pytest.mark.parametrize("dim", [1, 3, 20])
def test_it_is_the_u_statistic(dim):
    rng = np.random.default_rng(dim)
    a, b = rng.standard_t(5, size=(7, dim)) + 5, 2 * rng.normal(size=(9, dim)) - 3
    total = squared_trace(a) + squared_trace(b)
    product = np.trace(np.atleast_2d(np.cov(a.T)) @ np.atleast_2d(np.cov(b.T)))
    assert covariance_distance(a, jnp.asarray(b), key=KEY).value == pytest.approx(1 - 2 * product / total, rel=1e-9)


def readings(dim, sizes, scale, law, repeats, permutations=100):
    rng, (n, m) = np.random.default_rng(1), sizes
    widths = np.arange(1, dim + 1) ** -0.5
    other = np.where(np.arange(dim) == 0, scale, 1) * widths
    draw = rng.normal if law == "normal" else rng.laplace
    found = [
        covariance_distance(
            draw(size=(n, dim)) * widths + 10,
            draw(size=(m, dim)) * other,
            key=jax.random.key(i),
            permutations=permutations,
        )
        for i in range(repeats)
    ]
    truth = np.sum((widths**2 - other**2) ** 2) / (np.sum(widths**4) + np.sum(other**4))
    return found, truth


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dim", "sizes", "scale", "law"),
    [
        (300, (64, 64), 1.0, "normal"),
        (2, (200, 300), 1.0, "laplace"),
        (2, (200, 300), 1.5, "normal"),
        (2, (400, 400), 2.0, "laplace"),
        (300, (250, 250), 1.5, "normal"),
    ],
)
def test_mean_spread_and_level(dim, sizes, scale, law):
    """5 means at 4 sigmas: the ratio's own bias, of order 1/n, is below them. Its error is cautious at agreement."""
    repeats = 300
    found, truth = readings(dim, sizes, scale, law, repeats)
    values = np.array([e.value for e in found])
    spread, said = values.std(ddof=1), np.mean([e.standard_error for e in found])
    above = np.mean([e.above_floor for e in found])
    assert abs(values.mean() - truth) < 4 * spread / np.sqrt(repeats) + truth * 2 / min(sizes)
    if scale == 1:
        assert 0.9 * spread <= said <= 1.5 * spread  # the projection cannot add less than nothing
        assert abs(above - 0.05) < 4 * np.sqrt(0.05 * 0.95 / repeats)
    else:
        assert said == pytest.approx(spread, rel=0.15)
        assert above > 0.9


def test_a_floor_from_a_subset_is_that_of_all(monkeypatch):
    full, _ = readings(2, (300, 200), 1.0, "normal", 40, 200)
    monkeypatch.setattr(module, "NULL_SIZE", 100)
    part, _ = readings(2, (300, 200), 1.0, "normal", 40, 200)
    assert [e.value for e in full] == [e.value for e in part]
    ratio = np.mean([e.floor for e in part]) / np.mean([e.floor for e in full])
    assert ratio == pytest.approx(1, abs=0.15)


def test_what_the_numbers_mean():
    """(1 − c)²/(1 + c²) for a multiple, 1 for no direction in common, 0 for no width at all; float32 agrees."""
    rng = np.random.default_rng(2)
    a = rng.normal(size=(4_000, 3))
    assert covariance_distance(a, 2**0.5 * rng.normal(size=(4_000, 3)), key=KEY).agrees_with(0.2, sigmas=4)
    flat = np.pad(rng.normal(size=(50, 1)), ((0, 0), (1, 0)))
    assert covariance_distance(flat, flat[:, ::-1], key=KEY).value == pytest.approx(1)
    still = covariance_distance(np.ones((5, 2)), np.zeros((6, 2)), key=KEY)
    assert still.value == still.standard_error == still.floor == 0
    b = 1.1 * rng.normal(size=(500, 3))
    double, single = (covariance_distance(a.astype(t), b.astype(t), key=KEY) for t in ("float64", "float32"))
    assert abs(double.value - single.value) < 1e-4 * double.floor


def test_diverged_particles_are_left_out_and_counted():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(60, 2)), rng.normal(size=(50, 2))
    clean = covariance_distance(a, b, key=KEY)
    dirty = covariance_distance(np.vstack([a, [[np.nan, 0]]]), np.vstack([[[np.inf, 0]], b]), key=KEY)
    assert dirty.left_out == 2
    assert (dirty.value, dirty.standard_error, dirty.floor) == (clean.value, clean.standard_error, clean.floor)
    with pytest.raises(ValueError, match="diverged"):
        covariance_distance(a * np.nan, b, key=KEY)


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument():
    a = np.zeros((4, 2))
    with pytest.raises(ValueError, match="a and b must have the same number of coordinates, got 2 and 1"):
        covariance_distance(a, a[:, :1], key=KEY)
    with pytest.raises(ValueError, match="a and b must hold at least 4 finite particles each, got 4 and 3"):
        covariance_distance(a, a[:3], key=KEY)
    with pytest.raises(ValueError, match="permutations must be at least 20"):
        covariance_distance(a, a, key=KEY, permutations=19)
    with pytest.raises(TypeError, match="key must be one typed key"):
        covariance_distance(a, a, key=0)
