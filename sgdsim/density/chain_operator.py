"""The Markov operator of a chain x' = x − ηg_B(x) as a matrix: by points where its steps are smooth, by cells else."""

import abc
import dataclasses
import functools
import math
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float

from sgdsim.covariance import host_root
from sgdsim.density.gaussian_mixture import REACH, centre_weights, mixture_masses, window
from sgdsim.density.grid import Grid, merge_cells
from sgdsim.density.perron import perron_vector
from sgdsim.density.start_masses import start_masses
from sgdsim.density.step_law import StepLaw

_FEWEST_POINTS, _FEWEST_CELLS = 16, 4_096  # along an axis
_MOST_POINTS = 2**22  # looked at before the memory that they need is
_LOOKS, _NARROWER = 4, 1.05  # how often the points are made anew where a step is narrower on them than was seen
_BYTES = 24  # of an entry while a sparse matrix is made
_ENTRIES = 1_000_000  # numbers in an array at a time
_ROUNDING = 1e-9  # of a cell: an image that is narrower is one place


@dataclasses.dataclass(frozen=True, eq=False)
class ChainOperator(abc.ABC):
    """K, with which the weights of states at one step become those at the next, w ← K w.

    Attributes:
        law: one step from a point.
        grid: the cells that masses are given on.
        states: a grid of which the states are the centres.
        matrix: K, (n, n), from the state in a column to the one in a row; a column falls short of one by what leaves.
    """

    law: StepLaw
    grid: Grid
    states: Grid
    matrix: scipy.sparse.csr_matrix

    @property
    def points(self) -> Float[np.ndarray, "n d"]:
        """Where the states are, (n, d)."""
        return self.states.centres.reshape(-1, self.states.dim)

    @functools.cached_property
    def steady(self) -> Float[np.ndarray, " n"]:
        """The weights of the steady state, of sum one, (n,)."""
        return perron_vector(self.matrix, self.states.cells)

    @abc.abstractmethod
    def first_weights(self, start: Any) -> Float[np.ndarray, " n"]:
        """The states' weights after one step from a start, (n,)."""

    @abc.abstractmethod
    def first_masses(self, start: Any) -> Float[np.ndarray, "*cells"]:
        """The cells' masses after one step from a start, (*cells,)."""

    @abc.abstractmethod
    def masses_after(self, weights: Float[np.ndarray, "t n"]) -> Float[np.ndarray, "t *cells"]:
        """The cells' masses one step later, for several sets of weights."""

    @abc.abstractmethod
    def coarser(self) -> "ChainOperator":
        """The same chain on fewer states, for an error by comparison."""


