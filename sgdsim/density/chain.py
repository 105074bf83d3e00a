"""The chain's own density: the law of discrete SGD on a grid, without particles."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sgdsim.density.chain_operator import CellOperator, ChainOperator, PointOperator
from sgdsim.density.grid import Grid
from sgdsim.density.grid_estimate import GridEstimate
from sgdsim.density.propagate import CUT_OFF, Propagation, warn_of_cut_off
from sgdsim.density.start_masses import start_masses
from sgdsim.density.step_law import refusal, step_law
from sgdsim.processes.sgd import SGD

MEMORY_LIMIT = 2 * 2.0**30  # bytes

Observable = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class ChainDensity:
    """The law of x' = x − ηg_B(x), step by step and in the steady state: the truth that limits are held against.

    The chain must be Markov in x: no momentum, independent batches. In 1-D and 2-D with Gaussian noise, D(x) too, and
    for a finite sum with isotropic noise beside its batches (`Perturbed`), the answers are exact to about 1e-9
    (`PointOperator`). A finite sum in 1-D by itself is enumerated on the grid's cells, to the first order in their
    width (`CellOperator`).

        chain = ChainDensity.of(SGD(problem, learning_rate=0.1, batch_size=1), Grid([-3.0], [3.0], [512]))
        chain.propagate(start, [0, 10, 100]).masses    # (3, 512)

    A particle outside the box is lost. Every answer carries its own error of discretisation.

    Attributes:
        sgd: the chain.
        grid: the box, and the cells that masses are given on.
        operator: the chain's Markov operator as a matrix.
    """

    sgd: SGD
    grid: Grid
    operator: ChainOperator

    @classmethod
    def of(cls, sgd: SGD, grid: Grid, *, memory_limit: float = MEMORY_LIMIT) -> "ChainDensity":
        """The density of this chain on this grid.

        Raises:
            TypeError: if `sgd` is no SGD process.
            ValueError: where `refusal` has a reason; if the grid is periodic or not of the problem's dimension; if the
                noise is singular or a field not finite somewhere in the box; or if the matrix takes too much memory.
        """
        law = step_law(sgd)
        if grid.dim != sgd.dim:
            raise ValueError(f"grid must have as many axes as the problem has dimensions, {sgd.dim}, got {grid.dim}")
        if any(grid.periodic):
            raise ValueError(f"grid must not be periodic: the chain lives on a line or a plane, got {grid}")
        operator = (
            PointOperator.of(law, grid, memory_limit) if law.is_smooth else CellOperator.of(law, grid, memory_limit)
        )
        return cls(sgd, grid, operator)

    @staticmethod
    def refusal(sgd: Any) -> str | None:
        """Why this chain's own density cannot be had, or None where it can; at no cost."""
        return refusal(sgd)

    def density_of(self, start: Any) -> Float[np.ndarray, "*cells"]:
        """The exact cell masses of a Gaussian, divided by its mass in the box, or of a point (d,), (*cells,).

        Raises:
            ValueError: as `start_masses`.
        """
        return start_masses(self.grid, start)

    def propagate(self, start: Any, steps: Sequence[int] | np.ndarray, grid_error: bool = True) -> Propagation:
        """The cell masses at these steps, on the clock t = ηk.

        Args:
            start: a Gaussian (`mean`, `covariance`) or a point (d,).
            steps: (T,), whole numbers ≥ 0, strictly increasing.
            grid_error: do it with coarser states as well and report the difference, which takes a fraction of the time.

        Returns:
            Times, masses and how they came about. `mass_defect` is what has left the box, `exit_rate` 1/η, and
            `grid_error` for a smooth chain a bound that is far above the error itself.

        Raises:
            ValueError: if the steps are not as said, or as `start_masses`.
        """
        wanted = _checked_steps(steps)
        start_masses(self.grid, start)
        masses = _masses(self.operator, start, wanted)
        eta = float(self.sgd.learning_rate)
        sums = np.sum(masses.reshape(len(wanted), -1), axis=1)
        answer = Propagation(
            times=eta * wanted,
            masses=masses,
            method=f"the chain's operator on {'×'.join(map(str, self.operator.states.cells))} states",
            mass_defect=float(np.max(np.abs(sums - 1))),
            smallest=float(np.min(masses)),
            matvecs=int(wanted[-1]),
            exit_rate=1 / eta,
            grid_error=np.full(len(wanted), np.nan),
            boundary_mass=self.grid.boundary_mass(masses),
            regularisation=0.0,
        )
        warn_of_cut_off(answer)
        _warn_of_leak(answer.mass_defect, "by the last step")
        if not grid_error:
            return answer
        return dataclasses.replace(answer, grid_error=_apart(masses, _masses(self.coarser, start, wanted)))

    def expect(self, observable: Observable, start: Any, steps: Sequence[int] | np.ndarray) -> list[GridEstimate]:
        """E φ(x_k) at each of these steps, over the mass that is still in the box.

        For a smooth chain the cells play no part: a smooth φ is summed over the operator's points, to about 1e-9.

        Args:
            observable: φ, a NumPy function of points (n, d) → (n,).
            start: a Gaussian (`mean`, `covariance`) or a point (d,).
            steps: whole numbers ≥ 1, strictly increasing.

        Where the box loses mass, a warning says so: what has left is not in the error.

        Raises:
            ValueError: if the steps are not as said, or as `start_masses`.
        """
        wanted = _checked_steps(steps, first=1)
        start_masses(self.grid, start)
        values, kept = _averages(self.operator, observable, start, wanted)
        _warn_of_leak(1 - float(kept[-1]), "by the last step")
        errors = np.abs(values - _averages(self.coarser, observable, start, wanted)[0])
        return [GridEstimate(float(value), float(error)) for value, error in zip(values, errors, strict=True)]

    def stationary(self) -> Float[np.ndarray, "*cells"]:
        """The steady state's cell masses, (*cells,), of sum one; computed once and kept.

        Where mass leaves the box it is the law of what is still inside after a long time (the quasi-stationary law),
        and a warning says so if over 1e-4 leaves in a unit of time.

        Raises:
            ArithmeticError: as `perron_vector`: if the steady state depends on the start.
        """
        _warn_of_leak(self.stationary_leak() / float(self.sgd.learning_rate), "in a unit of time of the steady state")
        return self._stationary.copy()

    def stationary_error(self) -> float:
        """Σ|Δmass| between the steady states on these states and on coarser ones: a bound on the error, as a rule."""
        return float(_apart(self._stationary[None], _steady_masses(self.coarser)[None])[0])

    def stationary_leak(self) -> float:
        """The share of the mass that leaves the box in each step of the steady state."""
        return float(np.sum(self.operator.steady * (1 - np.asarray(self.operator.matrix.sum(axis=0)).reshape(-1))))

    @functools.cached_property
    def coarser(self) -> ChainOperator:
        """The same chain on fewer states, made once."""
        return self.operator.coarser()

    @functools.cached_property
    def _stationary(self) -> Float[np.ndarray, "*cells"]:
        return _steady_masses(self.operator)

    def __repr__(self) -> str:
        how = "points" if isinstance(self.operator, PointOperator) else "cells"
        states = "×".join(map(str, self.operator.states.cells))
        return f"ChainDensity({self.grid!r}, by {states} {how}, {self.operator.matrix.nnz:,} entries)"


