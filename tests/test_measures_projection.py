"""Clouds in five to eight dimensions seen in a plane, against laws whose marginals are known exactly.

Each cloud is drawn from an exact law and makes one Euler step, whose drift and diffusion are exact for every Δt.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import sgdsim as ss
from sgdsim.measures import Projection, leading_plane, project, slice_plane

DT = 0.02
FP_CELLS = 48


def one_step(b: np.ndarray, a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Increments of dX = b dt + √(2A) dW over DT where the drift is b (P, d), A constant."""
    return b * DT + np.sqrt(2 * DT) * rng.normal(size=b.shape) @ np.linalg.cholesky(a).T


def usual_gap(y: np.ndarray, a: np.ndarray, degree: int) -> float:
    """The L1 distance, root mean square, by which the noise of a fitted drift moves a steady state.

    Coefficients are drawn with the covariance 2A/Δt (ΦᵀΦ)⁻¹ of least squares; δ log ρ = ∫A⁻¹δb is integrated along the
    first axis, then along the second, for a diagonal A; to first order ‖δρ‖₁ = ⟨|δ log ρ − ⟨δ log ρ⟩|⟩.
    """
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    scale = y.std(axis=0)
    z = (y - y.mean(axis=0)) / scale
    design = np.stack([z[:, 0] ** i * z[:, 1] ** j for i, j in powers], axis=1)
    root = np.linalg.cholesky(np.linalg.inv(design.T @ design))
    z = z[:2_000]
    first = [z[:, 0] ** (i + 1) / (i + 1) * (j == 0) for i, j in powers]
    second = [z[:, 0] ** i * z[:, 1] ** (j + 1) / (j + 1) for i, j in powers]
    noise = np.random.default_rng(0).normal(size=(2, len(powers), 200))
    moved = np.zeros((len(z), 200))
    for axis, along in enumerate((first, second)):
        moved += scale[axis] * np.sqrt(2 / DT / a[axis, axis]) * np.stack(along, axis=1) @ root @ noise[axis]
    return float(np.sqrt(np.mean(np.mean(np.abs(moved - moved.mean(axis=0)), axis=0) ** 2)))


