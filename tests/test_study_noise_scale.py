"""The noise scale: a steady test loss in closed form, best batches that are known, and a network on noisy digits."""

import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.measures import Estimate
from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential, datasets, networks, potentials
from sgdsim.processes import SGD
from sgdsim.studies.noise_scale import noise_scale, noisy_digits
from sgdsim.studies.noise_scales import NOISE_SCALE_FILES, Cell
from sgdsim.theory import heavy_ball_variance

pytestmark = pytest.mark.slow  # whole studies: not run with the oldest and newest versions

module = importlib.import_module("sgdsim.studies.noise_scale")  # hidden by the function of its name
KEY = jax.random.key(0)
LABELS = np.random.default_rng(0).normal(size=64)
TEST = (np.ones((20, 1)), np.random.default_rng(1).normal(size=20) + 0.3)


def constant_regression(**settings):
    """½(w − y)² on inputs 1: curvature 1, and noise of the labels' variance wherever w is."""
    risk = EmpiricalRisk(networks.squared_error, (np.ones((64, 1)), LABELS), init=np.full(1, LABELS.mean()))
    return SGD(risk, learning_rate=0.1, batch_size=1, **settings)


def exact_loss(rate, batch, momentum):
    """½⟨(w − y)²⟩ over test labels, w about the training labels' mean with the variance of discrete heavy ball."""
    spread = heavy_ball_variance(1.0, LABELS.var() / batch, rate * (1 - momentum), momentum)
    return 0.5 * (np.mean((TEST[1] - LABELS.mean()) ** 2) + spread)


@pytest.fixture(scope="module")
def regression():
    grid = {"learning_rates": (0.05, 0.1, 0.2, 1.6), "batch_sizes": (1, 2, 4, 32), "momenta": (0.0, 0.5)}
    return noise_scale(constant_regression(), TEST, key=KEY, time=12.0, sizes=(64,), particles=3_000, **grid)


def test_test_loss_keeps_its_law_in_every_cell(regression):
    """32 cells within 4 standard errors of the discrete law; the law differs from the limit's by up to 5 times."""
    assert len(regression.cells) == 32
    factors = []
    for cell in regression.cells:
        truth = exact_loss(cell.rate, cell.batch_size, cell.momentum)
        assert abs(cell.mean("test loss").z(truth)) < 4
        assert cell.noise_scale == pytest.approx(64 * cell.rate / cell.batch_size)
        limit = LABELS.var() * cell.rate / cell.batch_size / 2
        factors.append(2 * (truth - 0.5 * np.mean((TEST[1] - LABELS.mean()) ** 2)) / limit)
    assert min(factors) < 1.03 and max(factors) == pytest.approx(1 / (1 - 0.8))
    assert all(cell.curvature.value == pytest.approx(1) for cell in regression.cells)


def test_cells_of_equal_g_agree_until_the_rate_is_large(regression):
    """g = 3.2 is had from η_e = .05, .1, .2 and 1.6: the last, at four fifths of the edge, leaves by its factor 5."""
    cells = {(c.rate, c.batch_size, c.momentum): c for c in regression.cells}
    small, large = (cells[key] for key in ((0.1, 2, 0.0), (1.6, 32, 0.0)))
    assert small.noise_scale == pytest.approx(3.2) and large.noise_scale == pytest.approx(3.2)
    assert not regression.leaves(small, "test loss") and regression.leaves(large, "test loss")
    assert regression.stability(large) == pytest.approx(0.8)
    assert regression.stability(cells[1.6, 32, 0.5]) == pytest.approx(1.6 / 6)
    reduced, freedom = regression.chi_squared("test loss", 0.1)
    assert freedom > 5 and reduced < 1 + 4 * np.sqrt(2 / freedom)
    assert regression.chi_squared("test loss", 1.6)[0] > 5
    assert regression.quantities == ("test loss",) and "error rate" not in regression.reading


def test_curve_is_of_the_other_cells_of_the_smallest_rate(regression):
    cells = {(c.rate, c.batch_size, c.momentum): c for c in regression.cells}
    own, partner = cells[0.05, 1, 0.0], cells[0.05, 1, 0.5]
    assert regression.curve(own, "test loss") == partner.mean("test loss")
    both = regression.curve(cells[0.1, 2, 0.0], "test loss")
    values = [c.mean("test loss") for c in (own, partner)]
    assert both.value == pytest.approx(np.mean([v.value for v in values]))
    assert both.standard_error == pytest.approx(np.hypot(*(v.standard_error for v in values)) / 2)
    alone = [c for c in regression.cells if c.momentum == 0 and regression.curve(c, "test loss") is None]
    assert not alone  # each has its partner with momentum


