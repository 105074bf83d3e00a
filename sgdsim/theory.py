"""Closed-form laws: exact answers that simulations are checked against. Host NumPy and SciPy, float64.

K is the Hessian of a quadratic loss f = ½ xᵀKx, C = s_B D/B the covariance of the minibatch gradient, η the learning
rate, μ the momentum (v ← μv + g, x ← x − ηv), S the stationary covariance. Everything is dimensionless.
"""

import math

import numpy as np
import scipy.linalg
import scipy.special
from jaxtyping import Array, Float

Matrix = Float[np.ndarray | Array, "d d"]


def temperature(learning_rate: float, batch_size: int, momentum: float = 0.0, sampling_factor: float = 1.0) -> float:
    """T = s_B η_e/(2B), η_e = η/(1−μ): the temperature of dX = −∇f dt + √(2T D(X)) dW.

    Args:
        learning_rate: η > 0.
        batch_size: B ≥ 1.
        momentum: μ in [0, 1).
        sampling_factor: s_B in [0, 1].

    Raises:
        ValueError: if an argument is out of its range.

    Source: Mandt, Hoffman, Blei (2017), eq. 9; Jastrzębski et al. (2017).
    """
    _positive("learning_rate", learning_rate)
    if not batch_size >= 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    _momentum("momentum", momentum)
    if not 0 <= sampling_factor <= 1:
        raise ValueError(f"sampling_factor must lie in [0, 1], got {sampling_factor}")
    return sampling_factor * learning_rate / (1 - momentum) / (2 * batch_size)


def sampling_factor(num_examples: int, batch_size: int) -> float:
    """s_B = (N−B)/(N−1): what one batch without replacement leaves of the variance of its mean; 0 at N = 1.

    D is 1/N-normalised. With replacement s_B is 1.

    Args:
        num_examples: N ≥ 1.
        batch_size: B, 1 ≤ B ≤ N.

    Raises:
        ValueError: if an argument is out of its range.

    Source: the finite-population correction (Cochran, Sampling Techniques, §2.6).
    """
    if not num_examples >= 1:
        raise ValueError(f"num_examples must be at least 1, got {num_examples}")
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size must lie between 1 and num_examples = {num_examples}, got {batch_size}")
    return (num_examples - batch_size) / (num_examples - 1) if num_examples > 1 else 0.0


def log_gibbs(
    loss_values: Float[np.ndarray | Array, "*cells"], temperature: float, variance: float = 1.0
) -> Float[np.ndarray, "*cells"]:
    """Logarithm of the Gibbs masses exp(−f/(Tσ²))/Z on equal cells: the steady state for D = σ²I, free of underflow.

    Point values of f at the centres are the midpoint rule: right to O(h²) as cell masses.

    Args:
        loss_values: f at the cells, of any shape; +inf is a wall.
        temperature: T > 0.
        variance: σ² > 0.

    Raises:
        ValueError: if T or σ² is not positive, or f is NaN, −inf, or +inf everywhere.
    """
    _positive("temperature", temperature)
    _positive("variance", variance)
    f = np.asarray(loss_values, dtype=np.float64)
    if f.size == 0 or np.any(np.isnan(f)) or not np.isfinite(np.min(f)):
        raise ValueError("loss_values must be numbers or +inf, and finite somewhere")
    logs = -(f - np.min(f)) / (temperature * variance)
    return logs - scipy.special.logsumexp(logs)


