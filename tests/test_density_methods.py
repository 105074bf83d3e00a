"""Every way of propagating a density against uniformization, which is exact for any drift; what each refuses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import enable_x64, gibbs_problem, rotated_ou

from sgdsim.density import FokkerPlanck, Grid, propagate_schedule, propagate_sweep
from sgdsim.density.balance import asymmetry, reversible_part
from sgdsim.density.chebyshev import chebyshev
from sgdsim.density.propagate import settling_time
from sgdsim.density.stationary import stationary_log_masses
from sgdsim.density.talbot import talbot_contour
from sgdsim.density.uniformization import event_rate, uniformize
from sgdsim.ensemble import Gaussian

LEFT = Gaussian([-1.0], [[0.04]])
START = Gaussian([-1.0, 0.5], 0.04)
OTHERS = ("chebyshev", "talbot", "tr-bdf2")


def run(fp: FokkerPlanck, times: list[float], method: str, start: Gaussian = LEFT):
    return fp.propagate(fp.density_of(start), times, method=method, grid_error=False)


def gap_between(a, b) -> float:
    return float(np.max(np.abs(a.masses - b.masses).reshape(len(a.times), -1).sum(axis=1)))


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("temperature", [0.2, 0.03])
def test_one_dimension(method: str, temperature: float) -> None:
    """At T = .03 the box reaches 900 temperatures above the wells: Chebyshev's terms grow to 1e26 there.

    Talbot does not take such a start over short times (another test).
    """
    early = [] if method == "talbot" and temperature < 0.1 else [0.001, 0.05]
    fp, times = gibbs_problem((512,), temperature), [0.0, *early, 5.0]
    exact, answer = run(fp, times, "uniformization"), run(fp, times, method)
    assert exact.smallest >= 0 and answer.method == method
    assert gap_between(answer, exact) <= 1e-10
    assert answer.mass_defect <= 1e-12 and answer.smallest >= -1e-15


@pytest.mark.parametrize("method", ["chebyshev", "talbot", "tr-bdf2"])
@pytest.mark.parametrize("temperature", [0.2, 0.05])
def test_two_dimensions(method: str, temperature: float) -> None:
    fp = gibbs_problem((64, 48), temperature)
    exact, answer = run(fp, [0.1, 2.0], "uniformization", START), run(fp, [0.1, 2.0], method, START)
    assert gap_between(answer, exact) <= 1e-10
    assert answer.mass_defect <= 1e-12 and answer.smallest >= -1e-15


@pytest.mark.parametrize("cells", [64, 128, 256])
@pytest.mark.parametrize("eigenvalues", [(0.5, 0.05), (0.5, 0.005)])
@pytest.mark.slow
def test_rotation_is_refused_or_right(cells: int, eigenvalues: tuple[float, float]) -> None:
    fp = rotated_ou(cells, eigenvalues)
    for method in ("chebyshev", "talbot"):
        with pytest.raises(ValueError, match="needs detailed balance"):
            run(fp, [1.0], method, START)
    exact, auto = run(fp, [1.0], "uniformization", START), run(fp, [1.0], "auto", START)
    assert auto.method == "uniformization" and gap_between(auto, exact) == 0
    assert exact.smallest >= 0 and exact.mass_defect <= 1e-12
    if cells == 64:  # sparse factors of larger grids take long for what they give
        implicit = run(fp, [1.0], "tr-bdf2", START)
        assert gap_between(implicit, exact) <= 1e-10 and implicit.mass_defect <= 1e-12


@pytest.mark.parametrize("eigenvalues", [(0.5, 0.05), (0.5, 0.005)])
def test_chebyshev_is_right_even_past_the_gate(eigenvalues: tuple[float, float]) -> None:
    """In fixed blocks of 400 events the rotation at 128² leaves an error of 9.5e4; its own watch cuts them shorter."""
    fp = rotated_ou(128, eigenvalues)
    masses, rate = jnp.asarray(fp.density_of(Gaussian([-1.0, 0.5], 0.25))), event_rate(fp.generator)
    fast, _ = chebyshev(fp.generator, masses, 1.0, rate)
    slow, _ = uniformize(fp.generator, masses, 1.0, rate)
    assert float(jnp.abs(fast - slow).sum()) <= 1e-12


@pytest.mark.parametrize("method", ["uniformization", "chebyshev", "tr-bdf2", "auto"])
@pytest.mark.slow
def test_float32(method: str) -> None:
    wide, flat = gibbs_problem((512,)), gibbs_problem((64, 48))
    exact = run(wide, [0.05, 5.0], "uniformization"), run(flat, [2.0], "uniformization", START)
    with enable_x64(False):
        answers = run(gibbs_problem((512,)), [0.05, 5.0], method), run(gibbs_problem((64, 48)), [2.0], method, START)
    for answer, truth in zip(answers, exact, strict=True):
        assert answer.masses.dtype == np.float32
        assert gap_between(answer, truth) <= 5e-6 and answer.mass_defect <= 5e-6


def test_float32_has_no_talbot() -> None:
    with enable_x64(False), pytest.raises(ValueError, match="needs float64"):
        run(gibbs_problem((64,)), [1.0], "talbot")


def test_auto_says_what_it_took() -> None:
    assert run(gibbs_problem((512,)), [5.0], "auto").method == "talbot"
    assert run(gibbs_problem((512,)), [0.001], "auto").method == "uniformization"
    assert run(gibbs_problem((96, 96)), [2.0], "auto", START).method == "chebyshev"
    assert run(rotated_ou(64), [2.0], "auto", START).method == "uniformization"
    with enable_x64(False):
        assert run(gibbs_problem((512,)), [10.0], "auto").method == "tr-bdf2"
    with pytest.raises(ValueError, match="method must be one of auto, uniformization, chebyshev, talbot, tr-bdf2"):
        run(gibbs_problem((64,)), [1.0], "euler")


def test_a_long_run_ends_in_the_steady_state() -> None:
    fp = gibbs_problem((256,))
    answer = run(fp, [5.0, 1e4, 1e9], "auto")
    assert answer.method.startswith("talbot, the steady state from t = ")
    np.testing.assert_array_equal(answer.masses[1], answer.masses[2])
    assert np.abs(answer.masses[2] - fp.stationary()).sum() <= 1e-12
    assert run(fp, [1e9], "auto").method == "the steady state" and run(fp, [1e9], "auto").matvecs == 0
    # just before that time the density is there already: the bound is on the safe side
    settled = settling_time(fp, fp.density_of(LEFT))
    assert np.abs(run(fp, [settled], "talbot").masses[0] - fp.stationary()).sum() <= 1e-10


def test_a_long_run_with_rotation_ends_there_too() -> None:
    fp = rotated_ou(48)
    answer = run(fp, [2.0, 1e5], "auto", START)
    assert answer.method.startswith("uniformization, the steady state from t = ")
    far = run(fp, [40.0], "uniformization", START)
    assert np.abs(far.masses[0] - answer.masses[1]).sum() <= 1e-10


@pytest.mark.slow
def test_detailed_balance_is_found_in_the_rates() -> None:
    assert asymmetry(gibbs_problem((40, 30)).generator) <= 1e-12 and gibbs_problem((40, 30)).is_balanced
    # the midpoint rule along x₁ and x₂ gives exact differences of a sum of functions of one coordinate each
    assert gibbs_problem((40, 30), declared=False).is_balanced
    assert asymmetry(rotated_ou(32).generator) > 1e-3 and not rotated_ou(32).is_balanced
    generator = rotated_ou(32).generator
    logs = stationary_log_masses(generator)
    halved = reversible_part(generator, logs)
    assert asymmetry(halved) <= 1e-10
    assert np.abs(np.asarray(halved.apply(jnp.asarray(np.exp(logs))))).sum() <= 1e-12 * halved.max_exit_rate


def test_a_start_far_above_the_steady_state() -> None:
    """450 temperatures up Talbot's error of 1e-15 is relative to a norm of e^{300}: it must notice, and auto manage."""
    fp, far, times = gibbs_problem((512,), 0.02), Gaussian([-2.0], [[0.002]]), [1e-3, 0.03, 0.1, 3.0]
    exact = run(fp, times, "uniformization", far)
    with pytest.raises(ArithmeticError, match="Talbot's contour is not exact for this start"):
        run(fp, [0.03], "talbot", far)
    for method in ("auto", "chebyshev", "tr-bdf2"):
        answer = run(fp, times, method, far)
        assert gap_between(answer, exact) <= 1e-10 and answer.smallest >= -1e-15
    assert "uniformization" in run(fp, times, "auto", far).method


