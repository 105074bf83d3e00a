"""The Ornstein–Uhlenbeck process at a finite time."""

import math

import numpy as np
import scipy.linalg
from jaxtyping import Float

from sgdsim.theory._checks import (
    Matrix,
    Vector,
    as_covariance,
    as_square,
    as_vector,
    require_not_negative,
    symmetric_part,
)


def ou_mean_covariance(
    F: Matrix, A: Matrix, mean0: Vector, cov0: Matrix, t: float
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Mean and covariance at time t of dX = −FX dt + √(2A) dW from a Gaussian; F may rotate, grow or be singular.

        m(t) = e^{−Ft} m₀,    S(t) = e^{−Ft} S₀ e^{−Fᵀt} + ∫₀ᵗ e^{−Fs} 2A e^{−Fᵀs} ds.

    Van Loan's block exponential exp([[−F, 2A], [0, Fᵀ]]τ) = [[E, G], [0, E⁻ᵀ]] with E = e^{−Fτ} holds the integral as
    G Eᵀ. Its corner E⁻ᵀ overflows when τ is long, so τ = t/2ᵐ is short, and m doublings S(2τ) = S(τ) + E S(τ) Eᵀ
    follow.

    Args:
        F: minus the drift's matrix, (d, d).
        A: the diffusion tensor σσᵀ/2, symmetric positive semidefinite, (d, d).
        mean0: m₀, (d,).
        cov0: S₀, symmetric positive semidefinite, (d, d).
        t: time ≥ 0.

    Raises:
        ValueError: if shapes differ, A or S₀ is no covariance, F is not finite, or t is negative or not finite.

    Source: Van Loan (1978), theorem 1.
    """
    require_not_negative("t", t)
    f = as_square("F", F)
    dim = len(f)
    a, m, s = as_covariance("A", A, f.shape), as_vector("mean0", mean0, dim), as_covariance("cov0", cov0, f.shape)
    doublings = max(0, math.ceil(math.log2(max(np.linalg.norm(f, 2) * t, 1.0))))
    block = np.block([[-f, 2 * a], [np.zeros_like(f), f.T]]) * (t / 2.0**doublings)
    exponential = scipy.linalg.expm(block)
    decay = exponential[:dim, :dim]
    gained = exponential[:dim, dim:] @ decay.T
    for _ in range(doublings):
        gained, decay = gained + decay @ gained @ decay.T, decay @ decay
    return decay @ m, symmetric_part(decay @ s @ decay.T + gained)
