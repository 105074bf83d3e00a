"""The Hessian, D(x) and the Fisher matrix as products with a vector: no d × d matrix, no N × d array."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from sgdsim.problems.perturbed import Perturbed
from sgdsim.problems.problem import Problem
from sgdsim.problems.risk import EmpiricalRisk
from sgdsim.problems.tiles import EXAMPLES, sum_over_tiles


class Hessian(eqx.Module):
    """v ↦ ∇²f(x) v of any problem, weight decay inside it, by forward over reverse differentiation."""

    problem: Problem
    x: Float[Array, " d"]

    def __init__(self, problem: Problem, x: Float[np.ndarray | Array, " d"]):
        self.problem, self.x = problem, checked_point(problem, x)

    @property
    def dim(self) -> int:
        return self.problem.dim

    def __call__(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jax.jvp(self.problem.gradient, (self.x,), (v.astype(self.x.dtype),))[1]


class NoiseCovariance(eqx.Module):
    """v ↦ D(x) v of any problem that has a covariance.

    Over a finite sum it is (1/N) Σ (∇ℓᵢ − ∇ℓ) cᵢ with cᵢ = (∇ℓᵢ − ∇ℓ)·v: one derivative of the N losses along v, and
    one gradient of the losses weighted by c, both in tiles of examples. Elsewhere (modelled noise) it is the problem's
    own d × d matrix.

    Args:
        problem: the loss and its noise.
        x: where, (d,).
        tile: how many examples' activations to hold at a time.

    Raises:
        ValueError: if x has not d finite numbers, or the noise has no covariance.
    """

    risk: EmpiricalRisk | None
    matrix: Float[Array, "d d"] | None
    x: Float[Array, " d"]
    mean: Float[Array, " d"]
    shift: Float[Array, ""]
    tile: int = eqx.field(static=True)

    def __init__(self, problem: Problem, x: Float[np.ndarray | Array, " d"], *, tile: int = EXAMPLES):
        problem.require_covariance()
        self.x, self.tile = checked_point(problem, x), checked_tile(tile)
        self.risk, variance = finite_sum(problem)
        self.shift = jnp.asarray(variance, self.x.dtype)
        self.mean = jnp.zeros_like(self.x) if self.risk is None else mean_gradient(self.risk, self.x, self.tile)
        self.matrix = problem.noise_covariance(self.x) if self.risk is None else None

    @property
    def dim(self) -> int:
        return self.x.size

    def __call__(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        v = v.astype(self.x.dtype)
        if self.risk is None:
            return jnp.asarray(self.matrix) @ v
        risk, along_mean = self.risk, jnp.sum(self.mean * v)

        def weighted_gradient(tile: PyTree[Array]) -> Float[Array, " d"]:
            _, along = jax.linearize(lambda y: risk.losses(y, tile), self.x)
            (gradient,) = jax.linear_transpose(along, v)(along(v) - along_mean)
            return gradient

        return sum_over_tiles(weighted_gradient, risk.data, self.tile) / risk.num_examples + self.shift * v


class Fisher(eqx.Module):
    """v ↦ F(x) v with F = (1/N) Σᵢ Σ_c p(c|zᵢ) ∇ℓ(x, (zᵢ, c)) ∇ℓ(x, (zᵢ, c))ᵀ, the Fisher matrix of a classifier.

    The labels are the model's own, not the data's: each is tried, and weighted by p(c|z) = e^{−ℓ}. So ℓ must be the
    cross-entropy −log p, and where that is a softmax F is the Gauss–Newton matrix.

    Args:
        risk: a finite sum over data `(inputs, labels)` with whole-number labels 0 … classes − 1.
        x: where, (d,).
        classes: how many labels there are.
        tile: how many examples' activations to hold at a time, for each label.

    Raises:
        TypeError: if the risk's data is not a pair whose second part is whole numbers, (N,).
        ValueError: if e^{−ℓ} summed over the labels is not 1.

    Source: Martens, "New insights and perspectives on the natural gradient method", JMLR 2020, sections 5 and 9.
    """

    risk: EmpiricalRisk
    x: Float[Array, " d"]
    classes: int = eqx.field(static=True)
    tile: int = eqx.field(static=True)

    def __init__(self, risk: EmpiricalRisk, x: Float[np.ndarray | Array, " d"], *, classes: int, tile: int = EXAMPLES):
        if not isinstance(risk, EmpiricalRisk) or not _has_labels(risk.data):
            raise TypeError("risk must be an EmpiricalRisk over data (inputs, labels) with whole-number labels (N,)")
        self.risk, self.x = risk, checked_point(risk, x)
        self.classes, self.tile = classes, checked_tile(tile)
        first = jax.tree.map(lambda leaf: leaf[:1], risk.data[0])
        total = float(jnp.sum(jnp.exp(-self._losses_of_labels(self.x, first))))
        if not abs(total - 1) < 1e-3:
            raise ValueError(
                f"example_loss must be −log p(label) over {classes} classes, got Σ e^(−loss) = {total:.4g}"
            )

    @property
    def dim(self) -> int:
        return self.x.size

    def _losses_of_labels(self, x: Float[Array, " d"], inputs: PyTree[Array]) -> Float[Array, "n classes"]:
        def labelled(c: Int[Array, ""]) -> Float[Array, " n"]:
            count = jax.tree.leaves(inputs)[0].shape[0]
            return self.risk.losses(x, (inputs, jnp.full(count, c, self.risk.data[1].dtype)))

        return jax.vmap(labelled, out_axes=1)(jnp.arange(self.classes))

    def __call__(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        v = v.astype(self.x.dtype)

        def weighted_gradient(tile: PyTree[Array]) -> Float[Array, " d"]:
            values, along = jax.linearize(lambda y: self._losses_of_labels(y, tile[0]), self.x)
            (gradient,) = jax.linear_transpose(along, v)(jnp.exp(-values) * along(v))
            return gradient

        return sum_over_tiles(weighted_gradient, self.risk.data, self.tile) / self.risk.num_examples


def finite_sum(problem: Problem) -> tuple[EmpiricalRisk | None, Float[Array, ""] | float]:
    """The finite sum whose minibatches make a problem's noise, and the variance ε² added to it; None without one."""
    inner, variance = (problem.problem, problem.variance) if isinstance(problem, Perturbed) else (problem, 0.0)
    return (inner, variance) if isinstance(inner, EmpiricalRisk) else (None, 0.0)


