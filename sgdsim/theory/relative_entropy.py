"""KL between Gaussians, and the rate at which it falls on the way to a steady state."""

import numpy as np
import scipy.linalg

from sgdsim.theory._checks import Matrix, Vector, as_covariance, as_positive_definite, as_vector


def gaussian_kl(mean: Vector, covariance: Matrix, reference_mean: Vector, reference_covariance: Matrix) -> float:
    """KL(N(m, S) ‖ N(r, R)) = ½ [Tr(R⁻¹S) − d − log det(R⁻¹S) + (m−r)ᵀR⁻¹(m−r)], in nats.

    The first three terms are summed as λ − 1 − log λ ≥ 0 over the eigenvalues λ of R⁻¹S, so that little cancels where
    the two are close; these are the squared singular values of L_R⁻¹L_S, the Cholesky factors.

    Args:
        mean: m, (d,).
        covariance: S, symmetric positive definite, (d, d).
        reference_mean: r, (d,).
        reference_covariance: R, symmetric positive definite, (d, d).

    Raises:
        ValueError: if shapes differ, a number is not finite, or a covariance is not positive definite.
    """
    reference = as_positive_definite("reference_covariance", reference_covariance, np.shape(reference_covariance))
    own = as_positive_definite("covariance", covariance, reference.shape)
    offset = as_vector("mean", mean, len(own)) - as_vector("reference_mean", reference_mean, len(own))
    root = np.linalg.cholesky(reference)
    ratio = np.asarray(scipy.linalg.solve_triangular(root, np.linalg.cholesky(own), lower=True))
    values = np.linalg.svd(ratio, compute_uv=False) ** 2
    whitened = np.asarray(scipy.linalg.solve_triangular(root, offset, lower=True))
    return float(np.sum(values - 1 - np.log(values)) + whitened @ whitened) / 2


def kl_dissipation(mean: Vector, covariance: Matrix, reference_covariance: Matrix, A: Matrix) -> float:
    """−dKL/dt = ∫ ρ ∇log(ρ/ρ_ss)ᵀ A ∇log(ρ/ρ_ss) dx for ρ = N(m, S), ρ_ss = N(0, R) and constant A, in nats/time.

    ∇log(ρ/ρ_ss) = W(x − m) + R⁻¹m with W = R⁻¹ − S⁻¹, so the integral is Tr(A W S W) + mᵀR⁻¹ A R⁻¹m. It is the rate at
    which KL(ρ ‖ ρ_ss) falls under **any** dX = b dt + √(2A) dW of which ρ_ss is the steady state: a current that leaves
    ρ_ss alone takes nothing off.

    Args:
        mean: m, counted from the mean of the steady state, (d,).
        covariance: S, symmetric positive definite, (d, d).
        reference_covariance: R, the steady covariance, symmetric positive definite, (d, d).
        A: the diffusion tensor σσᵀ/2, symmetric positive semidefinite, (d, d).

    Raises:
        ValueError: if shapes differ, a number is not finite, or a covariance is not positive definite.

    Source: Chaudhari and Soatto (2018), theorem 5.
    """
    reference = as_positive_definite("reference_covariance", reference_covariance, np.shape(reference_covariance))
    own = as_positive_definite("covariance", covariance, reference.shape)
    tensor = as_covariance("A", A, reference.shape)
    pull = np.linalg.solve(reference, as_vector("mean", mean, len(own)))
    slope = np.linalg.solve(reference, own - reference)  # W S = R⁻¹S − 1
    return float(np.trace(tensor @ slope @ np.linalg.solve(own, slope.T)) + pull @ tensor @ pull)
