"""A density forward in time by uniformization: strictly positive, for any drift."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sgdsim.density.generator import Generator

_TABLE = 2_048  # Poisson weights held at once: one compiled loop serves every step
_LONGEST = 10_000.0  # events in one block, so that its weights fit the table
_MARGIN = 1 + 2.0**-10  # over the largest exit rate: 1 − (exit rate)/q then outweighs the rounding of the fluxes


def event_rate(generator: Generator) -> float:
    """The uniformization rate q, a little above every exit rate, in 1/time: about q·t products are needed."""
    return generator.max_exit_rate * _MARGIN


def uniformize(
    generator: Generator, masses: Float[Array, "*cells"], duration: float, rate: float
) -> tuple[Float[Array, "*cells"], int]:
    """e^{ΔL} p = Σ_k Poisson(qΔ; k) (I + L/q)^k p: a jump chain looked at after a Poisson number of events.

    Every term is a product of non-negative numbers, so the sum is non-negative for any drift, detailed balance or not,
    and its error is the truncated Poisson mass (< 1e-16) and rounding. Long spans are cut into blocks of 10⁴ events.

    Sources: Jensen 1953; Grassmann 1977.

    Args:
        generator: L.
        masses: p, (*cells,).
        duration: Δ ≥ 0.
        rate: q, above every exit rate.

    Returns:
        The masses Δ later and the number of products with L.
    """
    events = rate * duration
    blocks = math.ceil(events / _LONGEST)
    if blocks == 0:
        return masses, 0
    table, first, last = _table(events / blocks)
    arguments = jnp.asarray(rate, masses.dtype), jnp.asarray(table, masses.dtype), jnp.asarray(first), jnp.asarray(last)
    for _ in range(blocks):
        masses = _average_of_jumps(generator, masses, *arguments)
    return masses, blocks * last


def uniformize_all(
    stacked: Generator, masses: Float[Array, "S *cells"], duration: float, rates: Float[np.ndarray, " S"]
) -> Float[Array, "S *cells"]:
    """`uniformize` of S generators side by side, their rates stacked along a first axis; each with its own q."""
    blocks = math.ceil(float(np.max(rates)) * duration / _LONGEST)
    if blocks == 0:
        return masses
    tables, firsts, lasts = zip(*(_table(rate * duration / blocks) for rate in rates), strict=True)
    arguments = (
        jnp.asarray(rates, masses.dtype),
        jnp.asarray(np.stack(tables), masses.dtype),
        jnp.asarray(firsts),
        jnp.asarray(lasts),
    )
    for _ in range(blocks):
        masses = eqx.filter_vmap(_average_of_jumps)(stacked, masses, *arguments)
    return masses


def _table(mean: float) -> tuple[Float[np.ndarray, " w"], int, int]:
    """Poisson weights, padded to one length, and the first and the last number of events that they belong to."""
    weights, first = poisson_weights(mean)
    return np.pad(weights, (0, _TABLE - len(weights))), first, first + len(weights) - 1


def poisson_weights(mean: float) -> tuple[Float[np.ndarray, " w"], int]:
    """The Poisson probabilities of `mean` from the first that matters on: a window that sums to one, and its start.

    Recursion outwards from the mode, w_{k+1} = w_k m/(k+1) and w_{k−1} = w_k k/m, then division by the sum (Fox and
    Glynn 1988): no factorial is formed and nothing overflows. Less than 1e-16 of the mass is left out.
    """
    mode = int(mean)
    reach = int(9 * math.sqrt(mean)) + 40  # both tails beyond it are under 1e-17
    up = np.cumprod(mean / np.arange(mode + 1, mode + reach + 1))
    down = np.cumprod(np.arange(mode, max(mode - reach, 0), -1) / mean)
    weights = np.concatenate([down[::-1], [1.0], up])
    weights /= np.sum(weights)
    tails = np.minimum(np.cumsum(weights), np.cumsum(weights[::-1])[::-1])
    kept = np.nonzero(tails > 4e-17)[0]
    weights = weights[kept[0] : kept[-1] + 1]
    return weights / np.sum(weights), mode - len(down) + int(kept[0])


@eqx.filter_jit
def _average_of_jumps(
    generator: Generator,
    masses: Float[Array, "*cells"],
    rate: Float[Array, ""],
    weights: Float[Array, " w"],
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> Float[Array, "*cells"]:
    """Σ_{k=first}^{last} weights[k − first] (I + L/q)^k p, with trip counts that are data: one compile for all.

    Each product adds a small increment to p. In float32 both sums are compensated: ten thousand roundings of the same
    sign otherwise cost the mass 2e-5 (512 cells, q·t = 3.4e4), with it 1e-9.
    """
    inflow = generator.stencil(1 / rate)
    add = _add if masses.dtype == jnp.float64 else _add_compensated

    def jump(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return add(*state, inflow(state[0]))

    def jump_and_gather(k: Array, carry: tuple[tuple[Array, Array], ...]) -> tuple[tuple[Array, Array], ...]:
        state, total = carry
        state = jump(k, state)
        return state, add(*total, weights[k - first] * state[0])

    flat = masses.reshape(-1)
    nothing = jnp.zeros_like(flat)
    state = jax.lax.fori_loop(0, first, jump, (flat, nothing))
    _, (total, _) = jax.lax.fori_loop(first + 1, last + 1, jump_and_gather, (state, (weights[0] * state[0], nothing)))
    return total.reshape(masses.shape)


def _add(total: Array, excess: Array, term: Array) -> tuple[Array, Array]:
    return total + term, excess


def _add_compensated(total: Array, excess: Array, term: Array) -> tuple[Array, Array]:
    """Kahan's sum: `excess` is what rounding has put into `total` too much, and is taken off the next term."""
    term = term - excess
    sum_ = total + term
    return sum_, (sum_ - total) - term
