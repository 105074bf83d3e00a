"""The steady state of a linear diffusion and what turns in it."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from sgdsim.theory._checks import Matrix, as_covariance, as_positive_definite, as_square, symmetric_part


@dataclass(frozen=True)
class Rotation:
    """The split −Fx = −(A + Q)Ux of a linear drift into a descent of Φ = ½xᵀUx and a turn along its level sets.

    Attributes:
        covariance: S, of the steady state e^{−Φ}/Z, (d, d).
        precision: U = S⁻¹, the Hessian of Φ, (d, d).
        antisymmetric: Q = F S − A, (d, d); zero in detailed balance, where F A = A Fᵀ.
    """

    covariance: Float[np.ndarray, "d d"]
    precision: Float[np.ndarray, "d d"]
    antisymmetric: Float[np.ndarray, "d d"]


def rotation(F: Matrix, A: Matrix) -> Rotation:
    """The steady state of dX = −FX dt + √(2A) dW, F S + S Fᵀ = 2A, and its rotation Q = F S − A.

    Q is antisymmetric, as Q + Qᵀ = F S + S Fᵀ − 2A = 0, and −(A + Q)Ux = −F S U x = −Fx. SGD on a quadratic has F = K
    and A = T D. With K = diag(k₁, k₂): S₁₂ = 2A₁₂/(k₁+k₂) and Q₁₂ = k₁S₁₂ − A₁₂ = A₁₂(k₁−k₂)/(k₁+k₂): a gradient turns
    only where the noise does not commute with the Hessian, however anisotropic it is. At T ≠ 1 the potential that
    Chaudhari and Soatto call Φ is T times this one, and their Q is this one over T.

    Args:
        F: minus the drift's matrix, (d, d), its eigenvalues of positive real part; a Hessian where it is a gradient.
        A: the diffusion tensor σσᵀ/2, symmetric positive semidefinite, (d, d).

    Raises:
        ValueError: if shapes differ, A is no covariance, there is no steady state, or it has no density (the noise does
            not reach every direction).

    Source: Chaudhari and Soatto (2018), lemma 20.
    """
    f = as_square("F", F)
    tensor = as_covariance("A", A, f.shape)
    slowest = float(np.min(np.linalg.eigvals(f).real))
    if slowest <= 0:
        raise ValueError(f"F must have eigenvalues of positive real part, got {slowest:g}: no steady state")
    steady = symmetric_part(np.asarray(scipy.linalg.solve_continuous_lyapunov(f, 2 * tensor)))
    steady = as_positive_definite("the steady covariance of F and A", steady, f.shape)
    turn = f @ steady - tensor
    return Rotation(steady, symmetric_part(np.linalg.inv(steady)), (turn - turn.T) / 2)


def ou_circulation(F: Matrix, A: Matrix) -> Float[np.ndarray, "d d"]:
    """⟨x_i b_j − x_j b_i⟩ in the steady state of dX = b dt + √(2A) dW, b = −Fx: the antisymmetric matrix 2Q, x²/time.

    ⟨x bᵀ⟩ = −S Fᵀ, less its transpose, is F S − S Fᵀ = (A + Q) − (A − Q). The current J = bρ − A∇ρ circulates the same,
    ∫ (x_i J_j − x_j J_i) dx, because ∫ x_i (A∇ρ)_j dx = −A_ji is symmetric and drops out. So in 2-D the entry (0, 1) is
    ∫ x × J dx of `FokkerPlanck.circulation`, counterclockwise, for any centre: twice the area swept per time.

    Args:
        F: minus the drift's matrix, (d, d), its eigenvalues of positive real part.
        A: the diffusion tensor σσᵀ/2, symmetric positive semidefinite, (d, d).

    Raises:
        ValueError: as in `rotation`.

    Source: Chaudhari and Soatto (2018), lemma 20, for Q; derived.
    """
    return 2 * rotation(F, A).antisymmetric
