"""fplanck: D/h² exp(−Δψ/2) for the rates of the master equation, and SciPy's exponential of the matrix.

`expm_multiply` is what `propagate` does by default; `dense=True` is what it offers beside, "might be faster, at memory
cost". Its grid is centred on the origin, as the jobs' boxes are. It multiplies temperatures by Boltzmann's constant.
"""

from importlib.metadata import version

import fplanck
import numpy as np
from scipy.constants import k as boltzmann
from serve import Build, Solve, serve

DENSE = 1_024  # cells up to which the exponential of a dense matrix is worth trying


def settings_of(job: dict) -> dict[str, Build]:
    extent = np.subtract(job["upper"], job["lower"])
    equation = getattr(fplanck, "FokkerPlanck", None) or fplanck.fokker_planck  # from 1.0, and before

    def potential(*coordinates: np.ndarray) -> np.ndarray:
        return eval(job["potential"], {}, dict(zip("xy", coordinates, strict=False)))

    def build(dense: bool) -> Solve:
        problem = equation(
            temperature=job["temperature"] / boltzmann,
            drag=1.0,
            extent=extent,
            resolution=extent / job["cells"],
            potential=potential,
            boundary=fplanck.boundary.reflecting,
        )

        def solve(start: np.ndarray) -> np.ndarray:
            return problem.propagate(lambda *_: start.copy(), job["time"], dense=dense)

        return solve

    settings = {"propagate (expm_multiply)": lambda: build(False)}
    if np.prod(job["cells"]) <= DENSE:
        settings["propagate, dense=True"] = lambda: build(True)
    return settings


if __name__ == "__main__":
    serve(settings_of, f"{version('fplanck')} (NumPy {np.__version__})")