@dataclasses.dataclass(frozen=True, eq=False)
class PointOperator(ChainOperator):
    """ρ'(y) = ∫ρ(x) Σ_a p_a N(y; m_a(x), S(x)) dx by the trapezoidal rule on points h apart (Nyström's method).

    The rule's error for an integrand that is a Gaussian s wide is e^{−2π²s²/h²}, 3e-9 at h = s. The integrand's inverse
    width is at most the precision of `StepLaw.precisions`, S⁻¹ + I along each axis, and h the least s over the box:
    then the error is 3e-9 for a density as narrow as one step's noise, and far smaller for one that is wider. (Cells of
    which each hands its mass on as if it were spread evenly, Ulam's method, would add h²/12 of variance in each step.)

    A density that does not vanish at the walls is cut off there, and the rule is then of the second order only.

    The cells' masses at a step are integrals over the cells of the Gaussians from the points before it.

    Attributes:
        means: m_a at the points, (m, n, d).
        covariances: S at the points, (n, d, d).

    Source: Atkinson, The Numerical Solution of Integral Equations of the Second Kind (1997), chapter 4; Trefethen and
    Weideman, "The exponentially convergent trapezoidal rule", SIAM Review 56 (2014), for the error.
    """

    means: Float[np.ndarray, "m n d"]
    covariances: Float[np.ndarray, "n d d"]

    @staticmethod
    def of(law: StepLaw, grid: Grid, memory_limit: float, spacing: float = 1.0) -> "PointOperator":
        """The operator on points `spacing` × s apart.

        Raises:
            ValueError: if the noise is singular somewhere, a field is not finite, or the matrix needs over
                `memory_limit` bytes.
        """
        scout = Grid(grid.lower, grid.upper, np.maximum(grid.cells, _FEWEST_POINTS)).centres.reshape(-1, grid.dim)
        widest, precision = law.covariances(scout), np.max(law.precisions(scout), axis=0)
        for _ in range(_LOOKS):  # on the points themselves, for a narrow place may lie between the cells' centres
            narrowest = precision**-0.5
            wanted = np.ceil((grid.upper - grid.lower) / (spacing * narrowest))
            states = Grid(grid.lower, grid.upper, np.maximum(wanted, _FEWEST_POINTS).astype(np.int64))
            if states.num_cells > _MOST_POINTS:
                break  # refused below
            found = np.maximum(precision, np.max(law.precisions(states.centres.reshape(-1, grid.dim)), axis=0))
            if np.all(found <= _NARROWER * precision):
                break
            precision = found
        reached = len(law.probabilities) * math.prod(window(states, widest))
        needed = states.num_cells * (_BYTES * min(states.num_cells, reached) + 8 * len(law.probabilities) * grid.dim)
        if needed > memory_limit:
            raise ValueError(
                f"grid is too large for this chain: a step is as narrow as {narrowest.tolist()} in this box, which "
                f"takes {'×'.join(map(str, states.cells))} points and {needed / 2**30:.3g} GiB, over the memory_limit "
                f"of {memory_limit / 2**30:.3g} GiB: take a smaller box, a larger learning rate or more noise"
            )
        points = states.centres.reshape(-1, grid.dim)
        means, covariances = law.means(points), law.covariances(points)
        matrix = centre_weights(states, law.probabilities, means, covariances)
        return PointOperator(law, grid, states, matrix, means, covariances)

    def first_weights(self, start: Any) -> Float[np.ndarray, " n"]:
        weights, points = self._nodes(start)
        step = self.law.probabilities, self.law.means(points), self.law.covariances(points)
        return centre_weights(self.states, *step) @ weights

    def first_masses(self, start: Any) -> Float[np.ndarray, "*cells"]:
        weights, points = self._nodes(start)
        step = self.law.probabilities, self.law.means(points), self.law.covariances(points)
        return mixture_masses(self.grid, weights[None], *step)[0]

    def coarser(self) -> "PointOperator":
        """Points √2 times as far apart, which make the error its own square root: the difference is a bound."""
        return PointOperator.of(self.law, self.grid, math.inf, math.sqrt(2))

    def masses_after(self, weights: Float[np.ndarray, "t n"]) -> Float[np.ndarray, "t *cells"]:
        return mixture_masses(self.grid, weights, self.law.probabilities, self.means, self.covariances)

    def _nodes(self, start: Any) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k d"]]:
        """Weights and places that stand for a start: x = m + √C z, z on a lattice that resolves its law and the step's.

        The precision of both in z is 1 + (√C Q √C)_aa ≤ 1 + d Σ_b (√C_ba/h_b)², with Q the step's, Q_bb ≤ 1/h_b².
        """
        if not hasattr(start, "covariance"):
            return np.ones(1), np.asarray(start, dtype=np.float64)[None]
        root, dim = host_root(np.asarray(start.covariance, dtype=np.float64)), self.grid.dim
        apart = (1 + dim * np.sum((root / self.states.widths[:, None]) ** 2, axis=0)) ** -0.5
        counts = np.ceil(REACH / apart).astype(int)
        axes = [h * np.arange(-n, n + 1) for h, n in zip(apart, counts, strict=True)]
        z = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dim)
        points = np.asarray(start.mean, dtype=np.float64) + z @ root
        kept = (np.sum(z**2, axis=1) < REACH**2) & (self.grid.locate(points) >= 0)
        weights = np.exp(-np.sum(z[kept] ** 2, axis=1) / 2)
        return weights / np.sum(weights), points[kept]


