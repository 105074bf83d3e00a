"""A peer in a process and an environment of its own."""

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import venv
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
ENVIRONMENTS = CHECKOUT / ".venv-bench"
REQUIREMENTS = {
    "fplanck": ["fplanck==0.2.2", "numpy<2"] if sys.version_info < (3, 12) else ["fplanck>=1.0"],
    "py-pde": ["py-pde>=0.45", "numba"],
    "numba": ["numba>=0.60", "numpy"],
    "pot": ["POT>=0.9.5"],
    "kramersmoyal": ["kramersmoyal>=0.4"],
    "torch": ["torch>=2.4", "torchsde>=0.2.6", "numpy", "scipy"],  # on Linux with CUDA's libraries: some 3 GB
}
PATIENCE = 600  # seconds after which a peer is given up
VERSIONS: dict[str, str] = {}  # of the peers that have answered


class PeerError(Exception):
    """A peer cannot be installed, crashed, or did not answer."""


def made_for(peer: str) -> tuple[Path, str]:
    """The note that an environment is whole, and what it has to say."""
    return ENVIRONMENTS / peer / "made-for.json", json.dumps([platform.python_version(), REQUIREMENTS[peer]])


def is_made(peer: str) -> bool:
    """Whether the peer's environment is there, so that nothing need be installed."""
    made, wanted = made_for(peer)
    return made.exists() and made.read_text(encoding="utf-8") == wanted


def python_of(peer: str) -> Path:
    """The interpreter of the peer's environment, which is made if it is not there."""
    made, wanted = made_for(peer)
    folder = made.parent
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not is_made(peer):
        print(f"making an environment for {peer} in {folder.relative_to(CHECKOUT)}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            venv.create(folder, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise PeerError(f"has no environment: {last_line(str(error))}") from error
        command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *REQUIREMENTS[peer]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f"could not be installed: {last_line(done.stderr)}")
        made.write_text(wanted, encoding="utf-8")  # last: an environment that was left half made is made anew
    return python


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1][:160]


class Process:
    """A peer's script in the peer's environment: a line of JSON in, a line of JSON out."""

    def __init__(self, peer: str, script: str, folder: str, stack: ExitStack) -> None:
        self.peer = peer
        errors = Path(folder, "errors.txt")
        self.errors = stack.enter_context(errors.open("w+", encoding="utf-8"))
        self.process = subprocess.Popen(
            [python_of(peer), "-Es", HERE / script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            encoding="utf-8",
        )
        stack.callback(self.close)

    def ask(self, question: object) -> dict:
        """Raises PeerError where no answer comes, or one that says what went wrong."""
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        late = not timer.is_alive()
        timer.cancel()
        if not line:
            self.errors.seek(0)
            raise PeerError(f"no answer in {PATIENCE} s" if late else f"crashed: {last_line(self.errors.read())}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        VERSIONS[self.peer] = answer["version"]
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
