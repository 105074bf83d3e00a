"""Noise shapes: another noise in the place of a problem's own, at the same trace."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.covariance import symmetric_absolute
from sgdsim.draws import Draws
from sgdsim.problems import networks
from sgdsim.problems.noise_shapes import NOISE_SHAPES, reshape_noise

KEY = jax.random.key(11)
P = 50_000
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(40, 2)) * [1.0, 2.0] + 0.3, np.sign(RNG.normal(size=40))
GAUSSIAN = ("true", "diagonal", "isotropic", "hessian")


def potential():
    return ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(lambda x: jnp.diag(1 + x * x) + 0.5))


def risk(root=None):
    return ss.EmpiricalRisk(networks.logistic_loss, (X, Y), init=np.zeros(2), weight_decay=0.1, root=root)


def network():
    data = (RNG.normal(size=(30, 3)), RNG.integers(0, 2, 30))
    return ss.EmpiricalRisk(networks.cross_entropy, data, init=networks.mlp((3, 4, 2), key=jax.random.key(0)))


PROBLEMS = {
    "potential": potential,
    "weighted-root": lambda: risk("weighted"),
    "perturbed": lambda: ss.Perturbed(risk("weighted"), 0.3),
    "regression": lambda: ss.GaussianRegression([[1.0, 0.3], [0.3, 0.5]], 0.5),
}


@eqx.filter_jit
def matrix_of(problem, x):
    return problem.noise_covariance(x)


@eqx.filter_jit
def parts(problem, shaped, x, cloud):
    columns = shaped.noise(cloud, jnp.eye(shaped.noise_size))
    mine = shaped.noise_covariance(x), shaped.noise_trace(x), columns, shaped.loss(x), shaped.gradient(x)
    return *mine, problem.noise_trace(x), problem.loss(x), problem.gradient(x)


@pytest.mark.parametrize("shape", GAUSSIAN)
@pytest.mark.parametrize("name", PROBLEMS)
def test_trace_and_root(name, shape):
    """The trace is the problem's, the matrix a covariance, and the root applied to a basis gives a root of it."""
    problem = PROBLEMS[name]()
    shaped = reshape_noise(problem, shape)
    x = jnp.asarray(np.random.default_rng(1).normal(size=problem.dim)) / 2
    cloud = jnp.broadcast_to(x[:, None], (problem.dim, shaped.noise_size))
    matrix, own, columns, loss, gradient, trace, problem_loss, problem_gradient = parts(problem, shaped, x, cloud)
    assert float(own) == pytest.approx(float(trace), rel=1e-12)
    assert np.trace(matrix) == pytest.approx(float(trace), rel=1e-12)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-12 * trace
    assert np.allclose(columns @ columns.T, matrix, atol=1e-7 * trace)
    assert np.allclose(loss, problem_loss, rtol=1e-14) and np.allclose(gradient, problem_gradient, rtol=1e-14)
    assert shaped.num_examples is None


@pytest.mark.slow
def test_shapes_are_what_they_say():
    problem, x = risk(), jnp.asarray([0.4, -0.2])
    covariance = np.asarray(matrix_of(problem, x))
    hessian = np.asarray(jax.jit(jax.hessian(problem.loss))(x))  # positive definite: a logistic loss is convex
    expected = {
        "true": covariance,
        "diagonal": np.diag(np.diag(covariance)),
        "isotropic": np.trace(covariance) / 2 * np.eye(2),
        "hessian": hessian * np.trace(covariance) / np.trace(hessian),
    }
    for shape, matrix in expected.items():
        assert np.allclose(matrix_of(reshape_noise(problem, shape), x), matrix, rtol=1e-7)
    constant = reshape_noise(problem, "constant", at=[0.4, -0.2])
    assert np.allclose(matrix_of(constant, x + 3), covariance, rtol=1e-12) and constant.has_additive_noise


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_an_indefinite_hessian_gives_its_absolute_value(dim):
    """By NumPy's eigenvectors, at a saddle, beside one, and where the Hessian vanishes; in float32 too."""

    def bend(x):
        return jnp.sum(x**3) / 6 + 5 * jnp.prod(x)

    problem = ss.NoisyPotential(bend, ss.GaussianNoise(0.7), dim=dim)
    shaped, hessian = reshape_noise(problem, "hessian"), jax.jit(jax.hessian(bend))
    for x in (RNG.normal(size=dim), -np.abs(RNG.normal(size=dim)), 1e-200 * RNG.normal(size=dim)):
        values, vectors = np.linalg.eigh(np.asarray(hessian(jnp.asarray(x))))
        absolute = (vectors * np.abs(values)) @ vectors.T
        expected = 0.7 * dim * absolute / np.trace(absolute)
        assert np.allclose(matrix_of(shaped, jnp.asarray(x)), expected, atol=1e-7)
        if np.max(np.abs(x)) > 1e-30:
            assert np.allclose(matrix_of(shaped, jnp.asarray(x, jnp.float32)), expected, atol=1e-3)
    if dim != 2:  # in two dimensions the product's Hessian does not vanish at the origin
        assert np.allclose(matrix_of(shaped, jnp.zeros(dim)), 0.7 * np.eye(dim))


