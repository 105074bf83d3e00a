"""Clouds that are moved in a peer's own process: one process for each peer, for all jobs, started when first asked."""

import atexit
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from ..harness import Run
from .process import PeerError, Process, is_made


@dataclass
class Foreign:
    """A peer's process, and what became of it."""

    peer: str
    process: Process | None = None
    folder: str = ""
    failure: str | None = None  # why it cannot be had: installing is not tried twice
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> Process:
        if self.failure:
            raise PeerError(self.failure)
        if self.process is None:
            atexit.register(self.stack.close)
            self.folder = self.stack.enter_context(tempfile.TemporaryDirectory())
            try:
                self.process = Process(self.peer, f"{self.peer}_side.py", self.folder, self.stack)
            except PeerError as error:
                self.failure = str(error)
                raise
        return self.process

    def final(self, setting: str, problem: str, particles: int, steps: int, seed: int) -> tuple[np.ndarray, float]:
        """The final cloud and the seconds that the process measured.

        Raises:
            PeerError: where the setting fails; a process that crashed is started anew when next asked.
        """
        process = self.start()
        file = f"{self.folder}/cloud.npy"
        request = {"setting": setting, "problem": problem, "particles": particles, "steps": steps}
        try:
            answer = process.ask(request | {"seed": seed, "file": file})
        except PeerError:
            if process.process.poll() is not None:
                self.stack.close()
                self.process = None
            raise
        return np.load(file), answer["seconds"]


PEERS = {peer: Foreign(peer) for peer in ("numba", "torch")}


def foreign_run(peer: str, setting: str, problem: str, particles: int, steps: int, install: bool = True) -> Run:
    """A harness `Run`: a seed → the final cloud (P, d), seconds. Without `install`, only where the peer is there."""

    def run(seed: int) -> tuple[np.ndarray, float]:
        if not (install or is_made(peer)):
            raise PeerError(f"not installed; a run without --quick makes an environment for {peer}")
        return PEERS[peer].final(setting, problem, particles, steps, seed)

    return run
