"""Selling's decomposition, the rates built from it, and what the generator refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.density import FokkerPlanck, Generator, Grid
from sgdsim.density.edges import bernoulli
from sgdsim.density.selling import selling

ROTATED = np.array([[0.3875, 0.19485572], [0.19485572, 0.1625]])  # eigenvalues .5, .05 at 30°


def tensors(dim: int, condition: float, count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(7)
    axes = np.linalg.qr(rng.normal(size=(count, dim, dim)))[0]
    eigenvalues = np.exp(rng.uniform(-np.log(condition), 0, size=(count, dim)))
    matrices = np.einsum("nij,nj,nkj->nik", axes, eigenvalues, axes)
    return (matrices + np.swapaxes(matrices, 1, 2)) / 2


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e4])
@pytest.mark.parametrize(("dim", "most"), [(1, 1), (2, 3), (3, 6)])
def test_selling_restores_the_tensor(dim: int, most: int, condition: float) -> None:
    matrices = tensors(dim, condition)
    offsets, weights = selling(matrices)
    assert np.all(weights >= 0) and np.max(np.sum(weights > 0, axis=1)) <= most
    assert len(np.unique(offsets, axis=0)) == len(offsets) and np.all(np.gcd.reduce(offsets, axis=1) == 1)
    restored = np.einsum("nm,mi,mj->nij", weights, offsets, offsets)
    np.testing.assert_allclose(restored, matrices, rtol=0, atol=1e-15 * max(condition, 10))


def test_selling_of_a_diagonal_tensor_is_the_axes() -> None:
    offsets, weights = selling(np.array([np.diag([2.0, 5.0]), np.diag([1.0, 1e-3])]))
    np.testing.assert_array_equal(offsets, [[0, 1], [1, 0]])
    np.testing.assert_allclose(weights, [[5.0, 2.0], [1e-3, 1.0]])


def test_selling_refuses_an_indefinite_tensor() -> None:
    with pytest.raises(ValueError, match="positive definite"):
        selling(np.array([[[1.0, 2.0], [2.0, 1.0]]]))


def test_bernoulli_to_rounding() -> None:
    z = np.array([0.0, 1e-9, -1e-9, 9.9e-5, 1.01e-4, 1.0, -1.0, 40.0, -40.0, 800.0, -800.0])
    np.testing.assert_allclose(bernoulli(-z) - bernoulli(z), z, rtol=1e-15, atol=4e-16)
    np.testing.assert_allclose(bernoulli(z)[:4], 1 - z[:4] / 2 + z[:4] ** 2 / 12, rtol=1e-15)
    assert bernoulli(z)[9] == 0.0 and np.all(bernoulli(z)[:9] > 0)


def swirl(x: jax.Array) -> jax.Array:
    return jnp.stack([jnp.sin(3 * x[1]) - x[0], jnp.cos(2 * x[0]) * x[1]])


def bumpy(x: jax.Array) -> jax.Array:
    return jnp.array([[1.0 + 0.5 * jnp.sin(x[0]), 0.4], [0.4, 0.5 + 0.3 * x[1] ** 2]])


def test_the_generator_is_a_generator() -> None:
    generator = Generator.of(Grid([-2.0, -1.5], [2.0, 1.5], [13, 17]), swirl, bumpy)
    assert np.all(generator.rates_forward >= 0) and np.all(generator.rates_backward >= 0)
    matrix = generator.as_sparse()
    off_diagonal = matrix - np.diag(matrix.diagonal())
    assert np.min(off_diagonal) >= 0
    np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(-matrix.diagonal(), np.asarray(generator.exit_rates).reshape(-1), rtol=1e-14)
    assert generator.max_exit_rate == pytest.approx(-matrix.diagonal().min())


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_apply_is_the_sparse_matrix(dim: int) -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(dim, dim))
    tensor = root @ root.T + 0.1 * np.eye(dim)
    grid = Grid([-1.0] * dim, [1.0] * dim, [11, 8, 9][:dim])
    generator = Generator.of(grid, lambda x: jnp.sin(x) - 0.3, lambda x: tensor)
    masses = rng.random(grid.cells)
    change = np.asarray(jax.jit(Generator.apply)(generator, jnp.asarray(masses)))
    scale = generator.max_exit_rate
    np.testing.assert_allclose(change.reshape(-1), generator.as_sparse() @ masses.reshape(-1), atol=1e-14 * scale)
    assert abs(change.sum()) < 1e-14 * scale * masses.sum()


def test_mean_and_spread_grow_at_the_right_rate() -> None:
    """Far from the walls, d/dt of the moments is b and 2A: exactly 2A without drift, to order h² with it."""
    grid = Grid([-1.0, -2.0], [1.0, 2.0], [41, 41])  # unlike cells: h enters both ways
    point = np.zeros(grid.cells)
    point[20, 20] = 1.0
    x = grid.centres - grid.centres[20, 20]
    still = np.asarray(Generator.of(grid, lambda x: 0 * x, lambda x: ROTATED).apply(jnp.asarray(point)))
    np.testing.assert_allclose(np.einsum("xy,xyi,xyj->ij", still, x, x), 2 * ROTATED, atol=1e-12)
    np.testing.assert_allclose(np.einsum("xy,xyi->i", still, x), 0, atol=1e-12)
    drift = np.array([0.7, -0.4])
    moved = np.asarray(Generator.of(grid, lambda x: drift, lambda x: ROTATED).apply(jnp.asarray(point)))
    np.testing.assert_allclose(np.einsum("xy,xyi->i", moved, x), drift, rtol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 17.0, 30.0, 45.0, 80.0])
def test_a_declared_potential_is_kept_exactly(angle: float) -> None:
    """Constant but full tensor of ratio 100, b = −A∇ψ: detailed balance with e^{−ψ} on every edge."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    tensor = np.array([[c, -s], [s, c]]) @ np.diag([0.5, 0.005]) @ np.array([[c, s], [-s, c]])
    tensor = (tensor + tensor.T) / 2

    def potential(x: jax.Array) -> jax.Array:
        return (x[0] ** 2 - 1) ** 2 / 0.3 + x[1] ** 2 + 0.2 * x[0] * x[1]

    grid = Grid([-2.0, -2.0], [2.0, 2.0], [40, 32])
    generator = Generator.of(grid, lambda x: -tensor @ jax.grad(potential)(x), lambda x: tensor, potential)
    gibbs = np.exp(-np.asarray(jax.vmap(jax.vmap(potential))(jnp.asarray(grid.centres))))
    gibbs /= gibbs.sum()
    residual = np.asarray(generator.apply(jnp.asarray(gibbs)))
    assert np.abs(residual).sum() / generator.max_exit_rate < 1e-15


