"""Drift and diffusion read off one-step increments (the first two Kramers–Moyal coefficients).

    b(x) = ⟨Δx | x⟩/Δt,    A(x) = ⟨(Δx − bΔt)(Δx − bΔt)ᵀ | x⟩/2Δt

in the convention dX = b dt + √(2A) dW. Increments are one step of a process; both are exact for an Euler step, which
SGD's own is, and off by O(Δt) for the others: `finite_step_moments` says by how much. With momentum the position alone
is no Markov chain: see `kinetic_temperature`.

Steps (x_k, x_{k+1}) from several snapshots of the same particles may be stacked as if they were more particles. The
errors of a drift stay right: given x_k, Δx − bΔt is a martingale difference, so that those of different steps do not
correlate, and the variance of their sum is the sum of their variances, which is what is taken. The same holds for the
diffusion and (Δx − bΔt)(Δx − bΔt)ᵀ − 2AΔt. It does not hold for what depends on where the particles happen to be, such
as counts or a `binned_current`.

Source: Risken, The Fokker–Planck Equation, chapter 4.
"""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sgdsim.density.grid import Grid
from sgdsim.measures.diverged import Cloud, finite_rows
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.ratio import ratio

_BATCH = 1_024  # particles whose fields are differentiated side by side


def regress_drift(x: Cloud, dx: Cloud, dt: float, predicted: Cloud) -> Estimate:
    """The slope of Δx/Δt on a predicted drift b(x), Σ Δx·b / (Δt Σ |b|²): 1 where the prediction is exact.

    The standard error is the sandwich of least squares through the origin over independent particles (`ratio`), so
    it is right whatever the noise and however it depends on x.

    Args:
        x: where the particles were, (P, d); used only to tell which of them had diverged.
        dx: their increments over one step, (P, d).
        dt: the step on the process's clock.
        predicted: b(x), (P, d).

    Raises:
        ValueError: if dt is not positive, all particles have diverged, or b vanishes at every particle.
    """
    (_, increments, b), left_out = finite_rows(x, dx, predicted)
    along, scale = np.sum(increments * b, axis=1), checked_step(dt) * np.sum(b**2, axis=1)
    return ratio(along, scale, name="predicted", left_out=left_out)


def regress_diffusion(
    dx: Cloud,
    dt: float,
    predicted_drift: Cloud,
    predicted_diffusion: Float[np.ndarray | Array, "P d d"] | Float[np.ndarray | Array, " P"],
) -> Estimate:
    """The size of the spread of one step against a predicted diffusion, Σ |Δx − bΔt|² / (2Δt Σ Tr A): 1 where exact.

    Args:
        dx: increments over one step, (P, d).
        dt: the step on the process's clock.
        predicted_drift: b(x), (P, d).
        predicted_diffusion: A(x), (P, d, d), or its trace, (P,).

    Raises:
        ValueError: if dt is not positive, all particles have diverged, or Tr A vanishes at every particle.
    """
    (increments, b, a), left_out = finite_rows(dx, predicted_drift, predicted_diffusion)
    traces = a if a.ndim == 1 else np.trace(a, axis1=1, axis2=2)
    spread = np.sum((increments - b * checked_step(dt)) ** 2, axis=1)
    return ratio(spread, 2 * dt * traces, name="predicted_diffusion", left_out=left_out)