def test_equal_steps_are_offered():
    study = noise_scale(
        constant_regression(sampling="without-replacement"),
        TEST,
        key=KEY,
        steps=7,
        learning_rates=(0.1, 0.2),
        batch_sizes=(4, 8, 64),
        momenta=(0.0,),
        sizes=(16,),
        particles=10,
    )
    assert {c.steps for c in study.cells} == {7} and "equal steps, 7" in study.reading
    counts = {(c.num_examples, c.batch_size) for c in study.cells}
    assert counts == {(16, 4), (16, 8), (64, 4), (64, 8)}  # B < N: batches of all examples have no noise
    cell = study.cells[0]
    assert cell.noise_scale == pytest.approx((16 - 4) / 15 * cell.rate * 16 / 4)


def synthetic(count, rate, batch, momentum, rng, power=1.0, width=0.3):
    best = np.log2(rate * 80 * (count / 64) ** power)
    values = 1 + 0.2 * (np.log2(batch) - best) ** 2 + width * rng.normal(size=200)
    nothing = Estimate(0.0, 0.0)
    return Cell(count, rate, batch, momentum, 1, rate * count / batch, nothing, nothing, {"test loss": values}, 0)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_powers_of_the_best_batch(power):
    """Where B_best = 80 η_e (N/64)^power the fit finds it within 4 of its errors, over 9 lines."""
    rng, batches = np.random.default_rng(5), [1, 2, 4, 8, 16, 32, 64, 128]
    cells = [
        synthetic(count, rate, batch, 0.0, rng, power)
        for count in (64, 128, 256)
        for rate in (0.05, 0.1, 0.2)
        for batch in batches
    ]
    best = module._optima(cells, "test loss", KEY)
    assert len(best.lines) == 9 and np.all(best.inside)
    assert best.rate_power.agrees_with(1.0, sigmas=4) and 0 < best.rate_power.standard_error < 0.1
    assert best.size_power.agrees_with(power, sigmas=4) and 0 < best.size_power.standard_error < 0.1
    truth = [np.log2(rate * 80 * (count / 64) ** power) for count, _, rate in best.lines]
    assert best.batches.agrees_with(np.array(truth), sigmas=4)


def test_best_batches_at_the_edge_are_left_out():
    rng = np.random.default_rng(6)
    cells = [synthetic(64, rate, batch, 0.0, rng) for rate in (0.1, 0.2, 1.0) for batch in (4, 8, 16, 32)]
    best = module._optima(cells, "test loss", KEY)
    np.testing.assert_array_equal(best.inside, [True, True, False])
    assert np.isnan(best.rate_power.value) and np.isnan(best.size_power.value)  # two points have no error of fit


def test_error_rate_is_that_of_the_largest_output():
    inputs, labels = datasets.digits()
    model = networks.mlp((64, 7, 10), key=jax.random.key(1))
    held = (jnp.asarray(inputs[300:500]), jnp.asarray(labels[300:500]))
    for loss in (networks.cross_entropy, networks.hinge):
        risk = EmpiricalRisk(loss, (inputs[:300], labels[:300]), init=model)
        train, test, wrong = module._read(risk, risk.x0[None], held, module._classes(risk))
        outputs = jax.vmap(model)(held[0])
        truth = np.mean(np.argmax(outputs, axis=1) != np.asarray(held[1]))
        assert wrong[0] == pytest.approx(truth)
        assert train[0] == pytest.approx(float(risk.loss(risk.x0)))
        assert test[0] == pytest.approx(float(np.mean([loss(model, z) for z in zip(*held, strict=True)])))
    x, y = datasets.breast_cancer()
    weights = np.array([-1.0, 0.2])
    risk = EmpiricalRisk(networks.logistic_loss, (x, y), init=weights)
    wrong = module._read(risk, risk.x0[None], (jnp.asarray(x), jnp.asarray(y)), module._classes(risk))[2]
    assert wrong[0] == pytest.approx(np.mean(np.sign(x @ weights) != y))


def test_noisy_digits():
    sgd, data = noisy_digits(KEY, examples=100, random_labels=0.4, hidden=5)
    assert sgd.problem.num_examples == 100 and len(data.test_inputs) == 1697
    assert "40 of 100 training labels random" in data.history and sgd.dim == 65 * 5 + 6 * 10
    part = module._share(sgd.problem, 25)
    np.testing.assert_array_equal(part.data[0], data.inputs[::4])


