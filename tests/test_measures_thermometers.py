"""Four thermometers on clouds that SGD itself has brought to their steady state."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import enable_x64

import sgdsim as ss
from sgdsim import theory
from sgdsim.measures import curvature
from sgdsim.measures.fluctuation_dissipation import NotStationaryWarning
from sgdsim.measures.temperature import boltzmann_temperature, configurational_temperature, virial_temperature
from sgdsim.measures.thermometers import Thermometers, thermometers
from sgdsim.problems import networks

NAMES = ("noise", "virial", "configurational", "boltzmann")


def quadratic_sgd(curvatures, noise, **settings):
    problem = ss.NoisyPotential(ss.potentials.Quadratic(np.diag(curvatures)), ss.GaussianNoise(noise))
    return ss.SGD(problem, **settings)


def run(sgd, *, steps, particles=50_000, save_every=None, seed=0):
    """A cloud at the end of a run that starts in the limit's steady state of a quadratic at the origin."""
    hessian = curvature.hessian(sgd.problem, np.zeros(sgd.dim))
    noise = np.asarray(sgd.problem.noise_covariance(jnp.zeros(sgd.dim)))
    start = ss.Gaussian(np.zeros(sgd.dim), theory.ou_stationary_covariance(hessian, noise, 2 * float(sgd.temperature)))
    key = jax.random.key(seed)
    return ss.simulate(sgd, start, particles=particles, steps=steps, save_every=save_every, key=key).particles


@pytest.fixture(scope="module")
def steady():
    """ηk = 0.5 and 0.125, D = 1, and four snapshots, 40 steps (5 relaxation times of the slower variance) apart."""
    sgd = quadratic_sgd([1.0, 0.25], 1.0, learning_rate=0.5, batch_size=1)
    return sgd, run(sgd, steps=160, save_every=40, particles=20_000)[1:]


def assert_reads(found: Thermometers, expected: dict[str, float], sigmas: float = 4) -> None:
    for name, value in expected.items():
        assert getattr(found, name).agrees_with(value, sigmas=sigmas), (name, str(getattr(found, name)), value)


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.01, "batch_size": 4},
        {"learning_rate": 0.002, "batch_size": 1, "momentum": 0.8},
    ],
)
def test_all_agree_with_the_prediction_at_a_small_learning_rate(settings):
    """T = η/(2B(1−μ)): 8 comparisons at 4 standard errors of 0.5 %, the excess being 0.15 to 0.5 %."""
    sgd = quadratic_sgd([1.0, 0.6], 1.5, **settings)
    found = thermometers(sgd, run(sgd, steps=500)[-1], key=jax.random.key(1))
    assert found.temperature == pytest.approx(0.005 / settings["batch_size"])
    assert_reads(found, dict.fromkeys(NAMES, found.temperature))
    assert all(getattr(found, name).standard_error < 0.007 * found.temperature for name in NAMES)


@pytest.mark.parametrize(("noise", "momentum"), [(1.5, 0.0), (1.5, 0.8), ([1.0, 3.0], 0.0)])
def test_each_shows_its_own_excess_at_a_large_learning_rate(noise, momentum):
    """ηk = 0.5 and 0.125: 11 comparisons with `theory.thermometer_readings` at 4 standard errors, none with T."""
    curvatures = np.array([1.0, 0.25])
    sgd = quadratic_sgd(curvatures, noise, learning_rate=0.5, batch_size=1, momentum=momentum)
    found = thermometers(sgd, run(sgd, steps=200)[-1], key=jax.random.key(1))
    truth = theory.thermometer_readings(
        found.temperature, curvatures, np.broadcast_to(noise, 2).astype(float), 0.5, momentum
    )
    names = NAMES if np.ndim(noise) == 0 else NAMES[:3]
    assert_reads(found, {name: getattr(truth, name) for name in names})
    assert all(not getattr(found, name).agrees_with(found.temperature, sigmas=8) for name in names[1:])
    assert (found.boltzmann is None) == (np.ndim(noise) == 1)
    assert (found.stationarity is None) == (momentum > 0)
    if found.stationarity:
        assert found.stationarity.agrees_with(0.0, sigmas=4)  # 2 comparisons


