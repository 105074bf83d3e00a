"""The Brownian motion of a cloud, cut into sub-steps: increments, and the Lévy areas that some solvers ask for.

On an interval [0, h] a solver may ask for

    W = W_h,    H = (1/h) ∫ (W_s − (s/h) W) ds,    K = (1/h²) ∫ (W_s − (s/h) W)(h/2 − s) ds,

the increment, the space-time and the space-time-time Lévy area: independent and Gaussian, of variances h, h/12 and
h/720 (Foster, Lyons, Oberhauser, "An optimal polynomial approximation of Brownian motion", SINUM 58, 2020). Here each
is kept in units of its own width, as a standard normal.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from sgdsim.draws import THREE_POINTS_PER_SLOT, Draws

SELECTED = 8  # sub-steps whose pieces are selected among all of a step's; beyond, they are stacked
VARIANCES = (1.0, 1 / 12, 1 / 720)  # of W, H and K on an interval of unit length

Pieces = tuple[Float[Array, "m *P"], ...]  # what is known of one interval: W, or W and H, or W, H and K


def brownian_pieces(draws: Draws, size: int, substeps: int, pieces: int, dtype: DTypeLike) -> list[Pieces]:
    """W, (W, H) or (W, H, K) of each sub-step of a step, in units of their widths: from one path, however fine the cut.

    The path is refined by conditioning. The pieces of the whole interval are drawn first, W as z₀: SGD's own normal,
    where its noise is Gaussian. Then each interval splits into halves, given its own pieces, with as many fresh normals
    (`halves`). Coarse draws are the same however fine the step is cut, so a run with twice the sub-steps follows the
    same path. For W alone this is the construction of Lévy and Ciesielski. A path with areas is another one, which
    agrees with it in the step's whole increment only.

    Args:
        draws: the step's draws.
        size: how many Brownian motions drive one particle, m.
        substeps: sub-steps, a power of two.
        pieces: 1 for W, 2 for W and H, 3 for W, H and K.
        dtype: float32 or float64.

    Returns:
        For each sub-step a tuple of arrays (m, P). Normal i of the draw numbered c is draw c·m' + i of the step, with
        m' the size rounded up to even, since draws come in pairs.
    """
    stride, count = size + size % 2, pieces * substeps
    drawn = draws.normals(stride * count, dtype=dtype)
    fresh = [drawn[c * stride : c * stride + size] for c in range(count)]
    grouped = [tuple(fresh[c : c + pieces]) for c in range(0, count, pieces)]
    intervals = grouped[:1]
    while len(intervals) < substeps:
        pairs = zip(intervals, grouped[len(intervals) :], strict=False)
        intervals = [half for whole, normals in pairs for half in halves(whole, normals)]
    return intervals


def three_point_pieces(draws: Draws, size: int, substeps: int, dtype: DTypeLike) -> list[Pieces]:
    """Weak increments of each sub-step, ±√3 or 0 in units of √h: a normal's moments up to the fifth, but no path.

    The slots of n sub-steps begin at n·m, and reach no farther than those of 2n: another number of sub-steps draws
    independent increments.
    """
    count = size * substeps
    drawn = draws.three_points(count, first=THREE_POINTS_PER_SLOT * count, dtype=dtype)
    return [(drawn[c : c + size],) for c in range(0, count, size)]


def aggregation(pieces: int) -> Float[np.ndarray, "k two_k"]:
    """M: the pieces of an interval from those of its halves (W₁, H₁, K₁, W₂, H₂, K₂), in units of their widths.

    By the definitions of the pieces, on an interval and its halves in their own units,

        W = W₁ + W₂,    H = (W₁ − W₂)/4 + (H₁ + H₂)/2,    K = (H₁ − H₂)/8 + (K₁ + K₂)/4.

    Whole and halves are standard normals in these units, so the rows of M are orthonormal.
    """
    left = np.array([[1, 0, 0], [1 / 4, 1 / 2, 0], [0, 1 / 8, 1 / 4]])
    right = np.array([[1, 0, 0], [-1 / 4, 1 / 2, 0], [0, -1 / 8, 1 / 4]])
    width = np.sqrt(VARIANCES)
    scaled = [(part * width / width[:, None] * 0.5**0.5)[:pieces, :pieces] for part in (left, right)]
    return np.hstack(scaled)


def refinement(pieces: int) -> tuple[Float[np.ndarray, "two_k k"], Float[np.ndarray, "two_k k"]]:
    """(gain, root): given the pieces z of an interval, those of its halves are gain·z + root·ζ, ζ standard normal.

    All are standard normals and z = M·halves with orthonormal rows, so gain = Mᵀ and the columns of root span what M
    does not see: of all such roots the one with a positive triangle in QR, so that no library chooses the signs.
    """
    gain = aggregation(pieces).T
    unseen = np.eye(2 * pieces) - gain @ gain.T
    root, triangle = np.linalg.qr(unseen[:, :pieces])
    return gain, root * np.sign(np.diag(triangle))


def halves(whole: Pieces, fresh: Pieces) -> tuple[Pieces, Pieces]:
    """The pieces of an interval's two halves, given its own and as many fresh normals."""
    dtype, pieces = whole[0].dtype, len(whole)
    if pieces == 1:  # what follows comes to (z ± ζ)/√2, but rounds otherwise, and what a key draws is kept to the bit
        root_half = np.asarray(0.5**0.5, dtype)
        (z,), (zeta,) = whole, fresh
        return ((z + zeta) * root_half,), ((z - zeta) * root_half,)
    gain, root = refinement(pieces)

    def row(i: int) -> Float[Array, "m P"]:  # a sum of few arrays: a matrix product would not fuse with the draws
        terms = [(gain[i, j], whole[j]) for j in range(pieces)] + [(root[i, j], fresh[j]) for j in range(pieces)]
        return sum(np.asarray(factor, dtype) * z for factor, z in terms if abs(factor) > 1e-12)  # pyrefly: ignore

    rows = tuple(row(i) for i in range(2 * pieces))
    return rows[:pieces], rows[pieces:]