def test_on_noisy_digits_the_best_batch_grows_with_the_rate(tmp_path):
    """256 digits, 30 % of the labels random: small rates share a curve of g with a lowest place between its ends."""
    sgd, test = noisy_digits(jax.random.key(5), examples=256)
    grid = {"learning_rates": (0.4, 0.8), "batch_sizes": (2, 4, 8, 16, 32, 64), "momenta": (0.9,)}
    study = noise_scale(sgd, test, key=KEY, sizes=(256,), particles=24, name="noisy digits", **grid)
    best = study.optima["test loss"]
    assert np.all(best.inside) and 0.4 < np.diff(best.batches.value)[0] < 1.8
    shared = [study.z(c, "test loss") for c in study.cells if np.isfinite(study.z(c, "test loss"))]
    assert len(shared) == 5 and np.all(np.abs(shared) < 4)
    means = {c.batch_size: c.mean("error rate") for c in study.cells if c.rate == 0.4}
    assert means[8].z(means[64]) < -2 and means[8].z(means[2]) < -4
    assert [p.name for p in study.save(tmp_path)] == list(NOISE_SCALE_FILES)


def test_files(regression, tmp_path):
    assert [p.name for p in regression.save(tmp_path)] == list(NOISE_SCALE_FILES)
    content = json.loads((tmp_path / "noise_scale.json").read_text())
    assert content["reading"] == regression.reading and len(content["cells"]) == 32
    assert content["settings"]["amount"] == 12.0 and content["held"] == "time"
    with np.load(tmp_path / "noise_scale.npz") as arrays:
        assert arrays["test_loss"].shape == (32, 3_000) and arrays["batch_size"].shape == (32,)
    assert regression.reading in str(regression) and "left" in str(regression)


def test_diverged_replicas_are_left_out_and_count_as_leaving():
    """η_e = 2.5 is beyond the edge 2: nobody survives, and the cell is off the curve."""
    grid = {"learning_rates": (0.1, 2.5), "batch_sizes": (1, 25), "momenta": (0.0,)}
    study = noise_scale(constant_regression(), TEST, key=KEY, time=2_000.0, sizes=(64,), particles=8, **grid)
    lost = [c for c in study.cells if c.rate == 2.5]
    assert [c.diverged for c in lost] == [8, 8] and np.isnan(lost[0].mean("test loss").value)
    assert study.leaves(lost[1], "test loss") and "16 replicas diverged" in study.reading
    assert "nan" in str(study)


POTENTIAL = NoisyPotential(potentials.Quadratic(np.eye(2)), GaussianNoise(1.0))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sgd": POTENTIAL}, TypeError, "sgd must be an SGD process, got NoisyPotential"),
        ({"sgd": SGD(POTENTIAL, learning_rate=0.1, batch_size=1)}, TypeError, "must descend an EmpiricalRisk"),
        ({"test": datasets.wine()}, ValueError, "test must be a data set with examples held out"),
        ({"test": (np.ones((3, 2)), np.ones(3))}, ValueError, "test must hold examples of the form of the risk's own"),
        ({"test": np.ones((3, 1))}, ValueError, "test must hold examples of the form of the risk's own"),
        ({"time": 1.0, "steps": 3}, ValueError, "time and steps must not both be given, got 1.0 and 3"),
        ({"time": -1.0}, ValueError, "time must be positive and finite, got -1.0"),
        ({"steps": 0}, ValueError, "steps must be a positive whole number, got 0"),
        ({"particles": 3}, ValueError, "particles must be a whole number of at least 4, got 3"),
        ({"sizes": (1, 65)}, ValueError, "sizes must be from 2 to N = 64"),
        ({"batch_sizes": (64, 100)}, ValueError, "batch_sizes must have one below N = 64 at least"),
        ({"learning_rates": (0.0,)}, ValueError, "learning_rate must be positive and finite, got 0.0"),
        ({"momenta": (1.0,)}, ValueError, "momentum must be at least 0 and below 1, got 1.0"),
        ({"key": 0}, TypeError, "key must be one typed key"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"sgd": constant_regression(), "test": TEST, "key": KEY} | change
    with pytest.raises(error, match=message):
        noise_scale(arguments.pop("sgd"), arguments.pop("test"), **arguments)
