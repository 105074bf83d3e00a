"""The gradient of a finite sum, layer by layer: its mean over the examples, and its spread."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from sgdsim.measures.operators import checked_tile
from sgdsim.problems.risk import EmpiricalRisk
from sgdsim.problems.tiles import sum_over_tiles

TILE_NUMBERS = 2**20  # numbers in a tile of gradients, unless its size is given


@dataclasses.dataclass(frozen=True, eq=False)
class Layers:
    """Which of a model's coordinates belong together.

    Attributes:
        paths: where each layer is in the parameters, such as `.layers[0]`; empty for the whole of them.
        numbers: the layer of each coordinate of the flat vector, from 0, (d,).
    """

    paths: tuple[str, ...]
    numbers: Int[np.ndarray, " d"]

    @property
    def names(self) -> tuple[str, ...]:
        """`layer 1`, `layer 2`, … in the order of the flat vector."""
        return tuple(f"layer {i + 1}" for i in range(len(self.paths)))

    def squared_norms(self, x: Float[np.ndarray, "*batch d"]) -> Float[np.ndarray, "*batch layers"]:
        """|x_l|² of each layer's coordinates, in float64."""
        squares = np.asarray(x, dtype=np.float64) ** 2
        return np.stack([squares[..., self.numbers == i].sum(axis=-1) for i in range(len(self.paths))], axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerGradients:
    """Of each particle and layer.

    Attributes:
        squared_means: |∇f|² of the layer's coordinates, weight decay inside it, (P, layers).
        traces: their share of Tr D, the variance of **one example's** gradient, (P, layers).
    """

    squared_means: Float[np.ndarray, "P layers"]
    traces: Float[np.ndarray, "P layers"]


def layers_of(risk: EmpiricalRisk) -> Layers:
    """The layers of the risk's parameters: the modules that hold a weight and its bias.

    Leaves of `risk.init` that differ in the last part of their path alone, `.layers[0].weight` and `.layers[0].bias`,
    make one layer. So does a plain array, and a network that holds all of its weights itself.
    """
    leaves = jax.tree_util.tree_leaves_with_path(risk.init)
    parents = [jax.tree_util.keystr(path[:-1]) for path, _ in leaves]
    paths = tuple(dict.fromkeys(parents))
    numbers = [np.full(leaf.size, paths.index(parent)) for parent, (_, leaf) in zip(parents, leaves, strict=True)]
    return Layers(paths, np.concatenate(numbers))


def layer_gradients(
    risk: EmpiricalRisk, particles: Float[np.ndarray | Array, "P d"], *, tile: int | None = None
) -> LayerGradients:
    """Mean and spread of the gradient of every layer, exactly, from all N examples.

    For the coordinates of layer l the mean is |∇f_l|, and the minibatch gradient's spread about it is √(s_B Tr D_l/B)
    with Tr D_l = (1/N) Σ |∇ℓ_{i,l} − ∇ℓ_l|². Weight decay is the same for every example: it is in the mean and not in
    the spread. Over the layers the squared means sum to |∇f|² and the traces to Tr D.

    The examples are gone through twice, so that nothing large is subtracted, in tiles of `tile`·d numbers: no N × d
    array is made.

    Args:
        risk: a finite sum.
        particles: where, (P, d).
        tile: how many examples' gradients to hold at a time; by default as many as make 2²⁰ numbers, at most N.

    Raises:
        ValueError: if the particles are not finite, or not of shape (P, d).
    """
    cloud = np.asarray(particles)
    if cloud.ndim != 2 or cloud.shape[1] != risk.dim:
        raise ValueError(f"particles must have shape (P, {risk.dim}), got {cloud.shape}")
    finite = np.isfinite(cloud).all(axis=1)
    if not np.all(finite):
        raise ValueError(f"particles must be finite, got {np.sum(~finite)} of {len(cloud)} diverged")
    size = max(1, TILE_NUMBERS // risk.dim) if tile is None else checked_tile(tile)
    layers = layers_of(risk)
    number = jnp.asarray(layers.numbers)
    means, traces = _moments(risk, jnp.asarray(cloud, float), number, len(layers.paths), min(size, risk.num_examples))
    return LayerGradients(layers.squared_norms(np.asarray(means)), np.asarray(traces, dtype=np.float64))


@eqx.filter_jit
def _moments(
    risk: EmpiricalRisk, cloud: Float[Array, "P d"], numbers: Int[Array, " d"], count: int, tile: int
) -> tuple[Float[Array, "P d"], Float[Array, "P layers"]]:
    """∇f and the layers' traces, one particle after the other."""

    def of_particle(x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " layers"]]:
        mean = risk.mean_gradient(x, tile)

        def squares(data: PyTree[Array]) -> Float[Array, " layers"]:
            deviations = risk.example_gradients(x, data) - mean
            return jax.ops.segment_sum(jnp.sum(deviations**2, axis=0), numbers, count)

        return mean + risk.weight_decay * x, sum_over_tiles(squares, risk.data, tile) / risk.num_examples

    return jax.lax.map(of_particle, cloud)