def finite_step_moments(
    drift: Callable, diffusion: Callable, x: Cloud, dt: float, *, substeps: float = math.inf
) -> tuple[Float[np.ndarray, "P d"], Float[np.ndarray, "P d d"]]:
    """⟨Δx⟩/Δt and Cov(Δx)/2Δt over a step that is not short, for dX = b dt + √(2A) dW from each particle.

    As ⟨φ(X_Δt)⟩ = φ + Δt 𝓛φ + Δt²/2 𝓛²φ + … with 𝓛 = b·∇ + A:∇∇, the functions φ(y) = y and (y−x)(y−x)ᵀ give

        ⟨Δx⟩/Δt = b + Δt/2 𝓛b + O(Δt²),    Cov(Δx)/2Δt = A + Δt/2 [𝓛A + (∇b)A + A(∇b)ᵀ] + O(Δt²),

    (∇b)_ij = ∂b_i/∂x_j, all at x. Euler–Maruyama in n sub-steps has 1 − 1/n times these corrections, as the two-point
    sums Σ_{k<l} of its sub-steps number n(n−1)/2 where the integral has n²/2: none at n = 1.

    Args:
        drift: b, a JAX function (d,) → (d,) with two derivatives, such as the `drift` of a process's `limit`.
        diffusion: A, a JAX function (d,) → (d, d), likewise.
        x: where the particles were, (P, d). One that has diverged reads NaN.
        dt: the step on the process's clock.
        substeps: n where the process is stepped by Euler–Maruyama: 1 for SGD, `process.substeps` for a `Langevin` with
            that solver. Infinite for the diffusion itself and for solvers of weak order 2.

    Returns:
        The two moments, (P, d) in x/time and (P, d, d) in x²/time: what `binned` and the regressions should find.

    Raises:
        ValueError: if dt is not positive, substeps is below 1, x is not (P, d), or a field returns another shape.

    Sources: Friedrich, Renner, Siefert and Peinke 2002, Sura and Barsugli 2002 (in one dimension); Gottschall and
    Peinke 2008.
    """
    checked_step(dt)
    if not substeps >= 1:
        raise ValueError(f"substeps must be at least 1, got {substeps}")
    particles = jnp.asarray(x, dtype=float)
    if particles.ndim != 2:
        raise ValueError(f"x must have shape (P, d), got {particles.shape}")
    dim = particles.shape[1]
    for name, field, shape in (("drift", drift, (dim,)), ("diffusion", diffusion, (dim, dim))):
        if (found := jax.eval_shape(field, jax.ShapeDtypeStruct((dim,), particles.dtype)).shape) != shape:
            raise ValueError(f"{name} must map x of shape {(dim,)} to shape {shape}, got {found}")
    mean, covariance = _moments(drift, diffusion, particles, jnp.asarray(dt / 2 * (1 - 1 / substeps)))
    return np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)


