"""Stationary covariances on a quadratic: of the chain, of its two limits, of heavy ball and of SVAG.

K is the Hessian of f = ½ xᵀKx and C = s_B D/B the covariance of the minibatch gradient, the same at every x.
"""

import math

import numpy as np
import scipy.linalg
from jaxtyping import Float

from sgdsim.theory._checks import (
    Matrix,
    as_covariance,
    as_positive_definite,
    require_momentum,
    require_not_negative,
    require_positive,
    require_stable,
    symmetric_part,
)


def ou_stationary_covariance(K: Matrix, C: Matrix, eta: float) -> Float[np.ndarray, "d d"]:
    """S of the Langevin limit dX = −KX dt + √(ηC) dW: K S + S K = η C.

    Args:
        K: Hessian, symmetric positive definite, (d, d).
        C: covariance of the minibatch gradient, symmetric positive semidefinite, (d, d).
        eta: η > 0.

    Raises:
        ValueError: if K has an eigenvalue ≤ 0 (there is no steady state), C a negative one, a matrix is not symmetric,
            their shapes differ, or η is not positive.

    Source: Mandt, Hoffman, Blei (2017), eq. 12.
    """
    require_positive("eta", eta)
    hessian, noise = _quadratic(K, C)
    return symmetric_part(np.asarray(scipy.linalg.solve_continuous_lyapunov(hessian, eta * noise)))


def second_order_stationary_covariance(K: Matrix, C: Matrix, eta: float) -> Float[np.ndarray, "d d"]:
    """S of the second-order limit dX = −(K + ηK²/2)X dt + √(ηC) dW: M S + S M = η C with M = K + ηK²/2.

    Its drift is −∇(f + (η/4)|∇f|²). In 1-D S = ηC/(2k(1 + ηk/2)): *colder* than the first order's ηC/(2k) where the
    chain, ηC/(2k(1 − ηk/2)), is hotter. Weak order 2 holds at finite times, and the noise's correction at order η² is
    what it leaves out.

    Args:
        K: Hessian, symmetric positive definite, (d, d).
        C: covariance of the minibatch gradient, symmetric positive semidefinite, (d, d).
        eta: η > 0.

    Raises:
        ValueError: as in `ou_stationary_covariance`.

    Source: Li, Tai, E (2017), theorem 1, for the equation.
    """
    hessian, noise = _quadratic(K, C)
    return ou_stationary_covariance(hessian + eta / 2 * hessian @ hessian, noise, eta)


def sgd_stationary_covariance(K: Matrix, C: Matrix, eta: float) -> Float[np.ndarray, "d d"]:
    """S of the discrete chain x ← x − η(Kx + noise of covariance C), exact at any η: K S + S K − η K S K = η C.

    That is S = (1−ηK) S (1−ηK) + η²C.

    Args:
        K: Hessian, symmetric positive definite, (d, d).
        C: covariance of the minibatch gradient, symmetric positive semidefinite, (d, d).
        eta: η in (0, 2/λ_max(K)).

    Raises:
        ValueError: as in `ou_stationary_covariance`, or if η λ_max(K) ≥ 2 (the chain diverges).

    Source: Liu, Ziyin, Ueda (2021), theorem 1 with μ = 0.
    """
    hessian, noise = _quadratic(K, C)
    require_stable("eta", eta, "2/λ_max(K)", 2 / float(np.linalg.eigvalsh(hessian)[-1]))
    step = np.eye(len(hessian)) - eta * hessian
    return symmetric_part(np.asarray(scipy.linalg.solve_discrete_lyapunov(step, eta**2 * noise)))


