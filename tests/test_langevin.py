"""The SDE side: its Brownian path, its weak order, and Itô where the noise depends on x."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import theory
from sgdsim.processes.brownian import CloudBrownianPath
from sgdsim.processes.solvers import pieces_of, start_solver, substep

OU = ss.NoisyPotential(ss.potentials.Quadratic([[2.0]]), ss.GaussianNoise(1.0))


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
        (lambda s: ss.Langevin.limit_of(s, solver=diffrax.ShARK()), "solver must converge to the Itô solution"),
        (lambda s: ss.Langevin.limit_of(s, increments="two-point"), "increments must be 'gaussian' or 'three-point'"),
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


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (diffrax.HalfSolver(diffrax.Heun()), "solver must take a sub-step as one; HalfSolver asks"),
        (diffrax.Kvaerno3(), "solver must be explicit: the root finder of Kvaerno3"),
        (diffrax.ALIGN(), "solver must be one for the overdamped equation; ALIGN is for Underdamped"),
        (diffrax.LeapfrogMidpoint(), "LeapfrogMidpoint is for ordinary ones"),
        (diffrax.SemiImplicitEuler(), "SemiImplicitEuler is for ordinary ones"),
    ],
)
def test_solvers_that_cannot_step_a_cloud_are_refused_with_the_reason(solver, message):
    with pytest.raises(ValueError, match=message):
        ss.Langevin.limit_of(ss.SGD(OU, learning_rate=0.1, batch_size=1), solver=solver)


def test_three_point_increments_are_refused_where_a_solver_needs_areas():
    sgd = ss.SGD(OU, learning_rate=0.1, batch_size=1)
    with pytest.raises(ValueError, match="increments must be 'gaussian' for SRA1: it needs Lévy areas"):
        ss.Langevin.limit_of(sgd, solver=diffrax.SRA1(), increments="three-point")


def test_milstein_is_refused_where_noise_does_not_commute():
    """A_11 that follows x_2, and an A that is not diagonal; a diagonal one passes."""
    fields = {
        "weakly diagonal": lambda x: jnp.diag(jnp.array([1 + x[1] ** 2, 1.0])),
        "full": lambda x: jnp.outer(x, x) + jnp.eye(2),
        "diagonal": lambda x: jnp.diag(1 + x**2),
    }
    limits = {name: ss.ItoDiffusion(drift=lambda x: -x, diffusion=field, dim=2) for name, field in fields.items()}
    runs = {name: ss.Langevin(limit, step_size=0.1, solver=diffrax.ItoMilstein()) for name, limit in limits.items()}
    for name in ("weakly diagonal", "full"):
        with pytest.raises(ValueError, match="it needs noise that commutes"):
            runs[name].check(jnp.zeros(2))
    runs["diagonal"].check(jnp.zeros(2))


SOLVERS = [  # every solver of diffrax that a cloud with additive noise can use, and its weak order there
    (diffrax.Euler, 1),
    (diffrax.EulerHeun, 1),
    (diffrax.ItoMilstein, 1),
    (diffrax.StratonovichMilstein, 1),
    (diffrax.Heun, 2),
    (diffrax.Midpoint, 1),
    (diffrax.Ralston, 1),
    (diffrax.Bosh3, 1),
    (diffrax.Tsit5, 1),
    (diffrax.Dopri5, 1),
    (diffrax.Dopri8, 1),
    (diffrax.ReversibleHeun, 2),
    (diffrax.SEA, 1),
    (diffrax.SRA1, 2),
    (diffrax.ShARK, 2),
    (diffrax.GeneralShARK, 2),
    (diffrax.SlowRK, 2),
    (diffrax.SPaRK, 2),
]


def expansion_gap(solver, limit, x0, h):
    """(E φ(X) − φ − τLφ)/(τ²/2) − L²φ after two sub-steps, τ = 2h, for φ = x, x² and x³, by Gauss–Hermite quadrature.

    It tends to 0 with h if the weak order is 2, and does not if it is 1. The nodes stand in the place of particles.
    """
    pieces = pieces_of(solver)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    grid = np.array(list(itertools.product(nodes, repeat=2 * pieces))).T
    weight = np.array([np.prod(w) for w in itertools.product(weights / np.sqrt(2 * np.pi), repeat=2 * pieces)])
    dt, x = jnp.asarray(h), jnp.full((1, grid.shape[1]), x0)

    @jax.jit
    def end():
        state = (x, start_solver(solver, limit, x, dt))
        for rows in (grid[:pieces], grid[pieces:]):
            state = substep(solver, limit, state, CloudBrownianPath(tuple(jnp.asarray(z)[None] for z in rows), dt))
        return state[0][0]

    def generator(phi):
        def applied(y):
            drift, diffusion = limit.drift(y[None])[0], limit.diffusion(y[None])[0, 0]
            return drift * jax.grad(phi)(y) + diffusion * jax.grad(jax.grad(phi))(y)

        return applied

    gaps, reached, tau, y = [], np.asarray(end()), 2 * h, jnp.asarray(x0)
    for power in (1, 2, 3):
        first = generator(lambda z, power=power: z**power)
        change = weight @ (reached**power - x0**power)
        gaps.append((change - tau * float(first(y))) / (tau**2 / 2) - float(generator(first)(y)))
    return np.abs(gaps).max()


@pytest.mark.parametrize(("kind", "order"), SOLVERS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_weak_order_with_additive_noise(kind, order):
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=1), ss.GaussianNoise(1.0))
    process = ss.Langevin.limit_of(ss.SGD(problem, learning_rate=0.8, batch_size=1), solver=kind())
    assert process.weak_order == order
    gap = expansion_gap(process.solver, process.limit, 0.7, 1e-4)
    assert (gap < 0.02) == (order == 2)
    assert gap < 5


@pytest.mark.parametrize("kind", [diffrax.Euler, diffrax.ItoMilstein])
def test_weak_order_where_the_noise_depends_on_x(kind):
    process = ss.Langevin.limit_of(ss.SGD(STATE_DEPENDENT, learning_rate=0.8, batch_size=1), solver=kind())
    assert process.weak_order == 1
    first, second = (expansion_gap(process.solver, process.limit, 0.7, h) for h in (1e-4, 5e-5))
    assert 0.02 < first < 20
    assert second == pytest.approx(first, rel=0.05)  # the step itself is right to O(h)


def test_milstein_has_strong_order_one_and_euler_one_half():
    """dX = −X ds + √(2·0.2(1 + X²)) dW: root mean square gaps of h and h/2 on one path, to 0.15 in the order."""
    limit = ss.ItoDiffusion(drift=lambda x: -x, diffusion=lambda x: 0.2 * jnp.diag(1 + x * x), dim=2)
    for solver, order in ((diffrax.Euler(), 0.5), (diffrax.ItoMilstein(), 1.0)):
        runs = [
            ss.simulate(
                ss.Langevin(limit, step_size=0.0625, substeps=n, solver=solver),
                [0.5, -1.0],
                particles=4_000,
                steps=16,
                key=jax.random.key(0),
            ).particles[-1]
            for n in (1, 2, 4)
        ]
        gaps = [np.sqrt(np.mean((a - b) ** 2)) for a, b in itertools.pairwise(runs)]
        assert np.log2(gaps[0] / gaps[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    "kind", [diffrax.ReversibleHeun, diffrax.ShARK, diffrax.SPaRK, diffrax.EulerHeun, diffrax.ItoMilstein]
)
def test_a_whole_cloud_has_the_exact_law_by_other_solvers(kind):
    """An anisotropic quadratic with correlated noise at t = 1, mean and covariance: 5 comparisons at 4 sigmas."""
    hessian, covariance = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[1.0, 0.5], [0.5, 2.0]])
    problem = ss.NoisyPotential(ss.potentials.Quadratic(hessian), ss.GaussianNoise(covariance))
    sgd = ss.SGD(problem, learning_rate=0.02, batch_size=1)
    process = ss.Langevin.limit_of(sgd, solver=kind(), substeps=2)
    x = ss.simulate(process, [1.0, -1.0], particles=4_000, steps=50, key=jax.random.key(1)).particles[-1]
    mean, spread = theory.ou_mean_covariance(hessian, 0.01 * covariance, np.array([1.0, -1.0]), np.zeros((2, 2)), 1.0)
    assert ss.measures.mean(x).agrees_with(mean, sigmas=4)
    assert ss.measures.covariance(x).agrees_with(spread, sigmas=4)


def three_point_pair(problem, rate, steps, start, particles, key):
    sgd = ss.SGD(problem, learning_rate=rate, batch_size=1)
    for increments in ("gaussian", "three-point"):
        process = ss.Langevin.limit_of(sgd, increments=increments, substeps=1)
        key = jax.random.fold_in(key, 1)
        yield ss.simulate(process, start, particles=particles, steps=steps, key=key).particles[-1].astype(float)


def test_three_point_increments_have_the_same_weak_errors():
    """E x² in the double well at t = 1 from .5 by one Heun step of η, η = .2 … .025: 4 comparisons at 4 sigmas.

    On a quadratic the second moment is the discretised one exactly, one comparison at 4 sigmas.
    """
    well = ss.NoisyPotential(ss.potentials.DoubleWell(dim=1), ss.GaussianNoise(0.3))
    for rate, steps in ((0.2, 5), (0.1, 10), (0.05, 20), (0.025, 40)):
        squares = [x**2 for x in three_point_pair(well, rate, steps, [0.5], 100_000, jax.random.key(steps))]
        error = np.hypot(*(s.std() / np.sqrt(len(s)) for s in squares))
        assert abs(squares[0].mean() - squares[1].mean()) < 4 * error
    h, k = 0.25, 2.0
    *_, x = three_point_pair(OU, h, 4, [1.0], 100_000, jax.random.key(9))
    factor, noise = 1 - h * k + (h * k) ** 2 / 2, (1 - h * k / 2) ** 2 * h**2
    exact = factor**8 + noise * (1 - factor**8) / (1 - factor**2)
    assert abs((x**2).mean() - exact) < 4 * (x**2).std() / np.sqrt(len(x))


def test_halving_three_point_increments_draws_an_independent_cloud():
    """The correlation with the halved cloud and with SGD under the same key: 2 comparisons at 4 sigmas."""
    sgd = ss.SGD(OU, learning_rate=0.2, batch_size=1)
    process = ss.Langevin.limit_of(sgd, increments="three-point", substeps=2)
    assert process.halved().increments == "three-point"
    x, *others = (
        ss.simulate(p, [0.0], particles=20_000, steps=5, key=jax.random.key(4)).particles[-1][:, 0]
        for p in (process, process.halved(), sgd)
    )
    for other in others:
        assert abs(np.corrcoef(x, other)[0, 1]) < 4 / np.sqrt(len(x))


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
    with pytest.raises(ValueError, match="order must be 1, 2 or 'backward-error', got 3"):
        ss.Langevin.limit_of(sgd, order=3)