def test_talbot_weights() -> None:
    """(1/2πi) ∮ eᶻ/(z + a) dz = e^{−a} for a ≥ 0."""
    z, w = talbot_contour(24)
    for a in (0.0, 0.1, 3.0, 1e3, 1e8):
        assert np.real(np.sum(w / (z + a))) == pytest.approx(np.exp(-a), abs=5e-14)


def test_the_answer_carries_its_grid_error() -> None:
    """Half the cells, a third of the difference: within a fifth of the truth."""
    errors = {}
    for cells in (128, 512):
        fp = gibbs_problem((cells,))
        errors[cells] = fp.propagate(fp.density_of(LEFT), [0.5, 5.0])
    truth = errors[512].masses.reshape(2, 128, 4).sum(axis=2)
    real = np.abs(errors[128].masses - truth).sum(axis=1) * 16 / 15
    np.testing.assert_allclose(errors[128].grid_error, real, rtol=0.2)
    assert "grid error" in repr(errors[128])
    thirds = gibbs_problem((171,))  # 171 = 3 · 57
    assert np.all(np.isfinite(thirds.propagate(thirds.density_of(LEFT), [0.5]).grid_error))
    prime = gibbs_problem((127,))
    assert np.all(np.isnan(prime.propagate(prime.density_of(LEFT), [0.5]).grid_error))


