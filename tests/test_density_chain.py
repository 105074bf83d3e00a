"""The chain's own density: exact Gaussians, exact recursions, other people's eigenvectors, and clouds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from equations import enable_x64
from jaxtyping import Array, Float
from scipy.special import ndtr

import sgdsim as ss
from sgdsim.density.chain import ChainDensity
from sgdsim.density.chain_operator import PointOperator
from sgdsim.density.gaussian import gaussian_masses
from sgdsim.density.step_law import step_law
from sgdsim.measures import kl, kl_between_densities
from sgdsim.processes import BackwardErrorLimit
from sgdsim.theory import quadratic_moments, sgd_stationary_covariance

HESSIAN = np.array([[1.0, 0.3], [0.3, 2.0]])
NOISES = {"correlated": np.array([[1.0, 0.6], [0.6, 0.8]]), "diagonal": np.diag([1.0, 0.4])}


def modelled(potential: object, noise: object, eta: float, dim: int = 1, batch_size: int = 1) -> ss.SGD:
    problem = ss.NoisyPotential(potential, ss.GaussianNoise(noise), dim)
    return ss.SGD(problem, learning_rate=eta, batch_size=batch_size)


def well(x: jax.Array) -> jax.Array:
    return (x[0] ** 2 - 1) ** 2 / 4 + jnp.sum(x[1:] ** 2) / 2


def tilted(tilt: float) -> object:
    return lambda x: well(x) + tilt * x[0]


def square(x: np.ndarray) -> np.ndarray:
    return x[:, 0] ** 2


# ---- quadratics: every law is a Gaussian ----------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.2, 0.05, 0.0125])
def test_a_quadratic_in_one_dimension_is_exact(eta: float) -> None:
    """Steady N(0, ηC/(k(2 − ηk))), and from a point the moments and the masses of a Gaussian after t = 1."""
    k, c, batch, steps = 1.5, 0.8, 2, round(1 / eta)
    sgd = modelled(lambda x: k * x[0] ** 2 / 2, c, eta, batch_size=batch)
    variance = eta * c / batch / (k * (2 - eta * k))
    half = 9 * np.sqrt(variance) + 0.8
    chain = ChainDensity.of(sgd, ss.Grid([-half], [half], [192]))
    exact = gaussian_masses(chain.grid, np.zeros(1), np.array([[variance]]))
    assert np.abs(chain.stationary() - exact).sum() < 1e-11
    assert np.abs(chain.stationary() - exact).sum() < chain.stationary_error() < 1e-6
    assert abs(chain.stationary_leak()) < 1e-14

    answer = chain.propagate([0.5], [1, steps])
    np.testing.assert_allclose(answer.times, [eta, eta * steps], rtol=1e-14)
    for step, masses in zip((1, steps), answer.masses, strict=True):
        mean, second = quadratic_moments(k, c / batch, eta, 0.5, step, "sgd")
        exact = gaussian_masses(chain.grid, np.array([mean]), np.array([[second - mean**2]]))
        assert np.abs(masses - exact).sum() < 2e-9
    assert answer.mass_defect < 1e-12 and answer.smallest >= 0
    [first, last] = chain.expect(square, [0.5], [1, steps])
    assert first.value == pytest.approx(quadratic_moments(k, c / batch, eta, 0.5, 1, "sgd")[1], abs=1e-9)
    assert last.value == pytest.approx(quadratic_moments(k, c / batch, eta, 0.5, steps, "sgd")[1], abs=1e-9)
    assert abs(last.value - second) <= last.grid_error + 1e-14


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.slow
def test_a_quadratic_in_two_dimensions_is_exact(noise: str) -> None:
    """Steady state by the discrete Lyapunov equation; in time m ← (I − ηH)m, C ← (I − ηH)C(I − ηH) + η²D/B."""
    eta, covariance = 0.2, NOISES[noise]
    sgd = modelled(lambda x: x @ HESSIAN @ x / 2, covariance, eta, dim=2, batch_size=2)
    steady = sgd_stationary_covariance(HESSIAN, covariance / 2, eta)
    half = 8 * np.sqrt(np.diag(steady))
    chain = ChainDensity.of(sgd, ss.Grid(-half, half, [32, 24]))
    assert np.abs(chain.stationary() - gaussian_masses(chain.grid, np.zeros(2), steady)).sum() < 1e-10

    mean, spread, shrink = np.array([0.3, -0.2]), np.array([[0.02, 0.004], [0.004, 0.01]]), np.eye(2) - eta * HESSIAN
    start = ss.Gaussian(mean, spread)
    answer = chain.propagate(start, [0, 1, 2, 6])
    for step in range(7):
        if step in (0, 1, 2, 6):
            exact = gaussian_masses(chain.grid, mean, spread)
            assert np.abs(answer.masses[[0, 1, 2, 6].index(step)] - exact).sum() < 3e-9
        mean, spread = shrink @ mean, shrink @ spread @ shrink.T + eta**2 * covariance / 2
    [cross] = chain.expect(lambda x: x[:, 0] * x[:, 1], start, [7])
    assert cross.value == pytest.approx(mean[0] * mean[1] + spread[0, 1], abs=1e-10)


def test_the_error_falls_as_fast_as_the_trapezoidal_rule_says() -> None:
    """e^{−2π²/spacing²}, and a density as narrow as the noise of one step is the worst case."""
    sgd = modelled(lambda x: x[0] ** 2 / 2, 1.0, 0.2)
    grid, errors = ss.Grid([-4.0], [4.0], [128]), []
    for spacing in (2.0, 1.6, 1.3):
        operator = PointOperator.of(step_law(sgd), grid, 1e9, spacing)
        mean, second = quadratic_moments(1.0, 1.0, 0.2, 0.5, 2, "sgd")
        exact = gaussian_masses(grid, np.array([mean]), np.array([[second - mean**2]]))
        errors.append(np.abs(operator.masses_after(operator.first_weights([0.5])[None])[0] - exact).sum())
    bounds = np.exp(-2 * np.pi**2 / np.array([2.0, 1.6, 1.3]) ** 2)
    assert np.all(errors < 4 * bounds) and np.all(errors > bounds / 40)


@pytest.mark.parametrize("perturbation", [0.0, 0.5])
def test_noise_that_grows_with_x_has_exact_moments(perturbation: float) -> None:
    """D = a + bx² on f = x²/2: E x'² = ((1−η)² + η²b/B) E x² + η²(a + ε²)/B closes on itself."""
    eta, batch, a, b = 0.2, 2, 0.4, 0.6
    problem = ss.NoisyPotential(lambda x: x[0] ** 2 / 2, ss.GaussianNoise(lambda x: (a + b * x**2)[None]), 1)
    if perturbation:
        problem = ss.Perturbed(problem, perturbation)
    sgd = ss.SGD(problem, learning_rate=eta, batch_size=batch)
    chain = ChainDensity.of(sgd, ss.Grid([-9.0], [9.0], [128]))
    factor, source, second = (1 - eta) ** 2 + eta**2 * b / batch, eta**2 * (a + perturbation) / batch, 0.04 + 0.25
    steps = [1, 2, 5, 20]
    for step, estimate in zip(steps, chain.expect(square, ss.Gaussian([0.5], [0.04]), steps), strict=True):
        exact = source / (1 - factor) + factor**step * (second - source / (1 - factor))
        assert abs(estimate.value - exact) < 1e-9
        assert estimate.grid_error < 1e-5
    steady = np.sum(chain.operator.steady * square(chain.operator.points))
    assert steady == pytest.approx(source / (1 - factor), rel=1e-9)


