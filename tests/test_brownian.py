"""The Brownian path of a step: its areas against their definitions, one path at every cut, and the orders it gives."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.draws import Draws
from sgdsim.processes.brownian import (
    VARIANCES,
    CloudBrownianPath,
    aggregation,
    brownian_pieces,
    over_substeps,
    refinement,
    three_point_pieces,
)

# Each piece of an interval [0, h] is ∫ w(u/h) dW_u: exchanging the integrals in its definition gives these weights.
WEIGHTS = (lambda r: np.ones_like(r), lambda r: 1 / 2 - r, lambda r: (r * r - r) / 2 + 1 / 12)


def inner_products(pieces):
    """Covariances of the pieces of [0, 1] and of its two halves, (k + 2k)², by Itô's isometry and exact quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    u = np.concatenate([(nodes + 1) / 4, (nodes + 3) / 4])
    left = u < 0.5
    whole = [w(u) for w in WEIGHTS[:pieces]]
    halves = [np.where(side, w(2 * u - start), 0) for start, side in ((0, left), (1, ~left)) for w in WEIGHTS[:pieces]]
    functions = np.array(whole + halves)
    return (functions * np.tile(weights / 4, 2)) @ functions.T


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_pieces_of_an_interval_and_its_halves_have_their_exact_covariances(pieces):
    width = np.sqrt(np.array(VARIANCES[:pieces]))
    width = np.concatenate([width, width * 0.5**0.5, width * 0.5**0.5])
    exact = inner_products(pieces) / np.outer(width, width)
    gain, root = refinement(pieces)
    halves = np.hstack([gain, root])  # acts on (z, ζ)
    built = np.vstack([np.eye(pieces, 2 * pieces), halves])
    np.testing.assert_allclose(built @ built.T, exact, atol=1e-14)
    np.testing.assert_allclose(aggregation(pieces) @ halves, np.eye(pieces, 2 * pieces), atol=1e-14)


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2])
def test_the_path_does_not_depend_on_the_substeps(pieces, size):
    draws = Draws.of(jax.random.key(0), np.arange(5)).at(9)
    cuts = [np.array(brownian_pieces(draws, size, n, pieces, jnp.float64)) for n in (1, 2, 4, 8, 16)]
    np.testing.assert_array_equal(cuts[0][0, 0], draws.normals(size))  # W of the whole step is SGD's own normal
    for coarse, fine in itertools.pairwise(cuts):
        pairs = fine.reshape(len(coarse), 2 * pieces, size, 5)
        np.testing.assert_allclose(np.einsum("ij,njmp->nimp", aggregation(pieces), pairs), coarse, atol=1e-13)


def test_pieces_are_independent_normals():
    """12 pieces of one coordinate over 100,000 particles: 78 covariances at 5 standard errors."""
    count = 100_000
    drawn = np.array(brownian_pieces(Draws.of(jax.random.key(0), np.arange(count)), 1, 4, 3, jnp.float64))
    drawn = drawn.reshape(12, count)
    error = np.sqrt((1 + np.eye(12)) / count)
    assert np.all(np.abs(drawn @ drawn.T / count - np.eye(12)) < 5 * error)


def test_increments_without_areas_are_those_of_levy_and_ciesielski():
    draws = Draws.of(jax.random.key(1), np.arange(7))
    z = [draws.normals(1, first=2 * c, dtype=jnp.float32) for c in range(2)]
    got = brownian_pieces(draws, 1, 2, 1, jnp.float32)
    half = np.float32(0.5**0.5)
    np.testing.assert_array_equal(got[0][0], (z[0] + z[1]) * half)
    np.testing.assert_array_equal(got[1][0], (z[0] - z[1]) * half)


def test_a_path_gives_what_a_solver_asks_for():
    pieces = tuple(jnp.ones((2, 3)) for _ in range(3))
    path = CloudBrownianPath(pieces, jnp.asarray(0.04))
    np.testing.assert_allclose(path.evaluate(0.0, 0.04), 0.2)
    area = path.evaluate(0.0, 0.04, use_levy=True)
    assert isinstance(area, diffrax.SpaceTimeTimeLevyArea)
    for value, variance in zip((area.W, area.H, area.K), VARIANCES, strict=True):
        np.testing.assert_allclose(value, np.sqrt(0.04 * variance))
    kinds = [diffrax.BrownianIncrement, diffrax.SpaceTimeLevyArea]
    assert [CloudBrownianPath(pieces[:n], jnp.asarray(0.1)).levy_area for n in (1, 2)] == kinds


def test_three_point_increments_of_one_step_and_of_two_cuts_are_independent():
    """15 of them from cuts into 1, 2, 4 and 8: all moments of pairs to the second, 120 comparisons at 5 sigmas."""
    count = 100_000
    draws = Draws.of(jax.random.key(2), np.arange(count))
    drawn = np.concatenate([np.array(three_point_pieces(draws, 1, n, jnp.float64)) for n in (1, 2, 4, 8)])
    drawn = drawn.reshape(15, count)
    error = np.sqrt(np.where(np.eye(15), 2, 1) / count)
    assert np.all(np.abs(drawn @ drawn.T / count - np.eye(15)) < 5 * error)


@pytest.mark.parametrize("count", [1, 4, 16])
def test_all_substeps_are_taken_in_their_order(count):
    increments = [(jnp.full((1, 2), float(i)),) for i in range(count)]
    end = over_substeps(lambda s, pieces: 2 * s + pieces[0], jnp.zeros((1, 2)), increments)
    expected = 0.0
    for i in range(count):
        expected = 2 * expected + i
    np.testing.assert_allclose(end, expected)


@pytest.mark.parametrize(
    ("solver", "order"),
    [(diffrax.Heun(), 1.0), (diffrax.ShARK(), 1.5)],
    ids=lambda v: type(v).__name__ if isinstance(v, diffrax.AbstractSolver) else str(v),
)
def test_the_strong_order_is_the_solvers(solver, order):
    """Root mean square gaps of runs on one path, h and h/2: their ratio is 2^order, as h → 0; at these h it is more.

    A path whose areas were not those of its increments would give order 1 at best.
    """
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=1), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=0.125, batch_size=1)
    runs = [
        ss.simulate(
            ss.Langevin.limit_of(sgd, solver=solver, substeps=n),
            [0.5],
            particles=4_000,
            steps=8,
            key=jax.random.key(0),
        ).particles[-1]
        for n in (1, 2, 4)
    ]
    gaps = [np.sqrt(np.mean((a - b) ** 2)) for a, b in itertools.pairwise(runs)]
    assert order - 0.15 < np.log2(gaps[0] / gaps[1]) < order + 0.4