def slope_errors(p: Projection, a: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The fitted drift's Jacobian at the cloud's middle, and its standard errors √(2A_ii/(nΔt C_jj)), of degree 1."""
    assert p.degrees == (1, 0)
    jacobian = jax.jacfwd(p.fokker_planck.drift)(jnp.asarray(y.mean(axis=0)))
    variances = 1 / np.diag(np.linalg.inv(np.cov(y.T)))  # of one coordinate given the other
    return np.asarray(jacobian), np.sqrt(2 * np.diag(a)[:, None] / (len(y) * DT * variances[None, :]))


def decoupled(seed: int) -> tuple[Projection, np.ndarray, np.ndarray, np.ndarray]:
    """A 6-D Ornstein–Uhlenbeck process whose coordinates x₂ and x₅ hear of no other: p, K, A and y."""
    rng, n = np.random.default_rng(seed), 200_000
    k, a = np.diag([2.0, 1.0, 0.7, 1.5, 0.8, 1.2]), 0.2 * np.eye(6)
    k[1, 4], k[4, 1] = 0.6, -0.5
    k[0, 1], k[2, 4], k[3, 0] = 0.9, -0.8, 0.5
    a[1, 4] = a[4, 1] = 0.08
    x = rng.normal(size=(n, 6)) * 0.6
    p = project(x, one_step(-x @ k.T, a, rng), DT, plane=slice_plane(6, (1, 4)), cells=FP_CELLS, fewest=30)
    pair = np.ix_([1, 4], [1, 4])
    return p, k[pair], a[pair], x[:, [1, 4]]


def test_a_slice_that_decouples_is_exact() -> None:
    p, k, a, y = decoupled(0)
    assert p.names == ("x₂", "x₅")
    np.testing.assert_array_equal(p.centre, 0)
    np.testing.assert_allclose(p.coordinates(np.arange(6.0)[None]), [[1, 4]])
    slope, error = slope_errors(p, a, y)
    assert np.all(np.abs(slope + k) < 4 * error)  # 4 comparisons
    found = np.asarray(p.fokker_planck.diffusion(jnp.zeros(2)))
    assert np.all(np.abs(found - a) < 4 * np.sqrt((np.outer(np.diag(a), np.diag(a)) + a**2) / len(y)))
    seen = p.binned.counts >= 30
    z = ((p.binned.drift + p.grid.centres @ k.T) / p.binned.drift_error)[seen]
    assert 0.9 < np.std(z) < 1.1  # over a thousand of them
    assert np.isnan(p.binned.drift[~seen]).all()
    assert p.misfit == pytest.approx(1, abs=4 * np.sqrt(1 / seen.sum()))
    assert 0.8 < p.covered < 1

    # From a start of its own to t = 1, against the exact Gaussian.
    start, t = ss.Gaussian([0.6, -0.3], [[0.15, 0.0], [0.0, 0.15]]), 1.0
    flow, steady = scipy.linalg.expm(-k * t), scipy.linalg.solve_continuous_lyapunov(k, 2 * a)
    exact = ss.Gaussian(flow @ start.mean, steady + flow @ (np.asarray(start.covariance) - steady) @ flow.T)
    answer = p.fokker_planck.propagate(p.fokker_planck.density_of(start), [t])
    gap = np.abs(answer.masses[0] - p.fokker_planck.density_of(exact)).sum()
    assert gap < 3 * usual_gap(y, a, degree=1) + answer.grid_error[0]


def coupled(seed: int) -> tuple[Projection, np.ndarray, np.ndarray, np.ndarray]:
    """A 5-D Ornstein–Uhlenbeck process in its steady state, all coordinates coupled: p, b̄'s slope, Ā and y's law."""
    rng, n = np.random.default_rng(seed), 200_000
    k = np.diag([1.0, 1.3, 0.8, 1.1, 1.6]) + 0.5 * np.random.default_rng(99).normal(size=(5, 5)) * (1 - np.eye(5))
    a = np.diag([0.3, 0.1, 0.2, 0.15, 0.25])
    covariance = scipy.linalg.solve_continuous_lyapunov(k, 2 * a)
    assert np.linalg.eigvals(k).real.min() > 0.2
    x = rng.normal(size=(n, 5)) @ np.linalg.cholesky(covariance).T
    plane = slice_plane(5, (0, 3))
    p = project(x, one_step(-x @ k.T, a, rng), DT, plane=plane, cells=FP_CELLS)
    inner = plane.T @ covariance @ plane
    slope = -plane.T @ k @ covariance @ plane @ np.linalg.inv(inner)
    hidden = plane.T @ k @ covariance @ k.T @ plane - slope @ inner @ slope.T  # Cov(b | y) adds Δt/2 of itself to A
    return p, slope, plane.T @ a @ plane + DT / 2 * hidden, inner


def test_a_coupled_steady_state_keeps_its_marginal() -> None:
    p, slope, a, covariance = coupled(0)
    y = np.random.default_rng(1).normal(size=(200_000, 2)) @ np.linalg.cholesky(covariance).T
    found, error = slope_errors(p, a, y)
    assert np.all(np.abs(found - slope) < 4 * error)  # 4 comparisons
    exact = p.fokker_planck.density_of(ss.Gaussian(np.zeros(2), covariance))
    gap = np.abs(p.fokker_planck.stationary() - exact).sum()
    assert gap < 3 * usual_gap(y, a, degree=1) + p.fokker_planck.stationary_error() + DT  # Δt Cov(b | y) / 2A


TEMPERATURE = 0.25
STIFFNESS = np.array([0.0, 0.7, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0])


def double_well(seed: int) -> tuple[Projection, np.ndarray, np.ndarray]:
    """f = (u₁² − 1)²/4 + ½ Σ kᵢuᵢ², x = Ru in 8-D, at rest: the projection on the leading plane, R's first two, y."""
    rng, n = np.random.default_rng(seed), 200_000
    s = np.linspace(-3, 3, 20_001)
    cumulative = np.cumsum(np.exp(-((s**2 - 1) ** 2) / 4 / TEMPERATURE))
    u = rng.normal(size=(n, 8)) * np.sqrt(TEMPERATURE / np.maximum(STIFFNESS, 1e-9))
    u[:, 0] = np.interp(rng.random(n), cumulative / cumulative[-1], s)
    rotation = np.linalg.qr(np.random.default_rng(98).normal(size=(8, 8)))[0]
    gradient = STIFFNESS * u
    gradient[:, 0] = u[:, 0] ** 3 - u[:, 0]
    du = one_step(-gradient, TEMPERATURE * np.eye(8), rng)
    x, dx = u @ rotation.T, du @ rotation.T
    p = project(x, dx, DT, plane=leading_plane(x), cells=FP_CELLS)
    return p, rotation[:, :2], p.coordinates(x)


def test_a_hidden_double_well_is_found() -> None:
    p, directions, y = double_well(0)
    overlaps = np.sum(p.plane * directions, axis=0)
    assert np.all(np.abs(overlaps) > 0.999)
    assert np.all(p.plane[np.argmax(np.abs(p.plane), axis=0), [0, 1]] > 0)
    assert p.names[0].startswith("leading direction (") and p.names[1].endswith(" % of variance)")
    assert p.degrees[0] >= 3
    points = p.grid.centres + p.centre @ p.plane
    exact = np.exp(-((points[..., 0] ** 2 - 1) ** 2 / 4 + STIFFNESS[1] * points[..., 1] ** 2 / 2) / TEMPERATURE)
    exact, steady = exact / exact.sum(), p.fokker_planck.stationary()
    gap = np.abs(steady - exact).sum()
    assert gap < 3 * usual_gap(y, TEMPERATURE * np.eye(2), p.degrees[0]) + p.fokker_planck.stationary_error()
    along = steady.sum(axis=1)
    ridge = np.argmin(np.abs(points[:, 0, 0]))
    assert along[:ridge].max() > 1.5 * along[ridge] < along[ridge:].max()  # exactly e = 2.7


def small(seed: int = 0, n: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) * [1.0, 0.3, 2.0, 0.5]
    return x, one_step(-x, 0.1 * np.eye(4), rng)


def test_it_says_that_it_is_an_approximation_and_counts_everyone() -> None:
    x, dx = small()
    x[:3], dx[5] = np.nan, np.inf
    p = project(x, dx, DT, plane=slice_plane(4, (2, 0)), cells=(16, 24))
    assert "approximation" in repr(p) and "not Markov" in repr(p)
    assert "APPROXIMATION" in str(Projection.__doc__)
    assert p.names == ("x₃", "x₁")
    assert p.binned.left_out == 4
    assert p.grid.cells == (16, 24)
    assert p.binned.counts.sum() + p.binned.outside == len(x) - 4
    assert np.isnan(p.coordinates(x)[:3]).all() and not np.isnan(p.coordinates(x)[3:]).any()
    masses = p.masses_of(x)
    assert masses.shape == (16, 24) and masses.sum() == pytest.approx(1, abs=1e-12)
    far = np.concatenate([x, np.full((1_000, 4), 50.0)])
    assert p.outside(far) == p.outside(x) + 1_000
    with pytest.warns(UserWarning, match="outside the box"):
        np.testing.assert_allclose(p.masses_of(far), masses)
    with pytest.raises(ValueError, match=r"cloud .* in the box"):
        p.masses_of(far[-10:])
    with pytest.raises(ValueError, match=r"cloud must have shape \(P, 4\)"):
        p.coordinates(np.zeros((3, 5)))


def test_a_diffusion_over_decades_stays_positive_and_the_corners_empty() -> None:
    rng, n = np.random.default_rng(5), 20_000
    x = rng.normal(size=(n, 4))
    a = 0.2 * np.exp(x[:, 0])[:, None]  # from .004 to 10
    dx = -x * DT + np.sqrt(2 * a * DT) * rng.normal(size=x.shape)
    p = project(x, dx, DT, plane=slice_plane(4, (0, 1)), cells=24)
    assert p.degrees[1] >= 1
    tensor = jax.vmap(p.fokker_planck.diffusion)(jnp.asarray(p.grid.centres.reshape(-1, 2)))
    assert np.linalg.eigvalsh(np.asarray(tensor)).min() > 0
    middle = np.array([p.fokker_planck.diffusion(jnp.array([s, 0.0]))[0, 0] for s in (-1.0, 0.0, 1.0)])
    np.testing.assert_allclose(middle, 0.2 * np.exp([-1.0, 0, 1.0]), rtol=0.15)  # √(2/n) over some 500 particles
    steady = p.fokker_planck.stationary()
    assert steady[p.grid.boundary].sum() < 0.01


def test_planes() -> None:
    np.testing.assert_array_equal(slice_plane(3, (2, 0)), [[0, 1], [0, 0], [1, 0]])
    x, dx = small()
    plane = leading_plane(jnp.asarray(x))
    assert plane.shape == (4, 2)
    np.testing.assert_allclose(plane.T @ plane, np.eye(2), atol=1e-12)
    wide = leading_plane(np.concatenate([x[:3], [[np.nan] * 4]]))  # fewer particles than dimensions
    reference = np.linalg.svd(x[:3] - x[:3].mean(axis=0))[2][:2].T
    np.testing.assert_allclose(np.abs(wide.T @ reference), np.eye(2), atol=1e-9)
    turned = scipy.linalg.expm(np.array([[0, 0.5], [-0.5, 0]]))
    p = project(x, dx, DT, plane=plane @ turned, cells=16)
    assert p.names[0].startswith("direction 1 (")
    assert project(x, dx, DT, plane=plane, cells=16, names=("a", "b"), centre=np.ones(4)).names == ("a", "b")


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x, dx: slice_plane(4, (1, 1)), "axes must be two different"),
        (lambda x, dx: slice_plane(4, (0, 4)), "axes must be two different"),
        (lambda x, dx: leading_plane(x[:2]), "three finite particles"),
        (lambda x, dx: leading_plane(np.outer(x[:, 0], np.ones(4))), "span a plane"),
        (lambda x, dx: project(x, dx, DT, plane=np.ones((4, 2))), "orthonormal"),
        (lambda x, dx: project(x, dx, DT, plane=slice_plane(5, (0, 1))), r"plane must have shape \(4, 2\)"),
        (lambda x, dx: project(x, dx[:, :3], DT, plane=slice_plane(4, (0, 1))), "one shape"),
        (lambda x, dx: project(x, dx, 0.0, plane=slice_plane(4, (0, 1))), "dt must be positive"),
        (lambda x, dx: project(x[:50], dx[:50], DT, plane=slice_plane(4, (0, 1))), "fewest = 10"),
        (lambda x, dx: project(x * np.nan, dx, DT, plane=slice_plane(4, (0, 1))), "diverged"),
        (lambda x, dx: project(x, dx, DT, plane=slice_plane(4, (0, 1)), centre=np.ones(3)), "centre must be 4"),
        (lambda x, dx: project(x, dx, DT, plane=slice_plane(4, (0, 1)), degrees=(-1, 0)), "degrees"),
        (
            lambda x, dx: project(x, dx * [1, 0, 1, 1], DT, plane=slice_plane(4, (0, 1)), cells=16),
            "dx must spread in both",
        ),
        (
            lambda x, dx: project(x, dx, DT, plane=slice_plane(4, (0, 1)), grid=ss.Grid([-1.0], [1.0], [8])),
            "grid must have two axes",
        ),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument(call: Callable, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call(*small())
