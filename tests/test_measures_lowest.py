"""The lowest place of a sampled curve."""

import numpy as np
import pytest

from sgdsim.measures.lowest import lowest_place


def test_a_parabola_is_found_exactly_on_any_grid():
    for x in (np.arange(6.0), np.array([0.0, 0.5, 2.0, 2.2, 5.0])):
        assert lowest_place(x, 3 * (x - 1.7) ** 2 - 1) == pytest.approx(1.7)


def test_edges_and_ties():
    x = np.arange(4.0)
    assert lowest_place(x, x) == 0 and lowest_place(x, -x) == 3
    assert lowest_place(x, np.array([1.0, 0.0, 0.0, 1.0])) == pytest.approx(1.5)
    assert lowest_place(x, np.ones(4)) == 0
    assert lowest_place(np.array([2.0]), np.array([5.0])) == 2


def test_refused():
    with pytest.raises(ValueError, match="x must increase"):
        lowest_place(np.array([0.0, 0.0]), np.zeros(2))
    with pytest.raises(ValueError, match="x must increase and x and y be finite"):
        lowest_place(np.arange(2.0), np.array([0.0, np.nan]))
