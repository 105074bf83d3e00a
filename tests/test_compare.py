"""The main job: where the three descriptions agree, where they part, and what is said of it."""

import json

import jax
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.studies import PRESETS, preset
from sgdsim.studies.reading import departs, in_words

KEY = jax.random.key(0)
WELL = ss.NoisyPotential(ss.potentials.DoubleWell(dim=1), ss.GaussianNoise(1.0))
START = ss.Gaussian([-0.3], 0.0225)


def double_well(learning_rate, particles, steps, **options):
    sgd = ss.SGD(WELL, learning_rate=learning_rate, batch_size=1)
    return ss.compare(sgd, START, particles=particles, steps=steps, key=KEY, **options)


@pytest.mark.slow
def test_double_well_at_a_small_learning_rate():
    """100,000 particles, lr = 0.01: Langevin meets Fokker–Planck at 3 sigmas at each of 20 times (fixed key)."""
    result = double_well(0.01, 100_000, 2_000, save_every=100, cells=(512,))
    density = result.density
    assert density.grid.cells == (512,)
    assert all(reading.agrees_with(0.0, sigmas=3) for reading in density.langevin[1:])
    assert result.solver_is_below_floor
    assert max(bias.value for bias in density.solver_bias) < density.langevin[-1].floor
    assert np.max(density.grid_error) < density.langevin[-1].floor
    assert not any(map(departs, density.sgd))
    assert "SGD follows its Fokker–Planck density at all 21 saved times" in result.reading


def test_double_well_at_a_large_learning_rate():
    """At lr = 0.3 SGD departs by many floors, Langevin by none, and the reading says so."""
    result = double_well(0.3, 50_000, 40, save_every=8)
    assert all(reading.agrees_with(0.0, sigmas=3) for reading in result.density.langevin)
    assert all(reading.floors > 50 for reading in result.density.sgd[1:])
    assert "SGD departs from it to the end" in result.reading
    assert "Langevin follows the same density at all 6 saved times" in result.reading
    assert "neither grid nor solver is at fault but the limit itself" in result.reading
    # drift, diffusion and temperature of SGD's own steps: 3 comparisons at 4 sigmas
    local = result.sgd_local
    assert local.drift.agrees_with(1.0, sigmas=4)
    assert local.diffusion.agrees_with(1.0, sigmas=4)
    assert local.temperature.agrees_with(0.15, sigmas=4)
    assert result.langevin_local.diffusion.agrees_with(1.0, sigmas=4)
    assert result.langevin_local.temperature.agrees_with(0.15, sigmas=4)
    # the fourth description: SGD's cloud is of the chain's own law, and what parts it from the limit is no sampling
    chain = result.density.chain
    assert all(reading.agrees_with(0.0, sigmas=4) for reading in chain.sgd)
    for sampled, exact in zip(result.density.sgd[1:], chain.to_limit[1:], strict=True):
        assert exact.standard_error < 1e-3 * exact.value
        assert 0.6 < sampled.value / exact.value < 1.05  # a cloud's KL is on merged cells, which lose the far tails
    assert 0 < chain.steady_to_corrected.value < chain.steady_to_limit.value / 3
    assert "Without any sampling the chain's own density" in result.reading


def test_a_coarse_grid_is_blamed_and_not_the_limit():
    result = double_well(0.05, 20_000, 40, save_every=20, cells=(24,))
    assert not result.grid_is_below_floor
    assert "The grid's own error is above the floor" in result.reading
    assert "the limit itself" not in result.reading


def logistic():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 2))
    y = np.sign(x @ [1.0, -0.5] + rng.normal(size=40))
    return ss.EmpiricalRisk(ss.networks.logistic_loss, (x, y), init=np.zeros(2), weight_decay=0.2)


@pytest.fixture(scope="module")
def two_dimensional():
    sgd = ss.SGD(logistic(), learning_rate=0.4, batch_size=4, sampling="without-replacement", momentum=0.5)
    return ss.compare(sgd, ss.Gaussian([0.0, 0.0], 0.05), particles=4_000, steps=30, save_every=10, key=KEY)


