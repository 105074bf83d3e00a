"""Loops where they are known: a quadratic with correlated noise turns, one whose noise commutes does not."""

import json
import warnings

import jax
import numpy as np
import pytest

from sgdsim import theory
from sgdsim.measures import NotStationaryWarning
from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential, datasets, networks, potentials
from sgdsim.processes import SGD
from sgdsim.studies.loops import OUT_OF_EQUILIBRIUM_FILES
from sgdsim.studies.out_of_equilibrium import out_of_equilibrium

pytestmark = pytest.mark.slow  # whole studies: not run with the oldest and newest versions

KEY = jax.random.key(0)
K = np.diag([1.0, 0.2])
TURNING, COMMUTING = np.array([[1.0, 0.8], [0.8, 1.0]]), np.diag([2.0, 0.3])
SETTINGS = {"settle": 400, "window": 600, "replicas": 200}


def quadratic(noise, **options):
    problem = NoisyPotential(potentials.Quadratic(K), GaussianNoise(noise))
    return SGD(problem, **({"learning_rate": 0.1, "batch_size": 1} | options))


@pytest.fixture(scope="module")
def turning():
    return out_of_equilibrium(quadratic(TURNING), [0.0, 0.0], key=KEY, **SETTINGS)


def test_correlated_noise_turns_at_the_rate_that_theory_gives(turning):
    """⟨x ∧ Δx⟩/η = KS − SK with the chain's own S, .0542; the limit's 2Q = 2 D₁₂ T (k₁−k₂)/(k₁+k₂) is .0533."""
    steady = theory.sgd_stationary_covariance(K, TURNING, 0.1)
    exact = (K @ steady - steady @ K)[0, 1]
    assert exact == pytest.approx(theory.ou_circulation(K, 0.05 * TURNING)[0, 1], rel=0.02)
    found = turning.sgd.circulation[0]
    assert abs(abs(found.value) - exact) < 4 * found.standard_error  # the plane's side is that of its directions
    assert turning.circulates and turning.is_steady and not turning.travels
    assert abs(float(turning.twin.circulation[0].z())) < 4
    assert "So late SGD runs in loops" in turning.reading


def test_anisotropic_noise_that_commutes_does_not_turn():
    study = out_of_equilibrium(quadratic(COMMUTING), [0.0, 0.0], key=KEY, **SETTINGS)
    assert not study.circulates and study.is_steady
    assert abs(float(study.sgd.circulation[0].z())) < 4
    assert "no loop was seen" in study.reading


def test_the_twin_is_the_equilibrium_reference(turning):
    """Increments of the twin against the closed form: 2 directions, 10 lags, 2 kinds, in 4 errors; S within 4 too."""
    assert turning.twin.lagged.agrees_with(turning.lagged_law, 4)
    assert turning.twin.successive.agrees_with(turning.successive_law, 4)
    assert np.all(turning.successive_law < 0)  # an equilibrium in a bowl, not free Brownian motion


def test_one_axis_by_hand():
    """Where noise commutes each axis is its own AR(1): the successive increments read −(1 − (1−ηk)^s)/2."""
    study = out_of_equilibrium(quadratic(COMMUTING), [0.0, 0.0], key=KEY, lags=[1, 4, 16], **SETTINGS)
    for i, k in enumerate((1.0, 0.2)):  # the wider axis is the first: S = ηD/(k(2−ηk)) = .105, .0758
        exact = -(1 - (1 - 0.1 * k) ** study.lags) / 2
        assert np.all(
            np.abs((study.sgd.successive.value[:, i] - exact) / study.sgd.successive.standard_error[:, i]) < 4
        )


def test_momentum_is_looked_at_beyond_its_memory():
    """μ = .5: looks 20 steps apart, and the turn is still seen: in position space it is heavy ball's as well."""
    sgd = quadratic(TURNING, learning_rate=0.01, momentum=0.5)
    study = out_of_equilibrium(sgd, [0.0, 0.0], key=KEY, settle=2_000, window=2_000, replicas=100)
    assert study.settings["stride"] == 20 and np.all(study.lags % 20 == 0)
    assert study.circulates and "longer than heavy ball's memory" in study.reading
    np.testing.assert_allclose(study.times, study.lags * 0.02)


