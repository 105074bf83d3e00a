"""A number read off a grid, with the error that the cells' width makes."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sgdsim.density.grid import merge_cells


@dataclass(frozen=True)
class GridEstimate:
    """A number and its error of discretisation, measured by a grid of coarser cells.

    The scheme is of second order, so with cells k times as wide the error is k² times as large, and the difference of
    the two answers is k² − 1 times the error of the finer one.

    Attributes:
        value: on the grid itself.
        grid_error: |value − the coarser grid's| / (k² − 1); NaN where the cells cannot be merged.
    """

    value: float
    grid_error: float = math.nan

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.7g} ± {self.grid_error:.1g} (grid)"


def grid_errors(fine: Float[np.ndarray, "T *cells"], coarse: Float[np.ndarray, "T *merged"]) -> Float[np.ndarray, " T"]:
    """Σ|Δmass| that the fine cells make at each time: their difference from cells k times as wide, over k² − 1."""
    k = fine.shape[1] // coarse.shape[1]
    gaps = [np.abs(merge_cells(p, k) - q).sum(dtype=np.float64) for p, q in zip(fine, coarse, strict=True)]
    return np.asarray(gaps) / (k**2 - 1)