def test_noise_that_depends_on_x_agrees_with_a_cloud() -> None:
    sgd = modelled(well, lambda x: (0.3 + 0.7 * x**2)[None], 0.2)
    chain, start = ChainDensity.of(sgd, ss.Grid([-3.0], [3.0], [256])), ss.Gaussian([-0.5], [0.04])
    cloud = ss.simulate(sgd, start, particles=50_000, steps=30, save_every=10, key=jax.random.key(5))
    answer = chain.propagate(start, [10, 30])
    for particles, masses in zip(cloud.particles[jnp.array([1, 3])], answer.masses, strict=True):
        estimate = kl(particles, chain.grid, masses)
        assert abs(estimate.value) < 4 * estimate.standard_error


# ---- wells: the steady state ----------------------------------------------------------------------------------------


def quadrature(potential: object, sgd: ss.SGD, half: float, nodes: int = 240) -> tuple[np.ndarray, ...]:
    """Nodes, weights and Nyström's matrix by Gauss–Legendre, for noise of one variance."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = half * x, half * w
    eta = float(sgd.learning_rate)
    means = x - eta * np.asarray(jax.vmap(jax.grad(lambda y: potential(y[None])))(jnp.asarray(x)))
    variance = eta**2 * float(sgd.problem.noise_covariance(jnp.zeros(1))[0, 0]) / sgd.batch_size
    kernel = np.exp(-((x[:, None] - means) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return x, w, kernel * w


@pytest.mark.parametrize("eta", [0.3, 0.1])
@pytest.mark.parametrize("tilt", [0.0, 0.05])
def test_a_double_well_against_a_dense_quadrature(eta: float, tilt: float) -> None:
    sgd = modelled(tilted(tilt), 0.1 / eta, eta)  # T = 0.05
    chain = ChainDensity.of(sgd, ss.Grid([-2.5], [2.5], [256]))
    masses, weights, points = chain.stationary(), chain.operator.steady, chain.operator.points[:, 0]
    x, w, matrix = quadrature(tilted(tilt), sgd, 2.5)
    values, vectors = np.linalg.eig(matrix)
    density = np.abs(vectors[:, np.argmax(values.real)].real)
    density /= np.sum(w * density)
    for power in range(1, 5):
        assert np.sum(weights * points**power) == pytest.approx(np.sum(w * density * x**power), abs=1e-9)
    variance = float(sgd.learning_rate**2) * 0.1 / eta
    mean = x - eta * (x**3 - x + tilt)
    cells = np.diff([np.sum(w * density * ndtr((edge - mean) / np.sqrt(variance))) for edge in chain.grid.edges(0)])
    assert np.abs(masses - cells).sum() < 1e-10
    if tilt == 0:
        np.testing.assert_allclose(masses, masses[::-1], atol=1e-13)
    matrix = chain.operator.matrix
    assert np.abs(matrix @ weights - weights).sum() < 1e-12


def test_wells_that_hardly_exchange_mass_have_the_right_weights() -> None:
    """T = 0.02: power iteration to convergence by squaring 37 times, 1e11 steps, where the gap is 2e-7."""
    sgd = modelled(tilted(0.005), 0.4, 0.1)
    chain = ChainDensity.of(sgd, ss.Grid([-2.2], [2.2], [256]))
    x, w, matrix = quadrature(tilted(0.005), sgd, 2.2)
    matrix = matrix * w[:, None] / w  # from densities to masses
    for _ in range(37):
        matrix = matrix / np.sum(matrix, axis=0)
        matrix = matrix @ matrix
    assert np.max(np.abs(matrix - matrix[:, :1])) < 1e-6
    mean = np.sum(chain.operator.steady * chain.operator.points[:, 0])
    assert mean == pytest.approx(np.sum(x * matrix[:, 0]), rel=1e-6)
    assert abs(mean) > 0.1


@pytest.mark.slow
def test_wells_in_two_dimensions_have_the_weights_of_one() -> None:
    """x₀ of f(x₀) + x₁²/2 is the 1-D chain; T = 0.008, where Arnoldi's iteration by itself is 16 % off."""
    eta, variance, half = 0.1, 0.16, [1.715, 0.787]
    line = ChainDensity.of(modelled(tilted(0.005), variance, eta), ss.Grid([-1.715], half[:1], [48]))
    plane = ChainDensity.of(modelled(tilted(0.005), variance, eta, dim=2), ss.Grid([-1.715, -0.787], half, [48, 24]))
    assert np.abs(plane.stationary().sum(axis=1) - line.stationary()).sum() < 1e-9
    assert 0.7 < line.stationary()[:24].sum() < 0.8


