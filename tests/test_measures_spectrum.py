"""Products, spectra and alignments against dense matrices: linear regression, a small network, modelled noise."""

import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.measures.curvature import hessian
from sgdsim.measures.noise_spectrum import LARGEST_MATRIX, NoiseSpectrum, noise_spectrum
from sgdsim.measures.operators import Fisher, Hessian, NoiseCovariance, mean_gradient
from sgdsim.measures.spectrum import alignment, overlap, top_eigenpairs, trace
from sgdsim.problems import AlphaStableNoise, EmpiricalRisk, GaussianNoise, NoisyPotential, Perturbed, networks
from sgdsim.problems.potentials import Quadratic

noise_module = importlib.import_module("sgdsim.measures.noise_spectrum")  # hidden by the function of its name

KEY = jax.random.key(3)


def squared(w, example):
    return (example[0] @ w - example[1]) ** 2 / 2


def regression(count, dim):
    """Linear regression, its D and its Hessian at a point, by hand."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(count, dim)) * 0.97 ** np.arange(dim), rng.normal(size=count)
    x = rng.normal(size=dim) / 10
    gradients = (inputs @ x - labels)[:, None] * inputs
    centred = gradients - gradients.mean(axis=0)
    risk = EmpiricalRisk(squared, (inputs, labels), init=np.zeros(dim), weight_decay=0.1)
    return risk, x, centred.T @ centred / count, inputs.T @ inputs / count + 0.1 * np.eye(dim)


def network(count=40, width=4, inputs=12):
    """A classifier with d = 87 weights as it stands."""
    rng = np.random.default_rng(1)
    data = (rng.normal(size=(count, inputs)), rng.integers(0, 7, count))
    return EmpiricalRisk(networks.cross_entropy, data, init=networks.mlp((inputs, width, 7), key=KEY))


@eqx.filter_jit
def dense(operator):
    return jax.vmap(operator)(jnp.eye(operator.dim))


def smallest_angle(vectors, matrix):
    """The smallest cosine between the span of the vectors and the leading eigenspace of the matrix."""
    leading = np.linalg.eigh(matrix)[1][:, -len(vectors) :]
    return np.linalg.svd(vectors @ leading)[1].min()


@pytest.mark.parametrize(("count", "dim"), [(30, 90), (90, 30), (30, 30)])
@pytest.mark.parametrize("tile", [None, 7])
def test_noise_spectrum_is_that_of_the_dense_matrix(count, dim, tile):
    risk, x, noise, _ = regression(count, dim)
    spectrum = noise_spectrum(risk, x, tile=tile)
    truth = np.linalg.eigvalsh(noise)[::-1]
    rank = min(dim, count - 1)
    assert len(spectrum.eigenvalues) == spectrum.largest_rank == rank
    np.testing.assert_allclose(spectrum.eigenvalues, truth[:rank], atol=1e-13 * truth[0])
    assert spectrum.trace == pytest.approx(np.trace(noise))
    assert spectrum.participation == pytest.approx(np.trace(noise) ** 2 / np.sum(noise**2))
    double = float(np.finfo(float).eps)
    assert spectrum.rank(double) == rank == np.linalg.matrix_rank(noise, tol=dim * double * truth[0])
    assert spectrum.rank() == np.sum(truth > truth[0] * dim * np.finfo(np.float32).eps)
    assert (spectrum.dim, spectrum.num_examples, spectrum.dtype) == (dim, count, "float64")


def test_products_are_those_of_the_dense_matrices():
    for risk, x, noise, curvature in (regression(30, 90), regression(90, 30)):
        for tile in (7, 500):
            np.testing.assert_allclose(dense(NoiseCovariance(risk, x, tile=tile)), noise, atol=1e-13)
        np.testing.assert_allclose(dense(Hessian(risk, x)), curvature, atol=1e-13)


@pytest.mark.slow
def test_products_of_a_network():
    """D by the risk's own matrix, ∇²f by `hessian`, and the Fisher matrix as Gauss–Newton, Jᵀ(diag p − ppᵀ)J."""
    risk = network()
    x = risk.x0

    def outputs(y, z):
        return risk.parameters(y)(z)

    slopes = jax.vmap(jax.jacobian(outputs), (None, 0))(x, risk.data[0])
    chances = jax.nn.softmax(jax.vmap(outputs, (None, 0))(x, risk.data[0]))
    middle = jax.vmap(jnp.diag)(chances) - chances[:, :, None] * chances[:, None, :]
    fisher = jnp.einsum("nci,ncd,ndj->ij", slopes, middle, slopes) / len(chances)
    np.testing.assert_allclose(dense(Fisher(risk, x, classes=7, tile=9)), fisher, atol=1e-14)
    np.testing.assert_allclose(dense(NoiseCovariance(risk, x, tile=9)), risk.noise_covariance(x), atol=1e-14)
    np.testing.assert_allclose(dense(Hessian(risk, x)), hessian(risk, x), atol=1e-14)


