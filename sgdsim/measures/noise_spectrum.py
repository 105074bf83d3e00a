"""The spectrum of D(x): how few directions minibatch noise has, and how few of them matter."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, Int, PyTree

from sgdsim.measures.operators import checked_point, checked_tile, finite_sum, mean_gradient
from sgdsim.problems.problem import Problem
from sgdsim.problems.risk import EmpiricalRisk
from sgdsim.problems.tiles import sum_over_tiles

TILE_NUMBERS = 2**24  # numbers in a tile of gradients, unless its size is given; two tiles are held at a time
LARGEST_MATRIX = 20_000  # min(d, N) above which the whole spectrum of D is refused
SINGLE_PRECISION = float(np.finfo(np.float32).eps)  # of Chaudhari and Soatto's threshold


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseSpectrum:
    """All eigenvalues of D(x) that need not vanish.

    Attributes:
        eigenvalues: decreasing, n = min(d, N − 1) of them, (n,); what rounding leaves below zero is 0.
        dim: d.
        num_examples: N; None where examples never end.
        dtype: the precision in which the gradients and their products were computed.
    """

    eigenvalues: Float[np.ndarray, " n"]
    dim: int
    num_examples: int | None
    dtype: str

    @property
    def largest_rank(self) -> int:
        """What D's rank cannot exceed: min(d, N − 1), or d where the noise is not that of N examples alone."""
        return len(self.eigenvalues)

    @property
    def trace(self) -> float:
        """Tr D."""
        return float(np.sum(self.eigenvalues))

    @property
    def participation(self) -> float:
        """(Tr D)²/Tr D²: how many equal eigenvalues would have these two traces; 0 where D = 0."""
        squares = float(np.sum(self.eigenvalues**2))
        return self.trace**2 / squares if squares > 0 else 0.0

    def threshold(self, epsilon: float = SINGLE_PRECISION) -> float:
        """λ_max d ε, below which an eigenvalue counts as 0; by default with the ε = 1.19e−7 of single precision.

        Source: Chaudhari and Soatto (ICLR 2018), section 4; `numpy.linalg.matrix_rank`.
        """
        return float(np.max(self.eigenvalues, initial=0.0)) * self.dim * epsilon

    def rank(self, epsilon: float = SINGLE_PRECISION) -> int:
        """How many eigenvalues exceed `threshold(epsilon)`. An ε below that of `dtype` counts rounding errors too."""
        return int(np.sum(self.eigenvalues > self.threshold(epsilon)))

    def directions_for(self, fraction: float) -> int:
        """The fewest directions that hold this fraction of the trace, 0 < fraction ≤ 1; 0 where D = 0.

        Raises:
            ValueError: on another fraction.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie above 0 and not above 1, got {fraction}")
        held = np.cumsum(self.eigenvalues)
        if not self.trace > 0:
            return 0
        return min(int(np.searchsorted(held, fraction * held[-1] * (1 - 1e-12))) + 1, len(held))


def noise_spectrum(problem: Problem, x: Float[np.ndarray | Array, " d"], *, tile: int | None = None) -> NoiseSpectrum:
    """The spectrum of D(x), without an N × d array.

    D = GᵀG/N with the N × d matrix G of centred gradients shares its non-zero eigenvalues with the N × N matrix
    K = GGᵀ/N, and the smaller of the two is formed: K from pairs of tiles of examples, D from a sum over tiles. A
    tile's gradients are computed anew whenever they are needed. In memory are two tiles of `tile`·d numbers and two
    matrices of min(d, N)²; the time is O(N² d) or O(N d²), and O(min(d, N)³) for the eigenvalues, which are found in
    double precision. A modelled noise gives its own d × d matrix.

    An eigenvalue is right to about ε λ_max, ε that of JAX's default float: smaller ones are rounding.

    Args:
        problem: the loss and its noise.
        x: where, (d,).
        tile: how many examples' gradients to hold at a time; by default as many as make 2²⁴ numbers, at most N.

    Raises:
        ValueError: if x has not d finite numbers, the noise has no covariance, D is not finite there, or min(d, N) is
            above 20,000.
    """
    problem.require_covariance()
    point = checked_point(problem, x)
    risk, variance = finite_sum(problem)
    smaller = min(problem.dim, problem.dim if risk is None else risk.num_examples)
    if smaller > LARGEST_MATRIX:
        raise ValueError(f"min(d, N) must be at most {LARGEST_MATRIX} for a whole spectrum, got {smaller}")
    if risk is None:
        matrix = np.asarray(problem.noise_covariance(point))
    else:
        matrix = _smaller_product(risk, point, _tile_size(risk, tile))
    if not np.all(np.isfinite(matrix)):
        raise ValueError("D must be finite at x, got an overflow or NaN")
    values = np.maximum(scipy.linalg.eigvalsh(matrix.astype(np.float64), overwrite_a=True, driver="evd")[::-1], 0.0)
    if risk is not None and risk.num_examples <= problem.dim:
        values = values[: risk.num_examples - 1]  # the last is 0: the centred gradients sum to 0
    extra = float(variance)
    if extra:
        values = np.append(values, np.zeros(problem.dim - len(values))) + extra
    return NoiseSpectrum(values, problem.dim, problem.num_examples, str(point.dtype))


def _tile_size(risk: EmpiricalRisk, tile: int | None) -> int:
    """The examples of a tile: as given, or the fewest that cover all N with as few tiles as the memory allows."""
    if tile is not None:
        return min(checked_tile(tile), risk.num_examples)
    most = max(1, TILE_NUMBERS // risk.dim)
    return -(-risk.num_examples // -(-risk.num_examples // most))


def _smaller_product(risk: EmpiricalRisk, x: Float[Array, " d"], tile: int) -> Float[np.ndarray, "n n"]:
    """GGᵀ/N or GᵀG/N, whichever is smaller."""
    mean, count = mean_gradient(risk, x, tile), risk.num_examples
    if risk.dim <= count:
        return np.asarray(_scatter(risk, x, mean, tile)) / count
    gram = np.empty((count, count), dtype=x.dtype)
    for i in range(0, count, tile):
        rows = _centred_gradients(risk, x, mean, i, tile)
        gram[i : i + tile, i : i + tile] = np.asarray(_products(rows, rows))[: count - i, : count - i]
        for j in range(i + tile, count, tile):
            block = _products(rows, _centred_gradients(risk, x, mean, j, tile))
            gram[i : i + tile, j : j + tile] = np.asarray(block)[:, : count - j]
            gram[j : j + tile, i : i + tile] = gram[i : i + tile, j : j + tile].T
    return np.divide(gram, count, out=gram)


@eqx.filter_jit
def _centred_gradients(
    risk: EmpiricalRisk, x: Float[Array, " d"], mean: Float[Array, " d"], begin: Int[Array, ""] | int, tile: int
) -> Float[Array, "tile d"]:
    """∇ℓᵢ − ∇ℓ of the examples from `begin` on; past the end the last one is repeated."""
    places = jnp.minimum(begin + jnp.arange(tile), risk.num_examples - 1)
    return risk.example_gradients(x, jax.tree.map(lambda a: a[places], risk.data)) - mean


@jax.jit
def _products(rows: Float[Array, "n d"], others: Float[Array, "m d"]) -> Float[Array, "n m"]:
    return jnp.matmul(rows, others.T, precision=jax.lax.Precision.HIGHEST)


@eqx.filter_jit
def _scatter(risk: EmpiricalRisk, x: Float[Array, " d"], mean: Float[Array, " d"], tile: int) -> Float[Array, "d d"]:
    """Σ (∇ℓᵢ − ∇ℓ)(∇ℓᵢ − ∇ℓ)ᵀ."""

    def of_tile(data: PyTree[Array]) -> Float[Array, "d d"]:
        rows = risk.example_gradients(x, data) - mean
        return jnp.matmul(rows.T, rows, precision=jax.lax.Precision.HIGHEST)

    return sum_over_tiles(of_tile, risk.data, tile)