def test_the_limits_steady_state_is_off_by_eta_squared_in_kl() -> None:
    """At a fixed temperature ρ_chain = ρ_Gibbs (1 + O(η)), so that KL falls fourfold with half the learning rate."""
    distances = []
    for eta in (0.1, 0.05, 0.025):
        sgd, grid = modelled(well, 0.1 / eta, eta), ss.Grid([-2.5], [2.5], [1024])
        chain, limit = ChainDensity.of(sgd, grid), ss.FokkerPlanck.limit_of(sgd, grid)
        distances.append(kl_between_densities(chain.stationary(), limit.stationary()))
    ratios = np.array(distances[:-1]) / distances[1:]
    assert np.all((ratios > 3.9) & (ratios < 4.6)) and ratios[1] < ratios[0]


def test_the_backward_error_limit_is_off_by_eta_to_the_fourth_in_kl() -> None:
    """Its steady state is the chain's to O(η²), so that KL falls sixteenfold; f is no quadratic."""
    distances = []
    for eta in (0.1, 0.05, 0.025):
        sgd, grid = modelled(well, 0.1 / eta, eta), ss.Grid([-2.5], [2.5], [4096])
        limit = ss.FokkerPlanck.limit_of(sgd, grid, order="backward-error")
        distances.append(kl_between_densities(ChainDensity.of(sgd, grid).stationary(), limit.stationary()))
    ratios = np.array(distances[:-1]) / distances[1:]
    assert np.all((ratios > 14) & (ratios < 24))