def _weights(operator: ChainOperator, start: Any, steps: Int[np.ndarray, " T"]) -> Float[np.ndarray, "T n"]:
    """The states' weights at these steps, all ≥ 1."""
    kept, now, weights = [], 1, operator.first_weights(start)
    for step in steps:
        for _ in range(now, int(step)):
            weights = operator.matrix @ weights
        now = int(step)
        kept.append(weights)
    return np.array(kept).reshape(len(steps), len(weights))


def _masses(operator: ChainOperator, start: Any, steps: Int[np.ndarray, " T"]) -> Float[np.ndarray, "T *cells"]:
    """The cells' masses at these steps: the start's own, those of the first step, and those after the step before."""
    early = [
        start_masses(operator.grid, start) if step == 0 else operator.first_masses(start) for step in steps[steps < 2]
    ]
    late = steps[steps >= 2]
    later = operator.masses_after(_weights(operator, start, late - 1)) if len(late) else []
    return np.stack([*early, *later])


def _averages(
    operator: ChainOperator, observable: Observable, start: Any, steps: Int[np.ndarray, " T"]
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """The averages over the mass that is still in the box, and that mass."""
    values, weights = np.asarray(observable(operator.points), dtype=np.float64), _weights(operator, start, steps)
    if values.shape != (len(operator.points),):
        raise ValueError(f"observable must map points (n, d) to (n,), got shape {values.shape}")
    kept = np.sum(weights, axis=1)
    return np.sum(weights * values, axis=1) / kept, kept


def _steady_masses(operator: ChainOperator) -> Float[np.ndarray, "*cells"]:
    masses = operator.masses_after(operator.steady[None])[0]
    return masses / np.sum(masses)


def _apart(masses: Float[np.ndarray, "T *cells"], rough: Float[np.ndarray, "T *cells"]) -> Float[np.ndarray, " T"]:
    """Σ|Δmass| at each time."""
    return np.sum(np.abs(masses - rough).reshape(len(masses), -1), axis=1)


def _warn_of_leak(share: float, when: str) -> None:
    if share > CUT_OFF:
        warnings.warn(f"the box loses mass: {share:.1e} of it has left {when}; widen it", stacklevel=3)


def _checked_steps(steps: Sequence[int] | np.ndarray, first: int = 0) -> Int[np.ndarray, " T"]:
    """The steps as an array, or a ValueError unless they are whole numbers ≥ `first` and strictly increasing."""
    wanted = np.asarray(steps)
    if wanted.ndim != 1 or len(wanted) == 0 or not np.issubdtype(wanted.dtype, np.integer):
        raise ValueError(f"steps must be a list of at least one whole number, got {steps!r}")
    if wanted[0] < first or np.any(np.diff(wanted) <= 0):
        raise ValueError(f"steps must be at least {first} and strictly increasing, got {wanted.tolist()}")
    return wanted.astype(np.int64)
