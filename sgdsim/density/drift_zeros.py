"""Where a drift vanishes, and whether a particle without noise would stay there."""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Complex, Float

from sgdsim.density.fields import VectorField, drift_at
from sgdsim.density.grid import Grid

_RESIDUAL = 1e-8  # of the largest drift in the box: what a zero may leave of it
_SAME = 0.05  # cells within which two zeros are one
_NO_RATE = 1e-6  # of the largest rate: a real part below it is none, to linear order


@dataclass(frozen=True)
class DriftZero:
    """A critical point of dx/dt = b(x).

    Attributes:
        position: where b = 0, (d,).
        rates: the eigenvalues of ∂b there, (d,), in 1/time, by increasing real part.
    """

    position: Float[np.ndarray, " d"]
    rates: Complex[np.ndarray, " d"]

    @property
    def is_stable(self) -> bool:
        """Whether all rates have a negative real part: a minimum of f where b = −∇f."""
        return bool(np.all(self.rates.real < -self._none))

    @property
    def kind(self) -> str:
        """What the linear part says: stable, saddle, unstable or centre, and whether it turns."""
        turns = " focus" if np.any(np.abs(self.rates.imag) > self._none) else ""
        if self.is_stable:
            return "stable" + turns
        if np.all(np.abs(self.rates.real) <= self._none):
            return "centre (to linear order)" if turns else "degenerate"
        return "saddle" if np.any(self.rates.real < -self._none) else "unstable" + turns

    @property
    def _none(self) -> float:
        return _NO_RATE * float(np.max(np.abs(self.rates)))


def drift_zeros(grid: Grid, drift: VectorField) -> tuple[DriftZero, ...]:
    """The zeros of a drift in the box, by Newton's method (MINPACK's) from wherever all its components change sign.

    Between 2ᵈ neighbouring centres each component takes both signs around a zero that the grid resolves. One that
    touches zero without crossing it, or lies within half a cell of a wall, may be missed.

    Raises:
        ValueError: as `drift_at`.
    """
    values = drift_at(drift, grid.centres.reshape(-1, grid.dim)).reshape(*grid.cells, grid.dim)
    field = jax.jit(lambda x: jnp.asarray(drift(x), dtype=float))
    slopes = jax.jit(jax.jacfwd(lambda x: jnp.asarray(drift(x), dtype=float)))
    largest = float(np.max(np.linalg.norm(values, axis=-1)))
    if largest == 0:  # no drift: every point is at rest
        return ()
    tolerance = max(_RESIDUAL, 16 * float(jnp.finfo(jnp.asarray(0.0).dtype).eps)) * largest
    found: list[DriftZero] = []
    for start in _crossings(grid, values):
        end = scipy.optimize.root(lambda x: np.asarray(field(x)), start, jac=lambda x: np.asarray(slopes(x)), tol=1e-12)
        point = grid.wrap(np.asarray(end.x, dtype=np.float64))
        inside = np.all((point >= grid.lower) & (point <= grid.upper))
        is_new = all(np.max(np.abs(grid.separation(point, other.position)) / grid.widths) > _SAME for other in found)
        if inside and is_new and np.linalg.norm(np.asarray(field(point))) <= tolerance:
            rates = np.linalg.eigvals(np.asarray(slopes(point), dtype=np.float64)).astype(np.complex128)
            found.append(DriftZero(point, rates[np.argsort(rates.real)]))
    return tuple(sorted(found, key=lambda zero: tuple(zero.position)))


def _crossings(grid: Grid, values: Float[np.ndarray, "*cells d"]) -> Float[np.ndarray, "m d"]:
    """The corners between 2ᵈ centres over which every component takes both signs, (m, d)."""
    axes = tuple(range(grid.dim))
    corners = [np.roll(values, [-c for c in e], axes) for e in itertools.product((0, 1), repeat=grid.dim)]
    crosses = np.all((np.min(corners, axis=0) <= 0) & (np.max(corners, axis=0) >= 0), axis=-1)
    for axis in np.nonzero(~np.asarray(grid.periodic))[0]:
        np.moveaxis(crosses, axis, 0)[-1] = False
    return grid.lower + (np.argwhere(crosses) + 1.0) * grid.widths