def test_the_backward_error_limit_of_a_quadratic_in_two_dimensions() -> None:
    """Correlated noise that does not commute with the Hessian: S to O(η²) relative, where the first order's is O(η)."""
    hessian, noise = np.array([[1.0, 0.4], [0.4, 0.6]]), np.array([[1.0, -0.3], [-0.3, 0.5]])
    gaps = []
    for eta in (0.2, 0.1):
        sgd = ss.SGD(
            ss.NoisyPotential(ss.potentials.Quadratic(hessian), ss.GaussianNoise(noise)),
            learning_rate=eta,
            batch_size=1,
        )
        limit, exact = BackwardErrorLimit.of(sgd), sgd_stationary_covariance(hessian, noise, eta)
        drift, diffusion = (np.asarray(f(jnp.zeros(2))) for f in (jax.jacfwd(limit.drift), limit.diffusion))
        found = scipy.linalg.solve_continuous_lyapunov(drift, -2 * diffusion)
        gaps.append(np.abs(found - exact).max() / np.abs(exact).max())
    assert 3.5 < gaps[0] / gaps[1] < 5.5 and gaps[0] < 0.02


def test_expectations_say_that_the_box_leaks() -> None:
    chain = ChainDensity.of(modelled(ss.potentials.Quadratic(np.eye(1)), 1.0, 0.1), ss.Grid([-0.5], [0.5], [128]))
    with pytest.warns(UserWarning, match="the box loses mass"):
        chain.expect(square, ss.Gaussian([0.0], [0.005]), [20])


