"""The command line, as a user meets it."""

import subprocess
import sys
from pathlib import Path

import pytest


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


def test_list_names_every_preset():
    done = sgdsim("list")
    assert done.returncode == 0
    for name in ("breast-cancer", "double-well", "two-weight-network", "digits-mlp"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "double-wel"], "preset must be one of breast-cancer, double-well, two-weight-network, digits-mlp"),
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
