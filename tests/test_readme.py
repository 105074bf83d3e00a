"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
def test_python_blocks_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)  # our own text
    assert "KL(SGD ‖ FP)" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["compare.json", "compare.npz", "compare.png"]
    departs, agrees = (
        names["ss"].measures.kl(names[cloud].particles[-1], names["fp"].grid, names["rho"].masses[-1])
        for cloud in ("cloud", "limit")
    )
    assert departs.floors > 3
    assert agrees.agrees_with(0.0)


def test_pictures_are_there():
    for path in re.findall(r"\]\(([^)]*\.png)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / path).stat().st_size > 10_000
