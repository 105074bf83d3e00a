"""Densities in time: exact Gaussians, conservation, positivity, other people's exponentials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from equations import ROTATION, double_well, enable_x64, rotated_ou, turned
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.sparse.linalg import expm_multiply

from sgdsim.density import FokkerPlanck, Generator, Grid, Propagation
from sgdsim.density.gaussian import gaussian_masses
from sgdsim.density.uniformization import poisson_weights
from sgdsim.theory import ou_mean_covariance


class Normal:
    """What `density_of` asks of a start."""

    def __init__(self, mean: object, covariance: object) -> None:
        self.mean, self.covariance = np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float)


START = Normal([-1.0, 0.5], 0.04 * np.eye(2))
LEFT = Normal([-1.0], [[0.04]])


def rotated_ou_error(cells: int) -> float:
    """Σ |Δmass| at t = 1 against the exact Gaussian, m = e^{−F}m₀, C = S + e^{−F}(C₀ − S)e^{−Fᵀ}."""
    fp = rotated_ou(cells)
    answer = fp.propagate(fp.density_of(START), [1.0])
    assert answer.mass_defect < 1e-12 and answer.smallest >= 0
    decay, steady = expm(-ROTATION), solve_continuous_lyapunov(ROTATION, 2 * turned((0.5, 0.05)))
    covariance = steady + decay @ (START.covariance - steady) @ decay.T
    return float(np.abs(answer.masses[0] - fp.density_of(Normal(decay @ START.mean, covariance))).sum())


@pytest.mark.slow
def test_rotated_ornstein_uhlenbeck_is_second_order() -> None:
    errors = [rotated_ou_error(cells) for cells in (64, 128, 256, 512)]
    assert errors[1] <= 1.0e-2 and errors[2] <= 2.6e-3
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 4, atol=0.3)


@pytest.mark.slow
def test_three_dimensions_are_second_order() -> None:
    """OU with a tensor of eigenvalues .5/.4/.3 turned in space: the order from 32³ to 64³ cells."""
    axes = np.linalg.qr(np.array([[1.0, 0.3, -0.2], [0.4, 1.0, 0.5], [-0.1, 0.2, 1.0]]))[0]
    tensor, rates = axes @ np.diag([0.5, 0.4, 0.3]) @ axes.T, np.diag([1.0, 1.4, 0.8])
    start = Normal([-0.5, 0.3, 0.2], 0.15 * np.eye(3))
    mean, covariance = ou_mean_covariance(rates, tensor, start.mean, start.covariance, 1.0)
    errors = []
    for cells in (32, 64):
        fp = FokkerPlanck(lambda x: -rates @ x, lambda x: tensor, Grid([-4.0] * 3, [4.0] * 3, [cells] * 3))
        assert len(fp.generator.offsets) <= 6
        answer = fp.propagate(fp.density_of(start), [1.0], grid_error=False)
        assert answer.smallest >= 0 and answer.mass_defect < 1e-12
        errors.append(np.abs(answer.masses[0] - fp.density_of(Normal(mean, covariance))).sum())
    assert np.log2(errors[0] / errors[1]) >= 1.9


def test_double_well_error_at_512_cells() -> None:
    """Against 2,048 cells: the error of the cells' width, Σ |Δmass| < 1.5e-4, four times that at 256 cells."""
    answers = {n: double_well(n) for n in (256, 512, 2048)}
    masses = {n: fp.propagate(fp.density_of(LEFT), [5.0]).masses[0] for n, fp in answers.items()}
    errors = {n: np.abs(masses[n] - masses[2048].reshape(n, -1).sum(axis=1)).sum() for n in (256, 512)}
    assert errors[512] <= 1.5e-4
    assert errors[256] / errors[512] == pytest.approx(4, abs=0.4)


@pytest.mark.parametrize("which", ["double well", "rotation"])
def test_uniformization_is_the_matrix_exponential(which: str) -> None:
    fp, start = (double_well(64), LEFT) if which == "double well" else (rotated_ou(32), START)
    p0 = fp.density_of(start)
    answer = fp.propagate(p0, [0.3, 2.0])
    for time, masses in zip(answer.times, answer.masses, strict=True):
        exact = expm_multiply(time * fp.generator.as_sparse(), p0.reshape(-1)).reshape(p0.shape)
        assert np.abs(masses - exact).sum() <= 1e-10