@pytest.mark.parametrize("shape", [*GAUSSIAN, "constant"])
@pytest.mark.parametrize("name", ["potential", "weighted-root", "perturbed", "regression"])
def test_minibatches_have_the_covariance(name, shape):
    """Mean ∇f and covariance matrix(x)/B of 50,000 batches of 3: 5 numbers a case, 100 in all, at 4.5 sigmas."""
    x = jnp.asarray([0.4, -0.2])
    problem = reshape_noise(PROBLEMS[name](), shape, at=[0.1, 0.3] if shape == "constant" else None)
    cloud, draws = jnp.broadcast_to(x[:, None], (2, P)), Draws.of(KEY, np.arange(P)).at(5)
    g = np.asarray(eqx.filter_jit(problem.minibatch_gradient)(cloud, draws, 3, "with-replacement"))
    noise = g - np.asarray(problem.gradient(x))[:, None]
    assert np.all(np.abs(noise.mean(axis=1)) < 4.5 * noise.std(axis=1) / np.sqrt(P))
    products = noise[:, None] * noise[None]
    exact = np.asarray(matrix_of(problem, x)) / 3
    error = products.std(axis=2) / np.sqrt(P) + 1e-12
    assert np.all(np.abs(products.mean(axis=2) - exact) < 4.5 * error)


@pytest.mark.slow
def test_the_true_shape_moves_as_the_problem_does_in_the_limit():
    """The Langevin limits of a finite sum and of its Gaussian model are one process, draw for draw."""
    for problem in (risk("weighted"), ss.Perturbed(risk("weighted"), 0.3)):
        clouds = [
            ss.simulate(
                ss.Langevin.limit_of(ss.SGD(p, learning_rate=0.1, batch_size=4)),
                [0.5, 0.0],
                particles=20,
                steps=5,
                key=KEY,
            ).particles
            for p in (problem, reshape_noise(problem, "true"))
        ]
        assert np.allclose(*clouds, rtol=1e-10)


def test_what_is_known_of_the_noise_is_known_of_its_shapes():
    constant = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise([[1.5, 0.7], [0.7, 0.5]]))
    known = {"true": (True, None), "diagonal": (True, None), "isotropic": (True, 1.0), "hessian": (False, None)}
    for shape, (additive, variance) in known.items():
        shaped, moving = reshape_noise(constant, shape), reshape_noise(risk(), shape)
        assert shaped.has_additive_noise is additive and shaped.isotropic_variance == variance
        assert not moving.has_additive_noise and moving.isotropic_variance is None
    thermostat = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(0.3))
    assert float(reshape_noise(thermostat, "true").isotropic_variance) == 0.3
    fp = ss.FokkerPlanck.limit_of(
        ss.SGD(reshape_noise(constant, "isotropic"), learning_rate=0.2, batch_size=1),
        ss.Grid([-2, -2], [2, 2], [16, 16]),
    )
    assert fp.potential is not None  # a Gibbs state


def test_isotropic_noise_forms_no_matrix():
    shaped = reshape_noise(network(), "isotropic")
    dim = shaped.dim
    x, draws = jnp.zeros((dim, 7)), Draws.of(KEY, np.arange(7))
    program = jax.make_jaxpr(lambda y, d: shaped.minibatch_gradient(y, d, 2, "with-replacement"))(x, draws)
    assert f"{dim},{dim}" not in str(program) and f"{dim},7,{dim}" not in str(program)
    assert f"{dim},{dim}" not in str(jax.make_jaxpr(shaped.noise_trace)(x[:, 0]))


def test_no_noise_is_gradient_descent_and_its_limit_gradient_flow():
    problem = reshape_noise(potential(), "none")
    sgd = ss.SGD(problem, learning_rate=0.05, batch_size=1)
    start = np.array([-0.3, 1.2])
    run = ss.simulate(sgd, start, particles=3, steps=20, save_every=1, key=KEY)
    by_hand = [jnp.asarray(start)]
    for _ in range(20):
        by_hand.append(by_hand[-1] - 0.05 * jax.grad(ss.potentials.DoubleWell(dim=2))(by_hand[-1]))
    assert np.allclose(run.particles[:, 1], np.array(by_hand), atol=1e-14)
    limit = ss.Langevin.limit_of(sgd, substeps=8)
    flow = ss.simulate(limit, start, particles=2, steps=20, key=KEY).particles[-1, 0]
    square, decay = start[0] ** 2, np.exp(-2.0)  # ẋ = x − x³: x² = x₀²/(x₀² + (1 − x₀²) e^{−2t})
    exact = [-np.sqrt(square / (square + (1 - square) * decay)), start[1] * np.exp(-1.0)]
    assert np.allclose(flow, exact, rtol=1e-4)
    with pytest.raises(ValueError, match="singular"):
        ss.FokkerPlanck.limit_of(sgd, ss.Grid([-2.0, -2.0], [2.0, 2.0], [16, 16]))