def test_noise_that_depends_on_the_place():
    """D(x) = diag(1 + 10 x₁², 2 + 10 x₂²) + off-diagonal, η = 0.02: 4 comparisons at 4 standard errors.

    The steady variances close: S_i(2ηk_i − η²k_i²) = η²⟨D_i⟩ with ⟨D_i⟩ = D_i(0) + 10 S_i, so that k_iS_i = T⟨D_i⟩e_i.
    """
    curvatures, base, growth, eta = np.array([1.0, 2.0]), np.array([1.0, 2.0]), 10.0, 0.02
    noise = ss.GaussianNoise(lambda x: jnp.diag(base + growth * x**2) + 0.3 * (1 - jnp.eye(2)))
    problem = ss.NoisyPotential(ss.potentials.Quadratic(np.diag(curvatures)), noise)
    sgd = ss.SGD(problem, learning_rate=eta, batch_size=1)
    variances = eta**2 * base / (2 * eta * curvatures - eta**2 * curvatures**2 - eta**2 * growth)
    mean_noise = base + growth * variances
    truth = theory.thermometer_readings(eta / 2, curvatures, mean_noise, eta)
    found = thermometers(sgd, run(sgd, steps=400)[-1], key=jax.random.key(1))
    assert_reads(found, {name: getattr(truth, name) for name in NAMES[:3]})
    assert found.stationarity.agrees_with(0.0, sigmas=4)
    assert found.boltzmann is None
    assert found.virial.value == pytest.approx(eta / 2, rel=0.03)  # the excess is 0.6 to 1.3 %
    frozen = found.virial * float(np.sum(mean_noise) / np.sum(base))  # with D at the minimum in place of ⟨D⟩
    assert not frozen.agrees_with(eta / 2, sigmas=8)


@pytest.mark.slow
def test_logistic_regression_on_real_data():
    """Breast cancer, η = 0.05, B = 8 without replacement: 3 comparisons for each root at 4 standard errors."""
    data = ss.datasets.breast_cancer()
    dense, weighted = (
        ss.EmpiricalRisk(networks.logistic_loss, data, init=np.zeros(2), weight_decay=0.1, root=root)
        for root in ("dense", "weighted")
    )
    sgd, sampled = (
        ss.SGD(risk, learning_rate=0.05, batch_size=8, sampling="without-replacement") for risk in (dense, weighted)
    )
    minimum = curvature.minima(dense, np.zeros((1, 2)))[0]
    hessian, noise = curvature.hessian(dense, minimum), np.asarray(dense.noise_covariance(jnp.asarray(minimum)))
    start = ss.Gaussian(minimum, theory.ou_stationary_covariance(hessian, noise, 2 * float(sgd.temperature)))
    cloud = ss.simulate(sgd, start, particles=4_000, steps=400, key=jax.random.key(0)).particles[-1]
    for chain in (sgd, sampled):
        found = thermometers(chain, cloud, key=jax.random.key(1), centre=minimum)
        assert found.temperature == pytest.approx(561 / 568 * 0.05 / 16)
        assert_reads(found, dict.fromkeys(NAMES[:3], found.temperature))  # the excess is below 0.7 %
        assert found.stationarity.agrees_with(0.0, sigmas=4)
        assert found.virial.standard_error < 0.03 * found.temperature


def test_snapshots_sharpen_a_reading_and_particles_alone_make_its_error(steady):
    sgd, path = steady
    one, four = (thermometers(sgd, x, key=jax.random.key(1)) for x in (path[-1], path))
    truth = theory.thermometer_readings(0.25, np.array([1.0, 0.25]), np.ones(2), 0.5)
    assert_reads(four, {name: getattr(truth, name) for name in NAMES})  # 4 comparisons
    for name in (*NAMES, "stationarity"):
        assert getattr(four, name).standard_error == pytest.approx(getattr(one, name).standard_error / 2, rel=0.1)
    same = thermometers(sgd, np.stack([path[-1]] * 4), key=jax.random.key(1))
    for name in NAMES[1:]:  # the same snapshot again says nothing new
        assert getattr(same, name).value == pytest.approx(getattr(one, name).value)
        assert getattr(same, name).standard_error == pytest.approx(getattr(one, name).standard_error, rel=0.05)


@pytest.mark.slow
def test_standard_errors_are_the_spread_over_fresh_clouds(steady):
    sgd, path = steady
    clouds, keys = path.reshape(100, 800, 2), jax.random.split(jax.random.key(1), 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotStationaryWarning)  # one in a hundred small clouds may look so
        found = [thermometers(sgd, x, key=key) for x, key in zip(clouds, keys, strict=True)]
    for name in (*NAMES, "stationarity"):
        spread = np.std([getattr(e, name).value for e in found], ddof=1)  # known to 7 %
        assert np.mean([getattr(e, name).standard_error for e in found]) == pytest.approx(spread, rel=0.25)


def test_a_cloud_that_still_moves_is_called_so():
    sgd = quadratic_sgd([1.0, 0.25], 1.0, learning_rate=0.1, batch_size=1)
    narrow = run(sgd, steps=2)[-1] / 2
    with pytest.warns(NotStationaryWarning, match="not in its steady state"):
        found = thermometers(sgd, narrow, key=jax.random.key(1))
    assert found.noise.agrees_with(found.temperature, sigmas=4)  # in any state
    assert found.virial.value == pytest.approx(found.temperature / 4, rel=0.1)
    moving = run(sgd, steps=2)[-1] + [0.2, 0.0]  # the right spread about a mean that is not at rest
    with pytest.warns(NotStationaryWarning):
        thermometers(sgd, moving, key=jax.random.key(1))


