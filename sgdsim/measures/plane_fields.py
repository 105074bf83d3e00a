"""Smooth drift and diffusion in a plane, fitted to the cells of a grid, as a density equation needs them.

What is measured in cells (`binned`) scatters by √(2A/nΔt) and √(2/n) A, and ∇·A would divide the latter by the cells'
width. Polynomials in y are fitted instead: b̄ by weighted least squares, log Ā by Fisher scoring of the Wishart law of
the cells' covariances, so that Ā is positive definite everywhere. BIC chooses the degrees.

Sources: Schwarz 1978 (BIC); McCullagh and Nelder, Generalized Linear Models, §2.5 and §9.2 (scoring and dispersion).
"""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.ndimage import distance_transform_edt

from sgdsim.measures.kramers_moyal import BinnedKramersMoyal

Vectors, Tensors = Float[np.ndarray, "c 2"], Float[np.ndarray, "c 2 2"]  # one for each of c cells

_SCORINGS = 60  # steps of Fisher scoring; 5 to 15 are usual
_SINGULAR = 1e-10  # smallest over largest eigenvalue of a diffusion that has no density equation


class PlaneFields(eqx.Module):
    """Polynomials b̄ and log Ā in z = (y − middle)/scale within the measured cells, continued beyond them.

    A point outside is pulled back by `shift`, which is tabulated at the cells' centres, 0 in measured cells and
    interpolated between: within the cloud the fields are smooth, so that ∇·A and the rates keep their order in h.
    """

    middle: Float[Array, "2"]
    scale: Float[Array, "2"]
    drift_terms: Float[Array, "p 2"]
    log_terms: Float[Array, "q 3"]  # of the entries 11, 12 and 22
    inward: Float[Array, "2 2"]  # symmetric, no eigenvalue above zero
    shift: Float[Array, "2 n m"]
    first: Float[Array, "2"]  # the centre of the first cell
    widths: Float[Array, "2"]

    def drift(self, y: Float[Array, "2"]) -> Float[Array, "2"]:
        shift = self._shift(y)
        return self._polynomial(y + shift, self.drift_terms) - self.inward @ shift

    def diffusion(self, y: Float[Array, "2"]) -> Float[Array, "2 2"]:
        return _exponential(self._polynomial(y + self._shift(y), self.log_terms), jnp)

    def _polynomial(self, y: Float[Array, "2"], terms: Float[Array, "p m"]) -> Float[Array, " m"]:
        return jnp.stack(_monomials((y - self.middle) / self.scale, len(terms))) @ terms

    def _shift(self, y: Float[Array, "2"]) -> Float[Array, "2"]:
        at = list((y - self.first) / self.widths)
        return jnp.stack([jax.scipy.ndimage.map_coordinates(s, at, order=1, mode="nearest") for s in self.shift])


def fit_fields(
    cells: BinnedKramersMoyal, dt: float, seen: Bool[np.ndarray, "n m"], degrees: tuple[int, int]
) -> tuple[PlaneFields, tuple[int, int], float]:
    """Drift and diffusion fitted to cells, the degrees chosen for each, and the misfit of the drift.

    Args:
        cells: what was measured on a 2-D grid; cells that read NaN are not used.
        dt: the step that it was measured over.
        seen: the cells within which the fields hold and beyond which they are continued, (n, m).
        degrees: the highest total degrees tried, of b̄ and of log Ā.

    Returns:
        The fields; the two degrees; χ² per degree of freedom of the cells' drift about the fit, NaN for a single cell.

    Raises:
        ValueError: if the increments spread in fewer than two directions.
    """
    grid, use = cells.grid, np.isfinite(cells.drift[..., 0])
    points, n = grid.centres[use], cells.counts[use].astype(float)
    middle = np.average(points, axis=0, weights=n)
    scale = np.sqrt(np.average((points - middle) ** 2, axis=0, weights=n)) + grid.widths
    z = (points - middle) / scale
    log_terms, log_degree = _fit_log_diffusion(z, cells.diffusion[use], n - 1, degrees[1])
    drifts, inverse_root = cells.drift[use], _exponential(-_design(z, len(log_terms)) @ log_terms / 2, np)
    fits = [_fit_drift(z, drifts, n * dt / 2, inverse_root, k) for k in range(degrees[0] + 1)]
    degree = int(np.argmin([chi2 + 2 * len(terms) * math.log(len(n)) for terms, chi2 in fits]))
    drift_terms, chi2 = fits[degree]
    slope = fits[1][0][1:] / scale[:, None] if len(fits) > 1 else np.zeros((2, 2))
    rates, axes = np.linalg.eigh((slope + slope.T) / 2)
    nearest = distance_transform_edt(~seen, sampling=list(grid.widths), return_distances=False, return_indices=True)
    parts = (middle, scale, drift_terms, log_terms, axes * np.minimum(rates, 0) @ axes.T)
    back = (np.asarray(nearest) - np.indices(grid.cells)) * grid.widths[:, None, None]
    table = (back, grid.lower + grid.widths / 2, grid.widths)
    fields = PlaneFields(*(jnp.asarray(part, dtype=float) for part in (*parts, *table)))
    freedom = 2 * (len(n) - len(drift_terms))
    return fields, (degree, log_degree), chi2 / freedom if freedom > 0 else math.nan


