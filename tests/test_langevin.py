"""The SDE side: its Brownian path, its weak order, and Itô where the noise depends on x."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import theory
from sgdsim.draws import Draws
from sgdsim.processes.langevin import brownian_increments

OU = ss.NoisyPotential(ss.potentials.Quadratic([[2.0]]), ss.GaussianNoise(1.0))


def test_brownian_increments_are_independent_normals():
    """16 increments of one coordinate over 100,000 particles: 136 covariances at 5 standard errors."""
    count = 100_000
    increments = np.stack(brownian_increments(Draws.of(jax.random.key(0), np.arange(count)), 1, 16, jnp.float64))[:, 0]
    error = np.sqrt((1 + np.eye(16)) / count)
    assert np.all(np.abs(increments @ increments.T / count - np.eye(16)) < 5 * error)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_brownian_path_does_not_depend_on_the_substeps(size):
    draws = Draws.of(jax.random.key(0), np.arange(5)).at(9)
    whole = draws.normals(size)
    fine = brownian_increments(draws, size, 16, jnp.float64)
    coarse = brownian_increments(draws, size, 8, jnp.float64)
    assert np.allclose(sum(fine) / np.sqrt(16), whole, atol=1e-14)
    for i, increment in enumerate(coarse):
        assert np.allclose((fine[2 * i] + fine[2 * i + 1]) / np.sqrt(2), increment, atol=1e-14)


def test_one_euler_step_is_sgd_with_gaussian_noise_path_by_path():
    sgd = ss.SGD(OU, learning_rate=0.3, batch_size=2)
    euler = ss.Langevin.limit_of(sgd, substeps=1, solver=diffrax.Euler())
    run = {"particles": 100, "steps": 50, "key": jax.random.key(3)}
    a, b = (ss.simulate(p, ss.Gaussian([1.0], 0.1), **run).particles for p in (sgd, euler))
    assert np.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(("solver", "excess"), [(diffrax.Heun(), 2), (diffrax.Euler(), 1)])
def test_the_bias_has_the_order_of_the_solver(solver, excess):
    """On an OU process both solvers are linear maps of a Gaussian, whose variances are known at any sub-step.

    Two comparisons of a variance with the exact discretised one at 4 standard errors, from 400,000 particles.
    """
    sgd = ss.SGD(OU, learning_rate=0.5, batch_size=1)
    process = ss.Langevin.limit_of(sgd, substeps=2, solver=solver)
    h, k, noise = 0.25, 2.0, 2 * 0.25 * 0.25  # noise = 2 T h
    if excess == 2:
        factor, gain = 1 - h * k + (h * k) ** 2 / 2, 1 - h * k / 2
    else:
        factor, gain = 1 - h * k, 1.0
    variance = gain**2 * noise / (1 - factor**2)
    cloud = ss.simulate(process, np.zeros(1), particles=400_000, steps=40, key=jax.random.key(1)).particles[-1]
    assert abs((cloud**2).mean() - variance) < 4 * variance * np.sqrt(2 / len(cloud))
    assert process.weak_order == excess


def test_ito_where_the_noise_depends_on_x():
    """dX = √(2·0.1) X dW has the mean x₀ in the sense of Itô and x₀e^{0.1t} in Stratonovich's; t = 1, 4 sigmas."""
    diffusion = ss.ItoDiffusion(drift=lambda x: 0 * x, diffusion=lambda x: 0.1 * x[:, None] * x[None], dim=1)
    process = ss.Langevin(diffusion, step_size=0.1)
    assert isinstance(process.solver, diffrax.Euler)
    x = ss.simulate(process, np.ones(1), particles=200_000, steps=10, key=jax.random.key(0)).particles[-1]
    error = x.std() / np.sqrt(len(x))
    assert abs(x.mean() - 1) < 4 * error
    assert abs(x.mean() - np.exp(0.1)) > 40 * error


def test_drift_and_diffusion_of_the_limit_are_those_of_the_chain():
    sgd = ss.SGD(OU, learning_rate=0.1, batch_size=4, momentum=0.5)
    limit = ss.Langevin.limit_of(sgd)
    x = jnp.asarray([0.7])
    assert float(limit.time_step) == pytest.approx(0.2)
    assert np.allclose(limit.limit.drift(x), [-1.4])
    assert np.allclose(limit.limit.diffusion(x), [[0.025]])
    assert float(limit.limit.gibbs_potential(x)) == pytest.approx(0.49 / 0.025)