@eqx.filter_jit
def mean_gradient(risk: EmpiricalRisk, x: Float[Array, " d"], tile: int) -> Float[Array, " d"]:
    """`EmpiricalRisk.mean_gradient`, compiled."""
    return risk.mean_gradient(x, tile)


def checked_tile(tile: int) -> int:
    """The tile, or a ValueError unless it is a positive whole number."""
    if isinstance(tile, bool) or not isinstance(tile, int | np.integer) or tile < 1:
        raise ValueError(f"tile must be a positive whole number of examples, got {tile!r}")
    return int(tile)


def checked_point(problem: Problem, x: Float[np.ndarray | Array, " d"]) -> Float[Array, " d"]:
    """x in JAX's default float, or a ValueError unless it is d finite numbers."""
    point = jnp.asarray(x, dtype=float)
    if point.shape != (problem.dim,):
        raise ValueError(f"x must have shape ({problem.dim},), got {point.shape}")
    if not bool(jnp.all(jnp.isfinite(point))):
        raise ValueError(f"x must be finite, got {int(jnp.sum(~jnp.isfinite(point)))} NaN or infinite entries")
    return point


def _has_labels(data: PyTree[Array]) -> bool:
    pair = isinstance(data, tuple | list) and len(data) == 2
    return pair and getattr(data[1], "ndim", None) == 1 and jnp.issubdtype(data[1].dtype, jnp.integer)
