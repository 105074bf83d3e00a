"""The command line, as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sgdsim.studies import PRESETS


def sgdsim(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-c", "from sgdsim.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.mark.slow
def test_compare_prints_a_table_and_writes_files(tmp_path):
    done = sgdsim("compare", "double-well", "--particles", 2000, "--steps", 40, "--lr", 0.05, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "KL(Langevin ‖ FP)" in done.stdout
    assert "particle-steps" in done.stderr  # the progress bar
    folder = tmp_path / "sgdsim-out" / "double-well"
    assert sorted(p.name for p in folder.iterdir()) == ["compare.json", "compare.npz", "compare.png"]
    assert f"wrote {Path('sgdsim-out') / 'double-well' / 'compare.png'}" in done.stdout


def test_study_prints_a_table_and_writes_files(tmp_path):
    done = sgdsim("study", "potential", "double-well", "--cells", 64, "--lr", 0.1, "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "double-well: d = 1; lr = 0.1, B = 1" in done.stdout and "minimum of Φ" in done.stdout
    assert "cells=64" in done.stdout and done.stderr == ""
    folder = tmp_path / "sgdsim-out" / "double-well-potential"
    assert sorted(p.name for p in folder.iterdir()) == ["potential.json", "potential.npz", "potential.png"]


@pytest.mark.slow
def test_studies_of_their_own_defaults_take_options(tmp_path):
    done = sgdsim("study", "cyclic-rates", "--particles", 500, "--lr", 0.03, "--swing", 0.5, "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "double-well: η swings by ± 50%" in done.stdout and done.stderr == ""
    folder = tmp_path / "sgdsim-out" / "double-well-cyclic-rates"
    assert sorted(p.name for p in folder.iterdir()) == [f"cyclic_rates.{end}" for end in ("json", "npz", "png")]


def test_table_prints_rows_and_writes_files(tmp_path):
    done = sgdsim("table", "heavy-ball", "sampling", "--quick", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    assert "2 of 2 laws hold in 4 comparisons" in done.stdout
    folder = tmp_path / "sgdsim-out" / "table"
    assert sorted(p.name for p in folder.iterdir()) == ["table.json", "table.npz", "table.png"]


def test_table_as_json(tmp_path):
    done = sgdsim("table", "heavy-ball", "--quick", "--json", "--seed", 3, "-o", "out", cwd=tmp_path)
    content = json.loads(done.stdout)  # nothing else is printed
    assert (done.returncode == 0) == content["holds"]
    assert [row["law"] for row in content["rows"]] == ["heavy-ball"]
    assert content == json.loads((tmp_path / "out" / "table.json").read_text())
    assert "heavy-ball" in done.stderr  # the progress bar


def test_list_names_every_preset_and_study():
    done = sgdsim("list")
    assert done.returncode == 0
    for name in (*PRESETS, "sgdsim study NAME", "potential", "sgdsim table", "svag"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "batch-not-decay", "--factor", "1"], "factor must be a whole number of at least 2, got 1"),
        (["study", "noise-scale", "--examples", "1"], "examples must be a whole number from 10 to 1796, got 1"),
        (["study", "network-limits", "--particles", "3"], "particles must be at least 100"),
        (["study", "two-phases", "double-well"], "sgd must descend an EmpiricalRisk, a finite sum over data"),
        (["study", "cyclic-rates", "--swing", "2"], "swing must lie above 0 and below 1, got 2.0"),
        (["study", "flat-or-sharp", "--ratio", "0.5"], "ratio must lie above 1 and be at most 16, got 0.5"),
        (
            ["compare", "double-wel"],
            f"preset must be one of {', '.join(PRESETS)}; got 'double-wel'",
        ),
        (["compare", "double-well", "--lr", "-1"], "learning_rate must be positive and finite, got -1.0"),
        (["compare", "double-well", "--lr", "nan"], "learning_rate must be positive and finite, got nan"),
        (["compare", "double-well", "--batch-size", "0"], "batch_size must be a positive whole number, got 0"),
        (["compare", "double-well", "--steps", "0"], "steps must be a positive whole number, got 0"),
        (["compare", "double-well", "--particles", "0"], "particles must be a positive whole number, got 0"),
        (["compare", "double-well", "--sampling", "epoch"], "sampling must be 'with-replacement' for modelled noise"),
        (
            ["compare", "double-well", "--cells", "12,a"],
            "argument --cells: invalid comma-separated whole numbers value",
        ),
        (["compare", "double-well", "--stepz", "3"], "unrecognized arguments: --stepz 3"),
        (
            ["compare", "breast-cancer", "--batch-size", "570", "--sampling", "epoch"],
            "batch_size must be at most N = 569",
        ),
        (["compare", "double-well", "--output", "file"], "output must be a folder that can be written, got file"),
        (
            ["compare", "double-well", "--output", "taken"],
            "output must not hold a folder named compare.json, got taken",
        ),
        (["compare", "double-well", "--seed", "-1"], "seed must be a whole number, 0 ≤ seed < 2⁶³, got -1"),
        ([], "the following arguments are required: COMMAND"),
        (["study"], "the following arguments are required: NAME"),
        (["study", "potentials"], "argument NAME: invalid choice: 'potentials'"),
        (["study", "potential", "digits-mlp"], "sgd must have at most 2 dimensions for an effective potential"),
        (["study", "potential", "double-well", "--cells", "63"], "cells must have even numbers of at least 8 cells"),
        (["study", "potential", "double-well", "--momentum", "1"], "momentum must be at least 0 and below 1, got 1.0"),
        (["study", "potential", "double-well", "--particles", "5"], "unrecognized arguments: --particles 5"),
        (["table", "ou", "kramer"], "laws must be among ou, sgd, heavy-ball"),
        (["table", "--seed", "-1"], "seed must be a whole number, 0 ≤ seed < 2⁶³, got -1"),
        (["table", "-o", "file"], "output must be a folder that can be written, got file"),
        (["study", "potential", "double-well", "-o", "file"], "output must be a folder that can be written, got file"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "taken" / "compare.json").mkdir(parents=True)
    done = sgdsim(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"sgdsim: error: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "sgdsim-out").exists()
