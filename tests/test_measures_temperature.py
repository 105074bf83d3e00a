"""The configurational and Boltzmann thermometers on clouds whose law is known, and Tr(D∇²f)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import theory
from sgdsim.measures.curvature import noise_curvature
from sgdsim.measures.neighbours import log_density
from sgdsim.measures.temperature import boltzmann_temperature, configurational_temperature
from sgdsim.problems import networks

ETA, CURVATURES, NOISE = 0.5, np.array([1.0, 0.25]), np.array([1.0, 3.0])


def steady_state(rng: np.random.Generator, n: int, noise: np.ndarray) -> np.ndarray:
    """SGD's exact steady state on ½Σk x² with Gaussian noise, B = 1."""
    return rng.normal(size=(n, 2)) * np.sqrt(ETA * noise / (CURVATURES * (2 - ETA * CURVATURES)))


def quadratic_loss(x: np.ndarray) -> np.ndarray:
    return x**2 @ CURVATURES / 2


def read_configurational(rng: np.random.Generator, n: int):
    x = steady_state(rng, n, NOISE)
    return configurational_temperature(CURVATURES * x, np.full(n, NOISE @ CURVATURES))


def read_boltzmann(rng: np.random.Generator, n: int):
    x = steady_state(rng, n, np.ones(2))
    return boltzmann_temperature(x, quadratic_loss(x), 1.0)


def read_gibbs(dim: int) -> Callable:
    def read(rng: np.random.Generator, n: int):
        x = rng.normal(size=(n, dim))
        return boltzmann_temperature(x, np.sum(x**2, axis=1) / 2, 1.0)

    return read


