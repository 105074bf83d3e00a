"""How much of a motion is common: exact where known, with the error that fresh clouds have."""

import numpy as np
import pytest

from sgdsim.measures.common_motion import common_share


def displacements(rng, drift, count, dim):
    return drift + rng.normal(size=(count, dim))


def test_exact_cases():
    assert common_share(np.ones((5, 3))).value == pytest.approx(1)
    assert common_share(np.ones((5, 3))).standard_error == pytest.approx(0, abs=1e-7)
    apart = common_share(np.eye(6))
    assert apart.value == 0
    # two up, one down on a line: pairs 1, −1, −1, squares all 1
    assert common_share(np.array([[1.0], [1.0], [-1.0]])).value == pytest.approx(-1 / 3)


@pytest.mark.parametrize(("drift", "count", "dim"), [(0.3, 16, 40), (1.0, 16, 5), (0.1, 64, 10)])
def test_value_and_error_over_fresh_clouds(drift, count, dim):
    """m²/(m² + 1); 600 clouds: the mean within 4 of its errors, the stated error within 15 % of the spread."""
    rng = np.random.default_rng(3)
    found = [common_share(displacements(rng, drift, count, dim)) for _ in range(600)]
    values = np.array([f.value for f in found])
    truth = drift**2 / (1 + drift**2)
    bias = 1 / count  # of a ratio of means, in units of the truth
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(600) + bias * truth
    assert np.mean([f.standard_error for f in found]) == pytest.approx(values.std(), rel=0.15)


def test_floor_without_common_motion():
    """600 clouds in 40 dimensions: the mean is 0, and 5 % ± 3.5 % read more than the floor."""
    rng = np.random.default_rng(4)
    found = [common_share(displacements(rng, 0.0, 16, 40)) for _ in range(600)]
    values = np.array([f.value for f in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(600)
    assert 0.015 < np.mean([f.above_floor for f in found]) < 0.085


def test_diverged_and_refused():
    cloud = np.ones((5, 2))
    cloud[2] = np.nan
    found = common_share(cloud)
    assert found.left_out == 1 and found.value == pytest.approx(1)
    with pytest.raises(ValueError, match="at least three finite particles, got 2"):
        common_share(cloud[1:4])
    with pytest.raises(ValueError, match="displacements must not all be zero"):
        common_share(np.zeros((4, 2)))
