"""The slow end of a Markov generator's spectrum: relaxation rates and their modes."""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Complex, Float, Inexact, Int
from scipy.special import logsumexp

from sgdsim.density.balance import edge_ends, is_balanced
from sgdsim.density.elimination import largest_body
from sgdsim.density.generator import Generator
from sgdsim.density.resolvent import factored, is_tridiagonal

_MOST_CELLS = {1: 10**6, 2: 700**2, 3: 40**3}  # by dimension; the fill of LU then takes about 1 GB
_UNSTEADY = {8: 1e-9, 4: 1e-5}  # ‖Lπ‖₁/q that log masses may have, by the bytes of a float
_SHIFT = 1e-8  # of q: far over rounding, far under the second slowest rate
_CORE = 1e-4  # of the largest entry: what a vector with errors of 1e-16 holds to twelve digits
_SLOW = 1e-6  # of q: under it, to solve in a well by itself would lose over ten digits
_SPARE = 12  # eigenvalues sought beyond those asked for, where the nearest to 0 need not be the slowest
_APART = 1e-3  # how much farther from 0 the next eigenvalue is where a set of them is cut off
_NOISE = 1e-28  # of q: the smallest gap handed out; noise measured: 1e-33 q on 128 × 64 and 96² cells
_UNDERFLOW = 1e-290  # the same where L is tridiagonal and reversible, in 1/time: rates are squares


@dataclasses.dataclass(frozen=True, eq=False)
class SlowModes:
    """The slowest decaying modes of a generator: e^{tL} p → π + Σ_k e^{−r_k t} ⟨h_k, p⟩ φ_k.

    L φ_k = −r_k φ_k and Lᵀ h_k = −r_k h_k with Σ_x h_k φ_l = δ_kl and Σ_x π|h_k|² = 1 (no conjugate in the first sum).
    The sign, for complex modes the phase, is such that h_k is positive where it is largest; of several cells within 1 %
    of the largest modulus, in the last one in C order. In detailed balance φ_k = π h_k.

    Attributes:
        rates: r_k, (k,), in 1/time, by increasing real part, the zero of the steady state left out; real in detailed
            balance. Of a conjugate pair the one with positive imaginary part comes first.
        densities: φ_k, (k, *cells): how a mode looks in the masses; each sums to zero.
        observables: h_k, (k, *cells), without a unit: how much of a mode a start in each cell excites. Zero in cells
            cut off from the main body.
        reversible: whether detailed balance holds.
    """

    rates: Inexact[np.ndarray, " k"]
    densities: Inexact[np.ndarray, "k *cells"]
    observables: Inexact[np.ndarray, "k *cells"]
    reversible: bool

    @property
    def gap(self) -> float:
        """The spectral gap, Re r_0, in 1/time."""
        return float(self.rates[0].real)

    @property
    def relaxation_time(self) -> float:
        """1/gap: the time in which the slowest mode falls to 1/e."""
        return 1 / self.gap


@dataclasses.dataclass(frozen=True, eq=False)
class _Chain:
    """The main body of a generator: n cells, m edges i → j with rates both ways, and its steady state π = e^logs."""

    i: Int[np.ndarray, " m"]
    j: Int[np.ndarray, " m"]
    forward: Float[np.ndarray, " m"]
    backward: Float[np.ndarray, " m"]
    logs: Float[np.ndarray, " n"]

    @property
    def exits(self) -> Float[np.ndarray, " n"]:
        size = len(self.logs)
        return np.bincount(self.i, self.forward, size) + np.bincount(self.j, self.backward, size)

    def decay(
        self, forward: Float[np.ndarray, " m"], backward: Float[np.ndarray, " m"], shift: float = 0.0
    ) -> scipy.sparse.csc_matrix:
        """The exit rates (+ shift) on the diagonal, −forward at (j, i), −backward at (i, j): −L with its own rates."""
        every = np.arange(len(self.logs))
        rows, columns = np.concatenate([self.j, self.i, every]), np.concatenate([self.i, self.j, every])
        return scipy.sparse.csc_matrix((np.concatenate([-forward, -backward, self.exits + shift]), (rows, columns)))


