"""POT: Wasserstein distances on a line, and sliced along the directions that it is given."""

import numpy as np
import ot
from arrays import Compute, Inputs, serve


def build(setting: str, inputs: Inputs) -> Compute:
    a, b = inputs["a"], inputs["b"]
    if setting == "wasserstein_1d":
        return lambda seed: np.asarray(ot.wasserstein_1d(a, b, p=1))
    projections = np.ascontiguousarray(inputs["directions"].T)
    return lambda seed: np.asarray(ot.sliced_wasserstein_distance(a, b, projections=projections, p=2))


if __name__ == "__main__":
    serve(build, ot.__version__)
