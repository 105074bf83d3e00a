"""The paper table: its rows hold on several seeds, and it fails where a law does."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.measures import Estimate
from sgdsim.studies.laws import LAWS, Check, Law
from sgdsim.studies.paper_table import PaperTable, Row, paper_table


def row(*checks, name="made-up"):
    return Row(Law(name, "1 = 1", "nobody", lambda key, effort: list(checks)), checks, 1.0)


def test_a_check_holds_within_four_standard_errors():
    assert Check("x", 1.0, Estimate(1.39, 0.1)).holds
    assert not Check("x", 1.0, Estimate(1.41, 0.1)).holds
    assert not Check("x", 1.0, Estimate(math.nan, 0.1)).holds
    assert not Check("x", 1.0, Estimate(1.0 + 1e-9, 0.0)).holds


def test_a_failing_law_is_said_and_fails_the_table(tmp_path):
    good, bad = Check("x", 1.0, Estimate(1.1, 0.1)), Check("y", 2.0, Estimate(3.0, 0.1))
    table = PaperTable((row(good), row(good, bad, name="broken")), quick=True)
    assert not table.holds and table.rows[0].holds and not table.rows[1].holds
    assert "1 of 2 laws hold in 3 comparisons" in table.reading
    assert "Not so: broken (y: expected 2, measured 3.00 ± 0.10, z = 10.0)" in table.reading
    assert "FAILS" in str(table)
    assert not PaperTable((row(Check("x", 1.0, Estimate(math.nan, 0.1))),), quick=True).holds
    table.save(tmp_path)
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["holds"] is False and content["rows"][1]["checks"][1]["z"] == pytest.approx(10)
    with np.load(tmp_path / "table.npz", allow_pickle=False) as arrays:
        assert arrays["law"].tolist() == ["made-up", "broken", "broken"]
    assert (tmp_path / "table.png").stat().st_size > 10_000


def test_many_checks_are_printed_as_the_worst():
    checks = [Check(f"x{i}", 0.0, Estimate(0.1 * i, 0.1)) for i in range(9)]
    text = str(PaperTable((row(*checks),), quick=True))
    assert "worst of 9: x8" in text and "x3" not in text.replace("worst", "")


def test_a_law_reads_the_same_by_itself():
    some = [
        paper_table(names, key=jax.random.key(1), quick=True).rows[-1]
        for names in (["heavy-ball"], ["svag", "heavy-ball"])
    ]
    assert [c.measured for c in some[0].checks] == [c.measured for c in some[1].checks]


# For each law the reading to look at, and what its nearest rival expects there.
RIVALS = {
    "ou": ("S11", 0.10714),  # the chain's
    "sgd": ("S11, η = 0.3", 0.075),  # the limit's
    "heavy-ball": ("S11, η = 0.5", 2.5),  # the continuum's
    "linear-regression": ("S11, d = 1", 0.1),  # with the noise of the minimum everywhere
    "sampling": ("S11, without", 0.02588),  # as with replacement
    "fluctuation-dissipation": ("breast-cancer, η = 0.5, μ = 0.9", 0.9),  # without the factor 1 + μ
    "svag": ("S11, l = 16", 0.66667),  # SGD's
    "linear-scaling": ("S/S₀, B = 0.5 B*", 1.0),  # the rule
    "temperature": ("virial, lr = 0.2, B = 1", 0.1),  # no excess
    "weak-order": ("second-order limit: slope", 1.0),
    "second-order-steady": ("S11", 0.25),  # the first-order limit's
    "kl": ("KL lost over", 0.97),
    "rotation": ("SGD", 0.048),  # the limit's
    "example-19": ("∫x×J dx, λ = 0.5, Langevin", 0.0),  # that e^{−Φ} has no current
    "escape": ("T = 0.1, Langevin", 54.125),  # Kramers' formula
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_law_holds_and_its_nearest_rival_does_not(seed):
    table = paper_table(key=jax.random.key(seed), quick=True)
    assert table.holds, table.reading
    assert [row.law.name for row in table.rows] == list(LAWS)
    for row in table.rows:
        start, rival = RIVALS[row.law.name]
        (check,) = [c for c in row.checks if c.quantity.startswith(start)]
        assert not dataclasses.replace(check, expected=rival).holds, check


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"laws must be among ou, sgd, .* got 'kramer'"):
        paper_table(["kramer"], key=jax.random.key(0))
    with pytest.raises(ValueError, match="laws must name one at least"):
        paper_table([], key=jax.random.key(0))
    with pytest.raises(TypeError, match="key must be one typed key"):
        ss.studies.paper_table(key=0)