def test_a_run_that_has_not_come_to_rest_is_told():
    """Along k = 10⁻³ a cloud from far away still travels."""
    problem = NoisyPotential(potentials.Quadratic(np.diag([1.0, 0.001])), GaussianNoise(1.0))
    sgd = SGD(problem, learning_rate=0.1, batch_size=1)
    with pytest.warns(NotStationaryWarning):
        study = out_of_equilibrium(sgd, [0.0, 300.0], key=KEY, settle=100, window=200, replicas=40)
    assert not study.is_steady and "NOT steady" in study.reading


def test_digits_turn():
    """Softmax regression with weight decay on digits: convex, so steady soon, and its late weights run in loops."""
    init = networks.mlp((64, 10), key=jax.random.key(1))
    inputs, labels = datasets.digits()
    risk = EmpiricalRisk(networks.cross_entropy, (inputs[:300], labels[:300]), init=init, weight_decay=0.03)
    sgd = SGD(risk, learning_rate=0.5, batch_size=8, sampling="without-replacement")
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotStationaryWarning)
        study = out_of_equilibrium(sgd, key=KEY, settle=600, window=1_000, replicas=32, directions=4, name="digits")
    assert study.circulates and study.is_steady and not study.travels
    assert np.max(np.abs(study.twin.circulation.z())) < 4
    assert study.planes.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]


def test_reshuffled_passes_have_no_such_relation():
    risk = EmpiricalRisk(networks.logistic_loss, datasets.breast_cancer(), init=np.zeros(2), weight_decay=0.1)
    sgd = SGD(risk, learning_rate=0.1, batch_size=32, sampling="epoch")
    study = out_of_equilibrium(sgd, key=KEY, settle=100, window=80, replicas=10)
    assert study.stationarity is None and study.settings["settle"] == 102  # six whole passes of 17 batches
    assert "does not hold for reshuffled passes" in study.reading


def test_files(turning, tmp_path):
    assert [p.name for p in turning.save(tmp_path)] == list(OUT_OF_EQUILIBRIUM_FILES)
    content = json.loads((tmp_path / "out_of_equilibrium.json").read_text())
    assert content["reading"] == turning.reading and content["circulates"] is True
    with np.load(tmp_path / "out_of_equilibrium.npz") as arrays:
        assert arrays["sgd_successive"].shape == (len(turning.lags), 2)
    assert turning.reading in str(turning) and "reversible twin" in str(turning)


def test_diverged_replicas_are_left_out():
    problem = NoisyPotential(lambda x: (x @ x) ** 2 / 4 + x @ x, GaussianNoise(1.0), dim=2)
    start = np.zeros((12, 2))
    start[3] = 100.0
    sgd = SGD(problem, learning_rate=0.05, batch_size=1)
    study = out_of_equilibrium(sgd, start, key=KEY, settle=160, window=80)
    assert study.left_out == 1 and study.replicas == 11
    with pytest.raises(ValueError, match="learning_rate must let 8 replicas survive at least, got 0 of 12"):
        out_of_equilibrium(sgd, start + 100.0, key=KEY, settle=160, window=80)


LINE = NoisyPotential(potentials.Quadratic([[1.0]]), GaussianNoise(1.0))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sgd": LINE}, TypeError, "sgd must be an SGD process, got NoisyPotential"),
        ({"sgd": SGD(LINE, learning_rate=0.1, batch_size=1)}, ValueError, "two dimensions or more"),
        ({"start": None}, ValueError, "start must be given"),
        ({"settle": 3}, ValueError, "settle must be a whole number of at least 16, got 3"),
        ({"replicas": 7}, ValueError, "replicas must be a whole number of at least 8, got 7"),
        ({"stride": 200}, ValueError, "stride must be a whole number from 1 to an eighth of window = 600, got 200"),
        ({"lags": [400]}, ValueError, "lags must be multiples of the stride 1 up to half of window = 600"),
        ({"key": 0}, TypeError, "key must be one typed key"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"sgd": quadratic(TURNING), "start": [0.0, 0.0], "key": KEY} | SETTINGS | change
    with pytest.raises(error, match=message):
        out_of_equilibrium(arguments.pop("sgd"), arguments.pop("start"), **arguments)