def test_two_dimensions_real_minibatches_and_momentum(two_dimensional):
    result = two_dimensional
    assert result.times == pytest.approx([0, 8, 16, 24])
    assert np.all(result.density.widths / result.density.grid.widths >= 8)
    assert all(reading.agrees_with(0.0, sigmas=3.5) for reading in result.density.langevin)
    assert result.sgd_local.drift.agrees_with(1.0, sigmas=4)
    assert result.sgd_local.temperature.agrees_with(36 / 39 * 0.8 / 8, sigmas=4)
    assert result.langevin_local.temperature.agrees_with(36 / 39 * 0.8 / 8, sigmas=4)
    to_steady = [reading.value for reading in result.density.to_steady]
    assert to_steady == sorted(to_steady, reverse=True)


def test_a_report_has_its_parts(two_dimensional):
    text = str(two_dimensional)
    for part in (
        "T = 0.09231",
        "validity: ηk_max",
        "KL(SGD ‖ FP)",
        "KL(Langevin ‖ FP)",
        "KL(FP ‖ steady state)",
        "cov x₁x₂",
        "cells across the narrowest steady width",
        "own errors in KL",
        "lr/(2B) · (N−B)/(N−1)/(1−μ)",
        "diverged particles",
        "particle-steps per second",
        "no density of the chain's own: momentum must be 0",
    ):
        assert part in text
    assert two_dimensional.density.chain is None


def test_saving(two_dimensional, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    (tmp_path / "compare.json").write_text("old")
    files = two_dimensional.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["compare.json", "compare.npz", "compare.png", "kept.txt"]
    assert all(f.stat().st_size > 1000 for f in files)
    content = json.loads((tmp_path / "compare.json").read_text())
    assert content["density"]["sgd"][1]["floor"] == two_dimensional.density.sgd[1].floor
    assert content["settings"]["update"] == "v ← μv + g, x ← x − ηv"
    with np.load(tmp_path / "compare.npz", allow_pickle=False) as arrays:
        assert arrays["masses"].shape == (4, *two_dimensional.density.grid.cells)
        assert arrays["sgd"].shape == (4, 4_000, 2)
        assert arrays["masses"].sum(axis=(1, 2)) == pytest.approx(1)


@pytest.mark.usefixtures("as_users_run")
def test_a_failure_leaves_the_old_result_whole(two_dimensional, tmp_path, monkeypatch):
    (tmp_path / "compare.png").write_text("old picture")
    monkeypatch.setattr(type(two_dimensional), "_arrays", lambda self: {"bad": object()})
    with pytest.raises(ValueError, match="arrays must be of numbers, got objects in bad"):
        two_dimensional.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["compare.png"]
    assert (tmp_path / "compare.png").read_text() == "old picture"


@pytest.mark.slow
def test_many_dimensions_have_no_grid():
    rng = np.random.default_rng(2)
    model = ss.networks.mlp((3, 2, 2), key=KEY)
    data = (rng.normal(size=(30, 3)), rng.integers(0, 2, 30))
    risk = ss.EmpiricalRisk(ss.networks.cross_entropy, data, init=model, weight_decay=0.01)
    sgd = ss.SGD(risk, learning_rate=0.05, batch_size=5)
    result = ss.compare(sgd, risk.x0, particles=40, steps=20, save_every=10, key=KEY)
    text = str(result)
    assert result.density is None
    assert "no Fokker–Planck equation: a density in 14 dimensions has no grid" in text
    assert "sliced W₂(SGD, Langevin)" in text
    assert "|mean(SGD) − mean(Langevin)|" in text
    assert "are one cloud at all 3 saved times" in result.reading
    assert result.sgd_local.temperature.agrees_with(0.005, sigmas=4)


@pytest.mark.slow
def test_three_dimensions_are_drawn_too(tmp_path):
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=3), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=0.2, batch_size=1)
    start = ss.Gaussian([-1.0, 0.0, 0.0], 0.05)
    result = ss.compare(sgd, start, particles=2_000, steps=10, save_every=5, cells=(16,), key=KEY)
    result.plot(tmp_path / "three.png")
    assert (tmp_path / "three.png").stat().st_size > 1000
    assert "fewer than the 8 it should have" in str(result)


