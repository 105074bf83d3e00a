"""Losses with their noise: exact gradients, covariances and square roots."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import sgdsim as ss
from sgdsim.covariance import symmetric_square_root
from sgdsim.draws import Draws
from sgdsim.problems import networks

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 2)) * [1.0, 3.0] + 0.3, np.sign(RNG.normal(size=50))


def logistic(root=None, weight_decay=0.1):
    return ss.EmpiricalRisk(networks.logistic_loss, (X, Y), init=np.zeros(2), weight_decay=weight_decay, root=root)


def digits_like_network(root=None):
    model = networks.mlp((3, 4, 2), key=jax.random.key(0))
    data = (RNG.normal(size=(37, 3)), RNG.integers(0, 2, 37))
    return ss.EmpiricalRisk(networks.cross_entropy, data, init=model, weight_decay=0.01, root=root)


def test_logistic_gradient_and_covariance_are_the_textbook_ones():
    x = np.array([0.4, -0.2])
    margin = Y * (X @ x)
    gradients = -(Y / (1 + np.exp(margin)))[:, None] * X
    risk = logistic()
    assert float(risk.loss(jnp.asarray(x))) == pytest.approx(np.log1p(np.exp(-margin)).mean() + 0.05 * x @ x)
    assert np.allclose(risk.gradient(jnp.asarray(x)), gradients.mean(0) + 0.1 * x, atol=1e-14)
    assert np.allclose(risk.noise_covariance(jnp.asarray(x)), np.cov(gradients.T, bias=True), atol=1e-14)
    assert float(risk.noise_trace(jnp.asarray(x))) == pytest.approx(np.trace(np.cov(gradients.T, bias=True)))


@pytest.mark.parametrize("root", ["dense", "weighted"])
@pytest.mark.parametrize("make", [logistic, digits_like_network])
@pytest.mark.slow
def test_both_square_roots_reproduce_the_covariance(make, root):
    """Applied to a basis of the normals, a root R gives its own columns, and R Rᵀ = D."""
    risk = make(root)
    x = risk.x0 + 0.3
    basis = jnp.eye(risk.noise_size)
    cloud = jnp.broadcast_to(x[:, None], (risk.dim, risk.noise_size))
    columns = risk.noise(cloud, basis)
    assert np.allclose(columns @ columns.T, risk.noise_covariance(x), atol=1e-12)
    combined = risk.langevin_increment(cloud, basis, jnp.asarray(0.7), jnp.asarray(0.2))
    assert np.allclose(combined, 0.2 * columns - 0.7 * risk.gradient(x)[:, None], atol=1e-12)


@pytest.mark.parametrize("make", [logistic, digits_like_network])
def test_gradients_agree_with_finite_differences(make):
    risk = make()
    loss, gradient = eqx.filter_jit(risk.loss), eqx.filter_jit(risk.gradient)
    x = np.asarray(risk.x0) + 0.1
    assert (
        scipy.optimize.check_grad(
            lambda y: float(loss(jnp.asarray(y))), lambda y: np.asarray(gradient(jnp.asarray(y))), x
        )
        < 1e-6
    )
    per_example = risk.example_gradients(risk.x0)
    assert np.allclose(per_example.mean(0) + risk.weight_decay * risk.x0, risk.gradient(risk.x0), atol=1e-14)


@pytest.mark.slow
def test_a_whole_batch_without_replacement_is_the_full_gradient():
    risk = logistic()
    cloud = jnp.asarray(RNG.normal(size=(2, 5)))
    got = risk.minibatch_gradient(cloud, Draws.of(jax.random.key(1), np.arange(5)), 50, "without-replacement")
    assert np.allclose(got, jax.vmap(risk.gradient, 1, 1)(cloud), atol=1e-13)


@pytest.mark.parametrize("sampling", ["with-replacement", "without-replacement"])
@pytest.mark.slow
def test_minibatch_noise_has_the_predicted_mean_and_covariance(sampling):
    """N = 50, B = 10: s_B = 40/49 without replacement. Two comparisons a sampling, 4 sigmas, by entry."""
    risk, count = logistic(), 200_000
    x = jnp.asarray([0.5, 0.2])
    sgd = ss.SGD(risk, learning_rate=0.1, batch_size=10, sampling=sampling)
    draws = Draws.of(jax.random.key(3), np.arange(count))
    cloud = jnp.broadcast_to(x[:, None], (2, count))
    g = np.asarray(risk.minibatch_gradient(cloud, draws, 10, sampling))
    predicted = sgd.sampling_factor * np.asarray(risk.noise_covariance(x)) / 10
    assert np.all(np.abs(g.mean(1) - risk.gradient(x)) < 4 * np.sqrt(np.diag(predicted) / count))
    centred = g - np.asarray(risk.gradient(x))[:, None]
    products = centred[:, None] * centred[None]
    error = products.std(axis=2) / np.sqrt(count)
    assert np.all(np.abs(products.mean(axis=2) - predicted) < 4 * error)
    if sampling == "without-replacement":  # and the factor is told from 1
        assert products.mean(axis=2)[0, 0] < predicted[0, 0] / sgd.sampling_factor - 20 * error[0, 0]


@pytest.mark.parametrize("covariance", [0.5, [0.5, 2.0], [[1.0, 0.8], [0.8, 1.0]], lambda x: jnp.diag(1 + x * x)])
def test_gaussian_noise_roots(covariance):
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(covariance))
    x = jnp.asarray([0.3, -1.2])
    columns = problem.noise(jnp.broadcast_to(x[:, None], (2, 2)), jnp.eye(2))
    assert np.allclose(columns @ columns.T, problem.noise_covariance(x), atol=1e-14)


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_symmetric_square_root_also_where_singular(dim):
    factor = RNG.normal(size=(dim, dim))
    for matrix in (factor @ factor.T, np.outer(factor[0], factor[0]), np.zeros((dim, dim))):
        root = np.asarray(symmetric_square_root(jnp.asarray(matrix)))
        assert np.allclose(root @ root, matrix, atol=1e-12)
        assert np.allclose(root, root.T, atol=1e-14)


@pytest.mark.parametrize("root", ["dense", "weighted"])
@pytest.mark.slow
def test_perturbed_adds_isotropic_noise_to_every_description(root):
    risk = logistic(root)
    problem = ss.Perturbed(risk, 0.25)
    x = jnp.asarray([0.5, 0.2])
    assert np.allclose(problem.noise_covariance(x), risk.noise_covariance(x) + 0.25 * np.eye(2), atol=1e-14)
    assert float(problem.noise_trace(x)) == pytest.approx(float(risk.noise_trace(x)) + 0.5)
    columns = problem.noise(jnp.broadcast_to(x[:, None], (2, problem.noise_size)), jnp.eye(problem.noise_size))
    assert np.allclose(columns @ columns.T, problem.noise_covariance(x), atol=1e-12)
    count = 100_000
    cloud = jnp.broadcast_to(x[:, None], (2, count))
    g = np.asarray(problem.minibatch_gradient(cloud, Draws.of(jax.random.key(1), np.arange(count)), 5, "epoch"))
    predicted = 45 / 49 * np.asarray(problem.noise_covariance(x)) / 5
    assert np.allclose(np.cov(g), predicted, atol=4 * np.sqrt(3 / count) * predicted.max())  # 3 entries, 4 sigmas


def test_two_perturbations_are_one():
    twice = ss.Perturbed(ss.Perturbed(logistic(), 0.25), 0.5)
    assert not isinstance(twice.problem, ss.Perturbed)
    assert float(twice.variance) == 0.75


def test_networks_and_datasets():
    x, labels = ss.datasets.digits()
    assert (x.shape, labels.shape) == ((1797, 64), (1797,))
    features, signs = ss.datasets.breast_cancer()
    assert features.shape == (569, 2)
    assert set(signs) == {-1.0, 1.0}
    assert np.allclose([features.mean(0), features.std(0)], [[0, 0], [1, 1]], atol=1e-12)
    network = networks.TwoWeightNetwork(0.7, -2.0)
    assert float(network(jnp.asarray(0.5))) == pytest.approx(-2 * np.tanh(0.35))
    a, b = ss.datasets.from_teacher(network, 1000, noise=0.1, key=jax.random.key(0))
    assert np.std(b + 2 * np.tanh(0.7 * a)) == pytest.approx(0.1, rel=0.1)
    logits = jnp.asarray([1.0, 2.0, 0.5])
    expected = -1.0 + np.log(np.exp(logits).sum())
    assert float(networks.cross_entropy(lambda _: logits, (jnp.zeros(1), jnp.asarray(0)))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ss.GaussianNoise([[1.0, 2.0], [2.0, 1.0]]), ValueError, "covariance must be positive semidefinite"),
        (lambda: ss.GaussianNoise([[1.0, 0.5], [0.0, 1.0]]), ValueError, "covariance must be symmetric"),
        (lambda: ss.GaussianNoise(float("nan")), ValueError, "covariance must be finite"),
        (lambda: ss.GaussianNoise(-1.0), ValueError, "covariance must be positive semidefinite"),
        (
            lambda: ss.NoisyPotential(lambda x: x, ss.GaussianNoise(1.0), dim=2),
            ValueError,
            "potential must return one real",
        ),
        (lambda: ss.NoisyPotential(lambda x: x[0], ss.GaussianNoise(1.0)), ValueError, "dim must be given"),
        (
            lambda: ss.NoisyPotential(ss.potentials.DoubleWell(dim=3), ss.GaussianNoise(np.eye(2))),
            ValueError,
            "dim must be the same",
        ),
        (lambda: ss.EmpiricalRisk(lambda p, z: p * z, (X,), init=np.zeros(2)), ValueError, "example_loss must"),
        (
            lambda: ss.EmpiricalRisk(networks.logistic_loss, (X[:0], Y[:0]), init=np.zeros(2)),
            ValueError,
            "data must hold",
        ),
        (
            lambda: ss.EmpiricalRisk(networks.logistic_loss, (X, Y[:9]), init=np.zeros(2)),
            ValueError,
            "data must have one",
        ),
        (
            lambda: ss.EmpiricalRisk(networks.logistic_loss, (X * np.nan, Y), init=np.zeros(2)),
            ValueError,
            "data must be fin",
        ),
        (
            lambda: ss.EmpiricalRisk(networks.logistic_loss, (X, Y), init=np.zeros(2, int)),
            TypeError,
            "init must hold float",
        ),
        (
            lambda: ss.EmpiricalRisk(lambda p, z: jnp.log(-jnp.sum(p**2) - 1), (X, Y), init=np.zeros(2)),
            ValueError,
            "example_loss must be finite at init",
        ),
        (
            lambda: ss.EmpiricalRisk(networks.logistic_loss, (X, Y), init=np.zeros(2), weight_decay=-1.0),
            ValueError,
            "weight_decay must be",
        ),
        (lambda: ss.Perturbed(logistic(), 0.0), ValueError, "variance must be positive"),
        (lambda: ss.datasets.breast_cancer(("mean hat size",)), ValueError, "features must be among"),
        (lambda: networks.mlp((3, 0, 2), key=jax.random.key(0)), ValueError, "sizes must be"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
