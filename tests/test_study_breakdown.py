"""The atlas of SGD against its limits."""

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from sgdsim import theory
from sgdsim.ensemble import Gaussian
from sgdsim.measures import Estimate
from sgdsim.problems import AlphaStableNoise, EmpiricalRisk, GaussianNoise, NoisyPotential, potentials
from sgdsim.processes import SGD
from sgdsim.studies.atlas import BREAKDOWN_FILES, WHEN, Breakdown, Cell
from sgdsim.studies.atlas_laws import (
    Moments,
    Well,
    chain_moments,
    expected_distance,
    gaussian_energy,
    limit_moments,
    sharpest_well,
)
from sgdsim.studies.breakdown import breakdown
from sgdsim.studies.reading import departs

study = importlib.import_module("sgdsim.studies.breakdown")  # the module, which the function's name hides
pytestmark = pytest.mark.slow  # clouds of several compiled processes

K, D = np.array([[2.0, 0.3], [0.3, 0.5]]), np.diag([1.0, 0.5])
PROBLEM = NoisyPotential(potentials.Quadratic(K), GaussianNoise(D))
START = Gaussian([1.0, 1.0], 0.04)
WELL = Well(np.zeros(2), K, D, count=1, is_exact=True)
SETTINGS: dict[str, Any] = {
    "effective_learning_rates": [0.2, 0.4],
    "batch_sizes": [1, 16],
    "momenta": [0.0, 0.5],
    "times": (0.8, 8.0),
    "particles": 4_000,
    "key": jax.random.key(3),
}
ONE_CELL = SETTINGS | {"effective_learning_rates": [0.2], "batch_sizes": [4], "momenta": [0.0], "particles": 100}
LIMITS = [("first-order", 0.0), ("first-order", 0.5), ("second-order", 0.0), ("underdamped", 0.5)]


@pytest.fixture(scope="module")
def atlas() -> Breakdown:
    return breakdown(PROBLEM, START, **SETTINGS)


def sgd(learning_rate: float, momentum: float = 0.0, batch_size: int = 4) -> SGD:
    return SGD(PROBLEM, learning_rate=learning_rate, batch_size=batch_size, momentum=momentum)


def readings(atlas: Breakdown, rate: float) -> list[tuple[Estimate, float]]:
    """Every distance at this learning rate with what the exact laws expect."""
    return [
        (cell.distances[limit][when], cell.expected[limit][when])
        for cell in atlas.cells
        if cell.effective_learning_rate == rate
        for limit in cell.distances
        for when in (0, 1)
    ]


# What is measured, against the exact laws.


def test_the_distances_of_a_quadratic_are_those_of_its_exact_gaussians(atlas: Breakdown) -> None:
    pairs = readings(atlas, 0.2) + readings(atlas, 0.4)
    assert len(pairs) == 32 and all(abs(measured.z(exact)) < 4 for measured, exact in pairs)


def test_large_steps_depart_and_limits_agree_with_themselves(atlas: Breakdown) -> None:
    large = readings(atlas, 0.4)
    assert sum(departs(measured) for measured, _ in large) >= 0.8 * len(large)
    own = [reading for cell in atlas.cells for pair in cell.solver.values() for reading in pair]
    assert len(own) == 32 and sum(not reading.above_floor for reading in own) >= 0.8 * len(own)
    assert not any(map(departs, own))


def test_small_steps_are_within_the_floor() -> None:
    # Odd batch sizes: no two cells have one temperature, and with it one first-order cloud.
    small = {"effective_learning_rates": [0.003, 0.006], "momenta": [0.0], "batch_sizes": [1, 3, 5, 7, 11]}
    cells = breakdown(PROBLEM, START, **SETTINGS | small).cells
    late = [pair[1] for cell in cells for pair in (*cell.distances.values(), *cell.solver.values())]
    assert len(late) == 40 and sum(not reading.above_floor for reading in late) >= 0.9 * len(late)
    assert not any(map(departs, late))


def test_the_energy_distance_reads_the_exact_law_on_a_line() -> None:
    problem = NoisyPotential(potentials.Quadratic([[1.0]]), GaussianNoise(1.0))
    settings = SETTINGS | {
        "effective_learning_rates": [0.8],
        "momenta": [0.0],
        "batch_sizes": [1],
        "distance": "energy",
    }
    (cell,) = breakdown(problem, Gaussian([1.0], 0.04), **settings).cells
    assert all(
        abs(r.z(e)) < 4
        for name in cell.distances
        for r, e in zip(cell.distances[name], cell.expected[name], strict=True)
    )
    assert departs(cell.distances["first-order"][1])


