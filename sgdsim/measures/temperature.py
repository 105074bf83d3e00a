"""Thermometers: the temperature T that multiplies D(x) in dX = −∇f dt + √(2T D(X)) dW, read off a cloud.

| name | reads | holds for | excess at finite η, on a quadratic |
|---|---|---|---|
| noise (kinetic) | η_e Tr Cov(g_B given x) / (2 Tr D) | any state | none |
| virial | ⟨(x−c)·∇f⟩ / ⟨Tr D⟩ | the steady state, any D(x) | Σ D_i e_i / Σ D_i |
| configurational | ⟨∇f·∇f⟩ / ⟨Tr(D∇²f)⟩ | the steady state, any D(x) | Σ D_i k_i e_i / Σ D_i k_i |
| Boltzmann | inverse slope of −log ρ against f, over σ² | the steady state, D = σ²I | Σ e_i² / Σ e_i |

k_i are the curvatures, D_i the noise along them, and e_i = (1 − ηk_i/(2(1+μ)))⁻¹ (`theory.thermometer_readings`). The
noise one reads the spread of a single step, so that it measures s_B η_e/(2B) itself; the others read where the
particles have come to rest. Where they differ in a steady state, the continuum limit is what fails.

All errors come from the spread over independent particles. Several snapshots of them may be given side by side as more
coordinates of each particle, (P, T·d), with the sums over the snapshots of what there is one of for each particle.
"""

import math

import numpy as np
import scipy.stats
from jaxtyping import Array, Float

from sgdsim.measures.diverged import Cloud, finite_rows
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.kramers_moyal import checked_step
from sgdsim.measures.neighbours import neighbourhoods, overlap_variance
from sgdsim.measures.ratio import ratio


def kinetic_temperature(
    dx: Cloud, dt: float, predicted_drift: Cloud, noise_trace: Float[np.ndarray | Array, " P"]
) -> Estimate:
    """T = ⟨|Δx − bΔt|²⟩ / (2Δt ⟨Tr D⟩), from one step of each particle, in any state.

    For SGD without momentum Δt = η, b = −∇f, and Δx − bΔt = −η(g_B − ∇f): this reads s_B η/2B itself, with no excess at
    finite η. With heavy ball (v ← μv + g, x ← x − ηv) the spread of a step given x *and* v is η² Cov(g_B), while
    T = η_e Tr Cov(g_B)/(2 Tr D) with η_e = η/(1−μ): pass Δt = η(1−μ) and b = −(μv + ∇f)/(1−μ), v from before the step.

    Args:
        dx: increments over one step, (P, d).
        dt: the step, as said above.
        predicted_drift: b, (P, d).
        noise_trace: Tr D at the place from which the step was made, (P,).

    Raises:
        ValueError: if dt is not positive, all particles have diverged, or Tr D vanishes at every particle.
    """
    (increments, b, traces), left_out = finite_rows(dx, predicted_drift, noise_trace)
    spread = np.sum((increments - b * checked_step(dt)) ** 2, axis=1)
    return ratio(spread, 2 * dt * traces, name="noise_trace", left_out=left_out)


def virial_temperature(
    x: Cloud,
    gradient: Cloud,
    noise_trace: Float[np.ndarray | Array, " P"],
    centre: Float[np.ndarray | Array, " d"] | None = None,
) -> Estimate:
    """T = ⟨(x−c)·∇f⟩ / ⟨Tr D⟩, in the steady state only.

    There d⟨|x−c|²⟩/dt = −2⟨(x−c)·∇f⟩ + 2T⟨Tr D⟩ = 0 for every c, as ⟨∇f⟩ = 0. At finite η it reads hotter than the
    limit: on a quadratic of curvatures k_i by Σ D_i (1 − ηk_i/2)⁻¹ / Σ D_i (μ = 0).

    Args:
        x: particles, (P, d).
        gradient: ∇f(x), (P, d).
        noise_trace: Tr D(x), (P,).
        centre: c, (d,). By default the cloud's own mean, and the reading is the unbiased covariance of x and ∇f, which
            has the smaller error because the chance offset of both means drops out.

    Raises:
        ValueError: if all particles have diverged, or Tr D vanishes at every particle.

    Source: Yaida (2019), the fluctuation–dissipation relation.
    """
    (positions, forces, traces), left_out = finite_rows(x, gradient, noise_trace)
    n = len(positions)
    if centre is None:
        if n < 2:
            raise ValueError("x must hold at least two finite particles where no centre is given, got 1")
        positions = (positions - np.mean(positions, axis=0)) * (n / (n - 1))
        forces = forces - np.mean(forces, axis=0)
    else:
        positions = positions - np.asarray(centre, dtype=np.float64)
    return ratio(np.sum(positions * forces, axis=1), traces, name="noise_trace", left_out=left_out)


def configurational_temperature(gradient: Cloud, noise_curvature: Float[np.ndarray | Array, " P"]) -> Estimate:
    """T = ⟨|∇f|²⟩ / ⟨Tr(D∇²f)⟩, in the steady state only.

    There d⟨f⟩/dt = −⟨|∇f|²⟩ + T⟨Tr(D∇²f)⟩ = 0, by Itô's formula, for any D(x). At finite η it reads hotter than the
    limit, and mostly by what happens along the largest curvatures.

    Args:
        gradient: ∇f(x), (P, d).
        noise_curvature: Tr(D(x)∇²f(x)) or an unbiased estimate of it, (P,): `curvature.noise_curvature`.

    Raises:
        ValueError: if all particles have diverged, or Tr(D∇²f) vanishes on average.

    Source: Rugh (1997) and Jepps, Ayton, Evans (2000) for D = I; Liu, Ziyin, Ueda (2021) for SGD on a quadratic.
    """
    (forces, curvatures), left_out = finite_rows(gradient, noise_curvature)
    return ratio(np.sum(forces**2, axis=1), curvatures, name="noise_curvature", left_out=left_out)


