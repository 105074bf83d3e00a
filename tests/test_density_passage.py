"""Mean first passage times: quadrature, a direct solver, separable truth, an exact ring, what cannot be reached."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
from equations import gibbs_problem

from sgdsim.density.generator import Generator
from sgdsim.density.grid import Grid
from sgdsim.density.passage import passage_times


@functools.cache
def double_well(cells: tuple[int, ...], temperature: float) -> tuple[Grid, Generator]:
    fp = gibbs_problem(cells, temperature)
    return fp.grid, fp.generator


def along_first_axis(generator: Generator) -> Generator:
    """The 1-D factor of a generator that is a sum over axes: the same rates along x₁."""
    k = generator.offsets.index((1, 0))
    forward, backward = (r[k, :, 0][None] for r in (generator.rates_forward, generator.rates_backward))
    return Generator(offsets=((1,),), rates_forward=forward, rates_backward=backward)


def exact_passage(temperature: float) -> float:
    """−1 → 0 for V = (x² − 1)² from a wall at −2.5: (1/T) ∫_{−1}^0 e^{V(y)/T} ∫_{−2.5}^y e^{−V(z)/T} dz dy."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    total = 0.0
    for u, w in zip((nodes - 1) / 2, weights / 2, strict=True):  # y in [−1, 0]
        z = (u + 2.5) / 2 * (nodes + 1) - 2.5
        inner = np.sum((u + 2.5) / 2 * weights * np.exp(((u**2 - 1) ** 2 - (z**2 - 1) ** 2) / temperature))
        total += w * inner / temperature
    return total


def test_a_passage_is_quadrature() -> None:
    """V = (x² − 1)², T = 0.1: 12,762.68. In 1-D rates are integrals over edges: what is left is interpolating to −1."""
    grid, generator = double_well((513,), 0.1)
    times = passage_times(generator, np.arange(513) == 256)  # the middle cell's centre is 0
    assert np.interp(-1.0, grid.axis_centres(0), times) == pytest.approx(exact_passage(0.1), rel=1e-6)


