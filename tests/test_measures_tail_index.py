"""Tail indices: of power laws, of stable laws, of coordinates that depend on each other, and of what is neither."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sgdsim.measures.tail_index import hill_tail_index, stable_index


def stable(rng, alpha, shape):
    """SciPy's draws, which are not ours; at α = 2 of variance 2."""
    return scipy.stats.levy_stable.rvs(alpha, 0, size=shape, random_state=rng)


def pareto(rng, alpha, shape):
    """Exactly P(|x| > r) = r^−α above 1, with random signs."""
    return (1 + rng.pareto(alpha, shape)) * rng.choice([-1.0, 1.0], shape)


def with_common_size(rng, alpha, shape):
    """Coordinates that share one size for each row, as those of one minibatch: still α-stable each (sub-Gaussian)."""
    b, u, w = alpha / 2, np.pi * rng.random(shape[0]), rng.exponential(size=shape[0])
    size = np.sin(b * u) / np.sin(u) ** (1 / b) * (np.sin((1 - b) * u) / w) ** ((1 - b) / b)  # Kanter 1975
    return np.sqrt(size)[:, None] * rng.normal(size=shape)


def readings(measure, draw, repeats):
    found = [measure(draw()) for _ in range(repeats)]
    return np.array([e.value for e in found]), np.array([e.standard_error for e in found])


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 1.8, 2.0])
def test_stable_laws_are_read_within_their_errors(alpha):
    # 300 fresh samples of n = 2000: the spread is known to 4 %, the mean compared at 4 sigmas beside 4/n for bias
    rng = np.random.default_rng(1)
    values, errors = readings(stable_index, lambda: stable(rng, alpha, 2000), 300)
    assert abs(values.mean() - alpha) < 4 * values.std() / np.sqrt(300) + 4 / 2000
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)
    if alpha == 2:  # not clipped
        assert 0.3 < np.mean(values > 2) < 0.7


@pytest.mark.parametrize("alpha", [0.7, 1.5, 4.0])
def test_power_tails_are_read_within_their_errors(alpha):
    # exact Pareto: Hill's 1/α̂ is unbiased and its error α/√k, k = 200; 300 fresh samples, 4 sigmas beside α/k
    rng = np.random.default_rng(2)
    values, errors = readings(lambda x: hill_tail_index(x, 0.1), lambda: pareto(rng, alpha, 2000), 300)
    assert abs(values.mean() - alpha) < 4 * values.std() / np.sqrt(300) + 2 * alpha / 200
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)
    assert errors.mean() == pytest.approx(alpha / np.sqrt(200), rel=0.05)


@pytest.mark.parametrize("measure", [stable_index, lambda x: hill_tail_index(x, 0.05)])
def test_dependent_coordinates_count_once(measure):
    """Twenty coordinates that jump together: √20 too small an error where they are pooled as independent."""
    rng, scales = np.random.default_rng(3), np.geomspace(1e-3, 1e3, 20)
    values, errors = readings(measure, lambda: with_common_size(rng, 1.2, (1000, 20)) * scales, 300)
    assert abs(values.mean() - 1.2) < 4 * values.std() / np.sqrt(300) + 0.05  # Hill's own bias, 0.03
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)
    independent = measure(stable(rng, 1.2, (1000, 20)) * scales)
    assert errors.mean() > 2 * independent.standard_error


def test_coordinates_of_different_scale_are_pooled():
    rng = np.random.default_rng(4)
    x = stable(rng, 1.4, (20_000, 5))
    for measure in (stable_index, hill_tail_index):
        one = measure(x)
        assert measure(x * [1e-4, 1.0, 7.0, 1e3, 1e8]).value == pytest.approx(one.value, rel=1e-9)
        assert one.standard_error == pytest.approx(measure(x[:, 0]).standard_error / np.sqrt(5), rel=0.2)
    assert stable_index(x).agrees_with(1.4, sigmas=4)
    assert stable_index(jnp.asarray(x, jnp.float32)).value == pytest.approx(stable_index(x).value, rel=1e-5)


def test_each_is_wrong_where_its_docstring_says():
    rng = np.random.default_rng(5)
    gaussian = rng.normal(size=100_000)
    assert stable_index(gaussian).agrees_with(2.0, sigmas=4)
    assert hill_tail_index(gaussian).value > 8
    assert hill_tail_index(stable(rng, 1.8, 400_000)).z(1.8) > 2  # 2.0: the tail is not yet a power law
    mixture = rng.normal(size=100_000) * rng.choice([1.0, 3.0], 100_000)  # of finite variance, and no power tail
    assert stable_index(mixture).z(2.0) < -20
    assert hill_tail_index(mixture).value > 4
    assert stable_index(rng.uniform(-1, 1, 100_000)).z(2.0) > 20


@pytest.mark.parametrize("measure", [stable_index, lambda x: hill_tail_index(x, 0.1)])
def test_diverged_rows_are_left_out_and_counted(measure):
    x = stable(np.random.default_rng(6), 1.5, (200, 2))
    dirty = measure(np.vstack([x, [[np.nan, 1.0]], [[1.0, -np.inf]]]))
    assert dirty.left_out == 2
    assert dirty.value == measure(x).value
    with pytest.raises(ValueError, match="diverged"):
        measure(x * np.nan)


def test_what_no_stable_law_looks_like_reads_nan():
    x = np.repeat([1.0, -np.pi], [60, 40])  # the median is 1, and ⟨cos x⟩ = 0.6 cos 1 − 0.4 < 0
    assert np.isnan(stable_index(x).value) and np.isnan(stable_index(x).standard_error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hill_tail_index(np.ones(100), 0.0), "fraction must lie in"),
        (lambda: hill_tail_index(np.ones(100), 1.0), "fraction must lie in"),
        (lambda: hill_tail_index(np.arange(100.0), 0.01), "fraction must leave two values or more"),
        (lambda: hill_tail_index(np.ones(100), 0.1), "x must spread in its tail"),
        (lambda: hill_tail_index(np.arange(100.0) * (np.arange(100) > 95), 0.1), "x must not be zero"),
        (lambda: stable_index(np.arange(100.0) * (np.arange(100) > 60)), "mostly not zero"),
        (lambda: stable_index(np.ones(1)), "two finite rows"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