def heavy_ball_covariance(K: Matrix, C: Matrix, eta: float, mu: float) -> Float[np.ndarray, "d d"]:
    """S of heavy ball v ← μv + Kx + noise of covariance C, x ← x − ηv, exact at any η.

    It is the x-block of the solution Z = M Z Mᵀ + N of the chain of (x, v), `heavy_ball_recursion`.

    Args:
        K: Hessian, symmetric positive definite, (d, d).
        C: covariance of the minibatch gradient, symmetric positive semidefinite, (d, d).
        eta: η in (0, 2(1+μ)/λ_max(K)).
        mu: μ in [0, 1).

    Raises:
        ValueError: as in `ou_stationary_covariance`, if μ is out of its range, or if η λ_max(K) ≥ 2(1+μ).

    Source: Liu, Ziyin, Ueda (2021), theorem 1.
    """
    require_momentum("mu", mu)
    hessian, noise = _quadratic(K, C)
    dim = len(hessian)
    require_stable("eta", eta, "2(1+mu)/λ_max(K)", 2 * (1 + mu) / float(np.linalg.eigvalsh(hessian)[-1]))
    turn, kick = heavy_ball_recursion(hessian, noise, eta, mu)
    return symmetric_part(np.asarray(scipy.linalg.solve_discrete_lyapunov(turn, kick))[:dim, :dim])


def heavy_ball_recursion(
    K: Float[np.ndarray, "d d"], C: Float[np.ndarray, "d d"], eta: float, mu: float
) -> tuple[Float[np.ndarray, "2*d 2*d"], Float[np.ndarray, "2*d 2*d"]]:
    """(M, N): one step of heavy ball takes the moments of z = (x, v) to ⟨z⟩ ← M⟨z⟩, Cov z ← M Cov z Mᵀ + N.

        M = [[1−ηK, −ημ], [K, μ]],    N = [[η²C, −ηC], [−ηC, C]].

    Args:
        K: Hessian, (d, d).
        C: covariance of the minibatch gradient, (d, d).
        eta: η.
        mu: μ.

    Source: Liu, Ziyin, Ueda (2021), theorem 1.
    """
    unit = np.eye(len(K))
    return np.block([[unit - eta * K, -eta * mu * unit], [K, mu * unit]]), np.kron([[eta**2, -eta], [-eta, 1.0]], C)


def heavy_ball_variance(k: float, c: float, eta: float, mu: float) -> float:
    """S = ηC / [k(1−μ)(2 − ηk/(1+μ))]: the variance of heavy ball on ½kx², exact at any η.

    Args:
        k: curvature > 0.
        c: variance of the minibatch gradient ≥ 0.
        eta: η in (0, 2(1+μ)/k).
        mu: μ in [0, 1).

    Raises:
        ValueError: if an argument is out of its range; beyond 2(1+μ)/k the chain diverges.

    Source: Liu, Ziyin, Ueda (2021).
    """
    require_positive("k", k)
    require_not_negative("c", c)
    require_momentum("mu", mu)
    require_stable("eta", eta, "2(1+mu)/k", 2 * (1 + mu) / k)
    return eta * c / (k * (1 - mu) * (2 - eta * k / (1 + mu)))


def svag_variance(k: float, c: float, eta: float, l: float) -> float:  # noqa: E741, the letter of the paper
    """S = ηC / (k(2 − ηk/l)): the variance of SVAG(l) on ½kx², exact at any η; ηC/(2k), the limit's, as l → ∞.

    One step of size η/l descends w₊ f_B + w₋ f_B' for two independent batches of B each, w± = (1 ± √(2l−1))/2. The
    weights sum to 1 and their squares to (1 + 2l − 1)/2 = l, so that the gradient has the mean kx and the variance lC.
    This is SGD of step η/l and noise lC, S = (η/l)(lC)/(k(2 − (η/l)k)): its temperature is that of SGD for every l, and
    l = 1, of weights 1 and 0, is SGD itself.

    Args:
        k: curvature > 0.
        c: C, the variance of the gradient of **one** batch ≥ 0.
        eta: η in (0, 2l/k).
        l: l ≥ 1; the clock is t = ηn/l after n steps.

    Raises:
        ValueError: if an argument is out of its range; beyond 2l/k the chain diverges.

    Source: Li, Malladi, Arora (2021) for the algorithm.
    """
    require_positive("k", k)
    require_not_negative("c", c)
    if not (math.isfinite(l) and l >= 1):
        raise ValueError(f"l must be finite and at least 1, got {l}")
    require_stable("eta", eta, "2l/k", 2 * l / k)
    return eta * c / (k * (2 - eta * k / l))


def _quadratic(K: Matrix, C: Matrix) -> tuple[Float[np.ndarray, "d d"], Float[np.ndarray, "d d"]]:
    return as_positive_definite("K", K, np.shape(K)), as_covariance("C", C, np.shape(K))
