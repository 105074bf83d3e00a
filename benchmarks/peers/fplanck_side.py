"""fplanck: D/h² exp(−Δψ/2) for the rates of the master equation, and SciPy's exponential of the matrix.

`expm_multiply` is what `propagate` does by default; `dense=True` is what it offers beside, "might be faster, at memory
cost". Its grid is centred on the origin, as the equations' boxes are. It multiplies temperatures by Boltzmann's
constant.
"""

from importlib.metadata import version

import fplanck
import numpy as np
from arrays import Compute, Inputs, serve
from jobs import EQUATIONS
from scipy.constants import k as boltzmann


def build(setting: str, inputs: Inputs) -> Compute:
    e, start = EQUATIONS[str(inputs["equation"])], inputs["start"]
    extent = np.subtract(e.upper, e.lower)
    equation = getattr(fplanck, "FokkerPlanck", None) or fplanck.fokker_planck  # from 1.0, and before
    problem = equation(
        temperature=e.temperature / boltzmann,
        drag=1.0,
        extent=extent,
        resolution=extent / e.cells,
        potential=e.potential,
        boundary=fplanck.boundary.reflecting,
    )
    return lambda seed: problem.propagate(lambda *_: start.copy(), e.time, dense=setting == "dense")


if __name__ == "__main__":
    serve(build, f"{version('fplanck')} (NumPy {np.__version__})")
