"""Double wells: escape from one, and Example 19 that circulates between two."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special

from sgdsim import theory
from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.drift_zeros import drift_zeros
from sgdsim.problems.potentials import CirculatingDoubleWell


def well(x: np.ndarray) -> np.ndarray:
    return (x**2 - 1) ** 2 / 4


def test_kramers_matches_the_notes() -> None:
    assert theory.kramers_time(2.0, -1.0, 0.25, 0.1) == pytest.approx(54.13, abs=5e-3)
    assert theory.kramers_time(2.0, -1.0, 0.25, 0.05) == pytest.approx(659.38, abs=5e-3)
    assert theory.kramers_time(2.0, -1.0, 0.25, 0.03) == pytest.approx(18_483.6, abs=0.05)
    assert theory.kramers_time(2.0, -1.0, 0.25, 0.05, variance=2.0) == theory.kramers_time(2.0, -1.0, 0.25, 0.1)


@pytest.mark.parametrize(("temperature", "time"), [(0.1, 66.27), (0.05, 729.67), (0.03, 19_485.8)])
def test_passage_times_match_the_notes(temperature: float, time: float) -> None:
    assert theory.mean_passage_time(well, -1.0, 1.0, temperature) == pytest.approx(time, rel=1e-5, abs=5e-3)


@pytest.mark.parametrize(("start", "target"), [(-1.0, 1.0), (-0.3, 0.2), (1.0, 1.5), (2.0, -2.0)])
def test_a_passage_time_is_its_double_integral(start: float, target: float) -> None:
    """From +1 to 1.5 as well, where excursions into the other well make the time."""
    theta, side = 0.1, math.copysign(1.0, target - start)
    far = -4.0 * side  # e^{−560} of the mass lies beyond
    integral, _ = scipy.integrate.dblquad(
        lambda z, y: math.exp((well(y) - well(z)) / theta), start, target, far, lambda y: y, epsabs=0, epsrel=1e-9
    )
    assert theory.mean_passage_time(well, start, target, theta) == pytest.approx(integral / theta, rel=1e-7)


@pytest.mark.parametrize("target", [0.01, 1.0, 5.0, 30.0])
def test_a_passage_out_of_a_parabola(target: float) -> None:
    """0 → a on ½x² at θ = 1: √(π/2) ∫₀^a (1 + erf(u/√2)) e^{u²/2} du, in which erfcx bears e^{450}."""

    def integrand(u: float) -> float:
        return 2 * math.exp((u**2 - target**2) / 2) - scipy.special.erfcx(u / math.sqrt(2)) * math.exp(-(target**2) / 2)

    scaled, _ = scipy.integrate.quad(integrand, 0, target, epsabs=0, epsrel=1e-12, limit=200, points=[target * 0.97])
    exact = math.log(math.sqrt(math.pi / 2) * scaled) + target**2 / 2
    time = theory.mean_passage_time(lambda x: x**2 / 2, 0.0, target, 0.5, variance=2.0)
    assert math.log(time) == pytest.approx(exact, abs=1e-9)


def test_kramers_is_the_limit_of_the_passage_time() -> None:
    """Their ratio is 1 + O(T); at T = 0.002 the time is 1e55, beyond what matrices or plain exponentials hold."""
    excess = []
    for temperature in (0.004, 0.002):
        kramers = theory.kramers_time(2.0, -1.0, 0.25, temperature)
        excess.append(theory.mean_passage_time(well, -1.0, 1.0, temperature) / kramers - 1)
    assert excess[0] / excess[1] == pytest.approx(2, abs=0.1) and 0 < excess[1] < 0.01


def test_a_passage_time_is_that_of_the_density() -> None:
    fp = FokkerPlanck(
        lambda x: x - x**3, lambda x: 0.1 * jnp.eye(1), Grid([-2.5], [2.5], [640]), potential=lambda x: well(x[0]) / 0.1
    )
    times = fp.passage_times(fp.grid.centres[..., 0] > 1)
    start = int(np.argmin(np.abs(fp.grid.centres[..., 0] + 1)))
    place, goal = float(fp.grid.centres[start, 0]), float(np.min(fp.grid.centres[fp.grid.centres > 1]))
    assert times[start] == pytest.approx(theory.mean_passage_time(well, place, goal, 0.1), rel=1e-4)


def test_a_passage_time_counts_excursions_over_a_high_wall() -> None:
    """From +1 the wall at 0 is 83 temperatures high, the one at 1.5 130: half the time is spent in the far well."""
    whole = theory.mean_passage_time(well, -1.0, 1.5, 0.003)  # which starts in that well and so cannot miss it
    legs = theory.mean_passage_time(well, -1.0, 1.0, 0.003) + theory.mean_passage_time(well, 1.0, 1.5, 0.003)
    assert legs == pytest.approx(whole, rel=1e-9)


def test_passage_times_of_mirrored_and_shifted_losses() -> None:
    def tilted(x: np.ndarray) -> np.ndarray:
        return well(x) + 0.1 * x

    time = theory.mean_passage_time(tilted, -1.0, 1.2, 0.05)
    assert theory.mean_passage_time(lambda x: tilted(-x) + 40, 1.0, -1.2, 0.05) == pytest.approx(time, rel=1e-9)
    assert theory.mean_passage_time(tilted, 1.0, 1.0, 0.05) == 0
    legs = theory.mean_passage_time(tilted, -1.0, 0.3, 0.05) + theory.mean_passage_time(tilted, 0.3, 1.2, 0.05)
    assert legs == pytest.approx(time, rel=1e-9)  # a path on a line passes through what lies between


def test_passage_times_of_a_loss_in_float32() -> None:
    def loss(x: np.ndarray) -> np.ndarray:
        return well(x.astype(np.float32))

    assert theory.mean_passage_time(loss, -1.0, 1.0, 0.05) == pytest.approx(729.6707, rel=1e-5)


def test_passage_times_that_have_no_answer() -> None:
    with pytest.raises(ValueError, match="loss must rise"):
        theory.mean_passage_time(lambda x: -x, 0.0, -1.0, 0.1)
    with pytest.raises(ValueError, match="loss must rise"):
        theory.mean_passage_time(lambda x: np.exp(-(x**2)), 0.0, 1.0, 0.1)
    with pytest.raises(ValueError, match="loss must be finite"):
        theory.mean_passage_time(lambda x: np.where(x < -1, np.inf, 0.0), 0.0, 1.0, 0.1)
    with pytest.raises(ArithmeticError, match="does not converge"):
        theory.mean_passage_time(lambda x: x**2 + (x > 0.997), 0.0, 1.0, 0.01)
    with pytest.raises(ArithmeticError, match="exceeds 1e308"):
        theory.mean_passage_time(well, -1.0, 1.0, 1e-4)
    with pytest.raises(ArithmeticError, match="exceeds 1e308"):
        theory.kramers_time(2.0, -1.0, 0.25, 1e-4)


def test_the_partition_function_of_example_19() -> None:
    """∫ e^{−x⁴/4 + x²/2} dx in modified Bessel functions."""
    bessel = scipy.special.iv(0.25, 0.125) + scipy.special.iv(-0.25, 0.125)
    well_integral = math.exp(-0.25) * math.pi / 2 * math.exp(0.125) * bessel
    law = theory.circulating_double_well(0.5)
    assert law.partition_function == pytest.approx(math.sqrt(2 * math.pi) * well_integral, rel=1e-12)


@pytest.mark.parametrize("strength", [0.5, -0.3])
def test_the_circulation_of_example_19(strength: float) -> None:
    landscape = CirculatingDoubleWell(strength)
    exact = theory.circulating_double_well(strength).circulation
    errors = []
    for cells in (48, 96):
        fp = FokkerPlanck(landscape.drift, landscape.diffusion, Grid([-4.0] * 2, [4.0] * 2, [cells] * 2))
        errors.append(fp.circulation(fp.stationary()) - exact)
    assert abs(errors[1]) < 0.01 * abs(exact)
    assert errors[0] / errors[1] > 3.5


@pytest.mark.parametrize("strength", [0.5, -0.5, 0.1, 0.77, 1e-9, 0.0])
def test_the_zeros_of_example_19(strength: float) -> None:
    zeros = theory.circulating_double_well(strength).zeros
    assert zeros.shape == (2, 2) and zeros[0, 0] < 0 < zeros[1, 0]
    for zero in zeros:
        np.testing.assert_allclose(CirculatingDoubleWell(strength).drift(jnp.asarray(zero)), 0, atol=1e-13)
    if abs(strength) == 0.5:
        np.testing.assert_allclose(zeros[1], [0.902, math.copysign(0.389, strength)], atol=5e-4)


@pytest.mark.parametrize("strength", [0.5, 0.76, 0.8, -1.5])
def test_example_19_has_no_other_zeros(strength: float) -> None:
    found = drift_zeros(Grid([-2.5] * 2, [2.5] * 2, [101, 103]), CirculatingDoubleWell(strength).drift)
    positions = np.array([zero.position for zero in found if np.linalg.norm(zero.position) > 1e-6]).reshape(-1, 2)
    np.testing.assert_allclose(positions, theory.circulating_double_well(strength).zeros, atol=1e-8)


def test_the_critical_strength_of_example_19() -> None:
    critical = theory.circulating_double_well(1.0).critical_strength
    assert critical == pytest.approx(0.7788, abs=5e-5)
    below, above = (theory.circulating_double_well(critical * (1 + e)).zeros for e in (-1e-6, 1e-6))
    assert below.shape == (2, 2) and np.linalg.norm(below[1]) < 0.01 and above.shape == (0, 2)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.kramers_time(-2.0, -1.0, 0.25, 0.1), "curvature_at_minimum must be positive"),
        (lambda: theory.kramers_time(2.0, 1.0, 0.25, 0.1), "curvature_at_saddle must be negative and finite, got 1.0"),
        (lambda: theory.kramers_time(2.0, -1.0, 0.0, 0.1), "barrier must be positive"),
        (lambda: theory.kramers_time(2.0, -1.0, 0.25, 0.0), "temperature must be positive"),
        (lambda: theory.mean_passage_time(well, -1.0, 1.0, 0.1, -1.0), "variance must be positive"),
        (lambda: theory.mean_passage_time(well, -1.0, math.inf, 0.1), "start and target must be finite"),
        (lambda: theory.mean_passage_time(lambda x: 1.0, -1.0, 1.0, 0.1), "loss must map places"),
        (lambda: theory.circulating_double_well(math.nan), "strength must be finite"),
    ],
)
def test_errors_name_the_argument(call: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