def test_modelled_and_perturbed_noise():
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    potential = NoisyPotential(Quadratic(np.eye(2)), GaussianNoise(matrix))
    spectrum = noise_spectrum(potential, np.zeros(2))
    np.testing.assert_allclose(spectrum.eigenvalues, np.linalg.eigvalsh(matrix)[::-1])
    np.testing.assert_allclose(dense(NoiseCovariance(potential, np.zeros(2))), matrix)
    assert spectrum.num_examples is None and spectrum.largest_rank == 2
    risk, x, noise, _ = regression(30, 90)
    for perturbed in (Perturbed(risk, 0.2), Perturbed(Perturbed(risk, 0.1), 0.1)):
        spectrum = noise_spectrum(perturbed, x)
        np.testing.assert_allclose(spectrum.eigenvalues, np.linalg.eigvalsh(noise)[::-1] + 0.2, atol=1e-13)
        assert spectrum.rank() == spectrum.largest_rank == 90
        np.testing.assert_allclose(dense(NoiseCovariance(perturbed, x)), noise + 0.2 * np.eye(90), atol=1e-13)


def test_leading_eigenpairs_of_noise_and_hessian():
    risk, x, noise, curvature = regression(60, 150)
    for operator, matrix in ((NoiseCovariance(risk, x), noise), (Hessian(risk, x), curvature)):
        pairs = top_eigenpairs(operator, 8, key=KEY)
        truth = np.linalg.eigvalsh(matrix)[::-1][:8]
        assert np.all(np.abs(pairs.values.value - truth) <= pairs.values.standard_error + 1e-13)
        assert np.all(pairs.values.standard_error < 1e-7 * truth)
        np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(8), atol=1e-12)
        assert smallest_angle(pairs.vectors, matrix) > 1 - 1e-10
    loose = top_eigenpairs(Hessian(risk, x), 8, key=KEY, tolerance=0.1).values
    truth = np.linalg.eigvalsh(curvature)[::-1][:8]
    assert np.all(np.abs(loose.value - truth) <= loose.standard_error) and loose.standard_error.max() > 1e-5


def test_largest_in_size_of_an_indefinite_hessian():
    risk = network()
    values = np.linalg.eigvalsh(hessian(risk, risk.x0))
    wanted = np.sort(values[np.argsort(-np.abs(values))[:12]])[::-1]
    assert wanted[-1] < 0
    found = top_eigenpairs(Hessian(risk, risk.x0), 12, key=KEY, by="magnitude").values
    np.testing.assert_allclose(found.value, wanted, atol=1e-10)


