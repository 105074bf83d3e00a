"""How a peer in its own process answers: lines of JSON in and out, the results in files.

A line names what is to be run, a seed and a file. The answer is {"seconds": …, "version": …}, once the result is saved
to the file; the seconds are those of one whole run. The first time that something is named it is built and compiled:
that answer's seconds are to be thrown away. This file knows NumPy alone, since it runs in the peers' environments.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Compute = Callable[[int], np.ndarray]  # seed → result on the host


def serve(names: tuple[str, ...], build: Callable[..., Compute], version: str) -> None:
    """Answer until the input ends; `build` takes the line's entries of these names. What fails is answered so."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not get between the answers
    runs: dict[tuple[Any, ...], Compute] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            what = tuple(request[name] for name in names)
            if what not in runs:
                runs[what] = build(*what)
            begin = time.perf_counter()
            result = runs[what](request["seed"])
            seconds = time.perf_counter() - begin
            np.save(request["file"], result)
            answer = {"seconds": seconds, "version": version}
        except Exception as error:  # whatever it is, it is the peer's, and the run goes on
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
        print(json.dumps(answer), file=answers, flush=True)
