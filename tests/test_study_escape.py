"""The escape study: exact times within errors, the bias of looking at steps by pairs, shapes against the generator."""

import json

import jax
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import theory
from sgdsim.measures import passage_time
from sgdsim.studies.double_well import well
from sgdsim.studies.escape import _run, _slanted, escape

pytestmark = pytest.mark.slow  # clouds of several compiled processes


KEY = jax.random.key(3)
TRUTH = {0.1: 66.27, 0.2: 19.09}  # DESIGN §5, and the quadrature


@pytest.fixture(scope="module")
def result():
    return escape(
        key=KEY,
        temperatures=(0.2, 0.15),
        learning_rate=0.04,
        particles=2_000,
        monitored_temperature=0.2,
        learning_rates=(0.01, 0.08),
        paired_particles=10_000,
        shape_temperature=0.2,
    )


def test_times_are_the_exact_ones(result):
    """Two temperatures, bridged clouds at 4 sigmas; the generator within 1e-4 and Kramers short by a fifth or so."""
    for row in result.temperatures:
        assert row.bridged.agrees_with(row.exact, 4)
        assert row.density.value == pytest.approx(row.exact, rel=1e-4)
        assert 0.7 < row.kramers / row.exact < 0.9
    assert result.temperatures[0].exact == pytest.approx(TRUTH[0.2], abs=0.005)


def test_looking_at_steps_reads_late_as_the_root_of_the_step(result):
    """Both differences above 4 of their errors; the exponent ½ and the predicted sizes at 4 sigmas, 3 comparisons."""
    assert [row.learning_rate for row in result.monitoring] == [0.08, 0.01]
    for row in result.monitoring:
        assert row.bias.z() > 4
        assert row.bias.value == pytest.approx(row.looked.value - row.bridged.value)
        assert row.bias.standard_error < 0.6 * row.looked.standard_error
    assert result.exponent.agrees_with(0.5, 4) and result.exponent.standard_error < 0.15
    assert result.monitoring[1].bias.agrees_with(result.monitoring[1].predicted, 4)


def test_noise_along_the_way_out_is_what_counts(result):
    """SGD near the generator under each shape, at η = 0.04; more noise along the way out is a shorter time."""
    known = [row for row in result.shapes if np.isfinite(row.along)]
    assert len(known) == 5 and [row.shape for row in result.shapes if not np.isfinite(row.along)] == ["alpha-stable"]
    for row in known:
        assert abs(row.sgd.value / row.exact.value - 1) < 0.08 + 4 * row.sgd.standard_error / row.exact.value
    by_time = sorted(known, key=lambda row: row.exact.value)
    assert [row.shape for row in by_time] == ["constant", "true", "diagonal", "isotropic", "hessian"]
    assert np.all(np.diff([row.along for row in by_time]) < 0)
    assert "falls in the same order" in result.reading


def test_result_is_written(result, tmp_path):
    names = [path.name for path in result.save(tmp_path)]
    assert names == ["escape.png", "escape.json", "escape.npz"]
    content = json.loads((tmp_path / "escape.json").read_text())
    assert content["temperatures"][0]["sgd"]["value"] == result.temperatures[0].sgd.value
    assert content["shapes"][-1]["exact"]["value"] is None
    with np.load(tmp_path / "escape.npz", allow_pickle=False) as arrays:
        assert arrays["monitoring_bias"].shape == (2, 2) and arrays["shapes_exact"].shape == (6, 2)
    assert (tmp_path / "escape.png").stat().st_size > 20_000
    assert "Kramers' law" in result.reading and result.reading in str(result)


def test_all_shapes_have_one_trace_at_the_well():
    well = np.array([-1.0, -0.5])
    shapes = ("true", "diagonal", "isotropic", "constant", "hessian")
    traces = [float(_slanted(shape, 3.0, 1.8).noise_trace(jax.numpy.asarray(well))) for shape in shapes]
    assert np.allclose(traces, 2 * 3.0 + 2 * 0.2 * 3.0)


def test_the_paths_are_the_same_with_bridges():
    """The bridge draws from a stream of its own: particles move the same, and never pass later."""
    sgd = well(0.2, 0.05)
    diffusion = ss.Langevin.limit_of(sgd).limit.diffusion
    looked, bridged = (_run(sgd, [-1.0], 20.0, 500, KEY, bridge) for bridge in (None, diffusion))
    assert np.array_equal(looked.particles, bridged.particles)
    assert np.all(bridged.tallied[-1] <= looked.tallied[-1]) and np.any(bridged.tallied[-1] < looked.tallied[-1])


@pytest.mark.slow
def test_the_figure_of_the_issue():
    """−1 → +1 at T = 0.1: 66.27 within 4 errors, by 10⁵ particles with Brownian bridges at η = 0.01."""
    sgd = well(0.1, 0.01)
    limit = ss.Langevin.limit_of(sgd, substeps=1)
    run = _run(limit, [-1.0], 120.0, 100_000, KEY, limit.limit.diffusion)
    found = passage_time(run)
    exact = theory.mean_passage_time(lambda x: (x**2 - 1) ** 2 / 4, -1.0, 1.0, 0.1)
    assert exact == pytest.approx(TRUTH[0.1], abs=0.005)
    assert found.standard_error < 0.3 and found.agrees_with(exact, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rates": (0.1,)}, "learning_rates must be two at least"),
        ({"temperatures": ()}, "temperatures must be one at least"),
        ({"temperatures": (0.1, -1.0)}, "temperatures must be positive and finite, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0"),
        ({"learning_rates": (0.1, float("nan"))}, "learning_rates must be positive and finite, got nan"),
        ({"alpha": 2.0}, "alpha must lie above 0 and below 2"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        escape(key=KEY, **options)