def test_mass_and_sign_over_many_blocks() -> None:
    fp = double_well(512)
    answer = fp.propagate(fp.density_of(LEFT), [0.0, 1e-9, 5.0], method="uniformization")
    assert answer.matvecs > 30_000 and answer.exit_rate > fp.generator.max_exit_rate
    assert answer.mass_defect < 1e-12 and answer.smallest >= 0
    np.testing.assert_array_equal(answer.masses[0], fp.density_of(LEFT))


def test_the_gibbs_state_is_reached_and_kept() -> None:
    def potential(x: jax.Array) -> jax.Array:
        return (x[0] ** 4 / 4 + x[0] * x[1] / 2 + x[1] ** 2) / 0.3

    fp = FokkerPlanck(
        lambda x: -0.3 * jax.grad(potential)(x),
        lambda x: 0.3 * jnp.eye(2),
        Grid([-3.0, -3.0], [3.0, 3.0], [32, 32]),
        potential,
    )
    gibbs = np.exp(-np.asarray(jax.vmap(jax.vmap(potential))(jnp.asarray(fp.grid.centres))))
    gibbs /= gibbs.sum()
    answer = fp.propagate(fp.density_of(Normal([1.0, 1.0], 0.1 * np.eye(2))), [120.0])
    assert np.abs(answer.masses[0] - gibbs).sum() <= 1e-10
    kept = fp.propagate(gibbs, [10.0])
    assert np.abs(kept.masses[0] - gibbs).sum() <= 1e-12


def test_one_compile_for_any_times(monkeypatch: pytest.MonkeyPatch) -> None:
    traced, stencil = [], Generator.stencil
    monkeypatch.setattr(Generator, "stencil", lambda *args: traced.append(1) or stencil(*args))
    fp = double_well(41)  # a shape that no other test has compiled for
    for times in ([0.1, 0.5, 3.0, 400.0], np.linspace(0.0, 1.0, 7)):
        fp.propagate(fp.density_of(LEFT), times, method="uniformization", grid_error=False)
    assert len(traced) == 1


@pytest.mark.parametrize("mean", [1e-9, 0.3, 3.0, 50.5, 400.0, 1e4])
def test_poisson_weights(mean: float) -> None:
    weights, first = poisson_weights(mean)
    assert len(weights) <= 2_048 and np.sum(weights) == pytest.approx(1, abs=3e-16)
    events = np.arange(first, first + len(weights))
    # scipy's own probabilities lose 1e-16 · mean · log(mean)
    np.testing.assert_allclose(weights, scipy.stats.poisson.pmf(events, mean), rtol=1e-13 + 1e-14 * mean, atol=0)
    assert scipy.stats.poisson.cdf(first - 1, mean) + scipy.stats.poisson.sf(events[-1], mean) < 1e-16


def test_float32() -> None:
    exact = double_well(512).propagate(double_well(512).density_of(LEFT), [5.0])
    with enable_x64(False):
        for fp, start, time in ((double_well(512), LEFT, 5.0), (rotated_ou(64), START, 20.0)):
            assert fp.generator.rates_forward.dtype == jnp.float32
            answer = fp.propagate(fp.density_of(start), [time / 2, time])
            assert answer.masses.dtype == np.float32
            assert answer.mass_defect < 5e-6 and answer.smallest >= 0
            if start is LEFT:
                assert np.abs(answer.masses[1] - exact.masses[0]).sum() < 1e-6


def test_coarsening_gives_the_error() -> None:
    fine = double_well(512)
    coarse = fine.coarsen(2)
    assert coarse.grid.cells == (256,) and coarse.potential is fine.potential
    answers = [fp.propagate(fp.density_of(LEFT), [5.0]).masses[0] for fp in (fine, coarse)]
    difference = np.abs(answers[0].reshape(256, 2).sum(axis=1) - answers[1]).sum()
    assert 3e-4 < difference < 6e-4  # three times the error of the fine one