@dataclasses.dataclass(frozen=True, eq=False)
class CellOperator(ChainOperator):
    """A finite sum's own chain in 1-D, by Ulam's method: a cell's mass is spread evenly over its image, batch by batch.

    It works on cells that divide the grid's. Overlaps are exact, and a map that folds is wrong within one cell.
    Spreading adds about h²/12 of variance in each step. The law itself may live on a set of Cantor's kind and have no
    density; the masses of cells tend to the right ones all the same, if slowly.

    Source: Ulam, A Collection of Mathematical Problems (1960), VI.4; Li, J. Approx. Theory 17 (1976).
    """

    @staticmethod
    def of(law: StepLaw, grid: Grid, memory_limit: float, refinement: int | None = None) -> "CellOperator":
        """The operator on cells that divide each of the grid's into as many; by default there are 4,096 or more.

        Raises:
            ValueError: if a gradient is not finite, or the matrix needs over `memory_limit` bytes.
        """
        factor = refinement or 2 * -(-_FEWEST_CELLS // (2 * grid.num_cells))
        states = Grid(grid.lower, grid.upper, [grid.num_cells * factor])
        count, batches = states.num_cells, len(law.probabilities)
        matrix, part = scipy.sparse.csr_matrix((count, count)), max(1, _ENTRIES // count)
        for start in range(0, batches, part):
            some = slice(start, start + part)
            images = (law.means(states.edges(0)[:, None], some)[..., 0] - grid.lower[0]) / states.widths[0]
            matrix += _spread(images, law.probabilities[some])
            if matrix.nnz * _BYTES > memory_limit:
                raise ValueError(
                    f"grid must have fewer than {grid.num_cells} cells for this chain: its matrix on {count} of them "
                    f"takes more than the memory_limit of {memory_limit / 2**30:.3g} GiB"
                )
        return CellOperator(law, grid, states, matrix)

    def coarser(self) -> "CellOperator":
        return CellOperator.of(self.law, self.grid, math.inf, self._factor // 2)

    def first_weights(self, start: Any) -> Float[np.ndarray, " n"]:
        return self.matrix @ start_masses(self.states, start)

    def first_masses(self, start: Any) -> Float[np.ndarray, "*cells"]:
        return merge_cells(self.first_weights(start), self._factor)

    def masses_after(self, weights: Float[np.ndarray, "t n"]) -> Float[np.ndarray, "t *cells"]:
        return np.stack([merge_cells(self.matrix @ w, self._factor) for w in weights])

    @property
    def _factor(self) -> int:
        return self.states.ratio_to(self.grid)


def _spread(images: Float[np.ndarray, "m edges"], probabilities: Float[np.ndarray, " m"]) -> scipy.sparse.csr_matrix:
    """Σ_a p_a × the share of each image that each cell holds, from where the cells' edges go, in cells."""
    count = images.shape[1] - 1
    low = np.minimum(images[:, :-1], images[:, 1:])
    high = np.maximum(np.maximum(images[:, :-1], images[:, 1:]), low + _ROUNDING)
    total, first = scipy.sparse.csr_matrix((count, count)), np.floor(low).astype(np.int64)
    columns = np.broadcast_to(np.arange(count), low.shape)
    for row in range(int(np.max(np.ceil(high) - first))):
        rows = first + row
        share = (
            probabilities[:, None] * np.clip(np.minimum(high, rows + 1) - np.maximum(low, rows), 0, None) / (high - low)
        )
        kept = (share > 0) & (rows >= 0) & (rows < count)
        total += scipy.sparse.csr_matrix((share[kept], (rows[kept], columns[kept])), total.shape)
    return total
