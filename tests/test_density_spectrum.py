"""The slow modes: published gaps, passage times, separable truth, rings and rotations."""

import functools

import equations
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import wells

from sgdsim.density import FokkerPlanck
from sgdsim.density.generator import Generator
from sgdsim.density.grid import Grid
from sgdsim.density.passage import passage_times
from sgdsim.density.spectrum import SlowModes, slow_modes
from sgdsim.density.stationary import stationary_log_masses


def tilted(x: jax.Array) -> jax.Array:
    return wells(x) + 0.6 * x[0]


def four_wells(x: jax.Array) -> jax.Array:
    return jnp.sum((x**2 - 1) ** 2)


gibbs_problem = functools.cache(equations.gibbs_problem)


def modes_of(fp: FokkerPlanck, count: int = 1) -> SlowModes:
    return slow_modes(fp.generator, fp.log_stationary(), count)


def along(generator: Generator, axis: int) -> Generator:
    """One 1-D factor of a generator that is a sum over axes."""
    k = generator.offsets.index(tuple(int(a == axis) for a in range(len(generator.cells))))
    forward, backward = (
        np.moveaxis(np.asarray(r[k]), axis, 0).reshape(generator.cells[axis], -1)[None, :, 0]
        for r in (generator.rates_forward, generator.rates_backward)
    )
    return Generator(offsets=((1,),), rates_forward=jnp.asarray(forward), rates_backward=jnp.asarray(backward))


def rates_along(generator: Generator, axis: int, count: int) -> np.ndarray:
    line = along(generator, axis)
    return slow_modes(line, stationary_log_masses(line), count).rates


def check(generator: Generator, modes: SlowModes, log_masses: np.ndarray, exact: float = 1e-9) -> None:
    """L φ = −r φ, Lᵀ h = −r h up to `exact` · q, biorthonormal, no mass, mean square 1, the sign rule."""
    count, matrix, q = len(modes.rates), generator.as_sparse(), generator.max_exit_rate
    densities, observables = (m.reshape(count, -1).T for m in (modes.densities, modes.observables))
    right = np.abs(matrix @ densities + densities * modes.rates).sum(axis=0) / np.abs(densities).sum(axis=0)
    left = np.abs(matrix.T @ observables + observables * modes.rates).max(axis=0) / np.abs(observables).max(axis=0)
    assert np.max(right) < exact * q and np.max(left) < exact * q
    np.testing.assert_allclose(observables.T @ densities, np.eye(count), rtol=0, atol=1e-9)
    assert np.max(np.abs(densities.sum(axis=0))) < 1e-9
    np.testing.assert_allclose(np.exp(log_masses).reshape(-1) @ np.abs(observables) ** 2, 1, rtol=1e-9)
    assert np.all(np.diff(modes.rates.real) >= -1e-8 * np.abs(modes.rates[1:]))
    for h in observables.T:
        peak = h[np.nonzero(np.abs(h) >= 0.99 * np.max(np.abs(h)))[0][-1]]
        assert peak.real > 0 and abs(np.imag(peak)) < 1e-12 * peak.real


@pytest.mark.parametrize(("temperature", "gap", "rtol"), [(0.2, 0.0111046, 1.3e-4), (0.03, 5.943e-15, 1e-2)])
def test_the_gap_of_the_double_well(temperature: float, gap: float, rtol: float) -> None:
    """Continuum values of V = (x² − 1)²; `eigh` reads 4.6e-13 at T = 0.03."""
    fp = gibbs_problem((512,), temperature)
    modes = modes_of(fp, 4)
    assert modes.gap == pytest.approx(gap, rel=rtol) and modes.relaxation_time == 1 / modes.gap
    assert modes.reversible and modes.rates.dtype == np.float64
    check(fp.generator, modes, fp.log_stationary())


