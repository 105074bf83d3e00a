"""Sides that a peer's own process computes on arrays (see peers/arrays.py): installed, started and asked from here."""

import atexit
import sys
import tempfile
from contextlib import ExitStack

import numpy as np

from ..harness import Run, Side
from .process import PeerError, Process, is_made

_STACK = ExitStack()
_STARTED: dict[str, tuple[Process, str] | PeerError] = {}  # script → process and folder, or why it cannot be had
atexit.register(_STACK.close)


def started(peer: str, script: str) -> tuple[Process, str]:
    """The one process of this script, and its folder. Raises PeerError; installing is not tried twice."""
    if script not in _STARTED:
        folder = _STACK.enter_context(tempfile.TemporaryDirectory())
        try:
            _STARTED[script] = Process(peer, script, folder, _STACK), folder
        except PeerError as error:
            _STARTED[script] = error
    found = _STARTED[script]
    if isinstance(found, PeerError):
        raise found
    return found


def asked(
    peer: str,
    script: str,
    settings: dict[str, tuple[str, dict[str, np.ndarray], float]],
    *,
    install: bool,
) -> list[Side]:
    """A side for each name: (setting, inputs, work). One that fails is named on stderr and left out.

    Args:
        peer: whose environment, as `process.REQUIREMENTS` names it.
        script: the file in peers/ that it runs.
        settings: name of the side → what the script is asked, the arrays it gets, the work of one run.
        install: make the environment where it is not there.
    """
    sides = []
    for name, (setting, inputs, work) in settings.items():
        try:
            run = asked_run(peer, script, setting, inputs, install=install)
            run(0)  # builds and compiles
            sides.append(Side(name, run, work))
        except PeerError as error:
            print(f"skipped: {name}: {error}", file=sys.stderr)
    return sides


def asked_run(peer: str, script: str, setting: str, inputs: dict[str, np.ndarray], *, install: bool) -> Run:
    """The run of one such side. Its first call installs, starts, builds and compiles.

    Each raises PeerError where the peer fails; a process that crashed is started anew when next asked.
    """
    question: dict[str, str] = {}

    def run(seed: int) -> tuple[np.ndarray, float]:
        if not (install or is_made(peer)):
            raise PeerError("not installed; a run without --quick installs it")
        process, folder = started(peer, script)
        if not question:
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".npz", delete=False) as file:
                np.savez(file, **inputs)  # pyrefly: ignore[bad-argument-type] (no array is named allow_pickle)
            question.update(setting=setting, inputs=file.name, file=f"{folder}/result.npy")
        try:
            answer = process.ask(question | {"seed": seed})
        except PeerError:
            if process.process.poll() is not None:
                _STARTED.pop(script, None)
            raise
        return np.load(question["file"]), answer["seconds"]

    return run
