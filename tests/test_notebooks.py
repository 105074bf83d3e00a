"""The lectures: committed without outputs, and every cell, with the facts that it asserts, runs."""

import ast
import os
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import sgdsim

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


class ThisInterpreter(KernelSpecManager):
    """Starts the Python that runs the tests, whatever kernels are installed under the name python3."""

    def get_kernel_spec(self, kernel_name):
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


def read(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def count_asserts(cell):
    lines = ["" if line.startswith("%") else line for line in cell.source.splitlines()]
    return sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse("\n".join(lines))))


def test_there_are_notebooks():
    assert NOTEBOOKS


@every_notebook
def test_is_committed_without_outputs(path):
    notebook, code = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)  # cells have ids
    for cell in code:
        assert cell.outputs == [] and cell.execution_count is None, f"cell {cell.id} holds outputs"
        assert not cell.metadata, f"cell {cell.id} holds metadata {dict(cell.metadata)}"


@every_notebook
def test_asserts_what_it_states(path):
    _, code = read(path)
    assert sum(map(count_asserts, code)) >= 5


@pytest.mark.slow
@every_notebook
def test_runs_from_any_folder(path, tmp_path):
    notebook, code = read(path)
    environment = os.environ | {
        # This very sgdsim, whether or not it is installed, and none of the user's settings.
        "PYTHONPATH": os.pathsep.join([str(Path(sgdsim.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
    }
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=ThisInterpreter()),
        resources={"metadata": {"path": str(elsewhere)}},
        timeout=300,  # seconds for one cell
        startup_timeout=120,
        allow_errors=False,
    )
    client.execute(env=environment)

    assert all(cell.execution_count for cell in code)
    assert list(elsewhere.iterdir()) == []  # a lecture leaves no files behind
    drawn = {cell.id for cell in code if any("image/png" in output.get("data", {}) for output in cell.outputs)}
    assert drawn == {cell.id for cell in code if "Figure(" in cell.source}