def test_boundary_mass() -> None:
    fp = rotated_ou(32)
    uniform = np.full((32, 32), 1 / 1024)
    assert fp.boundary_mass(uniform) == pytest.approx(1 - 30**2 / 1024)
    assert fp.boundary_mass(fp.density_of(START)) < 1e-20


@pytest.mark.parametrize(
    "covariance",
    [
        [[0.3, 0.0], [0.0, 0.1]],
        [[0.1, 0.09], [0.09, 0.1]],
        [[0.04, 0.0799], [0.0799, 0.16]],  # correlation .99875
        [[1e-4, 5e-5], [5e-5, 1e-4]],  # far narrower than a cell
        [[0.1, 0.05, 0.02], [0.05, 0.2, -0.1], [0.02, -0.1, 0.15]],
    ],
)
def test_gaussian_masses(covariance: list) -> None:
    """The axes in another order are another quadrature; finer cells must add up to coarser ones."""
    tensor, dim = np.array(covariance), len(covariance)
    mean, cells = np.array([0.13, -0.2, 0.05])[:dim], [12, 18, 10][:dim]
    grid = Grid([-3.0] * dim, [3.0] * dim, cells)
    masses = gaussian_masses(grid, mean, tensor)
    assert masses.shape == grid.cells and np.all(masses >= 0) and abs(masses.sum() - 1) < 1e-6
    turned = gaussian_masses(Grid(grid.lower, grid.upper, cells[::-1]), mean[::-1], tensor[::-1, ::-1])
    assert np.abs(turned.transpose() - masses).sum() < 1e-13
    fine = gaussian_masses(Grid(grid.lower, grid.upper, [3 * n for n in cells]), mean, tensor)
    for axis, n in enumerate(cells):
        fine = fine.reshape(*fine.shape[:axis], n, 3, *fine.shape[axis + 1 :]).sum(axis=axis + 1)
    assert np.abs(fine - masses).sum() < 1e-13


def test_gaussian_tails_do_not_cancel() -> None:
    masses = gaussian_masses(Grid([-30.0], [30.0], [60]), np.zeros(1), np.eye(1))
    np.testing.assert_allclose(masses, masses[::-1], rtol=1e-14)
    assert masses[-1] > 0
    np.testing.assert_allclose(masses[40], scipy.stats.norm.sf(10) - scipy.stats.norm.sf(11), rtol=1e-13)


def test_progress_and_repr(capsys: pytest.CaptureFixture) -> None:
    fp = double_well(32)
    answer = fp.propagate(fp.density_of(LEFT), [0.1, 0.2], progress=True)
    assert isinstance(answer, Propagation) and answer.method == "uniformization"
    assert "2/2" in capsys.readouterr().err
    assert len(repr(answer)) < 200 and "mass defect" in repr(answer) and "FokkerPlanck" in repr(fp)


def test_bad_starts_and_times() -> None:
    fp = double_well(32)
    p0 = fp.density_of(LEFT)
    with pytest.raises(ValueError, match="method must be one of auto, uniformization"):
        fp.propagate(p0, [1.0], method="euler")
    for times in ([1.0, 1.0], [2.0, 1.0], [-1.0], [np.nan], [np.inf], [], [[1.0]]):
        with pytest.raises(ValueError, match="times must"):
            fp.propagate(p0, times)
    for bad in (2 * p0, p0 / fp.grid.cell_volume, p0 - 0.1, np.full(32, np.nan), p0[:-1]):
        with pytest.raises(ValueError, match="p0 must"):
            fp.propagate(bad, [1.0])
    with pytest.raises(ValueError, match=r"start has 5\.00e-01 of its mass outside"):
        fp.density_of(Normal([2.5], [[0.04]]))
    with pytest.raises(ValueError, match="positive definite"):
        fp.density_of(Normal([0.0], [[0.0]]))
    with pytest.raises(ValueError, match="start must have a mean"):
        fp.density_of(START)
    with pytest.raises(ValueError, match="finite"):
        fp.density_of(Normal([np.nan], [[1.0]]))