def slow_modes(generator: Generator, log_masses: Float[np.ndarray, "*cells"], count: int = 1) -> SlowModes:
    """The `count` slowest modes of L, without that of the steady state.

    In detailed balance all is done on the symmetric S = Π^{−1/2} L Π^{1/2}, S_ij = √(fwd back), whose null vector √π is
    known and projected out. A rate is never the difference of large numbers: the rates are the squared singular values
    of B with an edge in each row, −S = BᵀB, (B u)_e = √fwd u_i − √back u_j; restricted to the vectors of an inverse
    iteration, so that errors of the vectors enter squared, or, where L is tridiagonal, of B as a whole by bisection,
    to full relative accuracy. Gaps of 1e-28 q come out, where eigenvalues of L are lost in rounding under 1e-16 q.

    Without detailed balance inverse iteration on L and Lᵀ, and r = Σ_e (h_i − h_j)(fwd φ_i − back φ_j): the errors of
    both vectors multiply. Modes are chosen among the count + 12 eigenvalues of least modulus, so that one which turns
    many times faster than it decays (|Im r| over all their moduli) is not seen.

    Args:
        generator: L, in 1/time.
        log_masses: the steady state's log masses, (*cells,), as from `stationary_log_masses`.
        count: how many, from 1 to n − 3 for n cells in the main body; the last may be half of a complex pair.

    Raises:
        ValueError: if `count` or the shape of `log_masses` is not as said, `log_masses` is not the steady state of
            this generator, or there are more than 10⁶ (1-D), 700² (2-D) or 40³ (3-D) cells.
        ArithmeticError: if the gap is under 1e-28 q, q the largest exit rate, where rounding decides; in 1-D with
            walls only if it underflows, under 1e-290.

    Sources: Golub and Kahan 1965; Demmel and Kahan 1990 (relative accuracy of bidiagonal singular values).
    """
    size, most = int(np.prod(generator.cells)), _MOST_CELLS[len(generator.cells)]
    if size > most:
        raise ValueError(f"generator must have at most {most} cells for its slow modes, got {size}: use fewer cells")
    cells = largest_body(generator.as_sparse())
    if not 1 <= count <= len(cells) - 3:
        raise ValueError(f"count must be from 1 to {len(cells) - 3} on {len(cells)} cells, got {count}")
    chain = _main_body(generator, log_masses, cells)
    reversible = is_balanced(generator)
    solver = _reversible_modes if reversible else _irreversible_modes
    tridiagonal = is_tridiagonal(generator)
    rates, densities, observables = solver(chain, count, tridiagonal)
    floor = _UNDERFLOW if tridiagonal and reversible else _NOISE * float(np.max(chain.exits))
    if not rates[0].real > floor:
        raise ArithmeticError(
            f"the gap is under {floor:.1e}, where rounding decides: raise the temperature, or take 1 / a mean first "
            f"passage time"
        )

    def on_grid(modes: Inexact[np.ndarray, "n k"]) -> Inexact[np.ndarray, "k *cells"]:
        full = np.zeros((count, size), modes.dtype)
        full[:, cells] = modes.T
        return full.reshape(count, *generator.cells)

    return SlowModes(rates, on_grid(densities), on_grid(observables), reversible)


def _main_body(generator: Generator, log_masses: Float[np.ndarray, "*cells"], cells: Int[np.ndarray, " n"]) -> _Chain:
    logs = np.asarray(log_masses, dtype=np.float64)
    if logs.shape != generator.cells:
        raise ValueError(f"log_masses must have the grid's shape {generator.cells}, got {logs.shape}")
    logs = logs.reshape(-1)[cells]
    if not np.all(np.isfinite(logs)):
        raise ValueError(f"log_masses must be finite in the main body, got {logs[~np.isfinite(logs)][0]} in some cells")
    number = np.full(int(np.prod(generator.cells)), -1)
    number[cells] = np.arange(len(cells))
    i, j, forward, backward = (np.concatenate(parts) for parts in zip(*edge_ends(generator), strict=True))
    kept = number[i] >= 0
    chain = _Chain(number[i[kept]], number[j[kept]], forward[kept], backward[kept], logs - logsumexp(logs))
    masses, q = np.exp(chain.logs), np.max(chain.exits)
    residual = np.sum(np.abs(chain.decay(chain.forward, chain.backward) @ masses)) / q
    if not residual <= _UNSTEADY[generator.rates_forward.dtype.itemsize]:
        raise ValueError(f"log_masses must be those of the generator's steady state, got ‖Lπ‖₁/q = {residual:.1e}")
    return chain