@pytest.mark.slow
def test_eigenvalues_that_repeat_and_matrices_of_low_rank():
    """Where one Krylov sequence breaks down: a multiple of the identity, D of rank 9 with ε²I, and D = 0."""
    same = NoisyPotential(Quadratic(2 * np.eye(100)), GaussianNoise(1.0))
    np.testing.assert_allclose(top_eigenpairs(Hessian(same, np.zeros(100)), 7, key=KEY).values.value, 2)
    risk, x, noise, _ = regression(10, 100)
    truth = np.linalg.eigvalsh(noise)[::-1]
    for problem, shift in ((risk, 0.0), (Perturbed(risk, 0.1), 0.1)):
        found = top_eigenpairs(NoiseCovariance(problem, x), 20, key=KEY).values.value
        np.testing.assert_allclose(found, truth[:20] + shift, atol=1e-12)
    zero = EmpiricalRisk(squared, (np.eye(70, 70), np.zeros(70)), init=np.zeros(70))
    pairs = top_eigenpairs(NoiseCovariance(zero, np.zeros(70)), 3, key=KEY)
    assert np.all(pairs.values.value == 0) and np.all(pairs.values.standard_error == 0)
    spectrum = noise_spectrum(zero, np.zeros(70))
    assert spectrum.rank() == spectrum.directions_for(0.9) == 0 == spectrum.participation
    assert np.isnan(alignment(NoiseCovariance(zero, np.zeros(70)), Hessian(zero, np.zeros(70)), key=KEY).value)


def test_traces_and_alignment_are_exact_where_d_is_small():
    risk, x, noise, curvature = regression(60, 100)
    operators = NoiseCovariance(risk, x), Hessian(risk, x)
    exact = trace(operators[0], key=KEY, probes=100)
    assert exact.value == pytest.approx(np.trace(noise)) and exact.standard_error == 0
    cosine = np.sum(noise * curvature) / np.linalg.norm(noise) / np.linalg.norm(curvature)
    exact = alignment(*operators, key=KEY, probes=100)
    assert exact.value == pytest.approx(cosine) and exact.standard_error == 0
    assert alignment(operators[1], operators[1], key=KEY, probes=50).value == pytest.approx(1)


@pytest.mark.slow
def test_sampled_traces_and_alignment_within_their_errors():
    """300 keys: the mean within 4 standard errors of the truth, the spread as stated, within 15 %."""
    risk, x, noise, curvature = regression(60, 100)
    operators = NoiseCovariance(risk, x), Hessian(risk, x)
    cosine = np.sum(noise * curvature) / np.linalg.norm(noise) / np.linalg.norm(curvature)
    keys = jax.random.split(KEY, 300)
    for read, truth in (
        (lambda key: trace(operators[0], key=key, probes=50), np.trace(noise)),
        (lambda key: alignment(*operators, key=key, probes=50), cosine),
    ):
        readings = [read(key) for key in keys]
        values, errors = (np.array([getattr(r, name) for r in readings]) for name in ("value", "standard_error"))
        spread = values.std(ddof=1)
        bias = 0.2 * spread  # of the ratio, which is O(1/probes)
        assert abs(values.mean() - truth) < 4 * spread / np.sqrt(300) + bias
        assert np.sqrt(np.mean(errors**2)) == pytest.approx(spread, rel=0.15)


def test_overlap_of_spaces():
    first = np.eye(6)[:2]
    turned = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]]) @ first
    assert overlap(first, turned) == pytest.approx(1)
    assert overlap(first, np.eye(6)[2:5]) == 0
    assert overlap(first, np.eye(6)[1:5]) == pytest.approx(0.5)


def test_fractions_of_the_trace():
    spectrum = NoiseSpectrum(np.array([4.0, 3.0, 2.0, 1.0]), dim=10, num_examples=5, dtype="float64")
    assert [spectrum.directions_for(f) for f in (0.3, 0.4, 0.41, 0.7, 0.9, 0.91, 1.0)] == [1, 1, 2, 2, 3, 4, 4]
    assert spectrum.threshold(0.06) == pytest.approx(2.4) and spectrum.rank(0.06) == 2
    assert spectrum.participation == pytest.approx(100 / 30)


def largest(jaxpr):
    """The most numbers that any array of a program holds."""
    sizes = [var.aval.size for var in jaxpr.invars + jaxpr.outvars if hasattr(var.aval, "size")]
    for equation in jaxpr.eqns:
        sizes += [var.aval.size for var in equation.outvars if hasattr(var.aval, "size")]
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            sizes += [largest(inner)] if hasattr(inner, "eqns") else []
    return max(sizes, default=0)


