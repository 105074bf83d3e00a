"""Free energy and entropy production of a density on its way to the steady state."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float

from sgdsim.density.balance import edge_ends, log_ratios, reversible_part
from sgdsim.density.generator import Generator


@dataclass(frozen=True)
class FreeEnergy:
    """F = E[Φ] − T H with Φ = −T log ρ_ss, so that F = T · KL(ρ ‖ ρ_ss): it falls to zero.

    Source: Chaudhari and Soatto 2018, theorem 5.

    Attributes:
        energy: E[Φ] = −T Σ p log(π/h^d), in units of the loss.
        entropy: H = −∫ ρ log ρ dx = −Σ p log(p/h^d), in nats.
        temperature: T.
    """

    energy: float
    entropy: float
    temperature: float

    @property
    def value(self) -> float:
        """F = E[Φ] − T H."""
        return self.energy - self.temperature * self.entropy


@dataclass(frozen=True)
class EntropyProduction:
    """Entropy made per time, in nats/time: total = housekeeping + excess, each ≥ 0 up to the grid's error.

    Source: Schnakenberg 1976; Hatano and Sasa 2001; Esposito and Van den Broeck 2010.

    Attributes:
        total: Σ_e J_e log(fwd p_i / back p_j), ∫ Jᵀ A⁻¹ J/ρ dx on fine cells.
        housekeeping: Σ_e J_e log(fwd π_i / back π_j): what keeps the steady current going; 0 in detailed balance.
        excess: Σ_e J_e log(p_i π_j / p_j π_i) = −dKL(p ‖ π)/dt exactly; 0 in the steady state.
    """

    total: float
    housekeeping: float
    excess: float


def free_energy(
    masses: Float[Array | np.ndarray, "*cells"],
    log_steady: Float[np.ndarray, "*cells"],
    temperature: float,
    cell_volume: float,
) -> FreeEnergy:
    """The free energy of cell masses p over the steady state's log masses log π, at a temperature T > 0.

    Raises:
        ValueError: if the temperature is not positive and finite.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    p = np.asarray(masses, dtype=np.float64)
    held = p > 0
    energy = -temperature * float(np.sum(p[held] * (log_steady[held] - np.log(cell_volume))))
    return FreeEnergy(energy, density_entropy(p, cell_volume), temperature)


def density_entropy(masses: Float[np.ndarray, "*cells"], cell_volume: float) -> float:
    """H = −∫ ρ log ρ dx = −Σ p log(p/h^d) of cell masses p, in nats."""
    held = masses[masses > 0]
    return -float(np.sum(held * (np.log(held) - np.log(cell_volume))))


def entropy_production(
    generator: Generator, masses: Float[Array | np.ndarray, "*cells"], log_steady: Float[np.ndarray, "*cells"]
) -> EntropyProduction:
    """Entropy production of cell masses p; edges of which an end has underflowed to no mass are left out."""
    p, logs = np.asarray(masses, dtype=np.float64).reshape(-1), np.asarray(log_steady).reshape(-1)
    housekeeping = excess = 0.0
    for i, j, fwd, back in edge_ends(generator):
        held = (p[i] > 0) & (p[j] > 0)
        i, j, fwd, back = i[held], j[held], fwd[held], back[held]
        flow, steady_climb = fwd * p[i] - back * p[j], log_ratios(logs, i, j, fwd, back)
        housekeeping += float(np.sum(flow * (np.log(fwd) - np.log(back) - steady_climb)))
        excess += float(np.sum(flow * (np.log(p[i]) - np.log(p[j]) + steady_climb)))
    return EntropyProduction(housekeeping + excess, housekeeping, excess)


def dissipation(
    generator: Generator, masses: Float[Array | np.ndarray, "*cells"], log_steady: Float[np.ndarray, "*cells"]
) -> float:
    """−dKL/dt by the identity ∫ ρ ∇log(ρ/ρ_ss)ᵀ A ∇log(ρ/ρ_ss) dx, in nats/time; never negative.

    On the grid Σ_e c_e (u_i − u_j)(log u_i − log u_j) with u = p/π and c_e the mean of the steady flows both ways along
    the edge: the excess entropy production of the reversible part of L. A steady current adds nothing to it, as a
    current that sources nothing cannot bring p nearer to π. (The excess of L itself, which is −dKL/dt exactly, differs
    from it at order h² where there is such a current.)
    """
    return entropy_production(reversible_part(generator, log_steady), masses, log_steady).excess