def test_beyond_the_edge_particles_diverge_and_are_counted() -> None:
    settings = ONE_CELL | {"effective_learning_rates": [0.2, 5.0], "times": (5.0, 100.0)}
    inside, beyond = breakdown(PROBLEM, START, **settings).cells
    assert inside.diverged == (0, 0) and beyond.diverged == (0, 100)
    lost = beyond.distances["first-order"][1]
    assert np.isnan(lost.value) and lost.left_out == 100


# The exact laws.


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_chain_s_moments_are_those_of_its_recursion(momentum: float) -> None:
    process, begin = sgd(0.3, momentum), Moments(np.array([1.0, -2.0]), np.diag([0.1, 0.2]))
    unit, pull = np.eye(2), 0.3 * K
    step = np.block([[unit - pull, -momentum * unit], [pull, momentum * unit]])
    kick = 0.3**2 / 4 * np.kron([[1, -1], [-1, 1]], D)
    mean, covariance = np.concatenate([begin.mean, np.zeros(2)]), np.kron([[1, 0], [0, 0]], begin.covariance)
    for _ in range(13):
        mean, covariance = step @ mean, step @ covariance @ step.T + kick
    found = chain_moments(process, WELL, begin, 13)
    np.testing.assert_allclose(found.mean, mean[:2], rtol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance[:2, :2], rtol=1e-12)
    steady = chain_moments(process, WELL, begin, 5_000).covariance
    np.testing.assert_allclose(steady, theory.heavy_ball_covariance(K, D / 4, 0.3, momentum), rtol=1e-9)


@pytest.mark.parametrize(("limit", "momentum"), LIMITS)
def test_the_limits_moments_end_in_their_steady_states(limit: str, momentum: float) -> None:
    well, process = Well(np.zeros(2), np.diag([2.0, 0.5]), D, 1, is_exact=True), sgd(0.3, momentum)
    found = limit_moments(process, well, Moments(np.array([1.0, -2.0]), np.diag([0.1, 0.2])), 2_000, limit)
    law = theory.second_order_stationary_covariance if limit == "second-order" else theory.ou_stationary_covariance
    np.testing.assert_allclose(found.mean, 0, atol=1e-9)
    np.testing.assert_allclose(found.covariance, law(well.hessian, D / 4, 0.3 / (1 - momentum)), atol=1e-9)


@pytest.mark.parametrize(("limit", "order"), [("first-order", 1), ("second-order", 2)])
def test_the_limits_means_have_their_weak_order(limit: str, order: int) -> None:
    begin, gaps = Moments(np.array([1.0, 1.0]), np.zeros((2, 2))), []
    for rate in (0.02, 0.01):
        process, steps = sgd(rate), round(1.0 / rate)
        gap = chain_moments(process, WELL, begin, steps).mean - limit_moments(process, WELL, begin, steps, limit).mean
        gaps.append(np.linalg.norm(gap))
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(order, abs=0.15)


def test_gaussian_energy_is_twice_the_integral_of_the_squared_difference() -> None:
    one, other = Moments(np.array([0.3]), np.array([[1.0]])), Moments(np.array([-0.1]), np.array([[2.0]]))
    first, second = scipy.stats.norm(0.3, 1.0), scipy.stats.norm(-0.1, 2**0.5)
    exact = 2 * scipy.integrate.quad(lambda x: (first.cdf(x) - second.cdf(x)) ** 2, -12, 12)[0]
    assert gaussian_energy(one, other) == pytest.approx(exact, rel=1e-8)
    assert gaussian_energy(one, one) == pytest.approx(0, abs=1e-15)


