"""Thermometers: the temperature T that multiplies D(x) in dX = −∇f dt + √(2T D(X)) dW, read off a cloud.

Two of the four are here. The **noise** (kinetic) one reads the spread of a single step and holds in any state; the
**virial** one reads the balance of force and noise and holds in the steady state only. Where they differ in a steady
state, the continuum limit is what fails: the noise one has no excess at finite η, the virial one does.
"""

import numpy as np
from jaxtyping import Array, Float

from sgdsim.measures.diverged import Cloud, finite_rows
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.kramers_moyal import checked_step
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

    Source: Yaida (2018), the fluctuation–dissipation relation.
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