@eqx.filter_jit
def _moments(
    drift: Callable, diffusion: Callable, x: Float[Array, "P d"], half: Float[Array, ""]
) -> tuple[Float[Array, "P d"], Float[Array, "P d d"]]:
    """b + half·𝓛b and A + half·[𝓛A + (∇b)A + A(∇b)ᵀ] at every particle, NaN where it has diverged."""

    def one(y: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        b, a = drift(y), diffusion(y)
        turned = jax.jacfwd(drift)(y) @ a

        def generator(field: Callable) -> Array:
            """𝓛φ(y): the slope along b and, for each axis, that of the slope along its row of A."""

            def curvature(row: Float[Array, " d"], axis: Float[Array, " d"]) -> Array:
                return jax.jvp(lambda z: jax.jvp(field, (z,), (row,))[1], (y,), (axis,))[1]

            return jax.jvp(field, (y,), (b,))[1] + jax.vmap(curvature)(a, jnp.eye(y.size, dtype=y.dtype)).sum(axis=0)

        moments = b + half * generator(drift), a + half * (generator(diffusion) + turned + turned.T)
        return jax.tree.map(lambda m: jnp.where(jnp.isfinite(y).all(), m, jnp.nan), moments)

    return jax.lax.map(one, x, batch_size=_BATCH)


@dataclasses.dataclass(frozen=True, eq=False)
class BinnedKramersMoyal:
    """Drift and diffusion in each cell of a grid; NaN in cells that hold too few particles.

    Args:
        grid: the grid, of d axes.
        dt: the step that was measured over.
        drift: b averaged over the particles of a cell, (*cells, d).
        drift_error: its standard error, (*cells, d).
        diffusion: A, (*cells, d, d). The spread of b within a cell adds Δt/2 Cov(b): negligible at O(Δt h²).
        diffusion_error: the standard error of each entry, from the fourth moments, (*cells, d, d). A spread that comes
            out small by chance says that its error is small, too: with Gaussian steps 7 % of cells of 10 particles, and
            0.3 % of those of 100, lie more than 4 of them off.
        counts: particles in each cell, (*cells,).
        cell_of: the number of each particle's cell, (P,); −1 where it was not used.
        outside: particles outside the box, which are not used.
        left_out: diverged particles.
    """

    grid: Grid
    dt: float
    drift: Float[np.ndarray, "*cells d"]
    drift_error: Float[np.ndarray, "*cells d"]
    diffusion: Float[np.ndarray, "*cells d d"]
    diffusion_error: Float[np.ndarray, "*cells d d"]
    counts: Int[np.ndarray, "*cells"]
    cell_of: Int[np.ndarray, " P"]
    outside: int
    left_out: int

    def expected(
        self, drift: Cloud, diffusion: Float[np.ndarray | Array, "P d d"]
    ) -> tuple[Float[np.ndarray, "*cells d"], Float[np.ndarray, "*cells d d"]]:
        """What `drift` and `diffusion` read on average if the step of each particle has these moments.

        That is b̄ and Ā + Δt/2 Cov(b) over the very particles of each cell, so that no error is left from a field that
        varies within it; NaN in the cells that read NaN.

            b, a = found.expected(*finite_step_moments(limit.drift, limit.diffusion, x, dt))
            np.nanmax(np.abs(found.drift - b) / found.drift_error)

        Args:
            drift: ⟨Δx⟩/Δt for each of the particles that were given to `binned`, (P, d).
            diffusion: Cov(Δx)/2Δt, (P, d, d).

        Raises:
            ValueError: if they do not fit the particles.
        """
        dim, used = self.grid.dim, self.cell_of >= 0
        b, a = (np.asarray(v, dtype=np.float64) for v in (drift, diffusion))
        for name, value, shape in (("drift", b, (len(used), dim)), ("diffusion", a, (len(used), dim, dim))):
            if value.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, as the binned particles, got {value.shape}")
        cells, n = self.cell_of[used], np.where(np.isfinite(self.drift[..., 0]), self.counts, np.nan).reshape(-1)
        average, _ = _by_cell(cells, b[used], n)
        apart = b[used] - average[cells]
        spread = (n / (n - 1))[cells, None, None] * apart[:, :, None] * apart[:, None, :]
        second, _ = _by_cell(cells, (a[used] + self.dt / 2 * spread).reshape(len(cells), -1), n)
        return average.reshape(self.drift.shape), second.reshape(self.diffusion.shape)


def binned(x: Cloud, dx: Cloud, dt: float, grid: Grid, *, fewest: int = 10) -> BinnedKramersMoyal:
    """Drift and diffusion in each cell of a grid, from one step of every particle.

    Args:
        x: where the particles were, (P, d).
        dx: their increments over one step, (P, d).
        dt: the step on the process's clock.
        grid: the grid, of d axes.
        fewest: cells with fewer particles than this (at least 2) read NaN.

    Raises:
        ValueError: if dt is not positive, all particles have diverged, d is not the grid's, or fewest is below 2.
    """
    checked_step(dt)
    if fewest < 2:
        raise ValueError(f"fewest must be at least 2, got {fewest}")
    (positions, increments, rows), left_out = finite_rows(x, dx, np.arange(len(x)))
    if positions.shape[1] != grid.dim:
        raise ValueError(f"x must have the grid's {grid.dim} coordinates, got {positions.shape[1]}")
    cells, cell_of = grid.locate(positions), np.full(len(x), -1)
    cell_of[rows.astype(int)] = cells
    inside = cells >= 0
    cells, increments = cells[inside], increments[inside]
    counts = np.bincount(cells, minlength=grid.num_cells)
    n = np.where(counts >= fewest, counts, np.nan)

    average, variance = _by_cell(cells, increments, n)
    residuals = (increments - average[cells]) / np.sqrt(2 * dt)
    products = (residuals[:, :, None] * residuals[:, None, :]).reshape(len(cells), -1)
    second, spread = _by_cell(cells, products, n)
    correction = (n / (n - 1))[:, None]  # a mean was taken off

    vectors, matrices = (*grid.cells, grid.dim), (*grid.cells, grid.dim, grid.dim)
    return BinnedKramersMoyal(
        grid=grid,
        dt=dt,
        drift=(average / dt).reshape(vectors),
        drift_error=(np.sqrt(variance / n[:, None]) / dt).reshape(vectors),
        diffusion=(second * correction).reshape(matrices),
        diffusion_error=(np.sqrt(spread / n[:, None]) * correction).reshape(matrices),
        counts=counts.reshape(grid.cells),
        cell_of=cell_of,
        outside=int(np.sum(~inside)),
        left_out=left_out,
    )


def checked_step(dt: float) -> float:
    """dt, if it is a positive number."""
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be positive and finite, got {dt}")
    return dt


def sum_by_cell(
    cells: Int[np.ndarray, " n"], values: Float[np.ndarray, "n m"], num_cells: int
) -> Float[np.ndarray, "num_cells m"]:
    """The sum of each column over the rows of each cell, (num_cells, m)."""
    return np.stack([np.bincount(cells, column, minlength=num_cells) for column in values.T], axis=1)


def _by_cell(
    cells: Int[np.ndarray, " n"], values: Float[np.ndarray, "n m"], counts: Float[np.ndarray, " num_cells"]
) -> tuple[Float[np.ndarray, "num_cells m"], Float[np.ndarray, "num_cells m"]]:
    """Mean and unbiased variance of each column in each cell; `counts` is NaN where a cell is not wanted."""
    average = sum_by_cell(cells, values, len(counts)) / counts[:, None]
    squares = sum_by_cell(cells, (values - average[cells]) ** 2, len(counts))
    return average, squares / (counts[:, None] - 1)