def test_a_box_that_cuts_off_mass_says_so() -> None:
    fp = FokkerPlanck(lambda x: -x, lambda x: jnp.eye(1), Grid([-1.0], [1.0], [64]))
    with pytest.warns(UserWarning, match="the box cuts off mass"):
        answer = fp.propagate(fp.density_of(Gaussian([0.0], [[0.01]])), [0.1, 1.0])
    assert answer.cuts_off_mass and "CUTS OFF MASS" in repr(answer)
    assert answer.boundary_mass[1] == pytest.approx(fp.boundary_mass(answer.masses[1]))


def test_sweep_is_each_by_itself() -> None:
    fps = [gibbs_problem((128,), temperature) for temperature in (0.05, 0.1, 0.3)]
    p0 = fps[0].density_of(LEFT)
    masses = propagate_sweep(fps, p0, [0.0, 0.5, 3.0])
    assert masses.shape == (3, 3, 128)
    for fp, mine in zip(fps, masses, strict=True):
        assert np.abs(run(fp, [0.0, 0.5, 3.0], "uniformization").masses - mine).sum() <= 1e-13
    with pytest.raises(ValueError, match="equations must be at least one, all on one grid"):
        propagate_sweep([fps[0], gibbs_problem((64,))], p0, [1.0])


def test_schedule_is_one_phase_after_another() -> None:
    hot, cold = gibbs_problem((128,), 0.3), gibbs_problem((128,), 0.1)
    p0 = hot.density_of(LEFT)
    answer = propagate_schedule([(hot, 0.5), (cold, 1.0), (hot, math.inf)], p0, [0.0, 0.2, 0.5, 0.7, 2.5])
    first = hot.propagate(p0, [0.2, 0.5]).masses
    second = cold.propagate(first[-1], [0.2, 1.0]).masses
    third = hot.propagate(second[-1], [1.0]).masses
    expected = np.stack([p0, *first, second[0], third[0]])
    assert np.abs(answer.masses - expected).sum() <= 1e-11
    assert answer.mass_defect <= 1e-12 and np.all(answer.grid_error[1:] > 0)
    tenths = propagate_schedule([(hot, 0.1)] * 10, p0, [0.1, 0.55, 1.0])  # ten times .1 is not 1
    assert np.abs(tenths.masses - hot.propagate(p0, [0.1, 0.55, 1.0]).masses).sum() <= 1e-11