def double_well(rng: np.random.Generator, n: int, dim: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Gibbs particles of f = (x₁² − 1)²/4 + ½Σ_{i>1} x_i², by the inverse distribution function, and their losses."""
    axis = np.linspace(-3, 3, 100_001)
    weights = np.cumsum(np.exp(-((axis**2 - 1) ** 2) / 4 / temperature))
    x = rng.normal(size=(n, dim)) * np.sqrt(temperature)
    x[:, 0] = np.interp(rng.random(n) * weights[-1], weights, axis)
    return x, (x[:, 0] ** 2 - 1) ** 2 / 4 + np.sum(x[:, 1:] ** 2, axis=1) / 2


def test_each_has_its_known_excess() -> None:
    rng = np.random.default_rng(0)
    truth = theory.thermometer_readings(ETA / 2, CURVATURES, NOISE, ETA).configurational
    isotropic = theory.thermometer_readings(ETA / 2, CURVATURES, np.ones(2), ETA).boltzmann
    for found, expected in ((read_configurational(rng, 50_000), truth), (read_boltzmann(rng, 50_000), isotropic)):
        assert found.agrees_with(expected, sigmas=4)  # 2 comparisons
        assert not found.agrees_with(ETA / 2, sigmas=10)
        assert found.standard_error < 0.01 * expected


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_boltzmann_reads_gibbs_states(dim: int) -> None:
    rng = np.random.default_rng(1)
    assert read_gibbs(dim)(rng, 20_000).agrees_with(1.0, sigmas=4)  # 6 comparisons
    x, f = double_well(rng, 20_000, dim, 0.05)
    assert boltzmann_temperature(x, f, 0.5).agrees_with(0.1, sigmas=4)


def test_the_ball_average_takes_the_bias_away() -> None:
    """In 3-D the plain slope is 4 spreads too flat at n = 5,000; of what is left a spread may be, by the docstring."""
    rng = np.random.default_rng(2)
    clouds = [rng.normal(size=(5_000, 3)) for _ in range(40)]
    losses = [np.sum(x**2, axis=1) / 2 for x in clouds]
    found = np.array([boltzmann_temperature(x, f, 1.0).value for x, f in zip(clouds, losses, strict=True)])
    plain = np.array([1 / np.polyfit(f, -log_density(x), 1)[0] for x, f in zip(clouds, losses, strict=True)])
    assert abs(found.mean() - 1) < found.std()
    assert plain.mean() - 1 > 3 * found.std()


@pytest.mark.parametrize("read", [read_configurational, read_boltzmann, read_gibbs(1), read_gibbs(2), read_gibbs(3)])
@pytest.mark.slow
def test_standard_error_is_the_spread_over_fresh_clouds(read: Callable) -> None:
    rng = np.random.default_rng(3)
    found = [read(rng, 2000) for _ in range(300)]
    spread = np.std([e.value for e in found], ddof=1)  # known to 4 %
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.15)


def test_units() -> None:
    x = steady_state(np.random.default_rng(4), 2000, np.ones(2))
    f = quadratic_loss(x)
    base = boltzmann_temperature(x, f, 1.0)
    for other, factor in (
        (boltzmann_temperature(x, 7 * f - 3, 1.0), 7),
        (boltzmann_temperature(x, f, 4.0), 0.25),
        (boltzmann_temperature(10 * x + 1, f, 1.0), 1),
        (boltzmann_temperature(x, -f, 1.0), -1),
    ):
        assert other.value == pytest.approx(factor * base.value, rel=1e-6)
        assert other.standard_error == pytest.approx(abs(factor) * base.standard_error, rel=1e-6)


def test_snapshots_share_their_particles() -> None:
    x = np.random.default_rng(5).normal(size=(4, 5000, 1))
    f = x[..., 0] ** 2 / 2
    four = boltzmann_temperature(x, f, 1.0)
    one, *others = (boltzmann_temperature(y, g, 1.0) for y, g in zip(x, f, strict=True))
    assert four.agrees_with(1.0, sigmas=4)
    alone = np.mean([e.standard_error for e in (one, *others)])
    assert four.standard_error == pytest.approx(alone / 2, rel=0.1)  # independent of each other
    same = boltzmann_temperature(np.stack([x[0], x[0]]), np.stack([f[0], f[0]]), 1.0)
    assert same.value == pytest.approx(one.value)
    assert same.standard_error == pytest.approx(one.standard_error, rel=0.1)  # nothing new in the second


def test_noise_curvature_by_hand() -> None:
    hessian = np.array([[2.0, 0.5], [0.5, 0.4]])
    noise = ss.GaussianNoise(lambda y: jnp.array([[1.0 + y[0] ** 2, 0.3], [0.3, 2.0]]))
    problem = ss.NoisyPotential(ss.potentials.Quadratic(hessian), noise)
    x = np.random.default_rng(6).normal(size=(3, 40, 2))
    expected = 2 * (1 + x[..., 0] ** 2) + 2 * 0.3 * 0.5 + 0.4 * 2
    np.testing.assert_allclose(noise_curvature(problem, x), expected)
    assert noise_curvature(problem, x[0, 0]) == pytest.approx(expected[0, 0])
    assert np.isnan(noise_curvature(problem, np.array([np.nan, 0.0])))


@pytest.mark.slow
def test_noise_curvature_by_sampling_is_unbiased() -> None:
    rng = np.random.default_rng(7)
    data = (rng.normal(size=(50, 2)), np.sign(rng.normal(size=50)))
    dense, weighted = (
        ss.EmpiricalRisk(networks.logistic_loss, data, init=np.zeros(2), weight_decay=0.1, root=root)
        for root in ("dense", "weighted")
    )
    x = np.array([0.4, -0.2])
    exact = float(noise_curvature(dense, x))
    assert exact == pytest.approx(
        float(jnp.trace(dense.noise_covariance(jnp.asarray(x)) @ jax.hessian(dense.loss)(jnp.asarray(x))))
    )
    samples = noise_curvature(weighted, np.broadcast_to(x, (4_000, 2)), key=jax.random.key(0))
    assert abs(samples.mean() - exact) < 4 * samples.std() / np.sqrt(4_000)
    with pytest.raises(ValueError, match="key must be given where the noise has no dense root"):
        noise_curvature(weighted, x)


def test_diverged_particles_are_left_out_and_counted() -> None:
    x = steady_state(np.random.default_rng(8), 500, np.ones(2))
    f, ones = quadratic_loss(x), np.ones(500)
    bad_x, bad_f = np.vstack([x, [[np.nan, 0.0]], [[0.0, 0.0]]]), np.append(f, [0.0, np.inf])
    for clean, dirty in (
        (configurational_temperature(x, ones), configurational_temperature(bad_x, np.append(ones, [1.0, np.nan]))),
        (boltzmann_temperature(x, f, 1.0), boltzmann_temperature(jnp.asarray(bad_x), jnp.asarray(bad_f), 1.0)),
        (
            boltzmann_temperature(np.stack([x, x]), np.stack([f, f]), 1.0),
            boltzmann_temperature(np.stack([bad_x, bad_x]), np.stack([bad_f, bad_f]), 1.0),
        ),
    ):
        assert dirty.left_out == 2
        assert (clean.value, clean.standard_error) == (dirty.value, dirty.standard_error)


def test_float32_is_read_as_it_is() -> None:
    x = steady_state(np.random.default_rng(9), 20_000, np.ones(2)).astype(np.float32)
    f = quadratic_loss(x).astype(np.float32)
    wide = boltzmann_temperature(x.astype(float), f.astype(float), 1.0)
    assert boltzmann_temperature(jnp.asarray(x), jnp.asarray(f), 1.0).value == pytest.approx(wide.value, rel=1e-9)


def test_errors_name_the_argument() -> None:
    x = np.random.default_rng(10).normal(size=(50, 2))
    f = quadratic_loss(x)
    with pytest.raises(ValueError, match="noise_curvature is zero"):
        configurational_temperature(x, np.zeros(50))
    with pytest.raises(ValueError, match="variance must be positive"):
        boltzmann_temperature(x, f, 0.0)
    with pytest.raises(ValueError, match="neighbours must be at least 4"):
        boltzmann_temperature(x, f, 1.0, neighbours=3)
    with pytest.raises(ValueError, match="number more than neighbours = 6"):
        boltzmann_temperature(x[:6], f[:6], 1.0)
    with pytest.raises(ValueError, match="particles must not coincide"):
        boltzmann_temperature(np.zeros((50, 2)), f, 1.0)
    with pytest.raises(ValueError, match="loss_values must differ"):
        boltzmann_temperature(x, np.ones(50), 1.0)
