"""What an edge between two cells knows of the fields along it: the drop of log density, and the harmonic diffusion."""

import numpy as np
from jaxtyping import Float, Int

from sgdsim.density.fields import ScalarField, TensorField, VectorField, diffusion_at, potential_at, slope_at
from sgdsim.density.grid import Grid

_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(4)[k] / 2 + (1 - k) / 2 for k in (0, 1))  # on [0, 1]


def _integration_matrix() -> Float[np.ndarray, "4 4"]:
    """∫₀^{s_k} ℓ_m of the Lagrange polynomials on the Gauss nodes s."""
    powers = np.arange(len(_NODES))
    values, integrals = _NODES[:, None] ** powers, _NODES[:, None] ** (powers + 1) / (powers + 1)
    return integrals @ np.linalg.inv(values)


_INTEGRATE = _integration_matrix()


def bernoulli(z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """B(z) = z/(eᶻ − 1), to rounding everywhere; B(0) = 1, B(−z) = B(z) + z = eᶻ B(z)."""
    small = np.abs(z) < 1e-4
    safe = np.where(small, 1.0, z)
    with np.errstate(over="ignore"):
        return np.where(small, 1 - z / 2 + z**2 / 12, safe / np.expm1(safe))


def edge_terms(
    grid: Grid,
    offsets: Int[np.ndarray, "m d"],
    weights: Float[np.ndarray, "n m"],
    drift: VectorField,
    diffusion: TensorField,
    potential: ScalarField | None,
) -> list[tuple[Float[np.ndarray, "*cells"], Float[np.ndarray, "*cells"]]]:
    """The conductance λ and the drop z of log density along the edge i → i + e without a current, for each offset.

    λ is the mean of Selling's weights at both ends. With a potential z = ψ(x_j) − ψ(x_i), otherwise
    −(x_j − x_i)·A⁻¹(b − ∇·A) at the edge's midpoint. In 1-D both are integrals along the edge. Entries of edges that
    leave through a wall mean nothing.
    """
    if grid.dim == 1:
        return [_integrals_along(grid, drift, diffusion, potential)]
    axes = tuple(range(grid.dim))
    if potential is None:
        drops = _drops_at_midpoints(grid, offsets, drift, diffusion)
    else:
        values = potential_at(potential, grid.centres.reshape(-1, grid.dim)).reshape(grid.cells)
        drops = [np.roll(values, -offset, axes) - values for offset in offsets]
    ends = [weight.reshape(grid.cells) for weight in weights.T]
    means = [(w + np.roll(w, -offset, axes)) / 2 for w, offset in zip(ends, offsets, strict=True)]
    return list(zip(means, drops, strict=True))


def _integrals_along(
    grid: Grid, drift: VectorField, diffusion: TensorField, potential: ScalarField | None
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Conductance and drop in 1-D, such that the current through an edge of width h keeps e^{−ψ}:

        J = (p_i e^{ψ_i} − p_j e^{ψ_j}) / (h ∫ e^ψ/A dx) = fwd p_i − back p_j,   fwd = B(z)/(h² κ),

    κ the mean of e^{r}/A under the weight e^{zs}, s ∈ [0, 1] along the edge, with r(s) = ψ(s) − ψ_i − zs what ψ departs
    from a straight line by. Scharfetter and Gummel leave out r. With it a steady current, too, is exact up to the
    quadrature (4 Gauss points) and the trapezoidal rule for Σp = 1, which converges exponentially on a ring.
    """
    h, along = grid.widths[0], _points_along(grid)
    points = along.reshape(-1, 1)
    if potential is None:
        slopes = -h * slope_at(drift, diffusion, points).reshape(along.shape)
        climb, z = slopes @ _INTEGRATE.T, slopes @ _WEIGHTS
    else:
        values = potential_at(potential, grid.centres)
        climb = potential_at(potential, points).reshape(along.shape) - values[:, None]
        z = np.roll(values, -1) - values
    tilt = z[:, None] * _NODES
    bend = np.clip(climb - tilt, -50, 50)  # beyond it no grid resolves the edge
    weight = _WEIGHTS * np.exp(tilt - np.max(tilt, axis=1, keepdims=True))
    resistance = np.exp(bend) / diffusion_at(diffusion, points).reshape(along.shape)
    return np.sum(weight, axis=1) / (h**2 * np.sum(weight * resistance, axis=1)), z


def _points_along(grid: Grid) -> Float[np.ndarray, "n 4"]:
    """Gauss points between each centre and the next one, in 1-D; those of an edge through a wall stay at its centre."""
    x, h = grid.axis_centres(0), grid.widths[0]
    along = x[:, None] + h * _NODES
    if not grid.periodic[0]:
        along[-1] = x[-1]
    return along


def _drops_at_midpoints(
    grid: Grid, offsets: Int[np.ndarray, "m d"], drift: VectorField, diffusion: TensorField
) -> list[Float[np.ndarray, "*cells"]]:
    """z = −(x_j − x_i)·A⁻¹(b − ∇·A) at the midpoints of the edges of each offset.

    All midpoints lie on the lattice of half widths, so the fields are evaluated at no more than 2^d − 1 points a cell,
    however many offsets there are: one set for each parity of e.
    """
    axes = tuple(range(grid.dim))
    parities, which = np.unique(offsets % 2, axis=0, return_inverse=True)
    shapes = [
        tuple(n - p * (not closed) for n, p, closed in zip(grid.cells, parity, grid.periodic, strict=True))
        for parity in parities
    ]
    lattices = [np.moveaxis(np.indices(s), 0, -1) + (1 + p) / 2 for s, p in zip(shapes, parities, strict=True)]
    points = np.concatenate([grid.lower + lattice.reshape(-1, grid.dim) * grid.widths for lattice in lattices])
    flat = np.split(slope_at(drift, diffusion, points), np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
    slopes = []
    for values, shape in zip(flat, shapes, strict=True):
        missing = [(0, n - m) for n, m in zip(grid.cells, shape, strict=True)]  # a wall has no face beyond it
        slopes.append(np.pad(values.reshape(*shape, grid.dim), [*missing, (0, 0)], mode="edge"))
    return [
        -np.roll(slopes[parity], -(offset // 2), axes) @ (offset * grid.widths)
        for offset, parity in zip(offsets, which.reshape(-1), strict=True)
    ]
