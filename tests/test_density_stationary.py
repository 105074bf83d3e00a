"""Steady states: Gibbs, Lyapunov, Itô, the door from SGD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import gibbs_problem, wells
from scipy.linalg import solve_continuous_lyapunov

from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.stationary import gibbs_log_masses, stationary_log_masses
from sgdsim.ensemble.start import Gaussian
from sgdsim.problems.noise import GaussianNoise
from sgdsim.problems.noisy_potential import NoisyPotential
from sgdsim.problems.risk import EmpiricalRisk
from sgdsim.processes.sgd import SGD


@pytest.mark.parametrize(
    ("cells", "temperature"), [((200,), 0.2), ((200,), 0.03), ((48, 40), 0.2), ((48, 40), 0.03), ((14, 10, 12), 0.1)]
)
def test_the_null_vector_is_gibbs(cells: tuple[int, ...], temperature: float) -> None:
    """Each cell to 1e-11 of itself, e^{−1000} included, though the wells swap mass at a rate of 1e-15 (T = .03)."""
    fp = gibbs_problem(cells, temperature)
    exact = fp.log_stationary()
    logs = stationary_log_masses(fp.generator)
    assert np.sum(np.exp(exact)) == pytest.approx(1, abs=1e-13)
    assert np.abs(np.exp(logs) - np.exp(exact)).sum() <= 1e-10
    np.testing.assert_allclose(logs, exact, rtol=0, atol=1e-11)


def test_a_declared_gibbs_state_is_minus_the_potential() -> None:
    fp = gibbs_problem((64,), 0.001)
    values = np.asarray(jax.vmap(wells)(jnp.asarray(fp.grid.centres))) / 0.001
    np.testing.assert_allclose(fp.log_stationary(), gibbs_log_masses(values, fp.generator), rtol=1e-13)
    assert np.all(np.isfinite(fp.log_stationary())) and np.min(fp.stationary()) == 0.0


def skewed_quadratic(cells: int) -> tuple[FokkerPlanck, np.ndarray]:
    """SGD's drift −Kx and D of eigenvalue ratio 100 at 30°, T = 1/2: K S + S K = 2 T D."""
    curvature, (c, s) = np.diag([1.0, 3.0]), (np.cos(np.pi / 6), np.sin(np.pi / 6))
    diffusion = 0.5 * np.array([[c, -s], [s, c]]) @ np.diag([1.0, 0.01]) @ np.array([[c, s], [-s, c]])
    covariance = solve_continuous_lyapunov(curvature, 2 * diffusion)
    reach = 5.5 * np.sqrt(np.diag(covariance))
    return FokkerPlanck(lambda x: -curvature @ x, lambda x: diffusion, Grid(-reach, reach, [cells, cells])), covariance


def test_skewed_quadratic_is_lyapunov_and_not_gibbs() -> None:
    """Σ |Δmass| 6.7e-2 at 64², 1.7e-2 at 128²: the narrow direction has 10 cells at 128²."""
    errors = []
    for cells in (64, 128):
        fp, covariance = skewed_quadratic(cells)
        masses = fp.stationary()
        errors.append(np.abs(masses - fp.density_of(Gaussian(np.zeros(2), covariance))).sum())
        x = fp.grid.centres
        measured = np.einsum("xy,xyi,xyj->ij", masses, x, x)
    assert errors[1] < 2e-2 and errors[0] / errors[1] == pytest.approx(4, abs=0.3)
    assert np.max(np.abs(measured - covariance)) < 0.04 * np.max(np.abs(covariance))
    # e^{−f/T'} would have the covariance T' diag(1, 1/3), uncorrelated; this one has a correlation of .84
    assert measured[0, 1] / np.sqrt(measured[0, 0] * measured[1, 1]) > 0.8


def test_the_null_vector_is_where_propagation_ends() -> None:
    fp, _ = skewed_quadratic(48)
    p0 = fp.density_of(Gaussian(np.zeros(2), 0.01 * np.eye(2)))
    answer = fp.propagate(p0, [15.0, 30.0])
    assert np.abs(answer.masses[1] - fp.stationary()).sum() <= 1e-10
    assert answer.mass_defect < 1e-12 and answer.smallest >= 0


def test_cells_that_no_edge_reaches_have_no_mass() -> None:
    """Edges (1, 1), (1, 2), (2, 3) leave two corners of the box alone: they keep what they have, here nothing."""
    fp, _ = skewed_quadratic(48)
    alone = np.asarray(fp.generator.exit_rates) == 0
    assert alone.sum() == 2 and alone[0, -1] and alone[-1, 0]
    assert np.all(np.isneginf(fp.log_stationary()[alone])) and np.all(np.isfinite(fp.log_stationary()[~alone]))


