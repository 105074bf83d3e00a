"""The flat-or-sharp study: Gibbs for thermal noise, not for minibatches, and what other coordinates change."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import sgdsim as ss
from sgdsim.studies.flat_or_sharp import LABELS, SLOPES, Coordinates, PushedForward, _Setting, flat_or_sharp

pytestmark = pytest.mark.slow  # clouds of several compiled processes


KEY = jax.random.key(2)
SETTING = _Setting(4.0, 0.05, 2_000)


@pytest.fixture(scope="module")
def result():
    return flat_or_sharp(key=KEY, learning_rate=0.05, particles=2_000)


def weight(low, high, exponent):
    return scipy.integrate.quad(lambda x: np.exp(exponent(x)), low, high, epsabs=1e-12)[0]


def well(x):
    return (x * x - 1) ** 2 / 4 * 4.0 ** (-np.tanh(x) / (2 * np.tanh(1.0)))


def test_densities_are_the_quadratures(result):
    """Gibbs ∫ e^{−f/θ}, and (1/D) exp(−∫ f'/(TD)) for D(x) = s²h'² + c², by another quadrature."""
    top, theta = result.settings["barrier"], 2.5 * LABELS + SLOPES
    right, left = (weight(*ends, lambda x: -well(x) / theta) for ends in ((top, 3.2), (-2.6, top)))
    assert result.thermal.density.value == pytest.approx(right / (left + right), abs=2e-5)
    assert result.thermal.gibbs == pytest.approx(right / (left + right), abs=2e-5)

    x = np.linspace(-2.6, 3.2, 200_001)
    h = np.sign(x * x - 1) * np.sqrt(2 * well(x))
    diffusion = LABELS * np.gradient(h, x) ** 2 + SLOPES
    force = scipy.integrate.cumulative_simpson(np.gradient(well(x), x) / diffusion, x=x, initial=0)
    density = np.exp(-force + force.min()) / diffusion
    share = density[x > top].sum() / density.sum()
    assert result.minibatch.density.value == pytest.approx(share, abs=1e-4)
    assert result.model.density.value == pytest.approx(share, abs=1e-4)


def test_thermal_noise_follows_gibbs_and_minibatches_do_not(result):
    """SGD within 4 sigmas and 0.02 of the density, the effect of η = 0.05; Langevin within 4 sigmas: 5 and 5."""
    assert result.thermal.gibbs == pytest.approx(result.thermal.density.value, abs=1e-6)
    for row in result.rows:
        assert abs(row.sgd.value - row.density.value) < 0.02 + 4 * row.sgd.standard_error
        assert np.isnan(row.langevin.value) or abs(row.langevin.value - row.density.value) < (
            0.01 + 4 * row.langevin.standard_error
        )
    assert result.minibatch.sgd.value - result.minibatch.gibbs > 10 * result.minibatch.sgd.standard_error
    assert result.minibatch_in_y.sgd.value < 0.02


def test_sharpness_changes_and_nothing_else_does(result):
    """Pushed forward, the curvatures are exchanged and every particle is in the well that it was in."""
    assert np.allclose(result.minibatch.sharpness, (4, 1), rtol=1e-4)
    assert np.allclose(result.pushed.sharpness, (1, 4), rtol=1e-4)
    assert result.strayed == 0
    assert result.pushed.sgd == result.minibatch.sgd
    moved = Coordinates(4.0).forward(jnp.asarray(result.minibatch.positions))
    assert np.allclose(result.pushed.positions, moved, atol=1e-3)
    # and of its Itô limit: the same mass, whatever the grid
    assert result.pushed.density.value == pytest.approx(result.minibatch.density.value, abs=1e-5)
    # which is not so of the chain that is run in y
    assert abs(result.minibatch_in_y.density.value - result.pushed.density.value) > 0.5


def test_coordinates_are_inverted():
    coordinates = Coordinates(4.0)
    x = jnp.linspace(-5, 5, 101)
    assert np.allclose(coordinates.inverse(coordinates.forward(x)), x, atol=1e-12)
    slopes = jax.vmap(jax.grad(coordinates.forward))(x)
    assert np.all(slopes > 0)
    ends = jax.vmap(jax.grad(coordinates.forward))(jnp.asarray([-1.0, 1.0]))
    assert np.allclose(ends, [2.0, 0.5])


@pytest.mark.parametrize("coordinate", ["x", "y"])
def test_the_finite_sum_is_the_potential(coordinate):
    """Its loss is f + s²/2, its gradient f', its noise s²h'² + c² (in y over φ'²), and at the minima s²f'' + c²."""
    risk, plain = SETTING.risk(coordinate), SETTING.thermal(coordinate)
    labels, slopes = SETTING.variances()
    fields = [eqx.filter_jit(f) for f in (risk.loss, plain.loss, risk.gradient, plain.gradient, risk.noise_trace)]
    noises = {}
    for x in (-1.0, -0.3, 0.2, 1.0):
        point = jnp.asarray(SETTING.places(coordinate, [x]))
        loss, height, gradient, force, noises[x] = (np.asarray(f(point)) for f in fields)
        assert np.allclose(loss, height + labels / 2) and np.allclose(gradient, force, atol=1e-12)
    slopes_of_y = {-1.0: 2.0, 1.0: 0.5} if coordinate == "y" else {-1.0: 1.0, 1.0: 1.0}
    for x, curvature in ((-1.0, 4.0), (1.0, 1.0)):
        assert noises[x] == pytest.approx((labels * curvature + slopes) / slopes_of_y[x] ** 2)
    if coordinate == "x":
        assert SETTING.mean_noise() == pytest.approx((noises[-1.0] + noises[1.0]) / 2)


def test_a_pushed_process_is_the_process():
    """Path by path in float64; with momentum it is refused."""
    sgd = ss.SGD(SETTING.risk("x"), learning_rate=0.05, batch_size=1)
    start = np.linspace(-1.5, 1.5, 50)[:, None]
    process = PushedForward(sgd, SETTING.coordinates)
    plain = ss.simulate(sgd, start, steps=200, save_every=20, key=KEY)
    pushed = ss.simulate(process, SETTING.places("y", start), steps=200, save_every=20, key=KEY)
    assert np.allclose(pushed.particles, SETTING.places("y", plain.particles), atol=1e-9)
    assert np.array_equal(pushed.times, plain.times)
    heavy = ss.SGD(SETTING.risk("x"), learning_rate=0.05, batch_size=1, momentum=0.5)
    with pytest.raises(ValueError, match="process must have no momentum"):
        PushedForward(heavy, SETTING.coordinates)


def test_result_is_written(result, tmp_path):
    names = [path.name for path in result.save(tmp_path)]
    assert names == ["flat_or_sharp.png", "flat_or_sharp.json", "flat_or_sharp.npz"]
    content = json.loads((tmp_path / "flat_or_sharp.json").read_text())
    assert len(content["rows"]) == 6 and content["rows"][3]["langevin"]["value"] is None
    with np.load(tmp_path / "flat_or_sharp.npz", allow_pickle=False) as arrays:
        assert arrays["minibatch_positions"].shape == (2_000,) and len(arrays.files) == 18
    assert (tmp_path / "flat_or_sharp.png").stat().st_size > 20_000
    assert "Dinh" in result.reading and result.reading in str(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 3}, "particles must be at least 4, got 3"),
        ({"ratio": 1.0}, "ratio must lie above 1 and be at most 16, got 1"),
        ({"ratio": 18.0}, "ratio must lie above 1 and be at most 16, got 18"),
        ({"learning_rate": -1.0}, "learning_rate must be positive and finite, got -1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        flat_or_sharp(key=KEY, **options)
