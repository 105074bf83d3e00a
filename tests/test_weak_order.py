"""Weak orders in η of both limits, by coupling: chain and limit on shared randomness, and by densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.density import ChainDensity, Grid
from sgdsim.ensemble import simulate
from sgdsim.measures import Estimate, mean
from sgdsim.problems import GaussianNoise, NoisyPotential
from sgdsim.problems.potentials import DoubleWell
from sgdsim.processes import SGD, Langevin

RATES = (0.2, 0.1, 0.05, 0.025, 0.0125)
TIME = 1.0


def quadratic(x):
    return jnp.sum(x**2) / 2


def chain(eta: float, potential=quadratic, variance: float = 0.3) -> SGD:
    return SGD(NoisyPotential(potential, GaussianNoise(variance), dim=1), learning_rate=eta, batch_size=1)


def coupled_error(eta: float, order: int, potential, variance: float, particles: int) -> Estimate:
    """E x² of the limit less that of the chain at t = 1 from x₀ = .5, both on the same draws."""
    run = {"particles": particles, "steps": round(TIME / eta), "key": jax.random.key(3), "dtype": "float32"}
    sgd = chain(eta, potential, variance)
    cloud, limit = (
        simulate(process, [0.5], **run).particles[-1].astype(float)
        for process in (sgd, Langevin.limit_of(sgd, order=order, substeps=8))
    )
    return mean(limit**2 - cloud**2)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("potential", "variance"), [(quadratic, 0.1), (DoubleWell(1), 0.3)], ids=["quadratic", "double-well"]
)
@pytest.mark.parametrize(("order", "tolerance"), [(1, 0.1), (2, 0.15)])
def test_coupled_clouds_show_the_weak_order(potential, variance, order, tolerance):
    """Each error is above its own standard error; the slope over 16-fold η is the order.

    On the quadratic the errors of ⟨x⟩² and of the variance have opposite signs, and at C = .3 the first order's sum is
    far from its leading term (exact slope .76); at C = .1 the exact slopes are .946 and 2.054.
    """
    particles = 60_000 if order == 1 else 300_000
    errors = [coupled_error(eta, order, potential, variance, particles) for eta in RATES]
    assert all(abs(e.value) > e.standard_error for e in errors)
    slope = np.polyfit(np.log(RATES), np.log([abs(e.value) for e in errors]), 1)[0]
    assert slope == pytest.approx(order, abs=tolerance)


def test_coupling_is_worth_a_hundred_times_the_particles():
    """The standard error of a weak error, beside that of two independent clouds."""
    eta, run = 0.05, {"particles": 20_000, "steps": 20}
    sgd = chain(eta, DoubleWell(1))
    cloud, same, other = (
        simulate(process, [0.5], key=jax.random.key(seed), **run).particles[-1] ** 2
        for process, seed in ((sgd, 0), (Langevin.limit_of(sgd), 0), (Langevin.limit_of(sgd), 1))
    )
    coupled, independent = (mean(x - cloud)[0].standard_error for x in (same, other))
    assert independent > 10 * coupled


@pytest.mark.parametrize(
    ("order", "published"),
    [(1, (0.0402, 0.0192, 0.0094, 0.0046, 0.0023)), (2, (0.00519, 0.00126, 0.00031, 0.000077, 0.000019))],
)
def test_errors_of_the_mean_of_an_ornstein_uhlenbeck_process(order, published):
    """k = C = x₀ = 1 at t = 1, to 5 %: the chain by its own density, the limit without noise, which keeps its mean."""
    for eta, expected in zip(RATES, published, strict=True):
        steps = round(TIME / eta)
        density = ChainDensity.of(chain(eta, variance=1.0), Grid([-3.5], [4.0], [256]))
        (found,) = density.expect(lambda x: x[:, 0], [1.0], [steps])
        flow = Langevin.limit_of(chain(eta, variance=0.0), order=order, substeps=16)
        limit = simulate(flow, [1.0], particles=1, steps=steps, key=jax.random.key(0)).particles[-1, 0, 0]
        assert found.grid_error < 1e-7
        assert abs(limit - found.value) == pytest.approx(expected, rel=0.05)