def test_fields_may_return_plain_numbers() -> None:
    generator = Generator.of(Grid([-1.0], [1.0], [8]), lambda x: np.array([1]), lambda x: [[2]])
    np.testing.assert_allclose(np.sum(np.asarray(generator.exit_rates)[1:-1]), 6 * 2 * 2.0 / 0.25**2, rtol=1e-2)


GRID = Grid([-1.0, -1.0], [1.0, 1.0], [8, 8])


def eye(x: jax.Array) -> jax.Array:
    return jnp.eye(2)


@pytest.mark.parametrize(
    ("drift", "diffusion", "match"),
    [
        (lambda x: x, lambda x: jnp.ones((2, 2)), r"diffusion is singular at x = .*Perturbed"),
        (lambda x: x, lambda x: 0.0 * jnp.eye(2), r"diffusion is singular"),
        (lambda x: x, lambda x: jnp.where(x[0] > 0.5, 0.0, 1.0) * jnp.eye(2), r"singular at x = \[0\.[5-9]"),
        (lambda x: x, lambda x: x[0] ** 2 * jnp.eye(2), r"singular at x = \[0\.0"),  # only at edges' midpoints
        (lambda x: x, lambda x: jnp.diag(jnp.array([1.0, -1.0])), "diffusion must be positive semidefinite"),
        (lambda x: x, lambda x: jnp.array([[1.0, 0.5], [0.0, 1.0]]), "diffusion must be symmetric"),
        (lambda x: x, lambda x: jnp.eye(2) / jnp.where(x[0] > 0, 1.0, 0.0), "diffusion must be finite .* at x ="),
        (lambda x: x, lambda x: jnp.eye(3), r"diffusion must map .* to shape \(2, 2\), got \(3, 3\)"),
        (lambda x: jnp.log(x), eye, r"drift must be finite on the grid, got .* at x = \[-"),
        (lambda x: x[0], eye, r"drift must map"),
    ],
)
def test_bad_fields_are_named(drift, diffusion, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        FokkerPlanck(drift, diffusion, GRID)


def test_a_tensor_too_anisotropic_for_the_grid() -> None:
    along = np.array([np.cos(0.3), np.sin(0.3)])
    with pytest.raises(ValueError, match="too anisotropic"):
        FokkerPlanck(lambda x: -x, lambda x: np.outer(along, along) + 1e-7 * np.eye(2), GRID)


def test_a_wrong_potential_is_refused() -> None:
    tensor = np.diag([1.0, 0.1])  # −∇f is then not −A∇ψ for any ψ ∝ f
    with pytest.raises(ValueError, match="potential must satisfy"):
        FokkerPlanck(lambda x: -x, lambda x: tensor, GRID, lambda x: jnp.sum(x**2) / 2)
    with pytest.raises(ValueError, match="potential must be finite"):
        FokkerPlanck(lambda x: -x, eye, GRID, lambda x: jnp.log(x[0]))
    with pytest.raises(ValueError, match="potential must map"):
        FokkerPlanck(lambda x: -x, eye, GRID, lambda x: x)
