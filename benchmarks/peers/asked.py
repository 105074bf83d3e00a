"""What a peer's own process is asked, from here: installed, started and asked in one way, whatever it computes."""

import atexit
import functools
import sys
import tempfile
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..harness import Run, Side
from .process import PeerError, Process, is_made

_STACK = ExitStack()
_STARTED: dict[str, tuple[Process, str] | PeerError] = {}  # script → process and result file, or why it cannot be had
atexit.register(_STACK.close)


def started(peer: str, script: str) -> tuple[Process, str]:
    """The one process of this script, and where its results go. Raises PeerError; installing is not tried twice."""
    if script not in _STARTED:
        folder = _STACK.enter_context(tempfile.TemporaryDirectory())
        try:
            _STARTED[script] = Process(peer, script, folder, _STACK), f"{folder}/result.npy"
        except PeerError as error:
            _STARTED[script] = error
    found = _STARTED[script]
    if isinstance(found, PeerError):
        raise found
    return found


def answered(peer: str, script: str, question: dict[str, Any], *, install: bool) -> Run:
    """A harness `Run` that asks a peer's process: a seed → its result, the seconds that it measured.

    Its first call installs, starts, builds and compiles. Each raises PeerError where the peer fails; a process that
    crashed is started anew when next asked.

    Args:
        peer: whose environment, as `process.REQUIREMENTS` names it.
        script: the file in peers/ that it runs.
        question: what the script is asked, see peers/answers.py, but for the seed and the file of the result.
        install: make the environment where it is not there.
    """

    def run(seed: int) -> tuple[np.ndarray, float]:
        if not (install or is_made(peer)):
            raise PeerError(f"not installed; a run without --quick makes an environment for {peer}")
        process, file = started(peer, script)
        try:
            answer = process.ask(question | {"seed": seed, "file": file})
        except PeerError:
            if process.process.poll() is not None:
                _STARTED.pop(script, None)
            raise
        return np.load(file), answer["seconds"]

    return run


@functools.cache
def inputs_folder() -> str:
    """Where the arrays lie that processes are asked about, until the end."""
    return _STACK.enter_context(tempfile.TemporaryDirectory())


def asked_run(peer: str, script: str, setting: str, inputs: dict[str, np.ndarray], *, install: bool) -> Run:
    """The same, of a script that computes on arrays (see peers/arrays.py)."""
    with tempfile.NamedTemporaryFile(dir=inputs_folder(), suffix=".npz", delete=False) as file:
        np.savez(file, **inputs)  # pyrefly: ignore[bad-argument-type] (no array is named allow_pickle)
    return answered(peer, script, {"setting": setting, "inputs": file.name}, install=install)


def asked(
    peer: str,
    script: str,
    settings: dict[str, tuple[str, dict[str, np.ndarray], float]],
    *,
    install: bool,
) -> list[Side]:
    """A side for each name: (setting, inputs, work). One that fails is named on stderr and left out."""
    sides = []
    for name, (setting, inputs, work) in settings.items():
        try:
            run = asked_run(peer, script, setting, inputs, install=install)
            run(0)  # builds and compiles
            sides.append(Side(name, run, work))
        except PeerError as error:
            print(f"skipped: {name}: {error}", file=sys.stderr)
    return sides
