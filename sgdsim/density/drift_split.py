"""The drift split in two: what descends the effective potential, and what circulates."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sgdsim.density.fields import diffusion_at, divergence_at, drift_at
from sgdsim.density.fokker_planck import FokkerPlanck


@dataclass(frozen=True)
class DriftSplit:
    """b = −D∇Φ + T∇·D + j with Φ = −T log ρ_ss and ∇·(j ρ_ss) = 0, where A = T D is the diffusion.

    The steady current is J = j ρ_ss: what is left of the drift once the descent of Φ and the noise-induced drift
    (∇·D)_i = Σ_j ∂_j D_ij of Itô's calculus are taken off. j keeps ρ_ss as it is, whatever its size.

    Source: Chaudhari and Soatto 2018, theorem 5 and eq. 8.

    Attributes:
        masses: π, the cell masses of ρ_ss, (*cells,).
        potential: Φ at the cells' centres, (*cells,), in units of T; its smallest value is 0.
        drift: b, (*cells, d), in x/time.
        circulating: j = J/ρ_ss, (*cells, d), in x/time; 0 where ρ_ss underflows.
        induced: T∇·D = ∇·A, (*cells, d), in x/time.
        mean_noise: T⟨Tr D⟩/d = ⟨Tr A⟩/d, the heat along one axis averaged over ρ_ss, in x²/time.
    """

    masses: Float[np.ndarray, "*cells"]
    potential: Float[np.ndarray, "*cells"]
    drift: Float[np.ndarray, "*cells d"]
    circulating: Float[np.ndarray, "*cells d"]
    induced: Float[np.ndarray, "*cells d"]
    mean_noise: float

    def rms(self, field: Float[np.ndarray, "*cells d"]) -> float:
        """√∫|field|² ρ_ss dx, the size of a vector field where the particles are."""
        return float(np.sqrt(np.sum(self.masses[..., None] * field**2)))

    @property
    def circulating_share(self) -> float:
        """rms |j| / rms |b|: 0 in detailed balance."""
        return self._share(self.circulating)

    @property
    def induced_share(self) -> float:
        """rms |T∇·D| / rms |b|: 0 where the noise is the same everywhere."""
        return self._share(self.induced)

    def _share(self, field: Float[np.ndarray, "*cells d"]) -> float:
        whole = self.rms(self.drift)
        return self.rms(field) / whole if whole > 0 else math.nan


def split_drift(fp: FokkerPlanck, temperature: float) -> DriftSplit:
    """The split of an equation's drift on its grid, of order 2 in h.

    Args:
        fp: the equation.
        temperature: T, which only sets the unit of Φ.

    Raises:
        ValueError, ArithmeticError: as `FokkerPlanck.log_stationary`.
    """
    points, logs = fp.grid.centres.reshape(-1, fp.grid.dim), fp.log_stationary()
    masses = np.exp(logs)
    current = fp.current(masses)
    density = (masses / fp.grid.cell_volume)[..., None]
    held = density > np.finfo(float).tiny / np.finfo(float).eps
    traces = np.trace(diffusion_at(fp.tensor, points), axis1=1, axis2=2).reshape(fp.grid.cells)
    return DriftSplit(
        masses=masses,
        potential=temperature * (np.max(logs) - logs),
        drift=drift_at(fp.drift, points).reshape(current.shape),
        circulating=np.divide(current, density, out=np.zeros_like(current), where=held),
        induced=divergence_at(fp.tensor, points).reshape(current.shape),
        mean_noise=float(np.sum(masses * traces)) / fp.grid.dim,
    )