def test_in_2d_it_is_quadrature_to_second_order() -> None:
    """1.8 %, 0.46 %, 0.12 % at 65, 129, 257 cells along x₁."""
    errors = []
    for cells in (65, 129, 257):
        grid, generator = double_well((cells, 4), 0.1)
        times = passage_times(generator, np.broadcast_to(np.arange(cells)[:, None] == cells // 2, (cells, 4)))
        errors.append(np.interp(-1.0, grid.axis_centres(0), times[:, 2]) / exact_passage(0.1) - 1)
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 2, atol=0.1)


@pytest.mark.parametrize("temperature", [0.05, 0.03, 0.01])
def test_in_1d_the_sums_of_positive_terms_behind_any_barrier(temperature: float) -> None:
    """τ_i − τ_{i+1} = d_i with d_i = (1 + back_{i−1} d_{i−1})/fwd_i, to 1e-11 though τ is up to e^100."""
    _, generator = double_well((129,), temperature)
    forward, backward = (np.asarray(r[0, :-1]) for r in (generator.rates_forward, generator.rates_backward))
    steps = [1 / forward[0]]
    for i in range(1, 64):
        steps.append((1 + backward[i - 1] * steps[-1]) / forward[i])
    exact = np.cumsum(steps[::-1])[::-1]
    times = passage_times(generator, np.arange(129) >= 64)
    np.testing.assert_allclose(times[:64], exact, rtol=1e-11)
    assert np.all(times[64:] == 0)


def test_a_target_between_the_starts() -> None:
    """From either side; by symmetry the same."""
    _, generator = double_well((65,), 0.1)
    times = passage_times(generator, np.arange(65) == 32)
    np.testing.assert_allclose(times, times[::-1], rtol=1e-11)
    assert times[32] == 0 and np.all(times[:32] > 0)


def rotated_generator(cells: int) -> Generator:
    """A drift that rotates and a full tensor: three edges, no detailed balance."""
    flow, tensor = jnp.array([[1.0, 0.8], [-0.6, 1.5]]), jnp.array([[0.4, 0.15], [0.15, 0.2]])
    return Generator.of(Grid([-3.0] * 2, [3.0] * 2, [cells, cells + 3]), lambda x: -flow @ x, lambda x: tensor)


def test_in_2d_a_sparse_solver_finds_the_same() -> None:
    generator = rotated_generator(30)
    assert len(generator.offsets) == 3
    target = np.zeros(generator.cells, dtype=bool)
    target[15:19, 12:16] = target[3, 17] = True
    away = np.nonzero(~target.reshape(-1))[0]
    inner = generator.as_sparse().T.tocsc()[away][:, away]
    times = passage_times(generator, target)
    np.testing.assert_allclose(
        times[~target], scipy.sparse.linalg.spsolve(inner.tocsc(), -np.ones(len(away))), rtol=1e-10
    )
    assert np.all(times[target] == 0)


def test_in_2d_behind_a_barrier_the_time_is_that_of_one_axis() -> None:
    """T = 0.03: times of 1e14, which depend on x₁ alone. spsolve is 11 % off there."""
    grid, generator = double_well((65, 40), 0.03)
    target = grid.centres[..., 0] >= -1e-9
    alone = passage_times(along_first_axis(generator), target[:, 0])
    assert alone.max() > 1e14
    np.testing.assert_allclose(passage_times(generator, target), np.broadcast_to(alone[:, None], (65, 40)), rtol=1e-12)


@pytest.mark.parametrize("speed", [0.0, 3.0])
def test_on_a_ring(speed: float) -> None:
    """Constant rates f and b on a ring of n cells to one of them: the gambler's ruin, f ≠ b and f = b."""
    grid = Grid([0.0], [1.0], [40], periodic=True)
    generator = Generator.of(grid, lambda x: speed + 0 * x, lambda x: 0.5 * jnp.eye(1))
    assert len(generator.offsets) == 2
    forward, backward = float(generator.rates_forward[0, 5]), float(generator.rates_backward[0, 5])
    k = np.arange(40)  # to either side: absorbed at 0 and at 40
    if speed:
        ratio = backward / forward
        exact = (40 * (1 - ratio**k) / (1 - ratio**40) - k) / (forward - backward)
    else:
        exact = k * (40 - k) / (2 * forward)
    np.testing.assert_allclose(passage_times(generator, k == 0), exact, rtol=1e-11, atol=1e-13)


def test_what_cannot_be_reached_takes_forever() -> None:
    """Edges (1, 1), (1, 2), … leave two corners of the box alone."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    tensor = np.array([[c, -s], [s, c]]) @ np.diag([0.5, 0.005]) @ np.array([[c, s], [-s, c]])
    generator = Generator.of(Grid([-3.0] * 2, [3.0] * 2, [24, 24]), lambda x: -x, lambda x: jnp.asarray(tensor))
    alone = np.asarray(generator.exit_rates) == 0
    target = np.zeros((24, 24), dtype=bool)
    target[12, 12] = True
    times = passage_times(generator, target)
    assert alone.any() and np.all(np.isinf(times[alone])) and np.all(np.isfinite(times[~alone]))
    assert np.array_equal(np.isinf(passage_times(generator, alone)), ~alone)
    assert np.array_equal(passage_times(generator, ~alone), np.where(alone, np.inf, 0.0))


def test_a_barrier_beyond_floats_is_an_error() -> None:
    _, generator = double_well((513,), 0.001)
    with pytest.raises(ArithmeticError, match="barrier"):
        passage_times(generator, np.arange(513) == 256)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.zeros(64, dtype=bool), r"target must have the grid's shape \(65,\), got \(64,\)"),
        (np.zeros(65), "target must be a boolean array, got float64"),
        ([True] * 65, "target must be a boolean array, got list"),
        (np.zeros(65, dtype=bool), "target must hold some cells and leave some, got 0 of 65"),
        (np.ones(65, dtype=bool), "got 65 of 65"),
    ],
)
def test_wrong_targets(target: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        passage_times(double_well((65,), 0.1)[1], target)
