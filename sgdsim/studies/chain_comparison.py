"""The fourth description in `compare`: the chain's own density beside that of its limit, with no sampling at all."""

import dataclasses

import numpy as np
from jaxtyping import Float

from sgdsim.density import ChainDensity, FokkerPlanck, Grid, Propagation
from sgdsim.density.grid import merge_cells
from sgdsim.density.grid_estimate import error_multiple
from sgdsim.ensemble import Gaussian, Trajectory
from sgdsim.measures import Estimate, kl, kl_between_densities
from sgdsim.processes import SGD

MOST_PRODUCTS = 1e10  # with the chain's operator that a comparison takes for its density: half a minute


@dataclasses.dataclass(frozen=True)
class ChainComparison:
    """The chain's own density against SGD's cloud and against the limit's. One entry for each saved time.

    Attributes:
        masses: cell masses of the chain, (T, *cells).
        steady: of its steady state, (*cells,).
        method: how it was computed.
        sgd: KL(SGD's cloud ‖ chain), in nats: agreement says that cloud and operator are one law.
        to_limit: KL(chain ‖ Fokker–Planck); the error is the grid's.
        steady_to_limit: the same of both steady states.
        steady_to_corrected: KL of the chain's steady state to that of the backward-error limit, which is to O(η²)
            what the first order's is to O(η); None where D depends on x or η is large, for which there is none.
    """

    masses: Float[np.ndarray, "times *cells"]
    steady: Float[np.ndarray, "*cells"]
    method: str
    sgd: tuple[Estimate, ...]
    to_limit: tuple[Estimate, ...]
    steady_to_limit: Estimate
    steady_to_corrected: Estimate | None

    @property
    def reading(self) -> str:
        """What the chain's own density says, in one or two sentences."""
        worst = max(self.to_limit, key=lambda e: float(e.value))
        text = (
            f"Without any sampling the chain's own density is at most {worst.value:.2g} nats from its limit's, "
            f"{self.to_limit[-1].value:.2g} at the end, and its steady state {self.steady_to_limit.value:.2g} from the "
            "limit's"
        )
        if self.steady_to_corrected is not None:
            text += f" ({self.steady_to_corrected.value:.2g} once the limit is corrected to the next order in η)"
        return text + "."


def chain_comparison(
    sgd: SGD, start: Gaussian, cloud: Trajectory, levels: tuple[tuple[FokkerPlanck, Propagation], ...]
) -> ChainComparison | str:
    """The chain's own density on the limit's grid, or why there is none.

    Args:
        sgd: the chain.
        start: where it starts.
        cloud: its particles, at the saved times.
        levels: the limit and its density, on the grid and on one of half the cells.
    """
    reason = ChainDensity.refusal(sgd)
    if reason is not None:
        return reason
    (fp, density), (rough, rough_density) = levels
    try:
        chain = ChainDensity.of(sgd, fp.grid)
        work = chain.operator.matrix.nnz * int(cloud.steps[-1])
        if work > MOST_PRODUCTS:
            return f"its {int(cloud.steps[-1]):,} steps would take {work:.1e} products"
        answer, steady = chain.propagate(start, cloud.steps, grid_error=False), chain.stationary()
    except (ValueError, ArithmeticError) as error:  # singular noise in a corner of the box, or no one steady state
        return str(error)
    return ChainComparison(
        masses=answer.masses,
        steady=steady,
        method=answer.method,
        sgd=tuple(kl(x, fp.grid, p) for x, p in zip(cloud.particles, answer.masses, strict=True)),
        to_limit=tuple(
            _apart(p, floored_log(q), floored_log(r))
            for p, q, r in zip(answer.masses, density.masses, rough_density.masses, strict=True)
        ),
        steady_to_limit=_apart(steady, fp.log_stationary(), rough.log_stationary()),
        steady_to_corrected=_to_corrected(sgd, steady, fp.grid, rough.grid),
    )


def _to_corrected(sgd: SGD, steady: Float[np.ndarray, "*cells"], grid: Grid, rough: Grid) -> Estimate | None:
    """The steady state against the backward-error limit's; None where there is none, or its diffusion is negative."""
    if not sgd.problem.has_additive_noise:
        return None
    try:
        limits = [FokkerPlanck.limit_of(sgd, g, order="backward-error").log_stationary() for g in (grid, rough)]
    except (ValueError, ArithmeticError):
        return None
    return _apart(steady, *limits)


def _apart(
    masses: Float[np.ndarray, "*cells"], log_q: Float[np.ndarray, "*cells"], rough_log_q: Float[np.ndarray, "*merged"]
) -> Estimate:
    """KL(masses ‖ q), and the error that the cells' width makes, from cells of twice the width."""
    value = kl_between_densities(masses, np.exp(log_q), log_q=log_q)
    rough = kl_between_densities(merge_cells(masses, 2), np.exp(rough_log_q), log_q=rough_log_q)
    return Estimate(value, abs(value - rough) / error_multiple(2))


def floored_log(masses: Float[np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
    """log masses, finite where a cell is empty."""
    return np.log(np.maximum(masses, np.finfo(masses.dtype).tiny))