@pytest.mark.slow
def test_stable_noise_has_a_scale_for_the_trace():
    """E cos(k ξ) = exp(−|ck|^α) with 2c² = Tr D(x)/d, c B^{1/α−1} for a batch: 6 comparisons at 4.5 sigmas."""
    x, alpha, batch = jnp.asarray([0.5, -1.0]), 1.6, 4
    problem = reshape_noise(potential(), "alpha-stable", alpha=alpha)
    cloud, draws = jnp.broadcast_to(x[:, None], (2, P)), Draws.of(KEY, np.arange(P))
    g = problem.minibatch_gradient(cloud, draws, batch, "with-replacement")
    noise = np.asarray(g) - np.asarray(problem.gradient(x))[:, None]
    scale = np.sqrt(float(potential().noise_trace(x)) / 4) * batch ** (1 / alpha - 1)
    for k in (0.3 / scale, 1 / scale, 2 / scale):
        law, twice = (np.exp(-((scale * m * k) ** alpha)) for m in (1, 2))
        error = np.sqrt(((1 + twice) / 2 - law**2) / P)
        assert np.all(np.abs(np.cos(k * noise).mean(axis=1) - law) < 4.5 * error)
    near_two = reshape_noise(potential(), "alpha-stable", alpha=2 - 1e-9)
    noise = np.asarray(near_two.minibatch_gradient(cloud, draws, 1, "with-replacement")) - problem.gradient(x)[:, None]
    assert np.sum(noise.var(axis=1)) == pytest.approx(float(potential().noise_trace(x)), rel=0.03)
    with pytest.raises(ValueError, match="has no covariance"):
        ss.Langevin.limit_of(ss.SGD(problem, learning_rate=0.1, batch_size=1))
    assert not problem.has_additive_noise


@pytest.mark.parametrize("shape", NOISE_SHAPES)
def test_every_shape_runs_in_float32(shape):
    """On a finite sum, perturbed, with momentum; no particle is lost."""
    options = {"at": [0.1, 0.2]} if shape == "constant" else {"alpha": 1.7} if shape == "alpha-stable" else {}
    problem = ss.Perturbed(reshape_noise(risk(), shape, **options), 0.1)
    sgd = ss.SGD(problem, learning_rate=0.1, batch_size=2, momentum=0.5)
    run = ss.simulate(sgd, [0.5, 0.0], particles=50, steps=10, key=KEY, dtype="float32")
    assert run.num_diverged == 0 and run.particles.dtype == np.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reshape_noise(risk(), "round"), "shape must be one of true, diagonal, .*; got 'round'"),
        (lambda: reshape_noise(risk(), "constant"), "at must be given for shape 'constant' and for no other"),
        (lambda: reshape_noise(risk(), "true", at=[0.0, 0.0]), "at must be given for shape 'constant'"),
        (lambda: reshape_noise(risk(), "alpha-stable"), "alpha must be given for shape 'alpha-stable'"),
        (lambda: reshape_noise(risk(), "alpha-stable", alpha=2.0), "alpha must lie above 0 and below 2"),
        (lambda: reshape_noise(risk(), "constant", at=[0.0]), r"at must be a finite point \(2,\)"),
        (lambda: reshape_noise(risk(), "constant", at=[0.0, np.nan]), r"at must be a finite point \(2,\)"),
        (
            lambda: reshape_noise(reshape_noise(risk(), "alpha-stable", alpha=1.5), "isotropic"),
            "has no covariance",
        ),
    ],
)
def test_bad_input(make, message, as_users_run):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_problem_is_refused(as_users_run):
    with pytest.raises(TypeError, match="problem must be a Problem"):
        reshape_noise(lambda x: x, "true")


def test_hessian_noise_keeps_a_small_curvature_beside_a_large_one():
    """|H| and not √(H²), which loses 1e-4 beside 1 in float32."""
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    for curvatures in ([1.0, 1e-4], [1.0, -1e-4], [-1.0, -1e-4]):
        hessian = jnp.asarray(turn @ np.diag(curvatures) @ turn.T, jnp.float32)
        found = np.linalg.eigvalsh(np.asarray(symmetric_absolute(hessian), dtype=float))
        np.testing.assert_allclose(found, [1e-4, 1.0], rtol=2e-3)
    wide = jnp.diag(jnp.asarray([-3.0, 0.0, 2.0]))
    np.testing.assert_allclose(symmetric_absolute(wide), np.diag([3.0, 0.0, 2.0]), atol=1e-12)
