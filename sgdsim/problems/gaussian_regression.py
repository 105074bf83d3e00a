"""Linear regression on fresh Gaussian examples: an infinite data set whose D(x) is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.covariance import apply_own_root, check_covariance, host_root
from sgdsim.draws import Draws
from sgdsim.problems.problem import Problem


class GaussianRegression(Problem):
    """½(a·x − y)² over examples a ~ N(0, G), y = a·w + σε, each seen once: f(x) = ½ rᵀGr + ½σ², r = x − w.

    One example's gradient is a(a·r − σε), so that by Isserlis

        D(x) = G r rᵀ G + (rᵀGr) G + σ² G:

    minibatch noise that grows with the distance from the minimum, and is not Gaussian. `theory` has the steady state at
    any learning rate (`linear_regression_covariance`).

    Args:
        input_covariance: G, a scalar, (d,) or (d, d); a scalar needs `weights` to fix d.
        label_noise: σ² ≥ 0, the variance of the labels about the line.
        weights: w, (d,); zeros by default.

    Raises:
        ValueError: if G is no covariance or singular, σ² is negative, or d is not known.

    Source: Ziyin, Liu, Mori, Ueda, "Strength of minibatch noise in SGD", ICLR 2022.
    """

    input_covariance: Float[Array, "d d"]
    input_root: Float[Array, "d d"]
    label_noise: Float[Array, ""]
    weights: Float[Array, " d"]

    def __init__(
        self,
        input_covariance: float | list | np.ndarray | Array,
        label_noise: float,
        weights: list | np.ndarray | Array | None = None,
    ):
        given = np.asarray(input_covariance, dtype=float)
        check_covariance("input_covariance", given)
        if given.ndim == 0 and weights is None:
            raise ValueError("weights must be given where input_covariance is a scalar: nothing else fixes d")
        point = np.zeros(len(given)) if weights is None else np.asarray(weights, dtype=float)
        if point.ndim != 1 or point.size == 0 or not np.all(np.isfinite(point)):
            raise ValueError(f"weights must be a finite vector (d,), got {point.tolist()}")
        if given.ndim and len(given) != point.size:
            raise ValueError(f"weights must fit input_covariance, of dimension {len(given)}, got {point.shape}")
        if not 0 <= float(label_noise) < float("inf"):
            raise ValueError(f"label_noise must be finite and not negative, got {label_noise}")
        matrix = given if given.ndim == 2 else np.diag(np.broadcast_to(given, point.shape))
        if np.linalg.eigvalsh(matrix)[0] <= 0:
            raise ValueError(f"input_covariance must be positive definite, got {given.tolist()}")
        self.input_covariance, self.input_root = jnp.asarray(matrix), jnp.asarray(host_root(matrix))
        self.label_noise, self.weights = jnp.asarray(label_noise, dtype=float), jnp.asarray(point)

    @property
    def dim(self) -> int:
        return self.weights.size

    def loss(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        r = x - self.weights
        return (r @ (self.input_covariance @ r) + self.label_noise) / 2

    def noise_covariance(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        r = x - self.weights
        pull = self.input_covariance @ r
        return jnp.outer(pull, pull) + (r @ pull + self.label_noise) * self.input_covariance

    def noise(self, x: Float[Array, "d P"], xi: Float[Array, "m P"]) -> Float[Array, "d P"]:
        return apply_own_root(jax.vmap(self.noise_covariance, 1, -1)(x), xi)

    def minibatch_gradient(
        self, x: Float[Array, "d P"], draws: Draws, batch_size: int, sampling: str
    ) -> Float[Array, "d P"]:
        r = x - self.weights[:, None]
        normals = draws.normals((self.dim + 1) * batch_size, dtype=x.dtype).reshape(batch_size, self.dim + 1, -1)
        inputs = jnp.einsum("ij,bjp->bip", self.input_root, normals[:, :-1])
        errors = jnp.sum(inputs * r, axis=1) - jnp.sqrt(self.label_noise) * normals[:, -1]
        return jnp.mean(inputs * errors[:, None], axis=0)
