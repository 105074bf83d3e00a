"""kramersmoyal: conditional moments of increments; the kernel is narrower than a bin, so that it only bins."""

from importlib.metadata import version

import numpy as np
from arrays import Compute, Inputs, serve
from kramersmoyal import km


def build(setting: str, inputs: Inputs) -> Compute:
    series, edges, dt = inputs["series"], inputs["edges"], float(inputs["dt"])
    width = edges[1] - edges[0]

    def compute(seed: int) -> np.ndarray:
        moments, _ = km(series, bins=[edges], powers=[0, 1, 2], bw=width / 2, tol=0.0)
        return np.asarray(moments[1]) / dt

    return compute


if __name__ == "__main__":
    serve(build, version("kramersmoyal"))