def test_a_narrow_place_between_the_cells_is_found() -> None:
    """D(x) dips to a thousandth where no centre of a cell is: the points are made for it all the same."""
    noise = ss.GaussianNoise(lambda x: (0.02 + 1 - jnp.exp(-(((x - 0.3) / 0.2) ** 2)))[:, None])
    sgd = ss.SGD(ss.NoisyPotential(ss.potentials.Quadratic(np.eye(1)), noise), learning_rate=0.2, batch_size=1)
    values = [
        ChainDensity.of(sgd, ss.Grid([-6.0], [6.0], [cells])).expect(square, ss.Gaussian([0.0], [0.1]), [10])[0].value
        for cells in (8, 2048)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


# ---- weak order, with no sampling at all ----------------------------------------------------------------------------


def limit_value(sgd: ss.SGD, order: int, start: ss.Gaussian) -> float:
    """E x² of a limit at t = 1: cells to the second order, extrapolated twice."""
    values = []
    for cells in (1_000, 2_000, 4_000):
        grid = ss.Grid([-2.5], [2.5], [cells])
        fp = ss.FokkerPlanck.limit_of(sgd, grid, order=order)
        masses = fp.propagate(fp.density_of(start), [1.0], grid_error=False).masses[0]
        values.append(np.sum(masses * grid.axis_centres(0) ** 2))
    values = (4 * np.array(values[1:]) - values[:-1]) / 3
    return float((16 * values[1] - values[0]) / 15)


@pytest.mark.slow
def test_the_weak_orders_of_both_limits() -> None:
    """Double well, C = 0.3, E x² at t = 1 from N(0.5, 0.01): slopes 1 and 2 in η."""
    etas, errors = [0.2, 0.1, 0.05, 0.025, 0.0125], {1: [], 2: []}
    start = ss.Gaussian([0.5], [0.01])
    for eta in etas:
        sgd = modelled(well, 0.3, eta)
        [value] = ChainDensity.of(sgd, ss.Grid([-2.5], [2.5], [128])).expect(square, start, [round(1 / eta)])
        assert value.grid_error < 1e-7
        for order in (1, 2):
            errors[order].append(abs(limit_value(sgd, order, start) - value.value))
    for order, tolerance in ((1, 0.1), (2, 0.15)):
        slope = np.polyfit(np.log(etas), np.log(errors[order]), 1)[0]
        assert slope == pytest.approx(order, abs=tolerance)
        assert np.log2(errors[order][-2] / errors[order][-1]) == pytest.approx(order, abs=0.05)


# ---- finite sums ----------------------------------------------------------------------------------------------------

INPUTS, LABELS = np.array([0.6, 1.0, 1.3, 0.9, 1.6]), np.array([0.5, -0.2, 1.0, 0.3, -1.2])


def regression(weight_decay: float = 0.0) -> ss.EmpiricalRisk:
    return ss.EmpiricalRisk(
        lambda w, z: (z[0] * w - z[1]) ** 2 / 2, (INPUTS, LABELS), init=jnp.array(0.0), weight_decay=weight_decay
    )


def draws(batch_size: int, sampling: str) -> np.ndarray:
    """Every ordered batch, all equally probable."""
    choose = itertools.product if sampling == "with-replacement" else itertools.permutations
    if sampling == "with-replacement":
        return np.array(list(choose(range(5), repeat=batch_size)))
    return np.array(list(choose(range(5), batch_size)))


def moments(sgd: ss.SGD, mean: float, second: float, steps: int, heat: float = 0.0) -> tuple[float, float]:
    """⟨x⟩ and ⟨x²⟩ after some steps: x' = a x + b with the batch's own a, b, and a normal of variance `heat`."""
    batches, decay = draws(sgd.batch_size, sgd.sampling), 0.1
    a = 1 - sgd.learning_rate * (np.mean(INPUTS[batches] ** 2, axis=1) + decay)
    b = sgd.learning_rate * np.mean((INPUTS * LABELS)[batches], axis=1)
    for _ in range(steps):
        second = np.mean(a**2) * second + 2 * np.mean(a * b) * mean + np.mean(b**2) + heat
        mean = np.mean(a) * mean + np.mean(b)
    return float(mean), float(second)


FINITE = [(1, "with-replacement"), (2, "with-replacement"), (2, "without-replacement"), (3, "without-replacement")]


@pytest.mark.parametrize(("batch_size", "sampling"), FINITE)
def test_linear_regression_on_five_examples_has_exact_moments(batch_size: int, sampling: str) -> None:
    sgd = ss.SGD(regression(0.1), learning_rate=0.2, batch_size=batch_size, sampling=sampling)
    chain, start = ChainDensity.of(sgd, ss.Grid([-1.5], [1.5], [256])), ss.Gaussian([0.5], [0.01])
    steps = [1, 5, 30]
    for power in (1, 2):
        for step, estimate in zip(steps, chain.expect(lambda x, p=power: x[:, 0] ** p, start, steps), strict=True):
            exact = moments(sgd, 0.5, 0.26, step)[power - 1]
            assert abs(estimate.value - exact) <= estimate.grid_error + 1e-9
            assert estimate.grid_error < 1e-6
    answer = chain.propagate(start, [0, 1, 30])
    assert answer.mass_defect < 1e-13 and answer.smallest >= 0
    assert np.all(answer.grid_error < 1e-3)
    weights, points = chain.operator.steady, chain.operator.points[:, 0]
    mean, second = moments(sgd, 0.0, 0.0, 2_000)
    assert np.sum(weights * points) == pytest.approx(mean, abs=1e-7)
    assert np.sum(weights * points**2) == pytest.approx(second, abs=1e-6)


@pytest.mark.parametrize(("batch_size", "sampling"), FINITE[:3])
def test_a_finite_sum_agrees_with_a_cloud(batch_size: int, sampling: str) -> None:
    """Logistic regression, whose maps bend; the fourth and the last step, which is the steady state."""

    def loss(w: Float[Array, ""], z: tuple[Array, Array]) -> Array:
        return jnp.logaddexp(0.0, -z[0] * z[1] * w)

    risk = ss.EmpiricalRisk(loss, (INPUTS, np.sign(LABELS)), init=jnp.array(0.0), weight_decay=0.1)
    sgd = ss.SGD(risk, learning_rate=0.7, batch_size=batch_size, sampling=sampling)
    chain, start = ChainDensity.of(sgd, ss.Grid([-4.0], [4.0], [200])), ss.Gaussian([0.5], [0.04])
    cloud = ss.simulate(sgd, start, particles=50_000, steps=60, save_every=4, key=jax.random.key(2))
    masses = [*chain.propagate(start, [4, 60]).masses, chain.stationary()]
    for particles, expected in zip(cloud.particles[jnp.array([1, -1, -1])], masses, strict=True):
        estimate = kl(particles, chain.grid, expected)
        assert abs(estimate.value) < 4 * estimate.standard_error


@pytest.mark.parametrize(("batch_size", "sampling"), FINITE[:3])
def test_a_perturbed_finite_sum_is_as_exact_as_a_gaussian(batch_size: int, sampling: str) -> None:
    problem = ss.Perturbed(regression(0.1), 0.3)
    sgd = ss.SGD(problem, learning_rate=0.2, batch_size=batch_size, sampling=sampling)
    heat = 0.2**2 * float(sgd.sampling_factor) * 0.3 / batch_size
    chain, start = ChainDensity.of(sgd, ss.Grid([-2.5], [2.5], [128])), ss.Gaussian([0.5], [0.01])
    for step, estimate in zip([1, 2, 30], chain.expect(square, start, [1, 2, 30]), strict=True):
        assert abs(estimate.value - moments(sgd, 0.5, 0.26, step, heat)[1]) < 1e-9
    steady = np.sum(chain.operator.steady * square(chain.operator.points))
    assert steady == pytest.approx(moments(sgd, 0.0, 0.0, 2_000, heat)[1], abs=1e-10)
    assert np.sum(chain.stationary()) == pytest.approx(1, abs=1e-14)


def test_a_perturbed_finite_sum_in_two_dimensions() -> None:
    inputs = np.array([[1.0, 0.2], [-0.4, 1.0], [0.7, 0.7], [0.3, -0.8]])
    labels = np.array([0.3, -0.5, 0.8, 0.1])
    risk = ss.EmpiricalRisk(lambda w, z: (z[0] @ w - z[1]) ** 2 / 2, (inputs, labels), init=jnp.zeros(2))
    sgd = ss.SGD(ss.Perturbed(risk, 0.5), learning_rate=0.3, batch_size=1)
    chain = ChainDensity.of(sgd, ss.Grid([-4.0, -4.0], [5.0, 4.0], [16, 16]))
    mean, second = np.zeros(2), np.zeros((2, 2))
    for _ in range(1_000):
        a = np.eye(2) - 0.3 * inputs[:, :, None] * inputs[:, None]
        b = 0.3 * inputs * labels[:, None]
        cross = np.einsum("kij,j,kl->il", a, mean, b) / 4
        second = np.einsum("kij,jl,kml->im", a, second, a) / 4 + cross + cross.T + b.T @ b / 4 + 0.09 * 0.5 * np.eye(2)
        mean = np.einsum("kij,j->i", a, mean) / 4 + np.mean(b, axis=0)
    weights, points = chain.operator.steady, chain.operator.points
    np.testing.assert_allclose(weights @ points, mean, atol=1e-8)
    np.testing.assert_allclose(np.einsum("n,ni,nj->ij", weights, points, points), second, atol=1e-8)


# ---- what is lost, what is refused ----------------------------------------------------------------------------------


def test_mass_that_leaves_the_box_is_lost_and_told() -> None:
    """A box of 2.2 standard deviations: survival and the quasi-stationary law by Gauss–Legendre in the same box."""
    sgd = modelled(lambda x: x[0] ** 2 / 2, 1.0, 0.1)
    half = 2.2 * np.sqrt(0.1 / 1.9)
    chain = ChainDensity.of(sgd, ss.Grid([-half], [half], [64]))
    x, w, matrix = quadrature(lambda y: y[0] ** 2 / 2, sgd, half)
    values, vectors = np.linalg.eig(matrix)
    lead = np.argmax(values.real)
    density = np.abs(vectors[:, lead].real)
    with pytest.warns(UserWarning, match="loses mass"):
        masses = chain.stationary()
    assert masses.sum() == pytest.approx(1, abs=1e-14)
    assert chain.stationary_leak() == pytest.approx(1 - values[lead].real, rel=5e-2)
    expected = np.sum(w * density * x**2) / np.sum(w * density)
    assert np.sum(masses * chain.grid.axis_centres(0) ** 2) == pytest.approx(expected, rel=1e-2)
    with pytest.warns(UserWarning, match=r"loses mass|cuts off"):
        answer = chain.propagate([0.0], [1, 50])
    survivors = np.exp(-(x**2) / 0.02) / np.sqrt(0.02 * np.pi)
    for _ in range(49):
        survivors = matrix @ survivors
    assert answer.mass_defect == pytest.approx(1 - np.sum(w * survivors), rel=5e-2)
    assert answer.mass_defect > 0.2


def test_two_wells_that_noise_cannot_join_have_no_steady_state() -> None:
    risk = ss.EmpiricalRisk(lambda w, z: (w**2 - 1) ** 2 / 4 + 0.01 * z * w, np.array([-1.0, 1.0]), init=jnp.array(0.5))
    chain = ChainDensity.of(ss.SGD(risk, learning_rate=0.1, batch_size=1), ss.Grid([-2.0], [2.0], [128]))
    with pytest.raises(ArithmeticError, match="depends on the start: the chain has 2 sets"):
        chain.stationary()
    left = chain.propagate([-0.5], [100]).masses[0]
    assert left[:64].sum() == pytest.approx(1, abs=1e-13)


def test_what_is_refused() -> None:
    quartic = ss.NoisyPotential(well, ss.GaussianNoise(1.0), 1)
    many = ss.EmpiricalRisk(lambda w, z: (w - z) ** 2, np.arange(40.0), init=jnp.array(0.0))
    plane = ss.EmpiricalRisk(lambda w, z: jnp.sum((w - z) ** 2), np.eye(2), init=jnp.zeros(2))
    stable = ss.NoisyPotential(well, ss.AlphaStableNoise(1.5), 1)
    for problem, settings, reason in [
        (quartic, {"momentum": 0.5}, "momentum must be 0"),
        (many, {"sampling": "epoch"}, "sampling must draw each batch independently"),
        (many, {"batch_size": 4}, "batch_size must leave at most 10,000 different batches"),
        (plane, {}, "problem must have one dimension, or be Perturbed"),
        (stable, {}, "problem must have Gaussian noise or be a finite sum .* got AlphaStableNoise"),
        (ss.GaussianRegression(1.0, 1.0, [0.0]), {}, "got GaussianRegression"),
        (ss.NoisyPotential(well, ss.GaussianNoise(1.0), 3), {}, "problem must have one or two dimensions, got 3"),
    ]:
        sgd = ss.SGD(problem, **{"learning_rate": 0.1, "batch_size": 1, **settings})
        assert ChainDensity.refusal(sgd) is not None
        with pytest.raises(ValueError, match=reason):
            ChainDensity.of(sgd, ss.Grid([-2.0] * min(sgd.dim, 2), [2.0] * min(sgd.dim, 2), [64] * min(sgd.dim, 2)))
    assert ChainDensity.refusal(ss.SGD(quartic, learning_rate=0.1, batch_size=3)) is None
    assert ChainDensity.refusal(ss.SGD(many, learning_rate=0.1, batch_size=3)) is not None
    assert ChainDensity.refusal(ss.SGD(many, learning_rate=0.1, batch_size=2)) is None


def test_bad_arguments() -> None:
    sgd, grid = modelled(well, 1.0, 0.1), ss.Grid([-2.5], [2.5], [64])
    with pytest.raises(ValueError, match="grid must have as many axes"):
        ChainDensity.of(sgd, ss.Grid([-1.0] * 2, [1.0] * 2, [8, 8]))
    with pytest.raises(ValueError, match="grid must not be periodic"):
        ChainDensity.of(sgd, ss.Grid([-1.0], [1.0], [8], periodic=True))
    with pytest.raises(ValueError, match=r"takes 7\d+ points and .* over the memory_limit"):
        ChainDensity.of(modelled(well, 1.0, 1e-4), grid, memory_limit=1e6)
    with pytest.raises(ValueError, match="diffusion is singular"):
        ChainDensity.of(modelled(well, 0.0, 0.1), grid)
    chain = ChainDensity.of(sgd, grid)
    for steps, message in (
        ([], "at least one"),
        (np.array([1.5]), "whole number"),
        ([2, 1], "increasing"),
        ([-1], "at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            chain.propagate([0.0], steps)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        chain.expect(square, [0.0], [0])
    with pytest.raises(ValueError, match="observable must map"):
        chain.expect(lambda x: x, [0.0], [1])
    with pytest.raises(ValueError, match="start must lie in the box"):
        chain.propagate([3.0], [1])
    with pytest.raises(ValueError, match="of its mass outside the box"):
        chain.propagate(ss.Gaussian([2.4], [0.04]), [1])


@pytest.mark.usefixtures("as_users_run")
def test_another_process_is_refused() -> None:
    limit = ss.Langevin.limit_of(modelled(well, 1.0, 0.1))
    assert ChainDensity.refusal(limit) == "sgd must be an SGD process, got Langevin"
    with pytest.raises(TypeError, match="sgd must be an SGD process"):
        ChainDensity.of(limit, ss.Grid([-2.5], [2.5], [64]))


def test_fields_in_float32() -> None:
    with enable_x64(False):
        sgd = modelled(lambda x: x[0] ** 2 / 2, 1.0, 0.1)
        chain = ChainDensity.of(sgd, ss.Grid([-2.5], [2.5], [64]))
        masses = chain.stationary()
    exact = gaussian_masses(chain.grid, np.zeros(1), np.array([[0.1 / 1.9]]))
    assert masses.dtype == np.float64 and np.abs(masses - exact).sum() < 1e-6