def test_schedule_of_a_decaying_temperature_is_second_order() -> None:
    """OU with T(t) = .1 + .2 e^{−t}: Var' = −2 Var + 2T; stages that take T at their middle."""
    grid = Grid([-4.0], [4.0], [200])

    def variance(stages: int) -> float:
        edges = np.linspace(0.0, 2.0, stages + 1)
        middles = 0.1 + 0.2 * np.exp(-(edges[1:] + edges[:-1]) / 2)
        phases = [
            (FokkerPlanck(lambda x: -x, lambda x, t=t: t * jnp.eye(1), grid), 2.0 / stages) for t in middles.tolist()
        ]
        p0 = phases[0][0].density_of(Gaussian([0.0], [[0.4]]))
        masses = propagate_schedule(phases, p0, [2.0], grid_error=False).masses[0]
        return float(np.sum(masses * grid.axis_centres(0) ** 2))

    variances = [variance(stages) for stages in (1, 2, 4)]
    assert (variances[0] - variances[1]) / (variances[1] - variances[2]) == pytest.approx(4, rel=0.2)
    exact = 0.4 * np.exp(-4) + 0.1 * (1 - np.exp(-4)) + 0.4 * (np.exp(-2) - np.exp(-4))
    assert variances[2] == pytest.approx(exact, rel=2e-2)  # four stages: 1 %


def test_bad_schedules() -> None:
    fp, p0 = gibbs_problem((64,)), gibbs_problem((64,)).density_of(LEFT)
    with pytest.raises(ValueError, match="times must lie within the phases, which last 2"):
        propagate_schedule([(fp, 1.0), (fp, 1.0)], p0, [3.0])
    with pytest.raises(ValueError, match="phases must last a positive time"):
        propagate_schedule([(fp, math.inf), (fp, 1.0)], p0, [3.0])
    with pytest.raises(ValueError, match="phases must be at least one"):
        propagate_schedule([], p0, [3.0])
    with pytest.raises(ValueError, match="times must be finite"):
        propagate_schedule([(fp, 1.0)], p0, [0.5, 0.2])


def test_a_singular_diffusion_is_regularised_only_on_request() -> None:
    def tensor(x: jax.Array) -> jax.Array:
        return jnp.outer(jnp.array([1.0, 1.0]), jnp.array([1.0, 1.0])) / 10

    grid = Grid([-2.0] * 2, [2.0] * 2, [32] * 2)
    with pytest.raises(ValueError, match=r"diffusion is singular at x = .*regularisation"):
        FokkerPlanck(lambda x: -x, tensor, grid)
    fp = FokkerPlanck(lambda x: -x, tensor, grid, regularisation=0.02)
    answer = fp.propagate(fp.density_of(Gaussian([0.0, 0.0], 0.1)), [1.0])
    assert answer.regularisation == 0.02 and "regularised by 0.02 I" in repr(answer) and "0.02 I" in repr(fp)
    covariance = np.einsum("xy,xyi,xyj->ij", fp.stationary(), grid.centres, grid.centres)
    np.testing.assert_allclose(covariance, [[0.12, 0.1], [0.1, 0.12]], atol=5e-3)  # A + εI, for b = −x
    with pytest.raises(ValueError, match="regularisation must be finite and not negative"):
        FokkerPlanck(lambda x: -x, tensor, grid, regularisation=-1.0)
    with pytest.raises(ValueError, match="regularisation must be 0 beside a potential"):
        FokkerPlanck(lambda x: -x, lambda x: jnp.eye(2), grid, lambda x: x @ x / 2, regularisation=0.1)


def test_a_grid_over_the_memory_limit_is_refused_before_anything_is_evaluated() -> None:
    def never(x: jax.Array) -> jax.Array:
        raise AssertionError

    with pytest.raises(ValueError, match=r"grid of 2048×2048×2048 cells needs about .* GiB, over memory_limit = 8 GiB"):
        FokkerPlanck(never, never, Grid([-1.0] * 3, [1.0] * 3, [2048] * 3))
    with pytest.raises(ValueError, match="raise memory_limit"):
        FokkerPlanck(never, never, Grid([-1.0], [1.0], [512]), memory_limit=1e4)