def _reversible_modes(chain: _Chain, count: int, tridiagonal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates (k,), densities and observables (n, k) in detailed balance."""
    root = np.exp(chain.logs / 2)
    # π from a table and π from the rates differ by rounding: shared out, √π is a null vector of B to the last digit
    miss = np.log(chain.forward) - np.log(chain.backward) + chain.logs[chain.i] - chain.logs[chain.j]
    up, down = np.sqrt(chain.forward) * np.exp(-miss / 4), np.sqrt(chain.backward) * np.exp(miss / 4)
    vectors = _slowest_vectors(chain, up * down, root, count)
    _, singular, mixture = np.linalg.svd(up[:, None] * vectors[chain.i] - down[:, None] * vectors[chain.j], False)
    vectors, rates = vectors @ mixture[::-1].T, singular[::-1] ** 2
    if tridiagonal:
        rates = _bidiagonal_rates(up, down, count)
    observables = _observables(chain, root, vectors, rates)
    masses = np.exp(chain.logs)[:, None]
    observables -= np.sum(masses * observables, axis=0)
    observables *= _scale(observables, masses)
    return rates, masses * observables, observables


def _slowest_vectors(
    chain: _Chain, coupling: Float[np.ndarray, " m"], root: Float[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "n k"]:
    """An orthonormal basis of the slowest modes of −S, orthogonal to √π, (n, k), by Lanczos on (σI − S)^{−1}."""
    solve = factored(chain.decay(coupling, coupling, _SHIFT * np.max(chain.exits))).solve

    def off_root(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return x - root * np.sum(root * x)  # `@` would wake BLAS threads: 1,000 times slower where cores are shared

    inverse = _Operator(len(root), lambda x: off_root(solve(off_root(x))))
    _, vectors = scipy.sparse.linalg.eigsh(inverse, k=count, v0=_start(len(root)))
    for column in vectors.T:
        column[:] = off_root(column)
    return np.linalg.qr(vectors)[0]


class _Operator(scipy.sparse.linalg.LinearOperator):
    """A function of vectors, (n,) → (n,), in the form that ARPACK takes."""

    def __init__(self, size: int, apply: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(np.float64, (size, size))
        self.apply = apply

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self.apply(x.reshape(-1))


def _start(size: int) -> Float[np.ndarray, " n"]:
    """A fixed start for ARPACK without any symmetry, so that the same modes come out each time."""
    return np.sin(np.arange(1.0, size + 1))


def _bidiagonal_rates(
    up: Float[np.ndarray, " m"], down: Float[np.ndarray, " m"], count: int
) -> Float[np.ndarray, " k"]:
    """The least squared singular values of the m × (m + 1) bidiagonal B with `up` and −`down` in each row, but for 0.

    They are the positive eigenvalues of the Golub–Kahan matrix: no diagonal, and beside it B's entries interlaced.
    Bisection finds each to full relative accuracy, if it is not told to stop at rounding times the norm.
    """
    beside = np.stack([up, down], axis=1).reshape(-1)
    first = len(up) + 1  # as many eigenvalues are negative as there are rows, and one is zero
    singular = scipy.linalg.eigh_tridiagonal(
        np.zeros(len(beside) + 1),
        beside,
        eigvals_only=True,
        select="i",
        select_range=(first, first + count - 1),
        tol=np.finfo(np.float64).tiny,
        lapack_driver="stebz",
    )
    return np.asarray(singular) ** 2


def _observables(
    chain: _Chain, root: Float[np.ndarray, " n"], vectors: Float[np.ndarray, "n k"], rates: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "n k"]:
    """h = u/√π, (n, k), also in cells where u is so small that it is rounding errors.

    There, in the tail t, (−Lᵀ − r) h = 0 is solved with the values of h in the core c around it as boundary values.
    Wells of the steady state belong to the core of very slow modes: −Lᵀ − r of a well by itself is nearly singular.
    """
    negative, q = chain.decay(chain.backward, chain.forward), np.max(chain.exits)
    observables = np.zeros_like(vectors)
    for h, u, rate in zip(observables.T, vectors.T, rates, strict=True):
        core = np.abs(u) >= _CORE * np.max(np.abs(u))
        if rate < _SLOW * q:
            core |= root >= _CORE * np.max(root)
        h[core] = u[core] / root[core]
        tail = np.nonzero(~core)[0]
        if len(tail):
            inner = negative[np.ix_(tail, tail)] - rate * scipy.sparse.identity(len(tail))
            h[tail] = factored(scipy.sparse.csc_matrix(inner), 1e-3).solve(-(negative @ h)[tail])  # h is 0 there still
    return observables


def _irreversible_modes(chain: _Chain, count: int, tridiagonal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates (k,), densities and observables (n, k), complex, from the oblique Ritz problem ⟨h_a, −L φ_b⟩."""
    right, left = _invariant_pair(chain, count)
    left = left @ np.linalg.inv(np.einsum("na,nb->ab", right, left))
    climb = left[chain.i] - left[chain.j]
    flux = chain.forward[:, None] * right[chain.i] - chain.backward[:, None] * right[chain.j]
    rates, mixture = np.linalg.eig(np.einsum("ea,eb->ab", climb, flux))
    # nine digits decide, so that the two of a conjugate pair count as equally slow
    order = sorted(range(len(rates)), key=lambda k: (float(f"{rates[k].real:.8e}"), -rates[k].imag))[:count]
    observables = left @ np.linalg.inv(mixture).T[:, order]
    scale = _scale(observables, np.exp(chain.logs)[:, None])
    return rates[order], right @ mixture[:, order] / scale, observables * scale


def _invariant_pair(chain: _Chain, count: int) -> tuple[Complex[np.ndarray, "n m"], Complex[np.ndarray, "n m"]]:
    """Bases of the right and left invariant subspaces of the m ≥ `count` eigenvalues of L next to 0, but for 0."""
    masses, shift, size = np.exp(chain.logs), _SHIFT * np.max(chain.exits), len(chain.logs)
    solve = factored(chain.decay(chain.forward, chain.backward, shift)).solve

    def right(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        y = solve(x - masses * np.sum(x))
        return y - masses * np.sum(y)

    def left(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        y = solve(x - np.sum(masses * x), "T")
        return y - np.sum(masses * y)

    found, wanted = [], min(count + _SPARE, size - 2)
    for apply in (right, left):
        values, vectors = scipy.sparse.linalg.eigs(_Operator(size, apply), k=wanted, v0=_start(size))
        nearest = np.argsort(-np.abs(values), kind="stable")
        found.append((np.abs(values[nearest]), vectors[:, nearest]))
    steps = found[0][0][count - 1 : -1] / found[0][0][count:] - 1
    wide = np.nonzero(steps > _APART)[0]  # no pair or cluster may be cut; one that turns fast is far from 0
    kept = count + int(wide[-1] if len(wide) else np.argmax(steps))
    return found[0][1][:, :kept], found[1][1][:, :kept]


def _scale(observables: Inexact[np.ndarray, "n k"], masses: Float[np.ndarray, "n 1"]) -> Inexact[np.ndarray, " k"]:
    """The factor that gives each h a mean square of 1 and makes it positive where it is largest."""
    sizes = np.abs(observables)
    last = [np.nonzero(column >= 0.99 * np.max(column))[0][-1] for column in sizes.T]
    peaks = observables[last, np.arange(len(last))]
    return np.abs(peaks) / peaks / np.sqrt(np.sum(masses * sizes**2, axis=0))
