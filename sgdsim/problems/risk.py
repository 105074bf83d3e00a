"""The empirical risk: a finite sum over data, whose minibatches make the noise."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree, UInt32

from sgdsim.covariance import apply_own_root
from sgdsim.draws import Draws
from sgdsim.problems.datasets import Dataset
from sgdsim.problems.losses import check_labels, example_of, losses
from sgdsim.problems.minibatches import minibatch_indices, permute
from sgdsim.problems.networks import Applied
from sgdsim.problems.problem import Problem, check_scalar
from sgdsim.problems.tiles import EXAMPLES, fold_over_tiles, gradient_tile, sum_over_tiles

Root = Literal["dense", "weighted"] | int
Moments = tuple[PyTree[Array], Float[Array, "*moment"], Float[Array, ""]]
DENSE_ROOT_LIMIT = 16  # dimensions up to which a d × d root is cheaper than N normals


class EmpiricalRisk(Problem):
    """f(x) = (1/N) Σ ℓ(x, zᵢ) + (λ/2)|x|², with D(x) = (1/N) Σ (∇ℓᵢ − ∇ℓ)(∇ℓᵢ − ∇ℓ)ᵀ of its own examples.

    Three square roots of D(x) are offered. `"dense"` is the symmetric d × d root. `"weighted"` needs no matrix: with
    ξ ∈ Rᴺ, N^(−1/2) Σ (∇ℓᵢ − ∇ℓ) ξᵢ is one weighted gradient, exactly positive semidefinite, O(Nd), and shares its
    pass with the drift. A number M is the same over M examples that are drawn anew for every increment, with M^(−1/2)
    and centred with the gradient of all N: its covariance is D(x) over the draws of both, at M normals for N, but for
    one draw of examples it is Gaussian in M directions only. Two Brownian paths that differ in their sub-steps draw
    different examples, so that `Langevin.halved` is then no paired run.

    Args:
        example_loss: ℓ(params, example) → scalar, a JAX function of one example; `networks` has the usual ones of a
            model and an (input, label), such as `networks.cross_entropy`.
        data: a pytree of arrays with one leading axis of N examples, such as `(X, y)`, or a `Dataset`, whose training
            examples it takes.
        init: the parameters to start from: any pytree whose arrays and numbers are floating point, or an Equinox
            module, where numbers that are no arrays are settings, and frozen.
        apply: for a pair of functions `init`, `apply`: apply(params, x), where `init` are the parameters that the other
            returned. The loss then gets the model x ↦ apply(params, x).
        weight_decay: λ ≥ 0.
        root: `"dense"`, `"weighted"`, or M, 1 ≤ M ≤ N; by default dense up to 16 dimensions and weighted beyond.

    Raises:
        ValueError: on empty or non-finite data, leading axes that differ, labels out of the range of a loss of
            `networks`, a loss that is not a finite scalar at `init`.
        TypeError: on parameters that are not floating point.
    """

    example_loss: Callable
    data: PyTree[Array]
    source: str = eqx.field(static=True)  # what a Dataset says of itself; empty for plain arrays
    weight_decay: Float[Array, ""]
    init: PyTree[Array]
    frozen: Any
    root: str | int = eqx.field(static=True)

    def __init__(
        self,
        example_loss: Callable,
        data: PyTree[Any],
        *,
        init: PyTree[Any],
        apply: Callable | None = None,
        weight_decay: float = 0.0,
        root: Root | None = None,
    ):
        self.data, self.source = _checked_data(data), repr(data) if isinstance(data, Dataset) else ""
        self.init, self.frozen = _checked_parameters(init if apply is None else Applied(apply, init))
        if not 0 <= float(weight_decay) < float("inf"):
            raise ValueError(f"weight_decay must be finite and not negative, got {weight_decay}")
        _check_root(root, self.num_examples)
        self.example_loss = example_loss
        self.weight_decay = jnp.asarray(weight_decay, dtype=float)
        self.root = root or ("dense" if self.dim <= DENSE_ROOT_LIMIT else "weighted")
        self._check_loss()

    def _check_loss(self) -> None:
        check_labels(self.example_loss, eqx.combine(self.init, self.frozen), self.data)
        point = jax.ShapeDtypeStruct((self.dim,), jax.tree.leaves(self.init)[0].dtype)
        check_scalar("example_loss", self._loss_of_example, point, example_of(self.data))
        at_init = eqx.filter_jit(self.losses)(self.x0)
        if not bool(jnp.all(jnp.isfinite(at_init))):
            bad = int(jnp.argmin(jnp.isfinite(at_init)))
            raise ValueError(f"example_loss must be finite at init, got {at_init[bad]} for example {bad}")

    @property
    def x0(self) -> Float[Array, " d"]:
        """The initial parameters as one flat vector, (d,)."""
        return ravel_pytree(self.init)[0]

    @property
    def dim(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.init))

    @property
    def num_examples(self) -> int:
        return jax.tree.leaves(self.data)[0].shape[0]

    @property
    def has_dense_root(self) -> bool:
        return self.root == "dense"

    @property
    def noise_size(self) -> int:
        if isinstance(self.root, int):
            return self.root + 2  # the last two choose the examples
        return self.dim if self.has_dense_root else self.num_examples

    def parameters(self, x: Float[Array, " d"]) -> PyTree:
        """The flat vector x as parameters of the shape of `init`."""
        return eqx.combine(self._unraveled(x), self.frozen)

    def _unraveled(self, x: Float[Array, " d"]) -> PyTree[Array]:
        """The flat vector x in the shape of `init`, without what is frozen."""
        template = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, x.dtype), self.init)
        return ravel_pytree(template)[1](x)

    def _loss_of_example(self, x: Float[Array, " d"], example: PyTree[Array]) -> Float[Array, ""]:
        return self.example_loss(self.parameters(x), example)

    def _loss_at(self, trained: PyTree[Array], example: PyTree[Array]) -> Float[Array, ""]:
        """The same at what `_unraveled` gives."""
        return self.example_loss(eqx.combine(trained, self.frozen), example)

    def losses(self, x: Float[Array, " d"], data: PyTree[Array] | None = None) -> Float[Array, " n"]:
        """ℓ(x, zᵢ) of each of its examples, or of those given, without weight decay, in the dtype of x."""
        return losses(self.example_loss, self.parameters(x), self.data if data is None else data).astype(x.dtype)

    def example_gradients(self, x: Float[Array, " d"], data: PyTree[Array] | None = None) -> Float[Array, "n d"]:
        """∇ℓ(x, zᵢ) of each of its examples, or of those given, without weight decay."""
        data = self.data if data is None else data
        return jax.vmap(jax.grad(self._loss_of_example), (None, 0))(x, data)

    def loss(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.mean(self.losses(x)) + self.weight_decay / 2 * jnp.sum(x * x)

    def mean_gradient(self, x: Float[Array, " d"], tile: int = EXAMPLES) -> Float[Array, " d"]:
        """(1/N) Σ ∇ℓ(x, zᵢ), without weight decay, `tile` examples at a time."""

        def of_tile(data: PyTree[Array]) -> Float[Array, " d"]:
            return jax.grad(lambda y: jnp.sum(self.losses(y, data)))(x)

        return sum_over_tiles(of_tile, self.data, tile) / self.num_examples

    def gradient(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.mean_gradient(x) + self.weight_decay * x

    def noise_covariance(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return self._gradient_and_covariance(x)[1]

    def noise_trace(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return self._gradient_moments(self._loss_at, self._unraveled(x), _square_size)[1]

    def _gradient_and_covariance(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """∇f(x) and D(x) from one pass over the examples' gradients."""
        mean, covariance = self._gradient_moments(self._loss_of_example, x, lambda v: v[:, None] * v[None, :])
        return mean + self.weight_decay * x, covariance

    def _gradient_moments(
        self, loss: Callable, x: PyTree[Array], square: Callable[[PyTree[Array]], Float[Array, "*moment"]]
    ) -> tuple[PyTree[Array], Float[Array, "*moment"]]:
        """Mean of ∇ℓᵢ and mean of `square`(∇ℓᵢ − ∇ℓ) over the examples, tile by tile, `square` being quadratic.

        Gradients have the shape of x: a flat vector where products of entries are wanted, and that of the parameters
        elsewhere, since raveling each example's gradient costs several times as much as the rest of its norm.

        Tiles bound the memory, and over a cloud they keep a tile's gradients in cache. They are joined by Chan, Golub
        and LeVeque's update ("Updating formulae and a pairwise algorithm for computing sample variances", 1979), which
        never subtracts large numbers as a mean of squares would.
        """
        gradients_of = jax.vmap(jax.grad(loss), (None, 0))

        def join(moments: Moments, tile: PyTree[Array]) -> Moments:
            mean, total, seen = moments
            gradients, count = gradients_of(x, tile), jax.tree.leaves(tile)[0].shape[0]
            tile_mean = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
            step, share = jax.tree.map(jnp.subtract, tile_mean, mean), count / (seen + count)
            spread = jnp.sum(jax.vmap(square)(jax.tree.map(jnp.subtract, gradients, tile_mean)), axis=0)
            total = total + spread + seen * share * square(step)
            return jax.tree.map(lambda m, s: m + share * s, mean, step), total, seen + count

        zero = jax.tree.map(jnp.zeros_like, x)
        start = (zero, square(zero), jnp.zeros((), jax.tree.leaves(x)[0].dtype))
        mean, total, _ = fold_over_tiles(join, start, self.data, gradient_tile(self.dim))
        return mean, total / self.num_examples

    def noise(self, x: Float[Array, "d P"], xi: Float[Array, "m P"]) -> Float[Array, "d P"]:
        if self.has_dense_root:
            return apply_own_root(jax.vmap(self.noise_covariance, 1, -1)(x), xi)
        zero, one = jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
        return self.langevin_increment(x, xi, zero, one)

    def langevin_increment(
        self,
        x: Float[Array, "d P"],
        xi: Float[Array, "m P"],
        drift_scale: Float[Array, ""],
        noise_scale: Float[Array, ""],
    ) -> Float[Array, "d P"]:
        if self.has_dense_root:
            gradient, covariance = jax.vmap(self._gradient_and_covariance, 1, -1)(x)
            return noise_scale * apply_own_root(covariance, xi) - drift_scale * gradient
        one = self._weighted_increment
        return jax.vmap(lambda y, z: one(y, z, drift_scale, noise_scale), (1, 1), 1)(x, xi)

    def _weighted_increment(
        self,
        x: Float[Array, " d"],
        xi: Float[Array, " m"],
        drift_scale: Float[Array, ""],
        noise_scale: Float[Array, ""],
    ) -> Float[Array, " d"]:
        count, spread = self.num_examples, xi
        if isinstance(self.root, int):
            spread = jnp.zeros(count, xi.dtype).at[self._subset(xi[-2:])].set((count / self.root) ** 0.5 * xi[:-2])
        weights = noise_scale * count**-0.5 * (spread - jnp.mean(spread)) - drift_scale / count

        def of_tile(tile: tuple[PyTree[Array], Float[Array, " n"]]) -> Float[Array, " d"]:
            (gradient,) = jax.vjp(lambda y: self.losses(y, tile[0]), x)[1](tile[1])
            return gradient

        gradient = sum_over_tiles(of_tile, (self.data, weights.astype(x.dtype)))
        return gradient - drift_scale * self.weight_decay * x

    def _subset(self, chance: Float[Array, "2"]) -> UInt32[Array, " M"]:
        """M different examples, chosen by the bits of two normals."""
        words = jax.lax.bitcast_convert_type(chance.astype(jnp.float32), jnp.uint32)[:, None, None]
        places = jnp.arange(self.root, dtype=jnp.uint32)[:, None]
        return permute(places, self.num_examples, (words[0], words[1]))[:, 0]

    def minibatch_gradient(
        self, x: Float[Array, "d P"], draws: Draws, batch_size: int, sampling: str
    ) -> Float[Array, "d P"]:
        indices = minibatch_indices(draws, batch_size, self.num_examples, sampling)

        def gradient(y: Float[Array, " d"], batch: UInt32[Array, " B"]) -> Float[Array, " d"]:
            examples = jax.tree.map(lambda a: a[batch], self.data)
            return jax.grad(lambda z: jnp.mean(self.losses(z, examples)))(y)

        return jax.vmap(gradient, (1, 1), 1)(x, indices) + self.weight_decay * x


