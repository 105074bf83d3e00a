"""How a peer answers the benchmark: one line of JSON in, one line of JSON out, the masses in files.

The first line is the job; the answer names the settings that the peer can solve it with. Every further line names one
of them, and is answered by the seconds of one solve, from the masses at the start to the masses at the end, and by the
file that they were saved to. The first time a setting is named it is built and warmed up, and the answer says how long
the way to the first masses took.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np

Solve = Callable[[np.ndarray], np.ndarray]  # masses at the start → masses at the end, (*cells,)
Build = Callable[[], Solve]


def serve(settings_of: Callable[[dict], dict[str, Build]], version: str) -> None:
    """Answer until the input ends. A setting that fails is answered by its error, and the others go on."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not get between the answers

    def answer(**entries: object) -> None:
        print(json.dumps(entries), file=answers, flush=True)

    job = json.loads(sys.stdin.readline())
    start = np.load(job["start"])
    builds, solves = settings_of(job), {}
    answer(version=version, settings=list(builds))
    for line in sys.stdin:
        setting = json.loads(line)
        try:
            first = None
            if setting not in solves:
                begin = time.perf_counter()
                solves[setting] = builds[setting]()
                solves[setting](start)
                first = time.perf_counter() - begin
            begin = time.perf_counter()
            masses = solves[setting](start)
            seconds = time.perf_counter() - begin
            file = f"{job['folder']}/{list(builds).index(setting)}.npy"
            np.save(file, masses)
            answer(seconds=seconds, first=first, file=file)
        except Exception as error:  # whatever it is, it is the peer's, and the run goes on
            answer(error=f"{type(error).__name__}: {error}".splitlines()[0][:160])
