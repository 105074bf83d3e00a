"""A number read off a grid, with the error that the cells' width makes."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sgdsim.density.grid import merge_cells


@dataclass(frozen=True)
class GridEstimate:
    """A number and its error of discretisation, measured by a grid of coarser cells (`error_multiple`).

    Attributes:
        value: on the grid itself.
        grid_error: |value − the coarser grid's| over that multiple; NaN where the cells cannot be merged.
    """

    value: float
    grid_error: float = math.nan

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.7g} ± {self.grid_error:.1g} (grid)"


def error_multiple(ratio: int) -> int:
    """How many errors of the finer of two answers they lie apart, the coarser one's cells k = `ratio` times as wide.

    The scheme is of second order: the coarser error is k² times the finer one, and their difference k² − 1 times it.
    """
    return ratio**2 - 1


def grid_errors(fine: Float[np.ndarray, "T *cells"], coarse: Float[np.ndarray, "T *merged"]) -> Float[np.ndarray, " T"]:
    """Σ|Δmass| that the fine cells make at each time, from the masses on cells some times as wide."""
    k = fine.shape[1] // coarse.shape[1]
    gaps = [np.abs(merge_cells(p, k) - q).sum(dtype=np.float64) for p, q in zip(fine, coarse, strict=True)]
    return np.asarray(gaps) / error_multiple(k)