def test_reshuffled_passes_are_colder_than_one_batch_says():
    centres = np.random.default_rng(5).normal(size=20)
    risk = ss.EmpiricalRisk(lambda x, a: (x[0] - a[0]) ** 2 / 2, (centres,), init=np.zeros(1))
    sgd = ss.SGD(risk, learning_rate=0.1, batch_size=2, sampling="epoch")
    cloud = ss.simulate(sgd, centres[:1] * 0 + centres.mean(), particles=5_000, steps=300, key=jax.random.key(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = thermometers(sgd, cloud.particles[-1], key=jax.random.key(1))
    assert found.noise.agrees_with(found.temperature, sigmas=4)
    assert found.virial.value < 0.2 * found.temperature
    assert found.stationarity is None


def test_without_double_precision(steady):
    sgd, path = steady
    wide = thermometers(sgd, path[-1], key=jax.random.key(1))
    with enable_x64(False):
        sgd = quadratic_sgd([1.0, 0.25], 1.0, learning_rate=0.5, batch_size=1)
        narrow = thermometers(sgd, path[-1].astype(np.float32), key=jax.random.key(1))
    for name in NAMES:
        assert getattr(narrow, name).value == pytest.approx(getattr(wide, name).value, rel=1e-4)


def test_table(steady):
    sgd, path = steady
    text = str(thermometers(sgd, path[-1], key=jax.random.key(1)))
    first = [line.split()[0] for line in text.splitlines()[2:7]]
    assert first == ["predicted", "noise", "virial", "configurational", "Boltzmann"]
    assert "0.25" in text.splitlines()[2]
    assert "fluctuation–dissipation residual" in text
    reading = ss.measures.Estimate(0.3, 0.01)
    text = str(Thermometers(0.25, reading, reading, reading, boltzmann=None, stationarity=None))
    assert "1.20 ± 0.04" in text
    assert "Boltzmann" not in text
    assert "a cloud alone cannot tell" in text


def test_diverged_particles_are_left_out_and_counted(steady):
    sgd, path = steady
    dirty = path.copy()
    dirty[0, -1, 0], dirty[1, -3:-1] = np.nan, np.inf
    found = thermometers(sgd, dirty, key=jax.random.key(1))
    for name in (*NAMES, "stationarity"):
        assert getattr(found, name).left_out == 3
    assert "3 diverged left out" in str(found)
    kept = path[:, :-3]
    loss, forces, ones = kept**2 @ [0.5, 0.125], kept * [1.0, 0.25], np.ones(kept.shape[1])

    def side_by_side(x):
        return np.concatenate(list(x), axis=1)

    for name, expected in (
        ("virial", virial_temperature(side_by_side(kept), side_by_side(forces), 4 * 2 * ones)),
        ("configurational", configurational_temperature(side_by_side(forces), 4 * 1.25 * ones)),
        ("boltzmann", boltzmann_temperature(kept, loss, 1.0)),
    ):
        assert getattr(found, name).value == pytest.approx(expected.value)
        assert getattr(found, name).standard_error == pytest.approx(expected.standard_error)


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument():
    sgd, x = quadratic_sgd([1.0, 0.25], 1.0, learning_rate=0.5, batch_size=1), np.zeros((50, 2))
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="sgd must be an SGD process"):
        thermometers(sgd.problem, x, key=key)
    with pytest.raises(TypeError, match="key must be one typed key"):
        thermometers(sgd, x, key=0)
    with pytest.raises(ValueError, match=r"particles must have shape \(P, 2\) or \(T, P, 2\), got \(50, 3\)"):
        thermometers(sgd, np.zeros((50, 3)), key=key)
    with pytest.raises(ValueError, match=r"centre must be a finite vector of shape \(2,\)"):
        thermometers(sgd, x, key=key, centre=np.zeros(3))
    with pytest.raises(ValueError, match="particles must not coincide"):
        thermometers(sgd, np.repeat(np.eye(2), 25, axis=0), key=key)
    with pytest.raises(ValueError, match="all 50 particles have diverged"):
        thermometers(sgd, np.full((50, 2), np.nan), key=key)
    stable = ss.SGD(
        ss.NoisyPotential(ss.potentials.Quadratic([[1.0]]), ss.problems.noise.AlphaStableNoise(1.5)),
        learning_rate=0.1,
        batch_size=1,
    )
    with pytest.raises(ValueError, match="no covariance"):
        thermometers(stable, np.zeros((50, 1)), key=key)
