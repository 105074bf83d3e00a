"""Estimates, and the helpers below every measure."""

import dataclasses
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.measures import Estimate, KLEstimate, mean
from sgdsim.measures.diverged import finite_rows
from sgdsim.measures.over_times import over_times
from sgdsim.measures.ratio import ratio


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.00123, 0.0003, 0.0015), "0.0012 ± 0.0003 (floor 0.0015)"),
        (Estimate(0.00123, 0.0003, 0.0015, 3), "0.0012 ± 0.0003 (floor 0.0015), 3 diverged left out"),
        (Estimate(1.2345, 0.0123), "1.234 ± 0.012"),
        (Estimate(12345.0, 600.0), "12345 ± 600"),
        (Estimate(2.39e-5, 3e-6, 4.4e-7), "(2.4 ± 0.3)e-05 (floor 4.4e-07)"),
        (Estimate(1.0, 0.0), "1 ± 0"),
        (Estimate(math.nan, math.nan), "nan ± nan"),
        (Estimate(np.array([1.0, 2.0]), np.array([0.3, 0.2])), "[1.0 ± 0.3, 2.0 ± 0.2]"),
        (Estimate(np.zeros((5, 5)), np.ones((5, 5)), left_out=1), "estimates of shape (5, 5), 1 diverged left out"),
    ],
)
def test_reads_well(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text


def test_scores_combine_both_errors() -> None:
    a, b = Estimate(3.0, 0.3), Estimate(1.0, 0.4)
    assert a.z() == pytest.approx(10.0)
    assert a.z(b) == pytest.approx(4.0)
    assert a.z(b) == -b.z(a)
    assert not a.agrees_with(b)
    assert a.agrees_with(b, sigmas=4.1)
    assert Estimate(1, 0).z(1.0) == 0.0
    assert Estimate(1, 0).z(2.0) == -math.inf
    assert not Estimate(math.nan, 1.0).agrees_with(0.0)


def test_floors() -> None:
    assert Estimate(3.0, 1.0, 1.5).floors == 2.0
    assert Estimate(3.0, 1.0, 1.5).above_floor is True
    assert Estimate(1.0, 1.0, 1.5).above_floor is False
    assert math.isnan(Estimate(3.0, 1.0).floors)


def test_holds_arrays_of_any_library() -> None:
    value = Estimate(jnp.arange(3.0), np.full(3, 0.5), left_out=2)
    assert isinstance(value.value, np.ndarray)
    assert value.value.dtype == np.float64
    np.testing.assert_allclose(value.z(1.0), [-2, 0, 2])
    assert value.agrees_with(np.array([1.0, 0.0, 2.5]))
    assert not value.agrees_with(5.0)
    assert value == Estimate(np.arange(3.0), np.full(3, 0.5), left_out=2)
    assert value != Estimate(np.arange(3.0), np.full(3, 0.4), left_out=2)
    assert isinstance(Estimate(jnp.float32(2.0), 0).value, float)


def test_goes_to_json() -> None:
    for value in (Estimate(1.0, 0.1, math.nan, 2), Estimate(np.eye(2), np.ones((2, 2)))):
        again = json.loads(json.dumps(value.to_dict(), allow_nan=False))
        assert again == value.to_dict()
    assert Estimate(1.0, 0.1, math.nan, 2).to_dict() == {
        "value": 1.0,
        "standard_error": 0.1,
        "floor": None,
        "left_out": 2,
    }


def test_diverged_rows_are_left_out_of_every_array() -> None:
    x = np.array([[1.0, 2.0], [np.nan, 0.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32)
    y = jnp.array([1.0, 2.0, jnp.inf, 4.0])
    (u, v), left_out = finite_rows(x, y)
    assert left_out == 2
    assert u.dtype == v.dtype == np.float64
    np.testing.assert_array_equal(u, [[1, 2], [5, 6]])
    np.testing.assert_array_equal(v, [1, 4])
    with pytest.raises(ValueError, match="all 1 particles have diverged"):
        finite_rows(x[1:2])


@pytest.mark.usefixtures("as_users_run")
def test_one_row_for_each_particle() -> None:
    with pytest.raises(ValueError, match="one row for each particle"):
        finite_rows(np.zeros((3, 1)), np.zeros(2))


def test_ratio_has_the_error_that_it_says() -> None:
    # 2,000 repeats of correlated u and v: the mean error must meet the spread within 5 % (its own error is 1.6 %)
    rng = np.random.default_rng(0)
    v = 1 + rng.exponential(size=(2000, 300))
    u = 0.7 * v + v * rng.normal(size=v.shape)
    found = [ratio(a, b, name="v") for a, b in zip(u, v, strict=True)]
    values = np.array([e.value for e in found])
    assert np.mean(values) == pytest.approx(0.7, abs=4 * np.std(values) / np.sqrt(2000))
    assert np.mean([e.standard_error for e in found]) == pytest.approx(np.std(values), rel=0.05)
    with pytest.raises(ValueError, match="noise is zero"):
        ratio(np.ones(3), np.zeros(3), name="noise")
    assert math.isnan(ratio(np.ones(1), np.ones(1), name="v").standard_error)


def test_entries_and_units() -> None:
    matrix = KLEstimate(np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 0.5), 0.1, 7, merged_cells=3)
    entry = matrix[1, 0] * -2.0
    assert (entry.value, entry.standard_error, entry.floor, entry.left_out) == (-6.0, 1.0, 0.2, 7)
    assert entry.merged_cells == 3
    shifted = Estimate(1.5, 0.1, 0.3) - 1.0
    assert (shifted.value, shifted.standard_error, shifted.floor) == (0.5, 0.1, 0.3)


@pytest.mark.usefixtures("as_users_run")
def test_over_times() -> None:
    x = np.random.default_rng(0).normal(size=(3, 50, 2))
    x[1, :4] = np.nan
    found = over_times(mean, x)
    assert found.value.shape == (3, 2) and found.left_out == 4
    assert found[2] == dataclasses.replace(mean(x[2]), left_out=4)
    with pytest.raises(ValueError, match=r"particles must be snapshots \(T, P, d\)"):
        over_times(mean, x[0])
