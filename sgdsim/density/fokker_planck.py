"""The Fokker–Planck equation: the density of the Langevin limit, without particles."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from sgdsim.density.fields import ScalarField, TensorField, VectorField, potential_at
from sgdsim.density.gaussian import gaussian_masses
from sgdsim.density.generator import Generator
from sgdsim.density.grid import Grid, Numbers
from sgdsim.density.propagate import Propagation, propagate
from sgdsim.density.stationary import gibbs_log_masses, stationary_log_masses
from sgdsim.processes.limits import FirstOrderLimit
from sgdsim.processes.sgd import SGD

_LEAK = 1e-6  # mass of a start that may lie outside the box, and by which a start may miss one


class FokkerPlanck:
    """∂ρ/∂t = −∇·(b ρ) + ∇·∇·(A ρ) on a box with reflecting walls, for the law of dX = b dt + √(2A) dW in Itô's sense.

    The density is held as cell masses; the equation becomes dp/dt = L p with the `Generator` L, positive and
    mass-conserving, of order 2 in the cells' width. `coarsen` gives the error: compare h with 2h.

        fp = FokkerPlanck(drift=lambda x: -x, diffusion=lambda x: 0.1 * jnp.eye(1), grid=Grid([-3.0], [3.0], [256]))
        fp.propagate(fp.density_of(start), [0.0, 1.0]).masses    # (2, 256)

    Args:
        drift: b, (d,) → (d,), in x/time.
        diffusion: A, (d,) → (d, d), symmetric positive definite, in x²/time. It stands inside both derivatives.
        grid: the box and its cells.
        potential: ψ with b = −A∇ψ + ∇·A, if there is one. Then e^{−ψ} is kept as the steady state exactly.

    Raises:
        ValueError: as `Generator.of`.
    """

    def __init__(
        self, drift: VectorField, diffusion: TensorField, grid: Grid, potential: ScalarField | None = None
    ) -> None:
        self.drift, self.diffusion, self.grid, self.potential = drift, diffusion, grid, potential
        self.generator = Generator.of(grid, drift, diffusion, potential)
        self._log_stationary: Float[np.ndarray, "*cells"] | None = None

    @classmethod
    def limit_of(cls, sgd: SGD, grid: Grid) -> "FokkerPlanck":
        """The density equation of the first-order Langevin limit of a discrete process: b = −∇f, A = T D(x).

        Where D = σ² I the steady state is the Gibbs density of ψ = f/(Tσ²), and it is kept exactly.

        Raises:
            ValueError: if T = 0, if the grid is not of the problem's dimension, or as `Generator.of`.
        """
        limit = FirstOrderLimit.of(sgd)
        if grid.dim != limit.dim:
            raise ValueError(f"grid must have as many axes as the problem has dimensions, {limit.dim}, got {grid.dim}")
        if float(limit.temperature) == 0:
            raise ValueError(
                "the temperature is 0 (the batch is the whole sum, or there is one example): Langevin is then gradient "
                "flow, dx = −∇f dt, and there is no Fokker–Planck equation to solve"
            )
        return cls(limit.drift, limit.diffusion, grid, limit.gibbs_potential)

    def density_of(self, start: Any) -> Float[np.ndarray, "*cells"]:
        """The exact cell masses of a Gaussian, (*cells,), divided by its mass in the box.

        Args:
            start: has `mean` (d,) and `covariance` (d, d).

        Raises:
            ValueError: if the covariance is not positive definite, or over 1e-6 of the mass is outside the box.
        """
        mean, covariance = (np.asarray(v, dtype=np.float64) for v in (start.mean, start.covariance))
        dim = self.grid.dim
        if mean.shape != (dim,) or covariance.shape != (dim, dim):
            raise ValueError(
                f"start must have a mean ({dim},) and a covariance ({dim}, {dim}), got {mean.shape}, {covariance.shape}"
            )
        masses = gaussian_masses(self.grid, mean, covariance)
        inside = np.sum(masses)
        if 1 - inside > _LEAK:
            raise ValueError(f"start has {1 - inside:.2e} of its mass outside the box of {self.grid}: widen the grid")
        return masses / inside

    def propagate(
        self,
        p0: Float[Array | np.ndarray, "*cells"],
        times: Numbers,
        method: str = "auto",
        progress: bool = False,
    ) -> Propagation:
        """The masses at each time, from `p0` at t = 0.

        Args:
            p0: cell masses, (*cells,), ≥ 0, with sum one to 1e-6.
            times: (T,), strictly increasing, ≥ 0; the first may be 0.
            method: "auto" or "uniformization".
            progress: show a bar over the times.

        Raises:
            ValueError: if an argument is not as said.
        """
        masses = np.asarray(p0, dtype=np.float64)
        if masses.shape != self.grid.cells:
            raise ValueError(f"p0 must have the grid's shape {self.grid.cells}, got {masses.shape}")
        if not (np.all(masses >= 0) and abs(np.sum(masses) - 1) <= _LEAK):
            raise ValueError(
                "p0 must be non-negative cell masses (not densities) that sum to one, got smallest "
                f"{np.min(masses):.3g} and sum {np.sum(masses):.9g}"
            )
        when = np.asarray(times, dtype=np.float64)
        if when.ndim != 1 or len(when) == 0:
            raise ValueError(f"times must be a list of at least one time, got shape {when.shape}")
        if not (np.all(np.isfinite(when)) and when[0] >= 0 and np.all(np.diff(when) > 0)):
            raise ValueError(f"times must be finite, ≥ 0 and strictly increasing, got {when.tolist()}")
        return propagate(self.generator, masses, when, method, progress)

    def stationary(self) -> Float[np.ndarray, "*cells"]:
        """The steady state's cell masses, (*cells,); far tails underflow to 0 at small temperature."""
        return np.exp(self.log_stationary())

    def log_stationary(self) -> Float[np.ndarray, "*cells"]:
        """The log of the steady state's cell masses, (*cells,).

        With a declared potential −ψ, normalised. Otherwise the null vector of the generator, each cell to a relative
        accuracy of a few hundred rounding units; computed once (128² cells: half a second, 256²: three) and kept.

        Raises:
            ValueError, ArithmeticError: as `stationary_log_masses`.
        """
        if self._log_stationary is None:
            if self.potential is None:
                self._log_stationary = stationary_log_masses(self.generator)
            else:
                values = potential_at(self.potential, self.grid.centres.reshape(-1, self.grid.dim))
                self._log_stationary = gibbs_log_masses(values.reshape(self.grid.cells))
        return self._log_stationary.copy()

    def coarsen(self, factor: int = 2) -> "FokkerPlanck":
        """The same equation on `factor` times fewer cells per axis: its answer against this one's gives the error."""
        return FokkerPlanck(self.drift, self.diffusion, self.grid.coarsen(factor), self.potential)

    def boundary_mass(self, masses: Float[Array | np.ndarray, "*cells"]) -> float:
        """The mass in the outermost cells: what the walls of the box may have touched."""
        return float(np.sum(np.asarray(masses, dtype=np.float64)[self.grid.boundary]))

    def __repr__(self) -> str:
        kind = "no potential declared" if self.potential is None else "with a potential"
        return f"FokkerPlanck({self.grid!r}, {len(self.generator.offsets)} edges a cell, {kind})"