def boltzmann_temperature(
    particles: Cloud | Float[np.ndarray | Array, "T P d"],
    loss_values: Float[np.ndarray | Array, " P"] | Float[np.ndarray | Array, "T P"],
    variance: float,
    neighbours: int = 6,
) -> Estimate:
    """T = 1/(βσ²), β = Cov(−log ρ, f)/Var(f): the slope of −log ρ against f, by least squares weighted with ρ itself.

    In the steady state and for D = σ²I alone, where ρ ∝ exp(−f/(Tσ²)); elsewhere β is the best such line.

    *Bias.* log ρ is known as the mean density of the ball that holds k−1 neighbours (`neighbourhoods`). Against f at
    its centre the slope would be too flat, in 3-D by 5 % at n = 10⁴. So f is averaged over the same ball: in a Gibbs
    state

        −log ⟨ρ⟩_ball = log ⟨e^{βf}⟩_neighbours + const = βκ₁ + β²κ₂/2 + β³κ₃/6 + …,

    κ the cumulants of f among the neighbours, estimated by unbiased k-statistics, and β solves Cov(−log ρ̂, f) =
    Cov(βκ₁ + β²κ₂/2 + β³κ₃/6, f). On Gaussians and double wells in d = 1, 2, 3 at n = 10⁴ what is left of the bias is
    below 0.1, 0.5 and 0.9 standard errors (in 3-D with widths of 10 : 3 : 1 it is 1.3, as distances are Euclidean).

    *Error.* With ℓ = −log ρ, a particle moves β by its influence (f − f̄)(ℓ − ℓ̄ − β(f − f̄) − 1)/(n Var f), the −1 from
    the density that it adds to; in a Gibbs state β is known to 1/√(n Var f), as by maximum likelihood. The scatter of
    log ρ̂ is seen in the residual, and `overlap_variance` adds what neighbours share. Tails make the spread larger than
    that, by 5 to 12 % at n = 2,000, less at more.

    Args:
        particles: independent particles, (P, d), or T snapshots of them, (T, P, d), far enough apart in time for each
            to have new neighbours; log ρ is then taken within each snapshot, and the error over particles.
        loss_values: f(x), (P,) or (T, P), in units of the loss.
        variance: σ² > 0.
        neighbours: k ≥ 4, as three cumulants are needed.

    Raises:
        ValueError: if σ² is not positive, k is below 4, fewer than k + 1 particles are finite, more than k of them
            coincide, or f is the same at all of them.

    Source: derived; Kozachenko and Leonenko (1987) for log ρ.
    """
    if not (math.isfinite(variance) and variance > 0):
        raise ValueError(f"variance must be positive and finite, got {variance}")
    if neighbours < 4:
        raise ValueError(f"neighbours must be at least 4, got {neighbours}")
    snapshots, values = np.asarray(particles), np.asarray(loss_values)
    if snapshots.ndim == 2:
        snapshots, values = snapshots[None], values[None]
    (x, f), left_out = finite_rows(np.swapaxes(snapshots, 0, 1), values.T)  # (n, T, d) and (n, T)
    unit = float(np.ptp(f))  # in which the cubes of losses do not overflow
    if unit == 0:
        raise ValueError(f"loss_values must differ between particles to have a slope, got {f.flat[0]} at all of them")
    f = f / unit
    balls = [neighbourhoods(y, neighbours) for y in np.swapaxes(x, 0, 1)]
    surprisal = -np.stack([ball.log_density for ball in balls], axis=1)
    inside = np.stack([g[ball.inside] for g, ball in zip(f.T, balls, strict=True)], axis=1)
    beta, variance_of_beta = _slope(surprisal, f, inside, overlap_variance(neighbours))
    return Estimate(1 / beta, math.sqrt(variance_of_beta) / beta**2, left_out=left_out) * (unit / variance)


def _slope(
    surprisal: Float[np.ndarray, "n T"],
    f: Float[np.ndarray, "n T"],
    inside: Float[np.ndarray, "n T others"],
    overlap: float,
) -> tuple[float, float]:
    """β and its variance, from −log ρ̂ and f at each particle and the losses of its neighbours; `overlap` is theirs."""
    centred = f - np.mean(f, axis=0)
    spread, covariance = float(np.mean(centred**2)), float(np.mean(centred * surprisal))
    powers = np.arange(1, 4)
    terms = np.stack([scipy.stats.kstat(inside, p, axis=-1) / math.factorial(p) for p in powers])
    coefficients = np.mean(centred * terms, axis=(1, 2))
    roots = np.roots([*coefficients[::-1], -covariance])
    real = roots[np.isreal(roots)].real  # a cubic has one
    beta = float(real[np.argmin(np.abs(real - covariance / spread))])
    residual = surprisal - np.tensordot(beta**powers, terms, axes=1)
    influence = np.mean(centred * (residual - np.mean(residual, axis=0) - 1), axis=1)
    slope = float(coefficients @ (powers * beta ** (powers - 1)))
    total = float(np.var(influence)) + overlap * spread / f.shape[1]
    return beta, total / (len(f) * slope**2)
