"""How a peer in its own process computes on arrays: lines of JSON in and out, the arrays in files.

A line is {"setting": …, "inputs": an .npz, "seed": …, "file": an .npy}. The answer is {"seconds": …, "version": …},
after the result was saved to the file. The first time that a setting meets its inputs it is built: that answer's
seconds are to be thrown away. This file knows NumPy alone, since it runs in the peers' environments.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np

Inputs = dict[str, np.ndarray]
Compute = Callable[[int], np.ndarray]  # seed → result on the host


def serve(build: Callable[[str, Inputs], Compute], version: str) -> None:
    """Answer until the input ends. What fails is answered by its error, and the others go on."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not get between the answers
    runs: dict[tuple[str, str], Compute] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            what = (request["setting"], request["inputs"])
            if what not in runs:
                with np.load(request["inputs"]) as inputs:
                    runs[what] = build(request["setting"], dict(inputs))
            begin = time.perf_counter()
            result = runs[what](request["seed"])
            seconds = time.perf_counter() - begin
            np.save(request["file"], result)
            answer = {"seconds": seconds, "version": version}
        except Exception as error:  # whatever it is, it is the peer's, and the run goes on
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
        print(json.dumps(answer), file=answers, flush=True)
