"""Underdamped Langevin against exact linear laws, a fine reference where noise depends on x, and the chain itself."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import sgdsim as ss
from sgdsim import theory
from sgdsim.processes.underdamped import Underdamped


def chain(learning_rate, momentum, hessian=((1.0,),), covariance=1.0, batch_size=1):
    problem = ss.NoisyPotential(ss.potentials.Quadratic(np.array(hessian)), ss.GaussianNoise(covariance))
    return ss.SGD(problem, learning_rate=learning_rate, batch_size=batch_size, momentum=momentum)


def exact_moments(sgd, hessian, covariance, start, steps):
    """Mean and covariance of (x, V) after so many steps: a linear diffusion of 2d coordinates, in its own time s."""
    d, h, mu = len(hessian), float(sgd.learning_rate) ** 0.5, float(sgd.momentum)
    friction, temperature = (1 - mu) / h, float(sgd.temperature)
    drift = np.block([[np.zeros((d, d)), -np.eye(d)], [hessian, friction * np.eye(d)]])
    diffusion = scipy.linalg.block_diag(np.zeros((d, d)), friction * temperature * covariance)
    start = np.concatenate([start, np.zeros(d)])
    return theory.ou_mean_covariance(drift, diffusion, start, np.zeros((2 * d, 2 * d)), steps * h)


def final(process, start, steps, particles, key):
    return ss.simulate(process, start, particles=particles, steps=steps, key=jax.random.key(key)).particles[-1]


@pytest.mark.parametrize(
    ("learning_rate", "momentum", "own", "of_chain"), [(0.5, 0.9, 2.5, 2.8788), (1.5, 0.5, 1.5, 3.0)]
)
@pytest.mark.parametrize("solver", [diffrax.ALIGN(), "splitting"], ids=["ALIGN", "splitting"])
def test_steady_variance_is_its_own_limit(learning_rate, momentum, own, of_chain, solver):
    """ηC/(2k(1−μ)), at 4 sigmas, and not heavy-ball SGD's; k = C = 1."""
    process = Underdamped.limit_of(chain(learning_rate, momentum), solver=solver, substeps=8)
    measured = ss.measures.covariance(final(process, [0.0], 120, 20_000, 0))
    assert measured.agrees_with(np.array([[own]]), sigmas=4)
    assert not measured.agrees_with(np.array([[of_chain]]), sigmas=8)


HESSIAN, COVARIANCE = np.array([[1.0, 0.3], [0.3, 2.0]]), np.array([[1.0, -0.6], [-0.6, 0.8]])


@pytest.mark.parametrize(
    "solver",
    [diffrax.ALIGN(), diffrax.ShOULD(), diffrax.QUICSORT(), "splitting"],
    ids=["ALIGN", "ShOULD", "QUICSORT", "splitting"],
)
def test_transient_law_of_an_anisotropic_quadratic(solver):
    """Mean and covariance of x after 6 steps from (1, −1): 5 comparisons at 4 sigmas."""
    sgd = chain(0.1, 0.8, HESSIAN, COVARIANCE, batch_size=2)
    process = Underdamped.limit_of(sgd, solver=solver, substeps=4)
    mean, spread = exact_moments(sgd, HESSIAN, COVARIANCE, [1.0, -1.0], 6)
    x = final(process, [1.0, -1.0], 6, 20_000, 1)
    assert ss.measures.mean(x).agrees_with(mean[:2], sigmas=4)
    assert ss.measures.covariance(x).agrees_with(spread[:2, :2], sigmas=4)


def test_steady_covariance_of_an_anisotropic_quadratic_solves_lyapunovs_equation():
    """x in the steady state, 3 comparisons at 4 sigmas; D and the Hessian do not commute."""
    sgd = chain(0.1, 0.6, HESSIAN, COVARIANCE)
    friction, temperature = 0.4 / 0.1**0.5, float(sgd.temperature)
    drift = np.block([[np.zeros((2, 2)), -np.eye(2)], [HESSIAN, friction * np.eye(2)]])
    noise = scipy.linalg.block_diag(np.zeros((2, 2)), 2 * friction * temperature * COVARIANCE)
    steady = scipy.linalg.solve_continuous_lyapunov(drift, noise)
    x = final(Underdamped.limit_of(sgd), [0.0, 0.0], 60, 20_000, 2)
    assert ss.measures.covariance(x).agrees_with(steady[:2, :2], sigmas=4)


GROWING = ss.NoisyPotential(ss.potentials.Quadratic([[1.0]]), ss.GaussianNoise(lambda x: 0.5 * jnp.diag(1 + x * x)))


def growing_second_moment(sgd, x0, steps):
    """E x² where f = x²/2 and D = (1 + x²)/2: the second moments obey a closed linear equation."""
    h = float(sgd.learning_rate) ** 0.5
    friction, temperature = (1 - float(sgd.momentum)) / h, float(sgd.temperature)
    gain = friction * temperature  # 2γT D = γT (1 + x²)
    rates = np.zeros((4, 4))  # of (E x², E xV, E V², 1)
    rates[0, 1] = 2
    rates[1] = [-1, -friction, 1, 0]
    rates[2] = [gain, -2, -2 * friction, gain]
    return (scipy.linalg.expm(rates * h * steps) @ [x0**2, 0, 0, 1])[0]


def test_splitting_where_the_noise_depends_on_x():
    """E x² against its exact equation at 4 sigmas, and the bias of halving falls as h²: order 2 to 0.4."""
    sgd = ss.SGD(GROWING, learning_rate=0.4, batch_size=1, momentum=0.7)
    process = Underdamped.limit_of(sgd, substeps=1)
    assert process.solver is None
    assert process.weak_order == 2
    runs = [process, process.halved(), process.halved().halved()]
    squares = [final(p, [1.0], 10, 100_000, 3)[:, 0] ** 2 for p in runs]
    exact = growing_second_moment(sgd, 1.0, 10)
    assert abs(squares[2].mean() - exact) < 4 * squares[2].std() / np.sqrt(len(squares[2]))
    gaps = [(a - b).mean() for a, b in itertools.pairwise(squares)]
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.4)