@pytest.mark.parametrize("temperature", [0.02, 0.005])
def test_the_gap_is_twice_the_rate_of_passage_however_small(temperature: float) -> None:
    """3.4e-22 and 2e-87: at low temperature gap · τ(−1 → 0) = 1, as half of those at 0 fall back."""
    fp = gibbs_problem((513,), temperature)
    times = passage_times(fp.generator, np.arange(513) == 256)
    tau = np.interp(-1.0, fp.grid.axis_centres(0), times)
    assert modes_of(fp).gap * tau == pytest.approx(1, rel=1e-9)
    if temperature == 0.02:
        assert modes_of(fp).gap == pytest.approx(3.449e-22, rel=1e-2)


def test_gap_times_passage_is_one() -> None:
    """T = 0.1; what is missing from 1 is the time of relaxation within the well, 1e-4."""
    fp = gibbs_problem((513,), 0.1)
    times = passage_times(fp.generator, np.arange(513) == 256)
    assert modes_of(fp).gap * np.interp(-1.0, fp.grid.axis_centres(0), times) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize(("temperature", "from_rates"), [(0.2, False), (0.03, False), (0.03, True), (0.02, False)])
def test_a_sum_over_axes_has_the_sums_of_their_rates(temperature: float, from_rates: bool) -> None:
    """2-D: gaps down to 3.5e-22 agree with the bidiagonal ones of the same x₁ cells."""
    fp = gibbs_problem((64, 48), temperature)
    logs = stationary_log_masses(fp.generator) if from_rates else fp.log_stationary()
    modes = slow_modes(fp.generator, logs, 3)
    first, second = rates_along(fp.generator, 0, 3), rates_along(fp.generator, 1, 3)
    exact = np.sort(np.add.outer(np.append(0, first), np.append(0, second)).ravel())[1:4]
    np.testing.assert_allclose(modes.rates, exact, rtol=1e-6)
    check(fp.generator, modes, logs)


@pytest.mark.parametrize("temperature", [0.2, 0.03])
def test_modes_that_decay_equally_slowly_are_all_found(temperature: float) -> None:
    """Four wells: rates g, g, 2g, where 4e-15 apart from 0 and from each other too."""
    fp = gibbs_problem((40, 40), temperature, four_wells)
    modes = modes_of(fp, 4)
    gap = rates_along(fp.generator, 0, 1)[0]
    np.testing.assert_allclose(modes.rates[:3], [gap, gap, 2 * gap], rtol=1e-8)
    assert modes.rates[3] > 100 * gap
    check(fp.generator, modes, fp.log_stationary())


@pytest.mark.parametrize("cells", [(256,), (64, 32)])
def test_a_shallow_well_that_is_almost_empty(cells: tuple[int, ...]) -> None:
    """V + 0.6 x at T = 0.03: the right well holds e^{−40}, and the mode is that it empties at 1/τ."""
    fp = gibbs_problem(cells, 0.03, tilted)
    modes = modes_of(fp, 2)
    times = passage_times(fp.generator, fp.grid.centres[..., 0] <= -0.5)
    assert modes.gap * np.max(times) == pytest.approx(1, rel=1e-6)
    mass = np.exp(fp.log_stationary())[fp.grid.centres[..., 0] > 0.2].sum()
    assert mass < 1e-16 and np.max(modes.observables[0]) == pytest.approx(mass**-0.5, rel=1e-6)
    check(fp.generator, modes, fp.log_stationary(), exact=1e-8)


def test_the_density_decays_as_the_modes_say() -> None:
    """p(t) − π = e^{−r t}⟨h, p₀⟩ φ up to the next mode, which is 300 times faster."""
    fp = gibbs_problem((128,), 0.2)
    modes, start = modes_of(fp), np.eye(128)[90]
    times = np.array([20.0, 60.0])
    left = fp.propagate(start, times).masses - fp.stationary()
    excited = np.sum(modes.observables[0] * start)
    for t, p in zip(times, left, strict=True):
        assert np.abs(p - np.exp(-modes.gap * t) * excited * modes.densities[0]).sum() < 1e-8
    slope = np.log(np.abs(left[0]).sum() / np.abs(left[1]).sum()) / 40
    assert slope == pytest.approx(modes.gap, rel=1e-7)


