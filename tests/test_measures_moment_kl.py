"""The KL of clouds' moments: exact in its mean for Gaussian clouds of any size, and honest about others."""

import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.ensemble.start import Gaussian
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.moment_kl import moment_kl
from sgdsim.theory import gaussian_kl


def case(d: int, shift: float, scale: float) -> tuple[Gaussian, Gaussian]:
    """A correlated reference, and a law whose first axis is shifted and wider."""
    root = np.random.default_rng(99).normal(size=(d, d)) + 2 * np.eye(d)
    first = np.arange(d) == 0
    own = root * np.where(first, scale, 1.0)
    return Gaussian(np.ones(d), root @ root.T), Gaussian(np.ones(d) + shift * root[:, 0], own @ own.T)


def drawn(law: Gaussian, n: int, rng: np.random.Generator) -> np.ndarray:
    return law.mean + rng.normal(size=(n, law.dim)) @ law.root


def readings(
    d: int, n: int, m: int | None, shift: float, scale: float, repeats: int, seed: int
) -> tuple[list[Estimate], float]:
    rng, (reference, law) = np.random.default_rng(seed), case(d, shift, scale)
    found = [
        moment_kl(drawn(law, n, rng), reference if m is None else drawn(reference, m, rng)) for _ in range(repeats)
    ]
    return found, gaussian_kl(law.mean, law.covariance, reference.mean, reference.covariance)


def mean_and_spread(found: list[Estimate]) -> tuple[float, float]:
    values = np.array([e.value for e in found])
    return float(values.mean()), float(values.std(ddof=1))


@pytest.mark.parametrize("m", [None, 10_000])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 0.5)])
@pytest.mark.slow
def test_unbiased_in_ten_dimensions(m: int | None, shift: float, scale: float) -> None:
    repeats = 100
    found, truth = readings(10, 10_000, m, shift, scale, repeats, seed=1)
    mean, spread = mean_and_spread(found)
    assert abs(mean - truth) < 4 * spread / np.sqrt(repeats)  # one of 4
    if not shift:
        assert abs(mean) <= 5e-4  # the plain reading is 3.3e-3 too large, and 6.5e-3 with two clouds


@pytest.mark.parametrize(("n", "m"), [(7, None), (7, 12), (40, 8)])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.7, 1.5)])
@pytest.mark.slow
def test_unbiased_for_the_smallest_clouds(n: int, m: int | None, shift: float, scale: float) -> None:
    repeats = 1_000
    found, truth = readings(3, n, m, shift, scale, repeats, seed=2)
    mean, spread = mean_and_spread(found)
    assert abs(mean - truth) < 4.5 * spread / np.sqrt(repeats)  # one of 6, with heavy tails


def test_takes_off_the_known_bias_to_first_order() -> None:
    rng, (reference, law) = np.random.default_rng(3), case(10, 0.0, 1.0)
    x, y = drawn(law, 20_000, rng), drawn(reference, 30_000, rng)
    moments = (x.mean(axis=0), np.cov(x, rowvar=False))
    plain = gaussian_kl(*moments, reference.mean, reference.covariance)
    assert plain - moment_kl(x, reference).value == pytest.approx(10 * 13 / 4 / 20_000, rel=0.01)
    plain = gaussian_kl(*moments, y.mean(axis=0), np.cov(y, rowvar=False))
    expected = 10 * 13 / 4 * (1 / 20_000 + 1 / 30_000)
    assert plain - moment_kl(x, y).value == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("m", [None, 700])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.1, 1.1), (2.0, 0.7)])
@pytest.mark.slow
def test_standard_error_is_the_spread_and_the_floor_holds(m: int | None, shift: float, scale: float) -> None:
    repeats = 1_000
    found, _ = readings(10, 1_000, m, shift, scale, repeats, seed=4)
    _, spread = mean_and_spread(found)  # known to 2.2 %
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.15)
    above = np.mean([e.above_floor for e in found])
    if shift == 0:
        assert abs(above - 0.05) < 4 * np.sqrt(0.05 * 0.95 / repeats)
    else:
        assert above > {0.1: 0.15, 2.0: 0.99}[shift]


def heavy(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Student's t with 8 degrees of freedom, elliptic."""
    return rng.normal(size=(n, d)) / np.sqrt(rng.chisquare(8, size=(n, 1)))


def test_heavy_tails_do_not_read_as_a_disagreement() -> None:
    repeats, rng = 200, np.random.default_rng(5)
    found = [moment_kl(heavy(1_000, 10, rng), heavy(1_000, 10, rng)) for _ in range(repeats)]
    mean, spread = mean_and_spread(found)
    assert abs(mean) < 0.4 * spread  # .13 of it; with the bias of a Gaussian alone, 1.7 of it
    assert np.mean([e.above_floor for e in found]) < 0.15


def test_it_is_the_same_in_all_linear_coordinates() -> None:
    rng, (reference, law) = np.random.default_rng(6), case(4, 0.3, 1.3)
    x, y = drawn(law, 300, rng), drawn(reference, 200, rng)
    turn = rng.normal(size=(4, 4)) * np.geomspace(1e-4, 1e4, 4)[:, None]
    turned = Gaussian(turn @ reference.mean + 5, turn @ reference.covariance @ turn.T)
    for plain, other in (
        (moment_kl(x, reference), moment_kl(x @ turn.T + 5, turned)),
        (moment_kl(x, y), moment_kl(x @ turn.T, y @ turn.T)),
    ):
        assert other.value == pytest.approx(plain.value, rel=1e-6)
        assert other.standard_error == pytest.approx(plain.standard_error, rel=1e-6)
        assert other.floor == pytest.approx(plain.floor, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_diverged_particles_are_left_out_and_counted(dtype: type) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(200, 2)).astype(dtype), rng.normal(size=(150, 2)).astype(dtype)
    dirty = np.concatenate([x, [[np.nan, 0.0]], [[0.0, np.inf]]]).astype(dtype)
    clean, found = moment_kl(x, y), moment_kl(jnp.asarray(dirty), np.concatenate([[[-np.inf, 0.0]], y]).astype(dtype))
    assert found.left_out == 3
    assert (found.value, found.standard_error, found.floor) == (clean.value, clean.standard_error, clean.floor)
    assert moment_kl(dirty, Gaussian([0.0, 0.0], 1.0)).left_out == 2


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument() -> None:
    x = np.random.default_rng(8).normal(size=(50, 3))
    unit = Gaussian(np.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"particles must hold at least d \+ 3 = 6 finite particles, got 5"):
        moment_kl(x[:5], unit)
    assert np.isfinite(moment_kl(x[:6], x[6:12]).value)
    with pytest.raises(ValueError, match="reference must hold at least"):
        moment_kl(x, x[:5])
    with pytest.raises(ValueError, match="particles must have the reference's 2 coordinates, got 3"):
        moment_kl(x, Gaussian(np.zeros(2), 1.0))
    with pytest.raises(ValueError, match="particles must have the reference's 2 coordinates, got 3"):
        moment_kl(x, x[:, :2])
    flat = x @ np.diag([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="particles must spread in all 3 directions"):
        moment_kl(flat, unit)
    with pytest.raises(ValueError, match="reference must spread in all 3 directions"):
        moment_kl(x, np.column_stack([x[:, :2], x[:, 0] + x[:, 1]]))
    with pytest.raises(ValueError, match="reference must spread"):
        moment_kl(x, Gaussian(np.zeros(3), [1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="all 50 particles have diverged"):
        moment_kl(x * np.nan, unit)
