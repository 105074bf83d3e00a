"""Linear regression on Gaussian inputs: minibatch noise that grows with the distance from the optimum."""

import numpy as np
from jaxtyping import Float

from sgdsim.theory._checks import (
    Matrix,
    as_positive_definite,
    require_batch_size,
    require_not_negative,
    require_positive,
    symmetric_part,
)


def linear_regression_covariance(G: Matrix, sigma2: float, batch_size: int, eta: float) -> Float[np.ndarray, "d d"]:
    """S of SGD on ½ E(a·x − y)², a ~ N(0, G), y = a·x* + noise of variance σ², fresh batches of B; exact at any η.

    The Hessian is G. One example's gradient at y = x − x* is a(a·y) − a·noise, of covariance G yyᵀ G + (yᵀGy) G + σ²G
    by Wick's theorem, so that in the steady state

        G S + S G − η G S G = η C,    C = (G S G + Tr[GS] G + σ² G)/B.

    In G's eigenbasis S is diagonal: s_i = (η/B)(τ + σ²)/(2 − ηg_i(1 + 1/B)) with τ = Σ g_j s_j = Tr[GS]. Summing,
    τ = r(τ + σ²) with r = (η/B) Σ g_j/(2 − ηg_j(1 + 1/B)), hence τ + σ² = σ²/(1 − r). The second moment converges if
    and only if every ηg_i(1 + 1/B) < 2 and r < 1: a positive map of diagonal plus rank-one form contracts only then.

    Args:
        G: covariance of the inputs, symmetric positive definite, (d, d).
        sigma2: σ² ≥ 0, the variance of the labels' noise.
        batch_size: B ≥ 1.
        eta: η > 0.

    Raises:
        ValueError: if an argument is out of its range, or the second moment diverges at this η.

    Source: Ziyin, Liu, Mori, Ueda (2022), for C; the closed form is derived here.
    """
    require_positive("eta", eta)
    require_not_negative("sigma2", sigma2)
    require_batch_size("batch_size", batch_size)
    inputs = as_positive_definite("G", G, np.shape(G))
    values, vectors = np.linalg.eigh(inputs)
    slack = 2 - eta * values * (1 + 1 / batch_size)
    if np.min(slack) <= 0:
        raise ValueError(
            f"eta must stay below 2/(λ_max(G)(1+1/B)) = {2 / (values[-1] * (1 + 1 / batch_size)):g}, "
            f"got {eta}: the second moment diverges"
        )
    gain = eta / batch_size * float(np.sum(values / slack))
    if gain >= 1:
        raise ValueError(f"eta must be so small that (η/B) Σ g/(2 − ηg(1+1/B)) < 1, got {gain:g} at eta = {eta}")
    variances = eta / batch_size * sigma2 / (1 - gain) / slack
    return symmetric_part((vectors * variances) @ vectors.T)