@pytest.mark.slow
def test_no_array_of_all_examples_by_all_dimensions(monkeypatch):
    """N = 160, d = 4,660: no program holds more than a tile of 16 gradients or N², and no two tiles are kept."""
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(160, 20)), rng.integers(0, 10, 160))
    risk = EmpiricalRisk(networks.cross_entropy, data, init=networks.mlp((20, 150, 10), key=KEY))
    x, tile, whole = risk.x0, 16, 160 * risk.dim
    programs = [
        eqx.filter_make_jaxpr(lambda r, y: noise_module._centred_gradients(r, y, y, 0, tile))(risk, x)[0],
        eqx.filter_make_jaxpr(lambda r, y: mean_gradient(r, y, tile))(risk, x)[0],
        *(
            eqx.filter_make_jaxpr(lambda op, v: op(v))(operator, x)[0]
            for operator in (NoiseCovariance(risk, x, tile=tile), Hessian(risk, x), Fisher(risk, x, classes=10, tile=4))
        ),
    ]
    sizes = [largest(program.jaxpr) for program in programs]
    assert max(sizes) <= tile * risk.dim < whole / 9, sizes
    assert sizes[0] == tile * risk.dim  # what is looked for is seen
    before, seen, products = sum(a.size for a in jax.live_arrays()), [], noise_module._products

    def watched(rows, others):
        seen.append(sum(a.size for a in jax.live_arrays()) - before)
        return products(rows, others)

    monkeypatch.setattr(noise_module, "_products", watched)
    spectrum = noise_spectrum(risk, x, tile=tile)
    assert len(seen) == 10 * 11 // 2 and max(seen) < 3.5 * tile * risk.dim
    assert spectrum.trace == pytest.approx(float(risk.noise_trace(x)))


@pytest.mark.usefixtures("as_users_run")
def test_bad_arguments():
    risk, x, *_ = regression(8, 5)
    endless = NoisyPotential(Quadratic(np.eye(1)), AlphaStableNoise(1.5))
    with pytest.raises(ValueError, match=r"x must have shape \(5,\), got \(4,\)"):
        noise_spectrum(risk, np.zeros(4))
    with pytest.raises(ValueError, match="x must be finite, got 1 NaN or infinite entries"):
        Hessian(risk, np.array([0, 0, np.nan, 0, 0]))
    with pytest.raises(ValueError, match="D must be finite at x, got an overflow"):
        noise_spectrum(risk, np.full(5, 1e300))
    with pytest.raises(ValueError, match="tile must be a positive whole number of examples, got 0"):
        noise_spectrum(risk, x, tile=0)
    with pytest.raises(ValueError, match="covariance"):
        NoiseCovariance(endless, np.zeros(1))
    with pytest.raises(ValueError, match="count must be a whole number from 1 to d = 5, got 6"):
        top_eigenpairs(Hessian(risk, x), 6, key=KEY)
    with pytest.raises(ValueError, match="by must be 'value' or 'magnitude', got 'size'"):
        top_eigenpairs(Hessian(risk, x), 2, key=KEY, by="size")
    with pytest.raises(ValueError, match="probes must be a whole number of at least 2, got 1"):
        trace(Hessian(risk, x), key=KEY, probes=1)
    with pytest.raises(ValueError, match="second must have the dimension of first, 5; got 90"):
        alignment(Hessian(risk, x), Hessian(*regression(30, 90)[:2]), key=KEY)
    with pytest.raises(TypeError, match="risk must be an EmpiricalRisk over data"):
        Fisher(risk, x, classes=2)
    with pytest.raises(ValueError, match="example_loss must be −log p"):
        Fisher(network(), network().x0, classes=5)
    with pytest.raises(ValueError, match="fraction must lie above 0"):
        noise_spectrum(risk, x).directions_for(0)
    many = EmpiricalRisk(lambda w, z: jnp.sum(w) * z, np.zeros(LARGEST_MATRIX + 1), init=np.zeros(LARGEST_MATRIX + 1))
    with pytest.raises(ValueError, match=r"min\(d, N\) must be at most 20000 for a whole spectrum, got 20001"):
        noise_spectrum(many, np.zeros(LARGEST_MATRIX + 1))