FLOW = np.array([[1.0, 0.8], [-0.6, 1.5]])


@functools.cache
def rotated(cells: int) -> FokkerPlanck:
    """OU with rotation and a skewed tensor of ratio 5: slowest rates the eigenvalues of the drift, 1.25 ± 0.65i."""
    tensor = jnp.array([[0.4, 0.15], [0.15, 0.2]])
    return FokkerPlanck(lambda x: -FLOW @ x, lambda x: tensor, Grid([-4.0] * 2, [4.0] * 2, [cells, cells]))


def test_rotation_has_complex_rates_to_second_order() -> None:
    exact = np.linalg.eigvals(FLOW)
    exact = exact[np.argsort(-exact.imag)]
    errors = []
    for cells in (24, 48):
        fp = rotated(cells)
        modes = modes_of(fp, 5)
        assert not modes.reversible and modes.gap == modes.rates[0].real
        check(fp.generator, modes, fp.log_stationary(), exact=1e-11)
        errors.append(np.max(np.abs(modes.rates[:2] - exact)))
    assert errors[1] < 0.04 and errors[0] / errors[1] == pytest.approx(4, abs=0.5)


def test_the_slowest_may_turn_fast() -> None:
    """Rotation 30 times the decay: faster modes are nearer to 0 than the slowest pair. By a dense solver."""
    flow = jnp.array([[1.0, 30.0], [-30.0, 1.0]])
    fp = FokkerPlanck(lambda x: -flow @ x, lambda x: 0.3 * jnp.eye(2), Grid([-4.0] * 2, [4.0] * 2, [20, 20]))
    exact = -np.linalg.eigvals(fp.generator.as_sparse().toarray())
    exact = np.sort(exact.real)[1:4]
    np.testing.assert_allclose(modes_of(fp, 3).rates.real, exact, rtol=1e-8)


@pytest.mark.parametrize("temperature", [0.1, 0.03, 0.02])
def test_a_current_does_not_hide_a_small_gap(temperature: float) -> None:
    """b = (−I + J/2)∇f keeps e^{−f/T}, not detailed balance. gap · τ = 2 from well to well: gaps of 1e-21 too."""
    turn = jnp.array([[-1.0, 0.5], [-0.5, -1.0]])
    fp = FokkerPlanck(
        lambda x: turn @ jax.grad(wells)(x), lambda x: temperature * jnp.eye(2), Grid([-1.8] * 2, [1.8] * 2, [48, 48])
    )
    modes = modes_of(fp)
    x = fp.grid.centres
    times = passage_times(fp.generator, np.linalg.norm(x - [1, 0], axis=-1) < 0.3)
    start = np.unravel_index(np.argmin(np.linalg.norm(x - [-1, 0], axis=-1)), fp.grid.cells)
    assert not modes.reversible
    assert modes.gap * times[start] == pytest.approx(2, rel=4e-4 if temperature == 0.1 else 1e-8)


@pytest.mark.parametrize("speed", [0.0, 2.0])
def test_on_a_ring_the_modes_are_waves(speed: float) -> None:
    """Constant rates f, b: f(1 − e^{−iκ}) + b(1 − e^{iκ}) for κ = 2πm/n, exactly; each twice."""
    grid = Grid([0.0], [1.0], [40], periodic=True)
    generator = Generator.of(grid, lambda x: speed + 0 * x, lambda x: 0.1 * jnp.eye(1))
    logs = np.full(40, -np.log(40))
    modes = slow_modes(generator, logs, 4)
    forward, backward = float(generator.rates_forward[0, 5]), float(generator.rates_backward[0, 5])
    kappa = 2 * np.pi * np.array([1, -1, 2, -2]) / 40
    exact = forward * (1 - np.exp(-1j * kappa)) + backward * (1 - np.exp(1j * kappa))
    assert modes.reversible == (speed == 0)
    np.testing.assert_allclose(modes.rates, exact.real if speed == 0 else exact, rtol=1e-10)
    check(generator, modes, logs)