@pytest.mark.parametrize("dim", [1, 2])
def test_state_dependent_diffusion_is_ito(dim: int) -> None:
    """1-D: ρ ∝ A⁻¹ exp(∫ b/A) = (1 + x²)^{−6} for b = −x, A = (1 + x²)/10; Stratonovich would say ^{−5.5}."""
    errors = []
    for cells in (128, 256):
        size = cells if dim == 1 else cells // 4
        fp = FokkerPlanck(
            lambda x: -x, lambda x: jnp.diag(0.1 * (1 + x**2)), Grid([-4.0] * dim, [4.0] * dim, [size] * dim)
        )
        x = fp.grid.axis_centres(0)
        marginal = fp.stationary() if dim == 1 else fp.stationary().sum(axis=1)
        ito, stratonovich = ((1 + x**2) ** -power for power in (6.0, 5.5))
        errors.append(np.abs(marginal - ito / ito.sum()).sum())
        assert np.abs(marginal - stratonovich / stratonovich.sum()).sum() > 0.03
    if dim == 1:
        assert max(errors) < 1e-12  # the drop along an edge is integrated
    else:
        assert errors[1] < 1.6e-2 and errors[0] / errors[1] == pytest.approx(4, abs=0.3)


def test_boundaries_reflect() -> None:
    """No drift: the uniform density, on any box, with a full tensor."""
    tensor = np.array([[1.0, 0.4], [0.4, 0.3]])
    fp = FokkerPlanck(lambda x: 0 * x, lambda x: tensor, Grid([0.0, 0.0], [1.0, 2.0], [9, 14]))
    np.testing.assert_allclose(fp.stationary(), 1 / (9 * 14), rtol=1e-12)


def sgd(variance: float = 1.0, dim: int = 1, covariance: object = None) -> SGD:
    noise = GaussianNoise(variance if covariance is None else covariance)
    return SGD(NoisyPotential(wells, noise, dim=dim), learning_rate=0.1, batch_size=1)


def test_limit_of_sgd_with_isotropic_noise_is_gibbs() -> None:
    fp = FokkerPlanck.limit_of(sgd(4.0), Grid([-2.5], [2.5], [128]))
    x = fp.grid.axis_centres(0)
    exact = np.exp(-((x**2 - 1) ** 2) / 0.2)  # T σ² = .05 · 4
    np.testing.assert_allclose(fp.stationary(), exact / exact.sum(), rtol=1e-11)
    answer = fp.propagate(fp.density_of(Gaussian([-1.0], [[0.04]])), [0.0, 0.1, 2500.0])
    assert np.abs(answer.masses[-1] - fp.stationary()).sum() < 1e-10


def test_limit_of_sgd_with_skewed_noise_has_no_potential() -> None:
    fp = FokkerPlanck.limit_of(
        sgd(dim=2, covariance=np.array([[4.0, 1.0], [1.0, 2.0]])), Grid([-2.5, -3.0], [2.5, 3.0], [24, 24])
    )
    assert fp.potential is None and np.sum(fp.stationary()) == pytest.approx(1)


def test_limit_of_a_full_batch_is_refused() -> None:
    data = jnp.array([[-1.0], [0.5], [2.0]])
    risk = EmpiricalRisk(lambda w, z: jnp.sum((w - z) ** 2) / 2, data, init=jnp.zeros(1))
    full = SGD(risk, learning_rate=0.1, batch_size=3, sampling="without-replacement")
    with pytest.raises(ValueError, match=r"temperature is 0.*gradient flow"):
        FokkerPlanck.limit_of(full, Grid([-1.0], [1.0], [8]))
    noisy = SGD(risk, learning_rate=0.1, batch_size=1)  # D = variance of the data, T = .05, b = mean − x
    fp = FokkerPlanck.limit_of(noisy, Grid([-2.0], [3.0], [128]))
    x = fp.grid.axis_centres(0)
    exact = np.exp(-((x - 0.5) ** 2) / (2 * 0.05 * 1.5))
    np.testing.assert_allclose(fp.stationary(), exact / exact.sum(), atol=1e-12)


def test_limit_of_refuses() -> None:
    with pytest.raises(ValueError, match="as many axes"):
        FokkerPlanck.limit_of(sgd(dim=2), Grid([-1.0], [1.0], [8]))
    with pytest.raises(ValueError, match="diffusion is singular"):
        FokkerPlanck.limit_of(sgd(dim=2, covariance=np.ones((2, 2))), Grid([-1.0] * 2, [1.0] * 2, [8, 8]))
