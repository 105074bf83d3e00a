"""Flatness along a line: how far one may go before the loss is e times what it is."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sgdsim.measures.operators import checked_point
from sgdsim.problems.problem import Problem

DOUBLINGS, HALVINGS = 30, 20  # of the reach, and of the bracket that they leave: right to 1e−6
BEGINNING = 1e-3  # the reach at first


def flatness(
    problem: Problem, x: Float[np.ndarray | Array, " d"], directions: Float[np.ndarray | Array, "m d"]
) -> Float[np.ndarray, " m"]:
    """F of each direction v: the length of the interval around x on x + sv in which f < e · f(x), (m,), in units of x.

    For f = f₀ + ½ks² it is 2√(2(e − 1)f₀/k): flatness in this sense goes as k^(−1/2), and with the loss at the minimum.
    The first crossing on either side is bracketed by doubling the reach from 10⁻³ and found by halving, so an interval
    that ends sooner than that and comes back is missed. Infinite where the loss never gets there within 10⁶.

    Args:
        problem: the loss f > 0, weight decay inside it.
        x: about where, (d,): the mean of late weights.
        directions: unit vectors, one a row, (m, d).

    Raises:
        ValueError: if x has not d finite numbers, the directions are not unit vectors of that length, or f(x) ≤ 0.

    Source: Feng and Tu, "The inverse variance–flatness relation in stochastic gradient descent is critical for finding
    flat minima", PNAS 2021.
    """
    point = checked_point(problem, x)
    rows = jnp.asarray(directions, dtype=point.dtype)
    if rows.ndim != 2 or rows.shape[1] != point.size:
        raise ValueError(f"directions must have shape (m, {point.size}), got {rows.shape}")
    if not np.allclose(np.linalg.norm(np.asarray(rows), axis=1), 1, rtol=0, atol=1e-4):
        raise ValueError("directions must be unit vectors")
    if not float(problem.loss(point)) > 0:
        raise ValueError(f"problem must have a positive loss at x, got {float(problem.loss(point))}")
    return np.asarray(_widths(problem, point, rows), dtype=np.float64)


@eqx.filter_jit
def _widths(problem: Problem, x: Float[Array, " d"], rows: Float[Array, "m d"]) -> Float[Array, " m"]:
    ceiling = math.e * problem.loss(x)

    def reach(v: Float[Array, " d"]) -> Float[Array, ""]:
        def inside(s: Float[Array, ""]) -> Bool[Array, ""]:
            return problem.loss(x + s * v) < ceiling

        def double(_: Int[Array, ""], s: Float[Array, ""]) -> Float[Array, ""]:
            return jnp.where(inside(s), 2 * s, s)

        def halve(_: Int[Array, ""], bracket: tuple[Float[Array, ""], Float[Array, ""]]) -> tuple[Array, Array]:
            low, high = bracket
            middle = (low + high) / 2
            return jnp.where(inside(middle), middle, low), jnp.where(inside(middle), high, middle)

        high = jax.lax.fori_loop(0, DOUBLINGS, double, jnp.asarray(BEGINNING, x.dtype))
        low = jnp.where(high > BEGINNING, high / 2, 0.0)
        low, up = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))
        return jnp.where(inside(high), jnp.inf, (low + up) / 2)

    return jax.lax.map(lambda v: reach(v) + reach(-v), rows)
