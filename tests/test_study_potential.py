"""The effective potential: Gibbs where it must be, Lyapunov on quadratics, Example 19, and what is said of it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import sgdsim as ss
from sgdsim import studies, theory
from sgdsim.density.drift_zeros import drift_zeros
from sgdsim.density.grid_minima import grid_minima
from sgdsim.density.nearest_gibbs import nearest_gibbs

HESSIAN, NOISE = np.diag([2.0, 0.5]), np.array([[1.0, 0.6], [0.6, 1.0]])


def noisy(potential, noise, *, learning_rate=0.2, dim=None):
    problem = ss.NoisyPotential(potential, ss.GaussianNoise(noise), dim=dim)
    return ss.SGD(problem, learning_rate=learning_rate, batch_size=1)


def tilted(x):
    return (x[0] ** 2 - 1) ** 2 / 4 + 0.1 * x[0] + (x[1] - 0.3 * x[0]) ** 2


@pytest.fixture(scope="module")
def isotropic():
    return studies.potential(noisy(tilted, 2.0, learning_rate=0.1, dim=2), cells=48, name="tilted")


def test_isotropic_noise_has_the_loss_for_a_potential(isotropic):
    """Φ = f/σ² to rounding, j = 0, and the Gibbs density is found with τ = Tσ²."""
    split, temperature = isotropic.split, isotropic.temperature
    heights = (isotropic.loss - isotropic.loss.min()) / 2.0
    np.testing.assert_allclose(split.potential, heights, rtol=0, atol=1e-13)
    assert isotropic.is_balanced and not isotropic.has_current
    assert isotropic.gibbs.temperature == pytest.approx(2.0 * temperature, rel=1e-12)
    assert isotropic.gibbs.correlation == pytest.approx(1, abs=1e-12)
    for name in ("circulating_share", "housekeeping", "circulation", "induced_share", "gibbs_spread"):
        assert abs(isotropic.estimates[name].value) < 1e-11, name
    assert isotropic.estimates["mean_noise"].value == pytest.approx(2.0, rel=1e-12)
    assert "is the Gibbs density of f: Φ = f/σ² with σ² = 2." in isotropic.reading
    assert "Nothing circulates" in isotropic.reading
    assert [zero.kind for zero in isotropic.zeros] == ["stable", "saddle", "stable"]


def quadratic(noise, cells):
    return studies.potential(noisy(ss.potentials.Quadratic(HESSIAN), noise), cells=cells)


def lyapunov(noise, temperature):
    """Lemma 20: S, U = T S⁻¹ and Q with K = (D + Q)U, so that j = −QUx."""
    covariance = theory.ou_stationary_covariance(HESSIAN, noise, 2 * temperature)
    precision = temperature * np.linalg.inv(covariance)
    return covariance, precision, HESSIAN @ np.linalg.inv(precision) - noise


def exact_quadratic(noise, temperature):
    """The scalars of the report for dX = −KX dt + √(2TD) dW, by linear algebra."""
    covariance, precision, turn = lyapunov(noise, temperature)
    matrix, dim = turn @ precision, len(covariance)
    # f and −log ρ_ss are two quadratic forms of a Gaussian, whose covariance is ½ Tr(K S · S⁻¹ S)
    heat = HESSIAN @ covariance
    once, twice = np.trace(heat), np.trace(heat @ heat)
    mean_square = np.trace(matrix @ covariance @ matrix.T)
    return {
        "circulation": 2 * temperature * turn[0, 1],
        "circulating_share": np.sqrt(mean_square / np.trace(HESSIAN @ covariance @ HESSIAN)),
        "housekeeping": np.trace(matrix.T @ np.linalg.inv(temperature * noise) @ matrix @ covariance),
        "gibbs_noise": twice / once / temperature,
        "gibbs_correlation": once / np.sqrt(dim * twice),
        "gibbs_spread": np.sqrt((dim - once**2 / twice) / 2),
        "mean_noise": np.trace(noise) / dim,
        "relaxation_time": 1 / np.min(np.diag(HESSIAN)),
    }


def test_a_quadratic_obeys_lemma_20_at_second_order():
    """Q₁₂ = D₁₂(k₁ − k₂)/(k₁ + k₂), Φ = ½xᵀUx, j = −QUx: every number converges as h²."""
    errors, fields = [], []
    for cells in (64, 128):
        result = quadratic(NOISE, cells)
        _, precision, turn = lyapunov(NOISE, result.temperature)
        assert turn[0, 1] == pytest.approx(0.6 * (2 - 0.5) / 2.5) and turn[0, 0] == pytest.approx(0)
        exact = exact_quadratic(NOISE, result.temperature)
        errors.append({name: result.estimates[name].value - value for name, value in exact.items()})
        x, masses = result.grid.centres, result.split.masses
        phi = np.einsum("xyi,ij,xyj->xy", x, precision, x) / 2
        j = -np.einsum("ij,xyj->xyi", turn @ precision, x)
        gap = result.split.potential - phi
        fields.append(
            [
                np.sqrt(np.sum(masses * (gap - np.sum(masses * gap)) ** 2)) / result.temperature,
                result.split.rms(result.split.circulating - j) / result.split.rms(j),
            ]
        )
    for name, value in exact.items():
        assert abs(errors[1][name]) < 0.02 * abs(value), name
        if abs(errors[0][name]) > 1e-9:
            assert errors[0][name] / errors[1][name] == pytest.approx(4, abs=0.6), name
        # what the report calls its grid error is the error, within a half
        if abs(errors[1][name]) > 1e-9:
            assert result.estimates[name].grid_error == pytest.approx(abs(errors[1][name]), rel=0.5), name
    assert np.all(np.array(fields[1]) < 0.02)
    assert np.array(fields[0]) / np.array(fields[1]) == pytest.approx(4, abs=0.6)
    assert result.has_current and result.has_sense and "counterclockwise" in result.reading
    assert "no Gibbs density of f" in result.reading
    assert np.linalg.norm(result.minima[0].position) < 1e-6


def test_a_diffusion_that_commutes_with_the_hessian_has_no_current():
    """Anisotropic, Φ ≠ f/σ² for any σ², and still nothing turns: D and K share their axes."""
    result = quadratic(np.diag([1.0, 0.2]), 64)
    exact = exact_quadratic(np.diag([1.0, 0.2]), result.temperature)
    assert exact["gibbs_spread"] > 0.5
    assert result.estimates["gibbs_spread"].value == pytest.approx(exact["gibbs_spread"], rel=0.02)
    for name in ("circulation", "circulating_share", "housekeeping"):
        assert exact[name] == pytest.approx(0, abs=1e-15)
        assert abs(result.estimates[name].value) < 1e-9, name
    assert not result.has_current and "Nothing circulates beyond the grid's error" in result.reading


def test_a_diffusion_that_commutes_off_the_axes_has_no_current_beyond_the_grids_error():
    turned = np.array([[0.8, -0.6], [0.6, 0.8]])
    hessian, noise = turned @ HESSIAN @ turned.T, turned @ np.diag([1.0, 0.2]) @ turned.T
    shares = []
    for cells in (48, 96):
        result = studies.potential(noisy(ss.potentials.Quadratic(hessian), noise), cells=cells)
        shares.append(result.estimates["circulating_share"].value)
        assert abs(result.estimates["circulation"].value) < 1e-9
        assert not result.has_current
    assert shares[1] < 0.01 and (shares[0] < 1e-9 or shares[0] / shares[1] == pytest.approx(4, abs=0.6))


def example_19(strength, cells=96):
    well = ss.potentials.CirculatingDoubleWell(strength)
    grid = ss.Grid([-3.6, -5.5], [3.6, 5.5], [cells, cells])
    return studies.potential_of(ss.FokkerPlanck(well.drift, well.diffusion, grid), name="example 19")


def exact_normaliser():
    """Z = ∫ e^{−Φ} dx."""
    along, _ = scipy.integrate.quad(lambda x: np.exp(-((x**2 - 1) ** 2) / 4), -6, 6)
    return along * np.sqrt(2 * np.pi)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
def test_example_19_keeps_its_density_whatever_circulates(strength):
    """ρ_ss = e^{−Φ}/Z for every λ, and ∫ x × J dx = 2πλ/Z, both to second order."""
    errors, turns = [], []
    well = jax.vmap(ss.potentials.CirculatingDoubleWell(strength))
    for cells in (48, 96):
        result = example_19(strength, cells)
        exact = np.exp(-np.asarray(well(jnp.asarray(result.grid.centres.reshape(-1, 2))))) * result.grid.cell_volume
        errors.append(np.abs(result.split.masses.reshape(-1) - exact / np.sum(exact)).sum())
        turns.append(result.estimates["circulation"].value - 2 * np.pi * strength / exact_normaliser())
    if strength == 0:
        assert max(errors) < 0.02 and not result.has_current
    else:
        assert errors[1] < 0.01 and errors[0] / errors[1] == pytest.approx(4, abs=0.6)
        assert abs(turns[1]) < 0.01 * strength and turns[0] / turns[1] == pytest.approx(4, abs=0.6)
        assert abs(turns[1]) < 2 * result.estimates["circulation"].grid_error
        assert result.has_sense and "counterclockwise" in result.reading
    assert [abs(m.position[0]) for m in result.minima] == pytest.approx([1, 1], abs=0.01)
    assert [m.position[1] for m in result.minima] == pytest.approx([0, 0], abs=0.01)


@pytest.mark.parametrize(
    ("strength", "positions", "kinds"),
    [
        (0.0, [(-1, 0), (0, 0), (1, 0)], ["stable", "saddle", "stable"]),
        (0.5, [(-0.902, -0.389), (0, 0), (0.902, 0.389)], ["stable", "saddle", "stable"]),
        (1.5, [(0, 0)], ["centre (to linear order)"]),
    ],
)
def test_the_drift_of_example_19_rests_elsewhere(strength, positions, kinds):
    grid = ss.Grid([-3.6, -5.5], [3.6, 5.5], [64, 64])
    zeros = drift_zeros(grid, ss.potentials.CirculatingDoubleWell(strength).drift)
    np.testing.assert_allclose([zero.position for zero in zeros], positions, atol=6e-4)
    assert [zero.kind for zero in zeros] == kinds
    if strength == 1.5:  # a period of 3.817
        assert 2 * np.pi / abs(zeros[0].rates[0].imag) == pytest.approx(3.817, abs=1e-3)


def test_zeros_off_the_origin_vanish_at_their_strength():
    grid, critical = ss.Grid([-3.0, -3.0], [3.0, 3.0], [64, 64]), np.exp(-0.25)
    counts = [
        len(drift_zeros(grid, ss.potentials.CirculatingDoubleWell(strength).drift))
        for strength in (0.97 * critical, 1.03 * critical)
    ]
    assert counts == [3, 1]


def test_a_state_dependent_noise_in_one_dimension():
    """ρ_ss ∝ D⁻¹ exp(−∫ f′/(T D)), D = 1 + x²/2 on f = x²/2 + x/4: minimum of Φ off that of f, no current."""
    sgd = noisy(lambda x: x[0] ** 2 / 2 + x[0] / 4, lambda x: jnp.array([[1 + x[0] ** 2 / 2]]), dim=1)
    result = studies.potential(sgd, cells=512)
    x, temperature = result.grid.axis_centres(0), result.temperature
    noise = 1 + x**2 / 2
    climb = np.log(noise) + np.sqrt(2) / 4 * np.arctan(x / np.sqrt(2))  # ∫ (x + ¼)/(1 + x²/2) dx
    exact = np.exp(-climb / temperature) / noise
    assert np.abs(result.split.masses - exact / exact.sum()).sum() < 1e-8
    assert abs(result.estimates["circulating_share"].value) < 1e-9 and "circulation" not in result.estimates
    assert result.boundary_mass < 1e-6
    # Φ′ = (f′ + T D′)/D vanishes at x + ¼ + T x = 0
    assert result.minima[0].position[0] == pytest.approx(-0.25 / (1 + temperature), abs=1e-4)
    assert result.zeros[0].position[0] == pytest.approx(-0.25, abs=1e-9)
    assert "Nothing circulates in one dimension." in result.reading and "minimises Φ and not f" in result.reading


def test_the_box_is_widened_until_it_holds_the_tails():
    """D = 1 + 4x² on x²/2 at T = 0.1 has power-law tails x^{−4.5}, which eight steady widths do not hold."""
    sgd = noisy(lambda x: x[0] ** 2 / 2, lambda x: jnp.array([[1 + 4 * x[0] ** 2]]), dim=1)
    result = studies.potential(sgd, cells=512)
    assert result.settings["box_widened"] > 0
    assert result.boundary_mass < 1e-6 and "the box was widened" in str(result)
    tight = studies.potential(sgd, grid=ss.Grid([-1.0], [1.0], [64]))
    assert "THE BOX CUTS OFF MASS" in str(tight) and "the box cuts off mass" in tight.reading


def test_the_nearest_gibbs_density():
    heights = np.linspace(-4, 4, 400) ** 2 / 2
    fit = nearest_gibbs(heights, theory.log_gibbs(heights, 0.3))
    assert fit.temperature == pytest.approx(0.3, rel=1e-12)
    assert fit.correlation == pytest.approx(1, abs=1e-12) and fit.spread < 1e-12
    upside_down = nearest_gibbs(heights, theory.log_gibbs(-heights, 0.3))
    assert upside_down.temperature == pytest.approx(-0.3) and upside_down.correlation == pytest.approx(-1)
    with pytest.raises(ValueError, match="loss must not be constant"):
        nearest_gibbs(np.ones(5), np.full(5, np.log(0.2)))


def test_minima_on_a_grid_are_found_between_the_centres():
    """At second order, the lowest first; two equal cells are one minimum, and a wall is none."""
    errors = []
    for cells in (32, 64):
        grid = ss.Grid([-2.0, -2.0], [2.0, 2.1], [cells, cells])
        x, y = np.moveaxis(grid.centres, -1, 0)
        points, values = grid_minima(grid, (x**2 - 1) ** 2 / 4 + 0.1 * x + (y - 0.3 * x) ** 2)
        assert points.shape == (2, 2) and values[0] < values[1]
        root = np.roots([1, 0, -1, 0.1]).min()
        errors.append(np.linalg.norm(points[0] - [root, 0.3 * root]))
    assert errors[1] < 2e-3 and errors[0] / errors[1] > 3
    line = ss.Grid([-2.0], [2.0], [10])
    assert len(grid_minima(line, line.axis_centres(0) ** 2).points) == 1
    assert len(grid_minima(line, line.axis_centres(0)).points) == 0
    ring = ss.Grid([0.0], [1.0], [16], periodic=True)
    across = -np.cos(2 * np.pi * (ring.axis_centres(0) - 0.98))
    assert grid_minima(ring, across).points[:, 0] == pytest.approx([0.98], abs=1e-3)


@pytest.mark.parametrize("which", ["isotropic", "circulating", "line"])
def test_saving(which, isotropic, tmp_path):
    result = {
        "isotropic": lambda: isotropic,
        "circulating": lambda: example_19(0.5, 48),
        "line": lambda: studies.potential(noisy(ss.potentials.DoubleWell(), 1.0), cells=512),
    }[which]()
    files = result.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["potential.json", "potential.npz", "potential.png"]
    assert all(f.stat().st_size > 1000 for f in files)
    content = json.loads((tmp_path / "potential.json").read_text())
    assert content["estimates"]["housekeeping"]["value"] == result.estimates["housekeeping"].value
    assert content["reading"] == result.reading and len(content["zeros"]) == len(result.zeros)
    with np.load(tmp_path / "potential.npz", allow_pickle=False) as arrays:
        assert arrays["potential"].shape == result.grid.cells
        assert arrays["circulating"].shape == (*result.grid.cells, result.grid.dim)
        assert ("loss" in arrays) == (result.loss is not None)
    assert len(result.figure().axes) == {"isotropic": 6, "circulating": 8, "line": 2}[which]  # with their colour bars


def test_a_report_has_its_parts(isotropic):
    text = str(isotropic)
    for part in (
        "tilted: d = 2; lr = 0.1, B = 1",
        "T = 0.05; Φ = −T log ρ_ss",
        "correlation of Φ with f",
        "critical point of f",
        "distance to the nearest minimum of f",
        "mass in its outermost cells",
        "cells across the narrowest steady width",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": 7}, "cells must have even numbers of at least 8 cells"),
        ({"cells": (8, 8)}, "cells must be one number, or one for each of 1 axes"),
        ({"grid": ss.Grid([-2.0], [2.0], [65])}, "grid must have even numbers of at least 8 cells"),
        ({"grid": ss.Grid([-2.0], [2.0], [8]), "cells": 8}, "cells must not be given beside a grid"),
        ({"grid": ss.Grid([0.0, 0.0], [1.0, 1.0], [8, 8])}, "grid must have the problem's 1 dimensions, got 2"),
    ],
)
def test_bad_grids(options, message):
    with pytest.raises(ValueError, match=message):
        studies.potential(noisy(ss.potentials.DoubleWell(), 1.0), **options)


def test_what_has_no_potential_is_named():
    with pytest.raises(ValueError, match="sgd must have at most 2 dimensions for an effective potential, got 3"):
        studies.potential(noisy(ss.potentials.DoubleWell(dim=3), 1.0))
    x = np.array([[1.0], [2.0]])
    risk = ss.EmpiricalRisk(lambda w, z: jnp.sum((w - z[0]) ** 2), (x,), init=np.zeros(1))
    full = ss.SGD(risk, learning_rate=0.1, batch_size=2, sampling="without-replacement")
    with pytest.raises(ValueError, match="batch_size must leave some noise"):
        studies.potential(full)
    with pytest.raises(ValueError, match="no minimum of the loss was found"):
        studies.potential(noisy(lambda x: -(x[0] ** 2), 1.0, dim=1))
    well = ss.potentials.CirculatingDoubleWell()
    fp = ss.FokkerPlanck(well.drift, well.diffusion, ss.Grid([-2.0, -2.0], [2.0, 2.0], [16, 16]))
    with pytest.raises(ValueError, match="temperature must be positive and finite, got 0"):
        studies.potential_of(fp, temperature=0.0)
    with pytest.raises(ValueError, match="strength must be finite, got nan"):
        ss.potentials.CirculatingDoubleWell(float("nan"))


@pytest.mark.usefixtures("as_users_run")
def test_other_things_are_no_process():
    with pytest.raises(TypeError, match="sgd must be an SGD process, got str"):
        studies.potential("sgd")
    with pytest.raises(TypeError, match="fp must be a FokkerPlanck equation, got str"):
        studies.potential_of("fp")