def test_no_noise_is_gradient_flow():
    centres = np.arange(5.0)
    risk = ss.EmpiricalRisk(lambda x, a: (x[0] - a[0]) ** 2 / 2, (centres,), init=np.zeros(1))
    sgd = ss.SGD(risk, learning_rate=0.1, batch_size=5, sampling="without-replacement")
    assert float(sgd.temperature) == 0
    process = ss.Langevin.limit_of(sgd, substeps=64)
    x = ss.simulate(process, np.zeros(1), particles=3, steps=10, key=jax.random.key(0)).particles[-1]
    assert np.allclose(x, 2 * (1 - np.exp(-1)), rtol=2e-3)


STATE_DEPENDENT = ss.NoisyPotential(ss.potentials.DoubleWell(dim=1), ss.GaussianNoise(lambda x: jnp.diag(1 + x * x)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: ss.Langevin.limit_of(s, substeps=3), "substeps must be a power of two"),
        (
            lambda s: ss.Langevin.limit_of(s, solver=diffrax.Heun()),
            "solver must converge to the Itô solution",
        ),
        (lambda s: ss.Langevin.limit_of(s, solver=diffrax.ItoMilstein()), "solver must be diffrax.Euler"),
        (
            lambda s: ss.Langevin(ss.ItoDiffusion(drift=lambda x: x, diffusion=jnp.outer, dim=1), step_size=0.0),
            "step_size must be positive",
        ),
        (
            lambda s: ss.ItoDiffusion(drift=lambda x: x, diffusion=lambda x: x, dim=0),
            "dim must be a positive",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make(ss.SGD(STATE_DEPENDENT, learning_rate=0.1, batch_size=1))


@pytest.mark.usefixtures("as_users_run")
def test_fields_of_the_wrong_shape_are_named():
    wrong = ss.Langevin(ss.ItoDiffusion(drift=lambda x: x, diffusion=lambda x: x, dim=2), step_size=0.1)
    with pytest.raises(ValueError, match="diffusion must map"):
        ss.simulate(wrong, np.zeros(2), particles=2, steps=1, key=jax.random.key(0))


def test_second_order_limit_has_its_own_steady_state_and_a_smaller_error_at_a_finite_time():
    problem = ss.NoisyPotential(ss.potentials.Quadratic([[1.0]]), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=0.4, batch_size=1)
    runs = {"particles": 60_000, "key": jax.random.key(3)}
    second = ss.Langevin.limit_of(sgd, order=2, substeps=8)
    steady = ss.measures.covariance(ss.simulate(second, [0.0], steps=30, **runs).particles[-1])
    assert steady.agrees_with(theory.second_order_stationary_covariance(np.eye(1), np.eye(1), 0.4), sigmas=4)
    # The same key drives all three: their differences hold no noise of the means.
    chain, first, better = (
        ss.simulate(p, [1.0], steps=5, **runs).particles[-1]
        for p in (sgd, ss.Langevin.limit_of(sgd, substeps=8), second)
    )
    errors = [abs(float(np.mean(x - chain))) for x in (first, better)]
    assert errors[0] == pytest.approx(abs(np.exp(-2.0) - 0.6**5), rel=0.02)
    assert errors[1] == pytest.approx(abs(np.exp(-2.4) - 0.6**5), rel=0.05)


def test_second_order_limit_refuses_momentum():
    problem = ss.NoisyPotential(ss.potentials.Quadratic([[1.0]]), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=0.1, batch_size=1, momentum=0.5)
    with pytest.raises(ValueError, match="momentum must be 0 for the second-order limit"):
        ss.Langevin.limit_of(sgd, order=2)
    risk = ss.EmpiricalRisk(lambda w, z: (w[0] - z[0]) ** 2 / 2, (np.arange(4.0),), init=np.zeros(1))
    epoch = ss.SGD(risk, learning_rate=0.1, batch_size=2, sampling="epoch")
    with pytest.raises(ValueError, match="sampling must draw each batch independently"):
        ss.Langevin.limit_of(epoch, order=2)
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        ss.Langevin.limit_of(sgd, order=3)
