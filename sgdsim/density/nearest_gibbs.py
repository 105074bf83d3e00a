"""The Gibbs density of a loss that comes nearest to a density."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class NearestGibbs:
    """e^{−f/τ} with the τ of the best straight line through −log ρ against f, by least squares weighted with ρ.

    That is the Boltzmann thermometer: 1/τ = Cov(−log ρ, f)/Var f under ρ. Where D = σ²I the steady state *is* that
    density, and τ = Tσ². Nothing here asks for e^{−f/τ} to be normalised, which on the loss of a network it often
    cannot be (f is flat where tanh saturates): a KL divergence from it would depend on the box.

    Attributes:
        temperature: τ, in units of the loss; inf where −log ρ does not depend on f, negative where it falls with f.
        correlation: of −log ρ with f under ρ; 1 where ρ is a Gibbs density of f. NaN where −log ρ is constant.
        spread: what is left of the line, the standard deviation of log ρ + f/τ under ρ, in nats.
    """

    temperature: float
    correlation: float
    spread: float


def nearest_gibbs(loss: Float[np.ndarray, "*cells"], log_masses: Float[np.ndarray, "*cells"]) -> NearestGibbs:
    """Fit the temperature of a Gibbs density of f to a density.

    Args:
        loss: f at the cells' centres, (*cells,).
        log_masses: log of the density's cell masses, (*cells,).

    Raises:
        ValueError: if f is the same everywhere: any temperature fits then.
    """
    masses = np.exp(log_masses)
    held = masses > 0
    weights = masses[held]

    def centred(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return values - np.sum(weights * values)

    heights, logs = centred(loss[held]), centred(-log_masses[held])
    variance, along, size = (np.sum(weights * p) for p in (heights**2, heights * logs, logs**2))
    if not variance > 0:
        raise ValueError("loss must not be constant on the grid")
    left = centred(logs - along / variance * heights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return NearestGibbs(
            temperature=float(variance / along),
            correlation=float(along / np.sqrt(variance * size)),
            spread=float(np.sqrt(np.sum(weights * left**2))),
        )
