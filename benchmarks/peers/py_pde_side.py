"""py-pde: the equation as a string, central differences, numba; with its default and with what serves it best.

The drift stands inside the derivative, d_dx(b p). Multiplied out, −b d_dx(p) − b' p, the scheme loses mass: 1.9e-3 of
it in the 1-D double well at 512 cells. The default solver is adaptive Euler. Implicit Euler and Crank–Nicolson are
iterated to a fixed point, and in the 1-D double well that did not converge at steps of 1e-3. SciPy's LSODA does well in
1-D once it is told that the Jacobian is tridiagonal, which py-pde passes on to it. In 2-D SciPy's BDF with the pattern
of the Jacobian took ten times longer than Euler.

`solve`, the public interface, compiles anew at each call. It is timed as a user meets it, and beside it steppers that
are made once, through the solvers' own classes, and used again.
"""

import numpy as np
import pde
from arrays import Compute, Inputs, serve
from jobs import EQUATIONS, Equation
from pde import CartesianGrid, ScalarField
from pde.solvers.base import SolverBase

SOLVERS = {
    "euler": ("euler", {"adaptive": True}),
    "runge-kutta": ("runge-kutta", {"adaptive": True}),
    "lsoda": ("scipy", {"method": "LSODA", "lband": 1, "uband": 1, "rtol": 1e-6, "atol": 1e-8}),
}


def text_of(e: Equation) -> str:
    axes = "xyz"[: e.dim]
    tensor = np.asarray(e.diffusion)
    terms = [f"- d_d{axis}(({drift}) * p)" for axis, drift in zip(axes, e.drift_text, strict=True)]
    if np.array_equal(tensor, tensor[0, 0] * np.eye(len(axes))):
        return " ".join([f"{tensor[0, 0]!s} * laplace(p)", *terms])
    for i, one in enumerate(axes):
        terms.append(f"+ {tensor[i, i]!s} * d2_d{one}2(p)")
        terms += [f"+ {2 * tensor[i, j]!s} * d_d{one}(d_d{axes[j]}(p))" for j in range(i + 1, len(axes))]
    return " ".join(terms)


def build(setting: str, inputs: Inputs) -> Compute:
    e, start = EQUATIONS[str(inputs["equation"])], inputs["start"]
    box = CartesianGrid(list(zip(e.lower, e.upper, strict=True)), e.cells)
    volume = float(np.prod(np.subtract(e.upper, e.lower) / e.cells))
    problem = pde.PDE({"p": text_of(e)}, bc={"value": 0})

    def public(seed: int) -> np.ndarray:
        state = ScalarField(box, start / volume)
        return problem.solve(state, t_range=e.time, adaptive=True, backend="numba", tracker=None).data * volume

    if setting == "public":
        return public
    solver, options = SOLVERS[setting]
    state = ScalarField(box)
    stepper = SolverBase.from_name(solver, pde=problem, backend="numba", **options).make_stepper(state)

    def steps(seed: int) -> np.ndarray:
        state.data[...] = start / volume
        stepper(state, 0.0, e.time)
        return state.data * volume

    return steps


if __name__ == "__main__":
    serve(build, f"{pde.__version__} (NumPy {np.__version__})")
