"""The paired KL against Euler chains of an Ornstein–Uhlenbeck process, whose Gaussian laws are known at every step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.measures import paired_kl


def paired_euler(n: int, h: float, steps: int, k: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """dX = −kX dt + √2 dW by Euler with h and with h/2 on one path, from the steady state of the equation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(k))) / np.sqrt(k)
    y = x.copy()
    for _ in range(steps):
        first, second = rng.normal(size=(2, n, len(k))) * np.sqrt(h)  # √2 √(h/2)
        x = x - h * k * x + first + second
        y = y - h / 2 * k * y + first
        y = y - h / 2 * k * y + second
    return x, y


def variances(h: float, steps: int, k: np.ndarray) -> np.ndarray:
    """The exact variances of that chain, over those of the equation."""
    v = 1 / k
    for _ in range(steps):
        v = (1 - h * k) ** 2 * v + 2 * h
    return v * k


def exact_kl(h: float, steps: int, k: np.ndarray) -> float:
    s = variances(h, steps, k)
    return float(np.sum(s - 1 - np.log(s)) / 2)


def expected(h: float, steps: int, k: np.ndarray) -> float:
    """What `paired_kl` estimates: the second order in Richardson's difference, on the fine law."""
    coarse, fine = variances(h, steps, k), variances(h / 2, 2 * steps, k)
    return float(np.sum((2 * (coarse - fine) / fine) ** 2) / 4)


@pytest.mark.parametrize(
    ("k", "h", "steps"), [([1.0], 0.1, 30), ([1.0], 0.02, 60), ([1.0, 2.0], 0.1, 20), ([1.0, 0.5, 2.0], 0.05, 30)]
)
def test_reads_eulers_bias(k: list[float], h: float, steps: int) -> None:
    k = np.array(k)
    found = paired_kl(*paired_euler(20_000, h, steps, k, seed=0), order=1)
    assert found.agrees_with(expected(h, steps, k), sigmas=4)
    assert found.standard_error < 0.1 * found.value
    assert found.value == pytest.approx(exact_kl(h, steps, k), rel=0.3)  # O(h) of itself, and the error above
    assert found.above_floor


def test_reads_it_in_many_dimensions_along_a_few_directions() -> None:
    k, h = np.ones(6), 0.2
    found = paired_kl(*paired_euler(20_000, h, 20, k, seed=1), order=1, key=jax.random.key(0))
    assert found.agrees_with(expected(h, 20, k), sigmas=4)
    few = paired_kl(*paired_euler(300, h, 20, np.ones(40), seed=1), order=1, key=jax.random.key(0))
    assert 0 < few.value < exact_kl(h, 20, np.ones(40))  # eight directions of forty: a lower bound
    assert few == paired_kl(*paired_euler(300, h, 20, np.ones(40), seed=1), order=1, key=jax.random.key(0))


def test_higher_order_scales_the_difference_less() -> None:
    x, y = paired_euler(5000, 0.1, 20, np.ones(1), seed=2)
    first, second = paired_kl(x, y, order=1), paired_kl(x, y, order=2)
    assert second.value / first.value == pytest.approx((2 / 3) ** 2)  # (4/3)² against 2²


@pytest.mark.slow
def test_standard_error_is_the_spread() -> None:
    for h, k in ((0.02, np.ones(1)), (0.2, np.ones(2))):
        found = [paired_kl(*paired_euler(1000, h, 15, k, seed), order=1, degree=2) for seed in range(150)]
        values = np.array([e.value for e in found])
        spread = values.std(ddof=1)  # known to 6 %
        assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.3)
        assert values.mean() == pytest.approx(expected(h, 15, k), abs=4 * spread / np.sqrt(150), rel=0.03)


def test_agreement_reads_zero_and_the_floor_holds() -> None:
    # independent clouds of one law: the noise is as large as it can be
    rng, repeats = np.random.default_rng(3), 300
    found = [paired_kl(*rng.normal(size=(2, 4000, 2)), order=2, degree=2) for _ in range(repeats)]
    values = np.array([e.value for e in found])
    assert abs(values.mean()) <= 4 * values.std() / np.sqrt(repeats)
    said = np.mean([e.standard_error for e in found])
    assert 0.95 * values.std() <= said <= 1.4 * values.std()  # cautious at agreement, by 1.14 to 1.20 over six seeds
    assert np.mean([e.above_floor for e in found]) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / repeats)


def test_the_coordinates_do_not_matter() -> None:
    x, y = paired_euler(2000, 0.2, 20, np.array([1.0, 2.0]), seed=4)
    map_, move = np.array([[3.0, 1.0], [-2.0, 0.01]]), np.array([100.0, -5.0])
    straight, bent = paired_kl(x, y, order=1), paired_kl(x @ map_ + move, y @ map_ + move, order=1)
    assert bent.value == pytest.approx(straight.value, rel=1e-6)
    assert bent.standard_error == pytest.approx(straight.standard_error, rel=1e-6)


def test_equal_clouds_and_points() -> None:
    x = np.random.default_rng(5).normal(size=(500, 2))
    same = paired_kl(x, x, order=2)
    assert (same.value, same.standard_error, same.floor) == (0.0, 0.0, 0.0)
    point = np.ones((50, 2))
    assert paired_kl(point, point, order=1).value == 0.0
    assert paired_kl(point + 1, point, order=1).value == np.inf
    flat = np.column_stack([x[:, 0], np.ones(500)])  # no width along the second axis
    assert paired_kl(flat * 1.1, flat, order=1).value == pytest.approx(
        paired_kl(x[:, :1] * 1.1, x[:, :1], order=1).value
    )


def test_diverged_pairs_are_left_out_and_counted() -> None:
    x, y = paired_euler(1000, 0.2, 10, np.ones(1), seed=6)
    clean = paired_kl(x, y, order=1)
    dirty = paired_kl(jnp.asarray(np.vstack([x, [[np.nan]], [[0.0]]])), np.vstack([y, [[0.0]], [[np.inf]]]), order=1)
    assert dirty.left_out == 2
    assert dirty.value == clean.value


def test_few_pairs_lower_the_degree() -> None:
    x, y = paired_euler(60, 0.2, 10, np.ones(2), seed=7)
    assert paired_kl(x, y, order=1) == paired_kl(x, y, order=1, degree=2)
    with pytest.raises(ValueError, match="ten pairs for each feature, got 10"):
        paired_kl(x[:10], y[:10], order=1)


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument() -> None:
    x = np.random.default_rng(8).normal(size=(500, 4))
    with pytest.raises(ValueError, match="key must be given"):
        paired_kl(x, x, order=1)
    with pytest.raises(ValueError, match="coarse and fine must be paired"):
        paired_kl(x, x[:10], order=1)
    with pytest.raises(ValueError, match="order and degree"):
        paired_kl(x[:, :1], x[:, :1], order=0)
