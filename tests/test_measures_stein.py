"""Kernel Stein discrepancy: against automatic differentiation, its level, its power, its error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.measures.stein import stein_discrepancy

KEY = jax.random.key(0)
HESSIAN = np.array([[1.0, 0.3], [0.3, 2.0]])


def direct(x, score, square):
    """The U-statistic by automatic differentiation of the kernel itself, pair by pair, in whitened coordinates."""
    root = np.linalg.cholesky(np.cov(x, rowvar=False))
    z = jnp.asarray(np.linalg.solve(root, (x - x.mean(axis=0)).T).T)
    t = jnp.asarray(np.asarray(jax.vmap(score)(jnp.asarray(x))) @ root)

    def kernel(a, b):
        return (square + jnp.sum((a - b) ** 2)) ** -0.5

    def h(a, s, b, u):
        cross = jax.jacfwd(jax.grad(kernel, argnums=0), argnums=1)(a, b)
        return kernel(a, b) * s @ u + s @ jax.grad(kernel, 1)(a, b) + u @ jax.grad(kernel, 0)(a, b) + jnp.trace(cross)

    pairs = jax.vmap(lambda a, s: jax.vmap(lambda b, u: h(a, s, b, u))(z, t))(z, t)
    n = len(x)
    return float((jnp.sum(pairs) - jnp.trace(pairs)) / (n * (n - 1)))


@pytest.mark.parametrize("scale", [None, 0.7])
def test_is_the_u_statistic_of_its_definition(scale):
    x = np.array([0.5, 0.0]) + np.random.default_rng(0).normal(size=(60, 2))
    square = 4.0 if scale is None else scale**2
    truth = direct(x, lambda y: -HESSIAN @ y, square)
    found = stein_discrepancy(x, lambda y: -HESSIAN @ y, key=KEY, scale=scale)
    assert found.value == pytest.approx(truth, rel=1e-9)
    assert stein_discrepancy(x, -x @ HESSIAN, key=KEY, scale=scale).value == pytest.approx(truth, rel=1e-9)


def gaussian(rng, n):
    return rng.normal(size=(n, 10)), lambda x: -x


def narrow(rng, n):
    root = np.linalg.cholesky(np.diag([25.0, 1.0, 0.01]) + 0.004)
    inverse = np.linalg.inv(root @ root.T)
    return rng.normal(size=(n, 3)) @ root.T, lambda x: -inverse @ x


def wells(rng, n):
    """e^{−f/T} of the double well at T = .15, in 2-D, by inverting the distribution function on a fine grid."""
    grid = np.linspace(-2.5, 2.5, 20_001)
    mass = np.cumsum(np.exp(-((grid**2 - 1) ** 2) / 4 / 0.15))
    first = np.interp(rng.uniform(size=n), mass / mass[-1], grid)
    x = np.stack([first, np.sqrt(0.15) * rng.normal(size=n)], axis=1)
    return x, lambda y: -jnp.stack([y[0] * (y[0] ** 2 - 1), y[1]]) / 0.15


@pytest.mark.slow
@pytest.mark.parametrize(("law", "n"), [(gaussian, 1000), (narrow, 300), (wells, 300)])
def test_holds_its_level(law, n):
    """Rejections at 5 % in 400 clouds of the right law: at most 5 % and three binomial errors."""
    rng, repeats = np.random.default_rng(1), 400
    found = [stein_discrepancy(*law(rng, n), key=k) for k in jax.random.split(KEY, repeats)]
    rejected = np.mean([e.above_floor for e in found])
    assert 0.05 - 3 * 0.0109 <= rejected <= 0.05 + 3 * 0.0109
    values = np.array([e.value for e in found])
    assert abs(values.mean()) <= 4 * values.std() / np.sqrt(repeats)
    # cautious here, where it is the floor that tells: the larger of two noisy variances, of a heavy-tailed h
    assert 0.9 <= np.mean([e.standard_error for e in found]) / values.std(ddof=1) <= 1.6


@pytest.mark.slow
@pytest.mark.parametrize("coordinates", [1, 10])
def test_rejects_a_shift_of_three_tenths(coordinates):
    rng, shift = np.random.default_rng(2), 0.3 * (np.arange(10) < coordinates)
    found = [
        stein_discrepancy(rng.normal(size=(1000, 10)) + shift, lambda x: -x, key=k) for k in jax.random.split(KEY, 100)
    ]
    assert np.mean([e.above_floor for e in found]) >= 0.95
    values = np.array([e.value for e in found])
    assert np.mean([e.standard_error for e in found]) == pytest.approx(values.std(ddof=1), rel=0.25)  # 3.5 sigmas


def test_sees_a_wrong_temperature_and_a_missing_well():
    x, score = wells(np.random.default_rng(0), 2000)
    assert not stein_discrepancy(x, score, key=KEY).above_floor
    for wrong in (x * 1.1, x[x[:, 1] > -0.3]):
        assert stein_discrepancy(wrong, score, key=KEY).floors > 2


def test_float32_and_affine_coordinates():
    rng = np.random.default_rng(4)
    x = np.array([0.3, 0.0, 0.0]) + rng.normal(size=(500, 3))
    truth = stein_discrepancy(x, -x, key=KEY)
    narrow = stein_discrepancy(x.astype(np.float32), -x.astype(np.float32), key=KEY)
    assert narrow.value == pytest.approx(truth.value, rel=1e-4)
    matrix = np.array([[3.0, 0.0, 0.0], [1.0, 0.2, 0.0], [0.5, -4.0, 2.0]])
    moved = stein_discrepancy(x @ matrix.T + 7, -x @ np.linalg.inv(matrix), key=KEY)
    assert moved.value == pytest.approx(truth.value, rel=1e-6)
    assert moved.floor == pytest.approx(truth.floor, rel=1e-6)


def test_diverged_particles_are_left_out_and_counted():
    x = np.random.default_rng(5).normal(size=(300, 2))
    bad = np.vstack([x, [[np.nan, 0.0]], [[0.0, np.inf]]])
    clean, dirty = stein_discrepancy(x, -x, key=KEY), stein_discrepancy(bad, -bad, key=KEY)
    assert dirty.left_out == 2 and dirty.value == clean.value


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument():
    x = np.random.default_rng(6).normal(size=(50, 2))
    for call, message in (
        (lambda: stein_discrepancy(x[:3], -x[:3], key=KEY), "particles must hold at least d"),
        (lambda: stein_discrepancy(x, -x[:9], key=KEY), "score must have the particles' shape"),
        (lambda: stein_discrepancy(x, -x * np.nan, key=KEY), "score must be finite"),
        (lambda: stein_discrepancy(x, -x, key=KEY, scale=0.0), "scale must be positive"),
        (lambda: stein_discrepancy(x, -x, key=KEY, resamples=1), "resamples must be at least"),
        (lambda: stein_discrepancy(x[:, [0, 0]], -x, key=KEY), "particles must span all"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
