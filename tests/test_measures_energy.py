"""Energy distance: SciPy on a line, NumPy in any dimension, exact values, level and spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from equations import enable_x64

from sgdsim.measures import energy, pairs
from sgdsim.measures.energy import energy_distance
from sgdsim.measures.estimate import Estimate

KEY = jax.random.key(0)


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    between, own, other = (scipy.spatial.distance.cdist(x, y) for x, y in ((a, b), (a, a), (b, b)))
    p, q = len(a), len(b)
    return 2 * between.mean() - own.sum() / (p * (p - 1)) - other.sum() / (q * (q - 1))


def test_on_a_line_it_is_scipys_square_without_the_pairs_of_a_particle_with_itself() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(70, 1)), rng.gamma(2.0, size=(50, 1))
    biased = scipy.stats.energy_distance(a[:, 0], b[:, 0]) ** 2
    more = [scipy.spatial.distance.cdist(x, x).sum() / (len(x) ** 2 * (len(x) - 1)) for x in (a, b)]
    assert energy_distance(a, b, key=KEY, permutations=20).value == pytest.approx(biased - sum(more), rel=1e-10)


@pytest.mark.parametrize(("p", "q"), [(2, 3), (300, 200), (1_500, 1_301)])
def test_in_tiles_it_is_the_sum_over_all_pairs(p: int, q: int) -> None:
    assert pairs._TILE // 2_801 < 2_801  # more than one tile, and a rest
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(p, 3)) + 100, rng.normal(size=(q, 3)) * 1.5 + 100
    assert energy_distance(jnp.asarray(a), b, key=KEY, permutations=20).value == pytest.approx(by_hand(a, b), rel=1e-9)


def readings(shift: float, scale: float, sizes: tuple[int, int], repeats: int, seed: int) -> list[Estimate]:
    rng, (p, q) = np.random.default_rng(seed), sizes
    return [
        energy_distance(
            rng.normal(size=(p, 2)) * scale + np.array([shift, 0.0]),
            rng.normal(size=(q, 2)),
            key=jax.random.key(i),
            permutations=200,
        )
        for i in range(repeats)
    ]


def normal_distance(shift: float, scale: float) -> float:
    """E|Z| for Z normal in the plane about (shift, 0): Rice's mean."""
    return float(scipy.stats.rice.mean(shift / scale, scale=scale))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.0), (1.0, 0.7)])
@pytest.mark.slow
def test_unbiased_its_error_is_the_spread_and_the_floor_holds(shift: float, scale: float) -> None:
    repeats = 300
    found = readings(shift, scale, (200, 300), repeats, seed=2)
    values = np.array([e.value for e in found])
    spread = values.std(ddof=1)  # known to 4 %, to 10 % at agreement
    truth = 2 * normal_distance(shift, np.sqrt(1 + scale**2))
    truth -= normal_distance(0.0, np.sqrt(2) * scale) + normal_distance(0.0, np.sqrt(2))
    assert abs(values.mean() - truth) < 4 * spread / np.sqrt(repeats)  # one of 3
    said, above = np.mean([e.standard_error for e in found]), np.mean([e.above_floor for e in found])
    if shift:
        assert said == pytest.approx(spread, rel=0.15)
        assert above > 0.7
    else:
        assert 0.9 * spread <= said <= 1.5 * spread  # cautious: the projection cannot add less than nothing
        assert abs(above - 0.05) < 4 * np.sqrt(0.05 * 0.95 / repeats)


@pytest.mark.parametrize("sizes", [(300, 200), (480, 20), (15, 400)])
def test_a_floor_from_a_subset_is_that_of_all(sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    full = readings(0.0, 1.0, sizes, 40, seed=3)
    monkeypatch.setattr(energy, "NULL_SIZE", 100)
    part = readings(0.0, 1.0, sizes, 40, seed=3)
    assert [e.value for e in full] == [e.value for e in part]
    ratio = np.mean([e.floor for e in part]) / np.mean([e.floor for e in full])
    assert ratio == pytest.approx(1, abs=0.12)  # each floor is known to 10 % from 200 splits


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_float32_agrees(shift: float) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2_000, 5)) + 1_000, rng.normal(size=(1_000, 5)) + 1_000
    a[:, 0] += shift
    double = energy_distance(a, b, key=KEY, permutations=100)
    with enable_x64(False):
        single = energy_distance(a, b, key=KEY, permutations=100)
    for name in ("value", "standard_error", "floor"):
        assert abs(getattr(single, name) - getattr(double, name)) < 0.01 * double.floor
    rounded = energy_distance(a.astype(np.float32), b.astype(np.float32), key=KEY, permutations=100)
    assert abs(rounded.value - double.value) < 0.01 * double.floor


def test_it_depends_on_the_key_alone() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(60, 2)), rng.normal(size=(50, 2))
    first, other = energy_distance(a, b, key=KEY), energy_distance(a, b, key=jax.random.key(1))
    assert first == energy_distance(a, b, key=KEY)
    assert first.value == other.value and first.floor != other.floor


def test_diverged_particles_are_left_out_and_counted() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(60, 2)), rng.normal(size=(50, 2))
    clean = energy_distance(a, b, key=KEY)
    dirty = energy_distance(np.vstack([a, [[np.nan, 0]]]), jnp.asarray(np.vstack([[[np.inf, 0]], b])), key=KEY)
    assert dirty.left_out == 2
    assert (dirty.value, dirty.standard_error, dirty.floor) == (clean.value, clean.standard_error, clean.floor)
    with pytest.raises(ValueError, match="diverged"):
        energy_distance(a * np.nan, b, key=KEY)


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument() -> None:
    a = np.zeros((3, 2))
    with pytest.raises(ValueError, match="a and b must have the same number of coordinates, got 2 and 1"):
        energy_distance(a, a[:, :1], key=KEY)
    with pytest.raises(ValueError, match="a and b must hold at least two finite particles each, got 3 and 1"):
        energy_distance(a, a[:1], key=KEY)
    with pytest.raises(ValueError, match="permutations must be at least 20, for a 95 % quantile, got 19"):
        energy_distance(a, a, key=KEY, permutations=19)
    with pytest.raises(TypeError, match="key must be one typed key"):
        energy_distance(a, a, key=0)