def over_substeps(advance: Callable[[Any, Pieces], Any], state: Any, increments: list[Pieces]) -> Any:
    """The state after all sub-steps, each with its own pieces.

    XLA must not fuse sub-steps with each other: particles' coordinates meet in the gradient, so a fused chain computes
    the early sub-steps, draws and all, twice for each later one. A loop keeps them apart, and its sub-step selects its
    pieces among arrays drawn before it. Many sub-steps are stacked, which stops XLA from vectorising the draws but
    compiles.
    """
    if len(increments) > SELECTED:
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *increments)
        return jax.lax.scan(lambda s, pieces: (advance(s, pieces), None), state, stacked)[0]
    if len(increments) == 1:
        return advance(state, increments[0])

    def body(j: Any, state: Any) -> Any:
        def select(*arrays: Float[Array, "m *P"]) -> Float[Array, "m *P"]:
            chosen = arrays[0]
            for i, array in enumerate(arrays[1:], 1):
                chosen = jnp.where(j == i, array, chosen)
            return chosen

        return advance(state, jax.tree.map(select, *increments))

    return jax.lax.fori_loop(0, len(increments), body, state)


def check_substeps(substeps: int) -> None:
    """Raise ValueError unless the sub-steps are a power of two."""
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1 or substeps & (substeps - 1):
        raise ValueError(f"substeps must be a power of two (the Brownian path is halved), got {substeps!r}")


class CloudBrownianPath(diffrax.AbstractBrownianPath):
    """One sub-step of a cloud's Brownian path, drawn from counters before the solver asks for it.

    Args:
        pieces: W, (W, H) or (W, H, K) of the sub-step in units of their widths, each (m, P), or (m,) for one particle.
        dt: the sub-step's length h.
    """

    pieces: tuple[Float[Array, "..."], ...]
    dt: Float[Array, ""]
    # pyrefly: ignore[bad-override-mutable-attribute]  diffrax's own hint forgets the third
    levy_area: type[diffrax.BrownianIncrement | diffrax.SpaceTimeLevyArea | diffrax.SpaceTimeTimeLevyArea] = eqx.field(
        static=True
    )
    t0: ClassVar[float] = 0.0
    t1: ClassVar[float] = float("inf")

    def __init__(self, pieces: tuple[Float[Array, "..."], ...], dt: Float[Array, ""]):
        self.pieces, self.dt = pieces, dt
        kinds = (diffrax.BrownianIncrement, diffrax.SpaceTimeLevyArea, diffrax.SpaceTimeTimeLevyArea)
        self.levy_area = kinds[len(pieces) - 1]

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        """What the sub-step holds, W or W with its areas: of the whole of it, all that a one-step solver asks for."""
        root = jnp.sqrt(self.dt)
        values = [z * (root * v**0.5) for z, v in zip(self.pieces, VARIANCES, strict=False)]
        return self.levy_area(self.dt, *values) if use_levy else values[0]