@pytest.mark.parametrize(
    ("solver", "order"), [(diffrax.ALIGN(), 2), (diffrax.QUICSORT(), 3)], ids=["ALIGN", "QUICSORT"]
)
def test_halving_stays_on_one_path_and_shows_the_solvers_order(solver, order):
    """Root mean square gaps of h and h/2 in a double well, to 0.3 in the order: areas off their path would give 1."""
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=1), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=0.2, batch_size=1, momentum=0.6)
    process = Underdamped.limit_of(sgd, solver=solver, substeps=1)
    assert process.weak_order == order
    runs = [final(p, [0.5], 5, 2_000, 4) for p in (process, process.halved(), process.halved().halved())]
    gaps = [np.sqrt(np.mean((a - b) ** 2)) for a, b in itertools.pairwise(runs)]
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(order, abs=0.3)


def heavy_ball_second_moment(learning_rate, momentum, steps):
    """E x² of the chain itself, k = C = 1 from x = 1 at rest."""
    step = np.array([[1 - learning_rate, -learning_rate * momentum], [1, momentum]])
    noise = np.array([-learning_rate, 1.0])
    moments = np.outer([1.0, 0.0], [1.0, 0.0])
    for _ in range(steps):
        moments = step @ moments @ step.T + np.outer(noise, noise)
    return moments[0, 0]


@pytest.mark.parametrize("steps", [5, 10, 20])
def test_it_is_nearer_to_the_chain_than_the_overdamped_limit_in_a_transient(steps):
    """μ = 0.9, η_e = 0.1, t = 0.5, 1 and 2: errors in E x², exactly."""
    sgd = chain(0.01, 0.9)
    exact = heavy_ball_second_moment(0.01, 0.9, steps)
    mean, spread = exact_moments(sgd, np.eye(1), np.eye(1), [1.0], steps)
    slow_mean, slow_spread = theory.ou_mean_covariance(
        np.eye(1), float(sgd.temperature) * np.eye(1), np.ones(1), np.zeros((1, 1)), 0.1 * steps
    )
    under, over = (abs(m[0] ** 2 + s[0, 0] - exact) for m, s in ((mean, spread), (slow_mean, slow_spread)))
    assert under < 0.6 * over


def test_it_follows_the_chain_by_shared_draws():
    """One key: the correlation of the two clouds, and E x² against the exact one of the chain at 4 sigmas."""
    sgd = chain(0.01, 0.9)
    x, limit = (final(p, [1.0], 20, 20_000, 5)[:, 0] for p in (sgd, Underdamped.limit_of(sgd)))
    assert np.corrcoef(x, limit)[0, 1] > 0.95
    assert abs((x**2).mean() - heavy_ball_second_moment(0.01, 0.9, 20)) < 4 * (x**2).std() / np.sqrt(len(x))


def test_clock_friction_and_rest():
    process = Underdamped.limit_of(chain(0.25, 0.9))
    assert float(process.time_step) == pytest.approx(2.5)
    assert float(process.own_time_step) == pytest.approx(0.5)
    assert float(process.friction) == pytest.approx(0.2)
    assert float(process.temperature) == pytest.approx(1.25)
    x = jnp.ones((1, 3))
    assert np.all(process.init(x)[1] == 0)
    np.testing.assert_allclose(process.position(process.init(x)), x)


def test_no_noise_is_a_damped_oscillation():
    """s_B = 0 is T = 0, which only the splitting can step: x″ = −γx′ − x from 1 at rest."""
    risk = ss.EmpiricalRisk(lambda w, a: (w[0] - a[0]) ** 2 / 2, (np.zeros(3),), init=np.zeros(1))
    sgd = ss.SGD(risk, learning_rate=0.25, batch_size=3, momentum=0.8, sampling="without-replacement")
    process = Underdamped.limit_of(sgd, substeps=64)
    assert process.solver is None
    generator = np.array([[0.0, 1.0], [-1.0, -0.4]])
    exact = (scipy.linalg.expm(generator * 0.5 * 6) @ [1.0, 0.0])[0]
    np.testing.assert_allclose(final(process, [1.0], 6, 2, 6), exact, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Underdamped.limit_of(chain(0.1, 0.0)), "momentum must be positive for the underdamped limit, got 0"),
        (lambda: Underdamped.limit_of(chain(0.1, 0.5), substeps=3), "substeps must be a power of two"),
        (lambda: Underdamped.limit_of(chain(0.1, 0.5), solver="verlet"), "solver must be 'splitting' or a solver"),
        (
            lambda: Underdamped.limit_of(chain(0.1, 0.5), solver=diffrax.Heun()),
            "ShOULD or QUICSORT of diffrax, got Heun",
        ),
        (
            lambda: Underdamped.limit_of(
                ss.SGD(GROWING, learning_rate=0.1, batch_size=1, momentum=0.5), solver=diffrax.ALIGN()
            ),
            "ALIGN needs a D that does not depend on x",
        ),
        (
            lambda: Underdamped.limit_of(chain(0.1, 0.5, np.eye(2), [[1.0, 1.0], [1.0, 1.0]]), solver=diffrax.ALIGN()),
            "ALIGN needs a regular D",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("as_users_run")
def test_only_a_chain_has_a_limit():
    with pytest.raises(TypeError, match="sgd must be an SGD process, got Quadratic"):
        Underdamped.limit_of(ss.potentials.Quadratic([[1.0]]))
