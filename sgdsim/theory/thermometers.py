"""What the four thermometers read on a quadratic at finite η."""

from dataclasses import dataclass

import numpy as np

from sgdsim.theory._checks import Vector, as_vector, require_momentum, require_positive, require_stable


@dataclass(frozen=True)
class ThermometerReadings:
    """The temperatures that perfect thermometers read off the chain's steady state, in units of T.

    Attributes:
        noise: T itself: η_e Tr Cov(g_B)/(2 Tr D) has no excess.
        virial: ⟨x·∇f⟩/Tr D.
        configurational: ⟨|∇f|²⟩/Tr(D∇²f).
        boltzmann: inverse slope of the ρ-weighted regression of −log ρ on f, over σ²; None unless D = σ²I.
    """

    noise: float
    virial: float
    configurational: float
    boltzmann: float | None


def thermometer_readings(
    temperature: float,
    curvatures: Vector,
    noise_variances: Vector,
    eta: float,
    mu: float = 0.0,
) -> ThermometerReadings:
    """The four readings on f = ½Σ k_i x_i² at any η; all are T where ηk → 0.

    The steady variances are S_i = T (D_i/k_i) e_i with the excess e_i = 1/(1 − ηk_i/(2(1+μ))) (`heavy_ball_variance`).

    - virial: ⟨x·∇f⟩ = Σ k_i S_i, over Σ D_i: T Σ D_i e_i / Σ D_i;
    - configurational: ⟨|∇f|²⟩ = Σ k_i² S_i, over Σ D_i k_i: T Σ D_i k_i e_i / Σ D_i k_i;
    - Boltzmann, D_i = σ²: with x_i ~ N(0, S_i), −log ρ = Σ x_i²/(2S_i) + const, and as x_i² has variance 2S_i² the
      slope on f is Cov(−log ρ, f)/Var f = (½ Σ k_i S_i)/(½ Σ (k_i S_i)²). With k_i S_i = Tσ²e_i its inverse, over σ²,
      is T Σ e_i² / Σ e_i. (ρ is here the Gaussian of these variances, which the chain's law is if its noise is.)

    The first two are linear in S_ii and hold for any D of diagonal D_i in the Hessian's eigenbasis.

    Args:
        temperature: T > 0, `temperature(η, B, μ, s_B)`.
        curvatures: k_i > 0, the eigenvalues of the Hessian, (d,).
        noise_variances: D_i ≥ 0, not all zero, the variances of one example's gradient along its eigenvectors, (d,).
        eta: η in (0, 2(1+μ)/max k).
        mu: μ in [0, 1).

    Raises:
        ValueError: if an argument is out of its range.

    Source: derived from Liu, Ziyin, Ueda (2021).
    """
    require_positive("temperature", temperature)
    require_momentum("mu", mu)
    k = as_vector("curvatures", curvatures, np.size(curvatures))
    noise = as_vector("noise_variances", noise_variances, len(k))
    if not (len(k) > 0 and np.all(k > 0)):
        raise ValueError(f"curvatures must be positive, at least one, got {k.tolist()}")
    if not (np.all(noise >= 0) and np.any(noise > 0)):
        raise ValueError(f"noise_variances must not be negative, nor all zero, got {noise.tolist()}")
    require_stable("eta", eta, "2(1+mu)/max k", 2 * (1 + mu) / float(np.max(k)))
    excess = 1 / (1 - eta * k / (2 * (1 + mu)))
    is_isotropic = np.ptp(noise) <= 1e-6 * np.max(noise)  # float32 input is equal to 1e-7
    return ThermometerReadings(
        noise=temperature,
        virial=temperature * float(np.average(excess, weights=noise)),
        configurational=temperature * float(np.average(excess, weights=noise * k)),
        boltzmann=temperature * float(np.average(excess, weights=excess)) if is_isotropic else None,
    )
