"""Kernel Stein discrepancy: sums by hand, exact values for Gaussians, level, power and spread."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from equations import enable_x64

from sgdsim.measures import stein
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.stein import stein_discrepancy
from sgdsim.problems.potentials import DoubleWell

KEY = jax.random.key(0)
WIDTHS = np.geomspace(0.1, 10, 10)
TEMPERATURE = 0.25


def by_hand(x: np.ndarray, s: np.ndarray, covariance: np.ndarray) -> float:
    """The mean of h over all pairs, from the derivatives of k in the coordinates x."""
    total, inverse = 0.0, np.linalg.inv(covariance)
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                pull = inverse @ (x[i] - x[j])
                k = (1 + pull @ (x[i] - x[j])) ** -0.5
                there, here = pull * k**3, -pull * k**3  # ∇'k and ∇k
                mixed = inverse * k**3 - 3 * np.outer(pull, pull) * k**5  # ∂ᵢ∂'ⱼ k
                total += s[i] @ covariance @ s[j] * k + s[i] @ covariance @ there + s[j] @ covariance @ here
                total += np.trace(covariance @ mixed)
    return total / (len(x) * (len(x) - 1))


@pytest.mark.parametrize("given", [None, 4.0, np.array([0.5, 2.0, 1.0]), "matrix"])
def test_is_the_sum_over_all_pairs(given: float | np.ndarray | str | None) -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    x, precision = rng.normal(size=(40, 3)) @ root.T + 5, np.linalg.inv(root @ root.T)
    s = -(x - 4.5) @ precision
    covariance = root @ root.T + np.eye(3) if isinstance(given, str) else given
    full = np.cov(x.T) if covariance is None else np.asarray(covariance, dtype=float)
    full = full if full.ndim == 2 else np.diag(np.broadcast_to(full, 3))
    found = stein_discrepancy(x, s, key=KEY, covariance=covariance)
    assert found.value == pytest.approx(by_hand(x, s, full), rel=1e-8)
    tilde = stein_discrepancy(x, lambda y: -jnp.asarray(precision) @ (y - 4.5), key=KEY, covariance=covariance)
    assert tilde.value == pytest.approx(found.value, rel=1e-10)


def test_many_particles_go_in_tiles() -> None:
    x = np.random.default_rng(1).normal(size=(2_501, 2))
    r2 = np.sum((x[:, None] - x) ** 2, axis=2)
    k = (1 + r2) ** -0.5
    h = x @ x.T * k + (2 - r2) * k**3 - 3 * r2 * k**5  # s = −x
    np.fill_diagonal(h, 0)
    found = stein_discrepancy(x, -x, key=KEY, covariance=1.0, resamples=20)
    assert found.value == pytest.approx(h.sum() / (2_501 * 2_500), rel=1e-9)


def of_normals(d: int, shift: float, variance: float) -> float:
    """E h for N(shift e₁, variance·1) and N(0, 1): E k (s−s_c)·(s'−s_c'), with s − s_c = −shift e₁ + (1/v − 1)(x − m).

    x − x' and x + x' − 2m are independent, and k knows the first alone.
    """
    factor = 1 / variance - 1

    def density(q: float) -> float:
        inner = shift**2 + factor**2 * variance * (d - q) / 2
        return inner * (1 + 2 * variance * q) ** -0.5 * float(scipy.stats.chi2.pdf(q, d))

    return scipy.integrate.quad(density, 0, np.inf)[0]


def readings(shift: float, scale: float, repeats: int, seed: int, n: int = 300) -> list[Estimate]:
    rng = np.random.default_rng(seed)
    clouds = [rng.normal(size=(n, 3)) * scale + np.array([shift, 0, 0]) for _ in range(repeats)]
    return [
        stein_discrepancy(x, -x, key=jax.random.key(i), covariance=1.0, resamples=200) for i, x in enumerate(clouds)
    ]


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.0), (0.0, 1.3), (1.0, 0.8)])
@pytest.mark.slow
def test_unbiased_its_error_is_the_spread_and_the_floor_holds(shift: float, scale: float) -> None:
    repeats = 300
    found = readings(shift, scale, repeats, seed=2)
    values = np.array([e.value for e in found])
    spread = values.std(ddof=1)  # known to 4 %, to 10 % at agreement
    assert abs(values.mean() - of_normals(3, shift, scale**2)) < 4 * spread / np.sqrt(repeats)  # one of 4
    said, above = np.mean([e.standard_error for e in found]), np.mean([e.above_floor for e in found])
    if (shift, scale) == (0.0, 1.0):
        assert 0.9 * spread <= said <= 1.5 * spread  # cautious: the projection cannot add less than nothing
        assert above <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    else:
        assert said == pytest.approx(spread, rel=0.15)
        assert above > 0.9


def normal(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, 10))
    return x, -x


def anisotropic(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, 10)) * WIDTHS
    return x, -x / WIDTHS**2


def double_well(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """e^{−f/T}, f = (x₁² − 1)²/4 + x₂²/2, by inverting the distribution of x₁."""
    line = np.linspace(-3, 3, 20_001)
    cumulative = np.cumsum(np.exp(-((line**2 - 1) ** 2) / 4 / TEMPERATURE))
    first = np.interp(rng.random(n), cumulative / cumulative[-1], line)
    x = np.column_stack([first, rng.normal(size=n) * np.sqrt(TEMPERATURE)])
    return x, -np.column_stack([first**3 - first, x[:, 1]]) / TEMPERATURE


def rejected(draw: Callable, n: int, repeats: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    found = [stein_discrepancy(*draw(n, rng), key=jax.random.key(i), resamples=400) for i in range(repeats)]
    return float(np.mean([e.above_floor for e in found]))


LEVEL = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("draw", [anisotropic, double_well])
def test_level_with_the_clouds_own_covariance(draw: Callable) -> None:
    assert rejected(draw, 200, 400, seed=3) <= LEVEL


@pytest.mark.slow
@pytest.mark.parametrize("draw", [normal, anisotropic, double_well])
def test_level_at_a_thousand(draw: Callable) -> None:
    assert rejected(draw, 1_000, 400, seed=4) <= LEVEL


@pytest.mark.parametrize("shift", [0.3 * np.eye(10)[0], np.full(10, 0.3), -3 * np.eye(10)[9]])
@pytest.mark.slow
def test_a_shift_in_ten_dimensions_is_seen(shift: np.ndarray) -> None:
    def moved(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = normal(n, rng)[0] + shift if shift[9] >= 0 else anisotropic(n, rng)[0] + shift
        return x, -x if shift[9] >= 0 else -x / WIDTHS**2

    assert rejected(moved, 1_000, 100, seed=5) >= 0.95


def test_the_share_of_the_mass_in_each_well_is_hardly_seen() -> None:
    def lopsided(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x, s = double_well(n, rng)
        turn = np.sign(x[:, :1]) * np.where(rng.random((n, 1)) < 0.8, 1, -1)  # four in five on the right
        return x * np.hstack([turn, np.ones((n, 1))]), s * np.hstack([turn, np.ones((n, 1))])

    assert rejected(lopsided, 300, 100, seed=6) < 0.5  # a fair coin is refused 10 standard errors away


def test_it_is_the_same_in_all_linear_coordinates() -> None:
    rng = np.random.default_rng(7)
    x, turn = rng.normal(size=(200, 3)), rng.normal(size=(3, 3)) * np.array([[1e3], [1.0], [1e-3]])
    plain = stein_discrepancy(x, -x, key=KEY)
    turned = stein_discrepancy(x @ turn.T + 7, -x @ np.linalg.inv(turn), key=KEY)
    for name in ("value", "standard_error", "floor"):
        assert getattr(turned, name) == pytest.approx(getattr(plain, name), rel=1e-6)


def test_a_floor_from_a_subset_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    full = readings(0.0, 1.0, 60, seed=8)
    monkeypatch.setattr(stein, "NULL_SIZE", 100)
    part = readings(0.0, 1.0, 60, seed=8)
    assert [e.value for e in full] == [e.value for e in part]
    ratio = np.mean([e.floor for e in part]) / np.mean([e.floor for e in full])
    assert ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_float32_agrees(shift: float) -> None:
    well = DoubleWell(dim=4)
    x = np.random.default_rng(9).normal(size=(1_500, 4)) * 0.5 + shift + 100

    def score(y: jax.Array) -> jax.Array:
        return -jax.grad(well)(y - 100) / TEMPERATURE

    double = stein_discrepancy(x, score, key=KEY)
    with enable_x64(False):
        single = stein_discrepancy(x, score, key=KEY)
    for name in ("value", "standard_error", "floor"):
        assert abs(getattr(single, name) - getattr(double, name)) < 0.01 * double.floor
    rounded = stein_discrepancy(jnp.asarray(x, dtype=jnp.float32), score, key=KEY)
    assert abs(rounded.value - double.value) < 0.01 * double.floor


def test_diverged_particles_are_left_out_and_counted() -> None:
    x = np.random.default_rng(10).normal(size=(60, 2))
    dirty = np.vstack([x[:30], [[np.nan, 0.0], [0.0, np.inf]], x[30:]])
    clean = stein_discrepancy(x, -x, key=KEY)
    for score in (-dirty, jnp.negative):
        found = stein_discrepancy(dirty, score, key=KEY)
        assert found.left_out == 2
        assert found.value == pytest.approx(clean.value)
        assert found.floor == pytest.approx(clean.floor)
    assert clean == stein_discrepancy(x, -x, key=KEY)
    assert clean.floor != stein_discrepancy(x, -x, key=jax.random.key(1)).floor


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument() -> None:
    x = np.random.default_rng(11).normal(size=(20, 2))
    with pytest.raises(ValueError, match="particles must hold at least two that are finite, got 1"):
        stein_discrepancy(x[:1], -x[:1], key=KEY)
    with pytest.raises(ValueError, match=r"score must give 2 numbers for each particle, got shape \(20, 1\)"):
        stein_discrepancy(x, -x[:, :1], key=KEY)
    with pytest.raises(ValueError, match=r"score must give 2 numbers for each particle, got shape \(20,\)"):
        stein_discrepancy(x, jnp.sum, key=KEY)
    with pytest.raises(ValueError, match="score must be finite at every finite particle"):
        stein_discrepancy(x, lambda y: y / 0.0, key=KEY)
    with pytest.raises(ValueError, match="score must be finite at every finite particle"):
        stein_discrepancy(x, np.where(np.arange(20)[:, None] == 3, np.nan, -x), key=KEY)
    with pytest.raises(ValueError, match="covariance must fit"):
        stein_discrepancy(x, -x, key=KEY, covariance=np.ones(3))
    with pytest.raises(ValueError, match="covariance must spread in all 2 directions"):
        stein_discrepancy(x, -x, key=KEY, covariance=np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="particles must spread in all 2 directions"):
        stein_discrepancy(x * np.array([1.0, 0.0]), -x, key=KEY)
    with pytest.raises(ValueError, match="resamples must be at least 20, for a 95 % quantile, got 19"):
        stein_discrepancy(x, -x, key=KEY, resamples=19)
    with pytest.raises(TypeError, match="key must be one typed key"):
        stein_discrepancy(x, -x, key=0)
