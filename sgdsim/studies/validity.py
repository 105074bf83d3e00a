"""Whether a continuum limit has any right to hold: three numbers to read before the table."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from sgdsim.ensemble import simulate
from sgdsim.measures import Estimate, curvature, excess_kurtosis
from sgdsim.measures.operators import Hessian
from sgdsim.measures.spectrum import top_eigenpairs
from sgdsim.processes import SGD

POINTS = 8  # late positions at which curvature and noise are looked at
BATCHES = 512  # minibatches drawn at each
HESSIAN_LIMIT = 256  # dimensions beyond which only the largest curvature is sought, by Lanczos iteration
TOLERANCE = 1e-3  # of that one


@dataclasses.dataclass(frozen=True)
class Validity:
    """What the limit rests on, read at the minima and at late positions of the SGD cloud.

    Attributes:
        step_times_curvature: ηk_max, the learning rate times the largest curvature; the chain is unstable beyond
            2(1 + μ), and the limit is a limit of small values.
        kurtosis: excess kurtosis of the minibatch noise along the axes (d ≤ 3) or random directions; a diffusion has 0.
        relaxation_time: 1/k_min at the slowest minimum; None where a curvature is not positive, or d is above 256: a
            smallest curvature among many that are nearly 0 says nothing.
        run_length: the length of the run on the same clock.
    """

    step_times_curvature: float
    kurtosis: Estimate
    relaxation_time: float | None
    run_length: float

    def __str__(self) -> str:
        relaxation = f"none (a curvature is not positive, or d is above {HESSIAN_LIMIT})"
        if self.relaxation_time is not None:
            relaxation = f"{self.relaxation_time:.3g} against a run of {self.run_length:.3g}"
        return (
            f"validity: ηk_max = {self.step_times_curvature:.3g}; "
            f"excess kurtosis of the minibatch noise {self.kurtosis}; relaxation time {relaxation}"
        )


def validity(
    sgd: SGD,
    late: Float[np.ndarray, "n d"],
    minima: Float[np.ndarray, "m d"],
    *,
    run_length: float,
    key: Key[Array, ""],
) -> Validity:
    """Read the three numbers at a few late positions, and at the minima where they are known."""
    simulate_key, direction_key, lanczos_key = jax.random.split(key, 3)
    problem, points = sgd.problem, late[:POINTS]
    if sgd.dim <= 3:
        # at the minima, where the cloud lives; where it has found none, wherever it is
        spectra = [np.linalg.eigvalsh(curvature.hessian(problem, x)) for x in (minima if len(minima) else points)]
        slow = [values[0] for values in spectra]
    elif sgd.dim <= HESSIAN_LIMIT:
        spectra = [np.linalg.eigvalsh(curvature.hessian(problem, points[0]))]
        slow = [spectra[0][0]]
    else:
        top = top_eigenpairs(Hessian(problem, points[0]), 1, key=lanczos_key, by="magnitude", tolerance=TOLERANCE)
        spectra, slow = [np.asarray(top.values.value)], []
    fastest = max(float(values[-1]) for values in spectra)
    return Validity(
        step_times_curvature=float(sgd.learning_rate) * fastest,
        kurtosis=_noise_kurtosis(sgd, points, simulate_key, direction_key),
        relaxation_time=1 / float(min(slow)) if slow and min(slow) > 0 else None,
        run_length=run_length,
    )


def _noise_kurtosis(
    sgd: SGD, points: Float[np.ndarray, "n d"], simulate_key: Key[Array, ""], direction_key: Key[Array, ""]
) -> Estimate:
    """Excess kurtosis of one step's displacement over many minibatches at each point."""
    start = np.repeat(points, BATCHES, axis=0)
    after = simulate(sgd, start, steps=1, key=simulate_key).particles[-1]
    moves = (after.astype(float) - start).reshape(len(points), BATCHES, sgd.dim).transpose(1, 0, 2)
    if sgd.dim > 3:
        directions = np.asarray(jax.random.normal(direction_key, (sgd.dim, POINTS)))
        moves = moves @ directions
    return excess_kurtosis(moves)