def reading(value, floor=1.0, error=0.1):
    return ss.measures.Estimate(value, error, floor)


def test_words():
    times = np.arange(4.0)

    def said(*values):
        return in_words("A follows", "A departs", times, [reading(v) for v in values])

    assert said(0.5, 1.1, 0.2, 0.9).startswith("A follows at all 4 saved times")
    assert said(0.5, 3.0, 4.0, 2.0) == (
        "From t = 1 on A departs to the end, by up to 4 floors, at t = 2; at the end by 2."
    )
    assert said(0.5, 0.5, 3.0, 0.5) == (
        "A follows until t = 1; from t = 2 on A departs until t = 2, and agrees again after it, "
        "by up to 3 floors, at t = 2."
    )
    assert "(not at every saved time)" in said(3.0, 0.5, 3.0, 0.5)
    assert said(0.5, float("nan"), 0.5, 0.5).startswith("At 1 of 4 saved times there was nothing to read")


def test_presets_build():
    dims = {"double-well": 1, "breast-cancer": 2, "two-weight-network": 2}
    dims |= {"digits-mlp": 1_210, "digits-softmax": 650, "digits-wide": 11_260}
    assert {name: PRESETS[name].build()[0].dim for name in PRESETS} == dims
    with pytest.raises(ValueError, match="preset must be one of breast-cancer, double-well"):
        preset("double-wel")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a positive whole number"),
        ({"grid": ss.Grid([0.0, 0.0], [1.0, 1.0], [8, 8])}, "grid must have the problem's 1 dimensions"),
        ({"cells": (7,)}, "cells must be even numbers"),
        ({"cells": (8, 8)}, "cells must be even numbers of at least 4"),
        ({"grid": ss.Grid([-2.0], [2.0], [65])}, "cells must be even numbers of at least 4"),
        ({"start": ss.Gaussian([0.0], 0.0)}, "start must have a positive definite covariance"),
        ({"particles": 15}, "particles must be at least 100"),
        ({"grid": ss.Grid([-2.0], [2.0], [8]), "cells": (8,)}, "cells must not be given beside a grid"),
        ({"substeps": 3}, "substeps must be a power of two"),
        ({"start": np.zeros(1)}, "start must be a Gaussian"),
        ({"particles": -5}, "particles must be a positive whole number"),
    ],
)
def test_bad_input(options, message):
    sgd = ss.SGD(WELL, learning_rate=0.1, batch_size=1)
    arguments = {"start": START, "particles": 100, "steps": 4, "key": KEY} | options
    with pytest.raises(ValueError, match=message):
        ss.compare(sgd, **arguments)


def test_no_noise_and_no_survivors_are_named():
    full = ss.SGD(logistic(), learning_rate=0.1, batch_size=40, sampling="without-replacement")
    with pytest.raises(ValueError, match="batch_size must leave some noise"):
        ss.compare(full, ss.Gaussian([0.0, 0.0], 0.1), particles=100, steps=4, key=KEY)
    silent = ss.SGD(
        ss.NoisyPotential(ss.potentials.DoubleWell(), ss.GaussianNoise(0.0)), learning_rate=0.1, batch_size=1
    )
    with pytest.raises(ValueError, match="problem must have a noise covariance that is not singular"):
        ss.compare(silent, START, particles=100, steps=4, key=KEY)
    wild = ss.SGD(WELL, learning_rate=10.0, batch_size=1)
    with pytest.raises(ValueError, match="learning_rate must keep the chain in reach of its limit"):
        ss.compare(wild, ss.Gaussian([5.0], 0.1), particles=100, steps=50, key=KEY)