def gibbs(
    loss_values: Float[np.ndarray | Array, "*cells"], temperature: float, variance: float = 1.0
) -> Float[np.ndarray, "*cells"]:
    """The Gibbs masses exp(−f/(Tσ²))/Z on equal cells, which sum to one; arguments and errors as in `log_gibbs`."""
    return np.exp(log_gibbs(loss_values, temperature, variance))


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
    _positive("eta", eta)
    hessian, noise = _hessian(K), _noise(C, np.shape(K))
    return _symmetric_part(np.asarray(scipy.linalg.solve_continuous_lyapunov(hessian, eta * noise)))


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
    _positive("eta", eta)
    hessian, noise = _hessian(K), _noise(C, np.shape(K))
    largest = float(np.linalg.eigvalsh(hessian)[-1])
    if eta * largest >= 2:
        raise ValueError(f"eta must stay below 2/λ_max(K) = {2 / largest:g}, got {eta}: the chain diverges")
    step = np.eye(len(hessian)) - eta * hessian
    return _symmetric_part(np.asarray(scipy.linalg.solve_discrete_lyapunov(step, eta**2 * noise)))


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
    _positive("k", k)
    _positive("eta", eta)
    _momentum("mu", mu)
    if not (math.isfinite(c) and c >= 0):
        raise ValueError(f"c must be finite and not negative, got {c}")
    if eta * k >= 2 * (1 + mu):
        raise ValueError(f"eta must stay below 2(1+mu)/k = {2 * (1 + mu) / k:g}, got {eta}: the chain diverges")
    return eta * c / (k * (1 - mu) * (2 - eta * k / (1 + mu)))


def ou_mean_covariance(
    F: Matrix, A: Matrix, mean0: Float[np.ndarray | Array, " d"], cov0: Matrix, t: float
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
    if not (math.isfinite(t) and t >= 0):
        raise ValueError(f"t must be finite and not negative, got {t}")
    f = _square("F", F)
    m, dim = np.asarray(mean0, dtype=np.float64), len(f)
    a, s = _covariance("A", A, f.shape), _covariance("cov0", cov0, f.shape)
    if m.shape != (dim,) or not np.all(np.isfinite(m)):
        raise ValueError(f"mean0 must be finite and of shape {(dim,)}, got {m}")
    doublings = max(0, math.ceil(math.log2(max(np.linalg.norm(f, 2) * t, 1.0))))
    block = np.block([[-f, 2 * a], [np.zeros_like(f), f.T]]) * (t / 2.0**doublings)
    exponential = scipy.linalg.expm(block)
    decay = exponential[:dim, :dim]
    gained = exponential[:dim, dim:] @ decay.T
    for _ in range(doublings):
        gained, decay = gained + decay @ gained @ decay.T, decay @ decay
    return decay @ m, _symmetric_part(decay @ s @ decay.T + gained)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def _momentum(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")


def _square(name: str, matrix: Matrix) -> Float[np.ndarray, "d d"]:
    host = np.asarray(matrix, dtype=np.float64)
    if host.ndim != 2 or host.shape[0] != host.shape[1] or not np.all(np.isfinite(host)):
        raise ValueError(f"{name} must be a finite square matrix (d, d), got shape {host.shape}")
    return host


def _covariance(name: str, matrix: Matrix, shape: tuple[int, ...]) -> Float[np.ndarray, "d d"]:
    host = _square(name, matrix)
    size = float(np.max(np.abs(host), initial=0.0))
    if host.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {host.shape}")
    if not np.allclose(host, host.T, rtol=0, atol=1e-6 * size):  # float32 input is symmetric to 1e-7
        raise ValueError(f"{name} must be symmetric, got {host.tolist()}")
    smallest = float(np.linalg.eigvalsh(_symmetric_part(host))[0])
    if smallest < -1e-6 * size:
        raise ValueError(f"{name} must be positive semidefinite, got a smallest eigenvalue of {smallest:g}")
    return _symmetric_part(host)


def _noise(C: Matrix, shape: tuple[int, ...]) -> Float[np.ndarray, "d d"]:
    return _covariance("C", C, shape)


def _hessian(K: Matrix) -> Float[np.ndarray, "d d"]:
    host = _covariance("K", K, np.shape(K))
    smallest = float(np.linalg.eigvalsh(host)[0])
    if smallest <= 0:
        raise ValueError(f"K must be positive definite, got a smallest eigenvalue of {smallest:g}: no steady state")
    return host


def _symmetric_part(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    return (matrix + matrix.T) / 2
