"""The probability current of a density, and what it circulates."""

import numpy as np
from jaxtyping import Array, Float

from sgdsim.density.generator import Generator
from sgdsim.density.grid import Grid


def edge_flows(generator: Generator, masses: Float[Array | np.ndarray, "*cells"]) -> Float[np.ndarray, "m n"]:
    """Net mass per time along each edge, fwd p_i − back p_{i+e}, stored at i in C order, (m, n)."""
    flat = np.asarray(masses, dtype=np.float64).reshape(-1)
    flows = np.zeros((len(generator.offsets), flat.size))
    for row, (shift, fwd, back) in zip(flows, generator.edges(), strict=True):
        row[:-shift] = fwd * flat[:-shift] - back * flat[shift:]
    return flows


def displacements(grid: Grid, generator: Generator) -> Float[np.ndarray, "m d"]:
    """The vector x_j − x_i of each edge, in units of x; round a periodic axis, the short way."""
    offsets, cells = np.asarray(generator.offsets), np.asarray(grid.cells)
    short = offsets - cells * np.round(offsets / cells).astype(int)
    return np.where(grid.periodic, short, offsets) * grid.widths


def probability_current(
    grid: Grid, generator: Generator, masses: Float[Array | np.ndarray, "*cells"]
) -> Float[np.ndarray, "*cells d"]:
    """J = bρ − ∇·(Aρ) at the centre of every cell, (*cells, d), in 1/(time · x^{d−1}).

    Each edge carries its flow along its whole length; half of that belongs to the cell at either end. Order 2 in h;
    nothing flows through a wall, so that the cells next to one hold half of what their other face carries.
    """
    flows, steps = edge_flows(generator, masses), displacements(grid, generator)
    current = np.zeros((grid.num_cells, grid.dim))
    for flow, shift, step in zip(flows, generator.shifts, steps, strict=True):
        carried = flow[:, None] * step / (2 * grid.cell_volume)
        current += carried
        current[shift:] += carried[:-shift]
    return current.reshape(*grid.cells, grid.dim)


def circulation(
    grid: Grid,
    generator: Generator,
    masses: Float[Array | np.ndarray, "*cells"],
    centre: Float[np.ndarray, " 2"],
) -> float:
    """∫ (x − c) × J dx: twice the area that the mean particle sweeps around c per time, counterclockwise, in x²/time.

    Does not depend on c in a steady state without flow through walls, as ∫ J dx = 0 there.

    Raises:
        ValueError: if the grid has not two axes, or one of them is periodic.
    """
    if grid.dim != 2 or any(grid.periodic):
        raise ValueError(f"grid must have two axes, neither periodic, for a circulation, got {grid!r}")
    if centre.shape != (2,):
        raise ValueError(f"centre must be two numbers, got {centre.tolist()}")
    flows, steps = edge_flows(generator, masses), displacements(grid, generator)
    arm = grid.centres.reshape(-1, 2) - centre
    swept = [float(np.sum(flow * (arm[:, 0] * s[1] - arm[:, 1] * s[0]))) for flow, s in zip(flows, steps, strict=True)]
    return float(np.sum(swept))
