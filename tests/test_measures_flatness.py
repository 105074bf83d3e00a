"""Flatness and the exponent of variance against their closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.measures.flatness import flatness
from sgdsim.measures.variance_exponent import variance_exponent

K = np.array([0.01, 1.0, 300.0])
PROBLEM = ss.NoisyPotential(lambda x: 0.3 + jnp.sum(jnp.asarray(K) * x**2) / 2, ss.GaussianNoise(1.0), dim=3)


def test_flatness_of_a_quadratic():
    """2√(2(e − 1)f₀/k) about the minimum; about another point the ends of ½ks² + kas < (e − 1)f(a)."""
    found = flatness(PROBLEM, np.zeros(3), np.eye(3))
    np.testing.assert_allclose(found, 2 * np.sqrt(2 * (np.e - 1) * 0.3 / K), rtol=1e-5)
    shifted = flatness(PROBLEM, np.array([0.0, 0.5, 0.0]), np.eye(3)[1:2])
    loss = 0.3 + 0.125
    ends = np.roots([0.5, 0.5, -(np.e - 1) * loss])
    assert shifted[0] == pytest.approx(abs(ends[0] - ends[1]), rel=1e-5)
    flat = ss.NoisyPotential(lambda x: 1 + 0 * x[0], ss.GaussianNoise(1.0), dim=1)
    assert np.isinf(flatness(flat, np.zeros(1), np.ones((1, 1))))[0]


@pytest.mark.parametrize("power", [-1.0, 0.0, 2.0])
def test_exponent_and_its_error(power):
    """Gaussian deviations of variance k^p, 60 particles: 400 clouds have the slope p and the spread that is claimed."""
    rng, k = np.random.default_rng(0), np.geomspace(0.1, 10, 7)
    mixing = np.linalg.qr(rng.normal(size=(7, 7)))[0] * 0.4 + np.eye(7)  # directions depend on each other
    mixing /= np.linalg.norm(mixing, axis=0)
    found = [variance_exponent((rng.normal(size=(60, 7)) @ mixing * np.sqrt(k**power)) ** 2, k) for _ in range(400)]
    values, errors = (np.array([getattr(f, name) for f in found]) for name in ("value", "standard_error"))
    assert abs(values.mean() - power) < 4 * values.std() / 20
    assert errors.mean() == pytest.approx(values.std(), rel=0.12)


def test_diverged_particles_are_left_out():
    squares = np.random.default_rng(0).normal(size=(20, 3)) ** 2
    broken = np.concatenate([squares, [[np.nan, 1.0, 1.0]]])
    one, other = variance_exponent(squares, K), variance_exponent(broken, K)
    assert other.left_out == 1 and other.value == one.value and other.standard_error == one.standard_error


@pytest.mark.usefixtures("as_users_run")
def test_bad_arguments():
    with pytest.raises(ValueError, match="curvatures must be positive and differ"):
        variance_exponent(np.ones((3, 2)), [1.0, -1.0])
    with pytest.raises(ValueError, match="must fit"):
        variance_exponent(np.ones((3, 2)), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="two particles or more, got 1"):
        variance_exponent(np.ones((1, 2)), [1.0, 2.0])
    with pytest.raises(ValueError, match="directions must be unit vectors"):
        flatness(PROBLEM, np.zeros(3), 2 * np.eye(3))
    with pytest.raises(ValueError, match=r"directions must have shape \(m, 3\)"):
        flatness(PROBLEM, np.zeros(3), np.eye(2))
    below = ss.NoisyPotential(lambda x: x[0] ** 2 - 1, ss.GaussianNoise(1.0), dim=1)
    with pytest.raises(ValueError, match="problem must have a positive loss at x, got -1"):
        flatness(below, np.zeros(1), np.ones((1, 1)))
