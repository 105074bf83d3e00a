"""Models of gradient noise."""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from sgdsim.covariance import apply_matrix_root, apply_own_root, check_covariance, check_matrix, host_root
from sgdsim.draws import Draws, Stream, horner, unit_interval


class GradientNoise(eqx.Module):
    """A model of the noise of one example's gradient, centred and independent from one example to the next.

    To add one with a covariance: give `matrix`, and override the rest where more is known of D or its root can be had
    faster. To add one without: give `minibatch`, and let `require_covariance` and `matrix` say why there is none.
    """

    @property
    def dim(self) -> int | None:
        """The dimension d that the model fixes; None where it fits any."""
        return None

    @property
    def is_constant(self) -> bool:
        """Whether the noise is known to be the same everywhere."""
        return False

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        """σ² where D = σ²I is known; None elsewhere."""
        return None

    @property
    def has_dense_root(self) -> bool:
        """Whether `apply_root` applies a d × d root of D."""
        return True

    def noise_size(self, dim: int) -> int:
        """How many normals `apply_root` takes for one particle of d coordinates."""
        return dim

    def trace(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """Tr D(x)."""
        return jnp.trace(self.matrix(x))

    def require_covariance(self) -> None:
        """Raise ValueError where the noise has no covariance, so that there is no D."""

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless D(x) is a covariance matrix, at a concrete point where a cloud starts."""
        check_matrix("covariance", self.matrix(x), len(x))

    @abc.abstractmethod
    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """D(x), the covariance of one example's gradient."""

    def apply_root(self, x: Float[Array, "d P"], xi: Float[Array, "m P"]) -> Float[Array, "d P"]:
        """√D(x) ξ for each particle."""
        return apply_own_root(jax.vmap(self.matrix, 1, -1)(x), xi)

    def minibatch(self, x: Float[Array, "d P"], draws: Draws, batch_size: int) -> Float[Array, "d P"]:
        """The mean noise of each particle's own B examples, √(D(x)/B) ξ unless overridden."""
        return batch_size**-0.5 * self.apply_root(x, draws.normals(self.noise_size(len(x)), dtype=x.dtype))


class GaussianNoise(GradientNoise):
    """Gaussian noise of one example's gradient, with covariance D.

    Args:
        covariance: D as a scalar σ² (D = σ²I), a vector (d,) of variances, a matrix (d, d), or a callable x → (d, d).

    Raises:
        ValueError: if the covariance is not finite, not symmetric or has a negative eigenvalue.
    """

    covariance: Float[Array, ""] | Float[Array, " d"] | Float[Array, "d d"] | Callable
    root: Float[Array, ""] | Float[Array, " d"] | Float[Array, "d d"] | None

    def __init__(self, covariance: float | np.ndarray | Array | list | Callable):
        if callable(covariance):
            self.covariance, self.root = covariance, None
            return
        value = np.asarray(covariance, dtype=float)
        check_covariance("covariance", value)
        self.covariance = jnp.asarray(value)
        # the root is taken in float64 on the host, once
        self.root = jnp.asarray(host_root(value))

    @property
    def dim(self) -> int | None:
        """The dimension d that the covariance fixes; None where it fits any."""
        return None if self.root is None or self.root.ndim == 0 else self.root.shape[0]

    @property
    def is_constant(self) -> bool:
        """Whether D is the same everywhere."""
        return self.root is not None

    @property
    def isotropic_variance(self) -> Float[Array, ""] | None:
        """σ² where D = σ²I was given as a scalar."""
        if callable(self.covariance) or self.covariance.ndim:
            return None
        return self.covariance

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError unless D(x) is a covariance matrix; a constant one was seen to be when it was given."""
        if not self.is_constant:
            super().check(x)

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """D(x)."""
        if callable(self.covariance):
            return self.covariance(x)
        if self.covariance.ndim == 2:
            return self.covariance
        return jnp.diag(jnp.broadcast_to(self.covariance, x.shape))

    def apply_root(self, x: Float[Array, "d P"], xi: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """√D(x) ξ for each particle."""
        return super().apply_root(x, xi) if self.root is None else apply_matrix_root(self.root, xi)


class AlphaStableNoise(GradientNoise):
    """Symmetric α-stable noise of one example's gradient, its coordinates independent: heavy tails, P(|ξ| > r) ~ r^−α.

    A coordinate has the characteristic function E exp(ikξ) = exp(−|ck|^α) with scale c; α = 1 is Cauchy's law, and
    α → 2 the Gaussian's of variance 2c². The mean of a minibatch of B independent examples has the same law with the
    scale c B^{1/α−1}: wider than one example's for α < 1, and for every α wider than the B^{−1/2} of a finite variance.

    It has **no covariance**: D(x) does not exist, and with it neither the temperature's meaning nor a limit dX = b dt +
    √(2A) dW. SGD itself can be simulated. Whether the noise of minibatches is so heavy is disputed: Şimşekli, Sagun,
    Gürbüzbalaban (ICML 2019) against Panigrahi et al. (2019) and Xie, Sato, Sugiyama (ICLR 2021).

    Args:
        alpha: the index α, 0 < α < 2.
        scale: c ≥ 0, one number or one for each coordinate, (d,), in units of the gradient.

    Raises:
        ValueError: on an index or a scale out of its range.

    Source: Samorodnitsky and Taqqu, Stable Non-Gaussian Random Processes (1994), chapter 1.
    """

    alpha: Float[Array, ""]
    scale: Float[Array, ""] | Float[Array, " d"]

    def __init__(self, alpha: float, scale: float | np.ndarray | Array | list = 1.0):
        if not 0 < float(alpha) < 2:
            hint = ": use GaussianNoise(2 * scale**2)" if float(alpha) == 2 else ""
            raise ValueError(f"alpha must lie above 0 and below 2, got {alpha}{hint}")
        value = np.asarray(scale, dtype=float)
        if value.ndim > 1 or not np.all(np.isfinite(value) & (value >= 0)):
            raise ValueError(f"scale must be a number or (d,), finite and not negative, got {value.tolist()}")
        self.alpha, self.scale = jnp.asarray(alpha, dtype=float), jnp.asarray(value)

    @property
    def dim(self) -> int | None:
        """The dimension d that the scales fix; None where there is one for all."""
        return None if self.scale.ndim == 0 else self.scale.shape[0]

    @property
    def is_constant(self) -> bool:
        """The same law everywhere."""
        return True

    def require_covariance(self) -> None:
        raise ValueError(self._refusal)

    def check(self, x: Float[Array, " d"]) -> None:
        """Nothing is left to check."""

    def matrix(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """Raise ValueError: there is no D."""
        raise ValueError(self._refusal)

    @property
    def _refusal(self) -> str:
        return (
            "AlphaStableNoise has no covariance (for alpha < 2 its variance is infinite): there is no D(x), and no "
            "diffusion limit dX = b dt + √(2A) dW to derive"
        )

    def minibatch(self, x: Float[Array, "d P"], draws: Draws, batch_size: int) -> Float[Array, "d P"]:
        """The mean noise of each particle's own B examples, by one draw from its law; slot i makes coordinate i."""
        alpha, scale = self.alpha.astype(x.dtype), self.scale.astype(x.dtype)
        words = draws.words(Stream.NOISE, np.arange(len(x), dtype=np.uint32))
        return (scale * batch_size ** (1 / alpha - 1))[..., None] * symmetric_stable(alpha, *words)


def symmetric_stable(
    alpha: Float[Array, ""], angle: UInt32[Array, "*shape"], weight: UInt32[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Standard symmetric α-stable numbers, E exp(ikX) = exp(−|k|^α), each from two uniform 32-bit words.

    Chambers, Mallows, Stuck (JASA 1976): with V uniform on (−π/2, π/2) and W exponential,

        X = sin(αV) / cos(V)^{1/α} · (cos((1−α)V) / W)^{(1−α)/α}.

    The tails are made where V comes near ±π/2, so V is written as ±(π/2 − q) with q from an integer, as small as 4e-10
    in float32 too. Every factor is then a sine of a sum of non-negative terms in (0, π/2]: nothing cancels, no factor
    is zero, and α = 1 (tan V) and α → 2 (2 sin V √W) are like any other. X is finite unless |X| itself overflows.
    """
    dtype = alpha.dtype
    q, v = (((bits >> np.uint32(1)).astype(dtype) + 0.5) * (np.pi * 2.0**-32) for bits in (angle, ~angle))
    first = _sine(jnp.minimum(alpha * v, (2 - alpha) * (np.pi / 2) + alpha * q))  # sin α|V|, |V| = v = π/2 − q
    edge = jnp.minimum(alpha, 2 - alpha)
    second = _sine(edge * (np.pi / 2) + (1 - edge) * q)  # cos (1−α)V
    u, one_less_u = unit_interval(weight, dtype), unit_interval(~weight, dtype)
    exponential = -jnp.where(u < 0.5, jnp.log1p(-u), jnp.log(one_less_u))  # right at both ends, and never zero
    size = first * jnp.exp((1 / alpha - 1) * jnp.log(second / exponential) - jnp.log(_sine(q)) / alpha)
    return jnp.where(angle & 1 == 1, -size, size)


def _sine(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """sin x on [0, π/2], to the last bits, without the library's sine, which XLA does not vectorise on CPU."""
    terms = 7 if jnp.finfo(x.dtype).bits == 32 else 11
    return x * horner(x * x, [(-1) ** k / math.factorial(2 * k + 1) for k in range(terms)])