def test_three_dimensions() -> None:
    fp = gibbs_problem((12, 10, 8), 0.1)
    modes = modes_of(fp, 2)
    assert modes.gap == pytest.approx(rates_along(fp.generator, 0, 1)[0], rel=1e-10)
    check(fp.generator, modes, fp.log_stationary())


@pytest.mark.parametrize("declared", [True, False])
def test_cells_cut_off_are_left_out(declared: bool) -> None:
    """Skewed tensor, edges (1, 1), (1, 2), (2, 3): two corners keep what they have, and are no slow mode."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    tensor = np.array([[c, -s], [s, c]]) @ np.diag([0.5, 0.005]) @ np.array([[c, s], [-s, c]])
    fp = FokkerPlanck(
        lambda x: -tensor @ x,
        lambda x: tensor,
        Grid([-3.0] * 2, [3.0] * 2, [40, 40]),
        potential=(lambda x: x @ x / 2) if declared else None,
    )
    alone = np.asarray(fp.generator.exit_rates) == 0
    modes = modes_of(fp)
    assert alone.any() and modes.gap > 1e-4
    assert np.all(modes.observables[0][alone] == 0) and np.all(modes.densities[0][alone] == 0)
    if not declared:
        check(fp.generator, modes, fp.log_stationary())


def test_in_float32() -> None:
    double, single = gibbs_problem((24, 20), 0.1), gibbs_problem((24, 20), 0.1).generator
    single = Generator(
        single.offsets, single.rates_forward.astype(jnp.float32), single.rates_backward.astype(jnp.float32)
    )
    modes = slow_modes(single, double.log_stationary())
    assert modes.reversible and modes.gap == pytest.approx(modes_of(double).gap, rel=1e-5)


def test_the_same_modes_come_out_each_time() -> None:
    for fp in (gibbs_problem((40, 40), 0.2, four_wells), rotated(24)):
        once, again = modes_of(fp, 2), modes_of(fp, 2)
        np.testing.assert_allclose(once.observables, again.observables, rtol=1e-8, atol=1e-8)


def test_wrong_arguments() -> None:
    fp = gibbs_problem((12,), 0.2)
    logs = fp.log_stationary()
    for count in (0, -1, 10):
        with pytest.raises(ValueError, match=f"count must be from 1 to 9 on 12 cells, got {count}"):
            slow_modes(fp.generator, logs, count)
    with pytest.raises(ValueError, match=r"log_masses must have the grid's shape \(12,\), got \(11,\)"):
        slow_modes(fp.generator, logs[1:])
    with pytest.raises(ValueError, match="log_masses must be those of the generator's steady state"):
        slow_modes(fp.generator, np.full(12, -np.log(12)))
    for wrong in (np.nan, -np.inf):
        with pytest.raises(ValueError, match=f"log_masses must be finite in the main body, got {wrong}"):
            slow_modes(fp.generator, np.full(12, wrong))
    assert modes_of(fp, 9).rates.shape == (9,)


def test_too_many_cells() -> None:
    rates = jnp.broadcast_to(jnp.zeros(()), (1, 50, 50, 50))
    with pytest.raises(ValueError, match="at most 64000 cells"):
        slow_modes(Generator(((0, 0, 1),), rates, rates), np.zeros((50, 50, 50)))


def test_a_gap_under_the_noise_is_an_error() -> None:
    fp = gibbs_problem((48, 24), 0.01)
    with pytest.raises(ArithmeticError, match="the gap is under"):
        modes_of(fp)
