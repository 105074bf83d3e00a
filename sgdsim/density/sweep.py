"""Many equations at once: the same start under several temperatures or learning rates, vectorised."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sgdsim.density.fokker_planck import FokkerPlanck, checked_times
from sgdsim.density.generator import Generator
from sgdsim.density.grid import Numbers
from sgdsim.density.uniformization import event_rate, uniformize_all


def propagate_sweep(
    equations: Sequence[FokkerPlanck], p0: Float[Array | np.ndarray, "*cells"], times: Numbers
) -> Float[np.ndarray, "S T *cells"]:
    """The masses of each equation at each time from one start, (S, T, *cells), by one vmapped uniformization.

    Every member takes as many products as the stiffest one would: meant for members of like rates, such as a sweep over
    temperatures or learning rates. On an accelerator that costs hardly more than one of them.

        fps = [FokkerPlanck.limit_of(SGD(problem, learning_rate=eta, batch_size=1), grid) for eta in (0.05, 0.1, 0.2)]
        masses = propagate_sweep(fps, fps[0].density_of(start), [0.5, 1.0])

    Args:
        equations: S ≥ 1 of them, on equal grids.
        p0: cell masses, (*cells,).
        times: (T,), strictly increasing, ≥ 0.

    Raises:
        ValueError: if there is no equation, the grids differ, or as `FokkerPlanck.propagate`.
    """
    if len(equations) == 0 or any(fp.grid != equations[0].grid for fp in equations):
        raise ValueError(f"equations must be at least one, all on one grid, got {[fp.grid for fp in equations]}")
    start, when = equations[0].checked_masses("p0", p0), checked_times(times)
    stacked = stack([fp.generator for fp in equations])
    rates = np.asarray([event_rate(fp.generator) for fp in equations])
    masses = jnp.broadcast_to(jnp.asarray(start, stacked.rates_forward.dtype), (len(equations), *start.shape))
    outputs = []
    for duration in np.diff(when, prepend=0.0):
        masses = uniformize_all(stacked, masses, float(duration), rates)
        outputs.append(np.asarray(masses))
    return np.stack(outputs, axis=1)


def stack(generators: Sequence[Generator]) -> Generator:
    """Generators on one grid as one with a leading axis S in its rates; an edge that one of them lacks has no rate."""
    offsets = sorted({e for g in generators for e in g.offsets})
    zero = jnp.zeros(generators[0].cells, generators[0].rates_forward.dtype)

    def rows(g: Generator, rates: Float[Array, "m *cells"]) -> Float[Array, "k *cells"]:
        return jnp.stack([rates[g.offsets.index(e)] if e in g.offsets else zero for e in offsets])

    return Generator(
        offsets=tuple(offsets),
        rates_forward=jnp.stack([rows(g, g.rates_forward) for g in generators]),
        rates_backward=jnp.stack([rows(g, g.rates_backward) for g in generators]),
    )