def test_laws_know_where_they_hold() -> None:
    quadratic = sharpest_well(sgd(0.1), np.zeros((1, 2)))
    assert quadratic is not None and quadratic.is_exact and quadratic.count == 1
    well_problem = NoisyPotential(potentials.DoubleWell(dim=1), GaussianNoise(1.0))
    chain = SGD(well_problem, learning_rate=0.1, batch_size=4)
    wells = sharpest_well(chain, np.zeros((1, 1)))
    assert wells is not None and not wells.is_exact and wells.count == 2
    assert wells.top_curvature == pytest.approx(2, abs=1e-5)
    start = Gaussian([0.0], 0.04)
    early, late = (
        expected_distance(chain, wells, "first-order", start, 300, "moments", is_late=x) for x in (False, True)
    )
    steady = [theory.sgd_stationary_covariance, theory.ou_stationary_covariance]
    chain_s, limit_s = (law(wells.hessian, wells.noise / 4, 0.1) for law in steady)
    assert np.isnan(early) and late == pytest.approx(
        theory.gaussian_kl(np.zeros(1), chain_s, np.zeros(1), limit_s), rel=1e-4
    )
    assert np.isnan(expected_distance(chain, None, "first-order", start, 300, "moments", is_late=True))


# Resuming.


def test_an_interrupted_atlas_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS | {"particles": 100, "momenta": [0.0]}
    whole = breakdown(PROBLEM, START, **settings)
    measured, done = study._measure, []

    def stops_at_the_third(plan: Any, place: Any, chain: SGD) -> Cell:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(place)
        return measured(plan, place, chain)

    monkeypatch.setattr(study, "_measure", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        breakdown(PROBLEM, START, **settings, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2

    monkeypatch.setattr(study, "_measure", lambda *cell: done.append(cell[1]) or measured(*cell))
    resumed = breakdown(PROBLEM, START, **settings, folder=tmp_path)
    assert len(done) == len(set(done)) == 4
    assert resumed.to_dict() == whole.to_dict()


def test_other_settings_are_not_mixed_up(tmp_path: Path) -> None:
    breakdown(PROBLEM, START, **ONE_CELL, folder=tmp_path)
    other = NoisyPotential(potentials.Quadratic(2 * K), GaussianNoise(D))
    changes: list[tuple[Any, Any, dict[str, Any]]] = [
        (PROBLEM, START, {"key": jax.random.key(4)}),
        (PROBLEM, START, {"times": (0.8, 1.6)}),
        (PROBLEM, START, {"limit_step": 0.1}),
        (PROBLEM, Gaussian([1.0, 1.1], 0.04), {}),
        (other, START, {"limit_step": 0.025}),
    ]
    for i, (problem, start, changed) in enumerate(changes):
        breakdown(problem, start, **ONE_CELL | changed, folder=tmp_path)
        assert len(list(tmp_path.iterdir())) == 2 + i
    breakdown(PROBLEM, START, **ONE_CELL | {"effective_learning_rates": [0.2, 0.1]}, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 + len(changes)  # one cell was there


@pytest.mark.parametrize(
    "spoil", [lambda text: text[:-30], lambda text: "{}", lambda text: text.replace('"identity": "', '"identity": "0')]
)
def test_a_spoiled_file_is_named(tmp_path: Path, spoil: Any) -> None:
    breakdown(PROBLEM, START, **ONE_CELL, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=path.name):
        breakdown(PROBLEM, START, **ONE_CELL, folder=tmp_path)


# The report.


def synthetic(values: dict[float, tuple[float, float]], diverged: tuple[float, ...] = ()) -> Breakdown:
    """An atlas with floors of 1 and errors of 0.1 at B = 1 and 8, for η of these first- and second-order distances."""
    cells = []
    for rate, (first, second) in values.items():
        for size in (1, 8):
            pair = {
                n: (Estimate(v, 0.1, 1.0), Estimate(v, 0.1, 1.0))
                for n, v in (("first-order", first), ("second-order", second))
            }
            lost = (0, 100 if rate in diverged else 0)
            nothing = dict.fromkeys(pair, (float("nan"), float("nan")))
            cells.append(Cell(rate, size, 0.0, rate, 0.1, (1.0, 10.0), lost, pair, pair, nothing))
    settings = {
        "effective_learning_rates": list(values),
        "batch_sizes": [1, 8],
        "particles": 100,
        "times": [1.0, 10.0],
        "dimension": 2,
        "sampling": "with-replacement",
        "distance": "moments",
        "is_linear": True,
    }
    return Breakdown("synthetic", settings, tuple(cells), 2.0)


def test_the_reading_says_where_limits_hold_and_break() -> None:
    result = synthetic({0.1: (0.5, 0.5), 0.2: (0.9, 3.0), 0.4: (20.0, 40.0), 0.8: (0.3, 7.0)}, diverged=(0.8,))
    first, late, second, _ = result.panels
    assert first.held.tolist() == [2, 2] and second.held.tolist() == [1, 1]
    assert late.held.tolist() == [2, 2]  # what diverged at last does not pass, however near the rest are
    assert first.edge == 1.0 and [panel.when for panel in result.panels] == [0, 1, 0, 1]
    text = result.reading
    assert "First-order Langevin at μ = 0: transient, it holds up to lr = 0.2 (ηk/(1+μ) = 0.4) at every B" in text
    assert "parts by up to 20 floors at lr = 0.4; late" in text
    assert "parts by up to 3 floors at lr = 0.2 and 7 floors at lr = 0.8" in text
    assert "second-order Langevin is nearer than first-order Langevin in 0 of 6 transient and 0 of 6 late" in text
    assert "diverged in 2 cells, all of them in 2, from lr = 0.8" in text
    assert "departs in 16, by up to 40 floors" in text  # the synthetic solvers are as bad as the limits


def test_a_result_writes_its_files(tmp_path: Path, atlas: Breakdown) -> None:
    assert [path.name for path in atlas.save(tmp_path)] == list(BREAKDOWN_FILES)
    content = json.loads((tmp_path / "breakdown.json").read_text(encoding="utf-8"))
    assert content["reading"] == atlas.reading and len(content["cells"]) == 8
    again = [Cell.from_dict(cell) for cell in content["cells"]]
    assert [dataclasses.asdict(a) for a in again] == [dataclasses.asdict(b) for b in atlas.cells]
    with np.load(tmp_path / "breakdown.npz") as arrays:
        assert arrays["underdamped mu=0.5 late floors"].shape == (2, 2)
    assert atlas.name in str(atlas) and all(when in str(atlas) for when in WHEN)


# What is refused.

BAD: list[tuple[dict[str, Any], str]] = [
    ({"effective_learning_rates": []}, "effective_learning_rates must be a sequence"),
    ({"effective_learning_rates": [-1.0]}, "effective_learning_rates must be positive and finite, got -1.0"),
    ({"batch_sizes": [0]}, "batch_size must be a positive whole number"),
    ({"momenta": [1.0]}, "momenta must be at least 0 and below 1, got 1.0"),
    ({"times": (1.0, 1.5)}, "times must be two, the second a whole multiple"),
    ({"times": (0.1, 0.2)}, "effective_learning_rates must be at most the transient time 0.1, got 0.2"),
    ({"particles": 3}, "particles must be a whole number of at least 20"),
    ({"sampling": "epoch"}, "sampling must draw each batch independently"),
    ({"distance": "hellinger"}, "distance must be one of moments, energy"),
    ({"limit_step": 0.0}, "limit_step must be positive"),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_bad_settings_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        breakdown(PROBLEM, START, **SETTINGS | changed)


def test_problems_without_noise_or_covariance_are_refused() -> None:
    stable = NoisyPotential(potentials.Quadratic(K), AlphaStableNoise(1.5))
    with pytest.raises(ValueError, match="no covariance"):
        breakdown(stable, START, **SETTINGS)
    data = np.arange(4.0)
    risk = EmpiricalRisk(lambda x, z: (x[0] - z) ** 2 / 2, data, init=np.zeros(1))
    with pytest.raises(ValueError, match="batch_sizes must leave some noise, got 4"):
        breakdown(risk, Gaussian([0.0], 1.0), **SETTINGS | {"batch_sizes": [4], "sampling": "without-replacement"})


def test_without_a_minimum_the_limit_s_step_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "sharpest_well", lambda *_: None)
    with pytest.raises(ValueError, match="limit_step must be given"):
        breakdown(PROBLEM, START, **ONE_CELL)
    result = breakdown(PROBLEM, START, **ONE_CELL | {"limit_step": 0.05})
    assert np.isnan(result.top_curvature) and np.isnan(result.panels[1].expected).all()
    assert "ηk" not in result.panels[0].title and "holds" in result.reading


def test_keys_and_starts_of_other_kinds_are_refused(as_users_run: None) -> None:
    with pytest.raises(TypeError, match="key"):
        breakdown(PROBLEM, START, **SETTINGS | {"key": 3})  # pyrefly: ignore[bad-argument-type] (the error)
    with pytest.raises(ValueError, match="particles must be 5, the rows of start"):
        breakdown(PROBLEM, np.zeros((5, 2)), **SETTINGS)