def _fit_drift(
    z: Vectors, drifts: Vectors, weights: Float[np.ndarray, " c"], inverse_root: Tensors, degree: int
) -> tuple[Float[np.ndarray, "p 2"], float]:
    """A polynomial by weighted least squares, and χ² = Σ nΔt/2 rᵀA⁻¹r; χ² is infinite where the cells are too few."""
    design = _design(z, _terms(degree))
    root = np.sqrt(weights * np.trace(inverse_root @ inverse_root, axis1=1, axis2=2))[:, None]
    if degree and not _well_posed(design * root):
        return np.zeros((_terms(degree), 2)), math.inf
    terms = np.linalg.lstsq(design * root, drifts * root, rcond=None)[0]
    whitened = np.einsum("cij,cj->ci", inverse_root, drifts - design @ terms)
    return terms, float(np.sum(weights[:, None] * whitened**2))


def _fit_log_diffusion(
    z: Vectors, tensors: Tensors, weights: Float[np.ndarray, " c"], highest: int
) -> tuple[Float[np.ndarray, "q 3"], int]:
    """The polynomial log Ā of the lowest BIC and its degree; a cell's tensor has `weights` degrees of freedom.

    Increments with heavy tails scatter more than a Wishart: the deviance is divided by the dispersion seen.
    """
    pooled = np.average(tensors, axis=0, weights=weights)
    values = np.linalg.eigvalsh(pooled)
    if values[0] <= _SINGULAR * values[1]:
        raise ValueError(
            "dx must spread in both directions of the plane, or there is no density equation there; the eigenvalues of "
            f"the pooled diffusion are {values.tolist()}"
        )
    fits = [_score(z, tensors, weights, pooled, degree) for degree in range(highest + 1)]
    dispersion = max(1.0, [f[2] for f in fits if math.isfinite(f[1])][-1])
    costs = [deviance / dispersion + 3 * math.log(len(weights)) * len(terms) for terms, deviance, _ in fits]
    return fits[int(np.argmin(costs))][0], int(np.argmin(costs))


def _score(
    z: Vectors, tensors: Tensors, weights: Float[np.ndarray, " c"], pooled: Float[np.ndarray, "2 2"], degree: int
) -> tuple[Float[np.ndarray, "q 3"], float, float]:
    """Fisher scoring for log A = Σ terms · monomials: terms, deviance Σ w (log det A + Tr A⁻¹S − 2), dispersion.

    With R = √A each step regresses R⁻¹SR⁻¹ − I, whose scatter is the same in all cells up to 1/w. S is never put
    through a logarithm, which would bias it in thin cells. The deviance is infinite where the scoring does not settle.
    """
    design, root = _design(z, _terms(degree)), np.sqrt(weights)[:, None]
    values, axes = np.linalg.eigh(pooled)
    terms = np.zeros((_terms(degree), 3))
    terms[0] = (axes * np.log(values) @ axes.T)[[0, 0, 1], [0, 1, 1]]
    if degree and not _well_posed(design * root):
        return terms, math.inf, math.nan
    inverse, largest = np.linalg.pinv(design * root), math.inf
    for _ in range(_SCORINGS):
        inverse_root = _exponential(-design @ terms / 2, np)
        excess = inverse_root @ tensors @ inverse_root - np.eye(2)
        step = inverse @ (root * excess[:, [0, 0, 1], [0, 1, 1]])
        largest = float(np.max(np.abs(design @ step)))
        if largest < 1e-7:
            break
        terms = terms + step / max(1.0, largest)  # a factor e at most, so that no step overshoots
    deviance = float(np.sum(weights * (np.trace(excess, axis1=1, axis2=2) + (design @ terms)[:, [0, 2]].sum(axis=1))))
    scatter = float(np.mean(weights * (excess[:, 0, 0] ** 2 + excess[:, 1, 1] ** 2)) / 4)
    return terms, deviance if largest < 1e-3 else math.inf, scatter


def _monomials(z: Any, count: int) -> list[Any]:
    """The first `count` of 1; z₁, z₂; z₁², z₁z₂, z₂²; … at points (..., 2), NumPy's or JAX's."""
    powers = itertools.islice(((k - j, j) for k in itertools.count() for j in range(k + 1)), count)
    return [z[..., 0] ** i * z[..., 1] ** j for i, j in powers]


def _design(z: Vectors, count: int) -> Float[np.ndarray, "c p"]:
    return np.stack(_monomials(z, count), axis=1)


def _terms(degree: int) -> int:
    """How many monomials in two variables have at most this total degree."""
    return (degree + 1) * (degree + 2) // 2


def _well_posed(design: Float[np.ndarray, "c p"]) -> bool:
    """Whether there are twice as many cells as terms, and no combination of terms vanishes on all of them."""
    return len(design) >= 2 * design.shape[1] and float(np.linalg.cond(design)) < 1e8


def _exponential(entries: Any, xp: Any) -> Any:
    """exp of symmetric matrices given by their entries 11, 12 and 22, (..., 3) → (..., 2, 2), in NumPy or JAX.

    In closed form, as `jax.scipy.linalg.expm` takes 8 s to compile with its derivative.
    """
    a, b, c = entries[..., 0], entries[..., 1], entries[..., 2]
    mean, half = (a + c) / 2, (a - c) / 2
    q = xp.sqrt(half**2 + b**2 + 1e-24)  # the root has no slope at zero
    even, odd = xp.exp(mean) * xp.cosh(q), xp.exp(mean) * xp.sinh(q) / q
    rows = (xp.stack([even + odd * half, odd * b], axis=-1), xp.stack([odd * b, even - odd * half], axis=-1))
    return xp.stack(rows, axis=-2)