def _square_size(tree: PyTree[Array]) -> Float[Array, ""]:
    return jnp.sum(jnp.stack([jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(tree)]))


def _check_root(root: Any, count: int) -> None:
    is_number = isinstance(root, int | np.integer) and not isinstance(root, bool)
    if not (root in (None, "dense", "weighted") or (is_number and 1 <= root <= count)):
        raise ValueError(f"root must be 'dense', 'weighted' or a number of examples up to N = {count}, got {root!r}")


def _checked_data(data: PyTree[Any]) -> PyTree[Array]:
    """The data as JAX arrays, or a ValueError that names what is wrong."""
    data = tuple(data) if isinstance(data, Dataset) else data
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(data)]
    if not leaves or any(leaf.ndim == 0 or leaf.shape[0] == 0 for leaf in leaves):
        raise ValueError("data must hold arrays with a leading axis of at least one example")
    lengths = {leaf.shape[0] for leaf in leaves}
    if len(lengths) > 1:
        raise ValueError(f"data must have one number of examples, got leading axes {sorted(lengths)}")
    for leaf in leaves:
        if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool):
            raise ValueError(f"data must hold numbers, got an array of {leaf.dtype}")
        if not np.all(np.isfinite(leaf)):
            raise ValueError(
                f"data must be finite, got {np.size(leaf) - np.isfinite(leaf).sum()} NaN or infinite entries"
            )
    return jax.tree.map(jnp.asarray, data)


def _checked_parameters(init: PyTree[Any]) -> tuple[PyTree[Array], Any]:
    """The floating-point arrays of the parameters, in one precision, and what is not a parameter."""
    arrays, frozen = eqx.partition(init, jax.tree.map(_is_parameter, init, is_leaf=_is_module))
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            place = jax.tree_util.keystr(path)
            raise TypeError(
                f"init must hold floating-point arrays, got {jnp.result_type(leaf)}{place and f' at {place}'}"
            )
    if not jax.tree.leaves(arrays):
        raise ValueError("init must hold at least one floating-point array")
    dtype = jnp.result_type(*jax.tree.leaves(arrays))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype=dtype), arrays), frozen


def _is_module(node: Any) -> bool:
    return isinstance(node, eqx.Module)


def _is_parameter(node: Any) -> PyTree[bool]:
    """Which leaves are parameters: arrays and numbers, but in an Equinox module arrays alone, as Equinox has it.

    A module's numbers are its settings, such as the rate of a dropout.
    """
    if not _is_module(node):
        return eqx.is_array_like(node)
    return jax.tree.map(lambda leaf: eqx.is_array(leaf) or isinstance(leaf, np.ndarray), node)
