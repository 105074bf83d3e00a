"""The Fokker–Planck equation: the density of the Langevin limit, without particles."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import RegularGridInterpolator

from sgdsim.density.balance import is_balanced
from sgdsim.density.current import circulation, probability_current
from sgdsim.density.fields import ScalarField, TensorField, VectorField, potential_at
from sgdsim.density.generator import MEMORY_LIMIT, Generator
from sgdsim.density.grid import Grid, Numbers, merge_cells
from sgdsim.density.grid_estimate import GridEstimate, error_multiple, grid_errors
from sgdsim.density.passage import passage_times
from sgdsim.density.propagate import Propagation, propagate, warn_of_cut_off
from sgdsim.density.spectrum import SlowModes, slow_modes
from sgdsim.density.start_masses import gaussian_start_masses
from sgdsim.density.stationary import gibbs_log_masses, stationary_log_masses
from sgdsim.density.thermodynamics import (
    EntropyProduction,
    FreeEnergy,
    dissipation,
    entropy_production,
    free_energy,
)
from sgdsim.processes.limits import limit_of_order
from sgdsim.processes.sgd import SGD

Target = Callable[[np.ndarray], np.ndarray] | np.ndarray

# What a method may have left in masses that are handed back, by the bytes of a float: in a cell, and in their sum.
_NEGATIVE, _DEFECT = {8: 1e-15, 4: 1e-8}, {8: 1e-6, 4: 1e-5}


class FokkerPlanck:
    """∂ρ/∂t = −∇·(b ρ) + ∇·∇·(A ρ), the law of dX = b dt + √(2A) dW in Itô's sense, on a box that reflects or closes.

    The density is held as cell masses; the equation becomes dp/dt = L p with the `Generator` L, positive and
    mass-conserving, of order 2 in the cells' width. Answers carry the error of that, from a grid of wider cells.

        fp = FokkerPlanck(drift=lambda x: -x, diffusion=lambda x: 0.1 * jnp.eye(1), grid=Grid([-3.0], [3.0], [256]))
        fp.propagate(fp.density_of(start), [0.0, 1.0]).masses    # (2, 256)

    Args:
        drift: b, (d,) → (d,), in x/time.
        diffusion: A, (d,) → (d, d), symmetric positive definite, in x²/time. It stands inside both derivatives.
        grid: the box and its cells.
        potential: ψ with b = −A∇ψ + ∇·A, if there is one. Then e^{−ψ} is kept as the steady state exactly.
        regularisation: ε ≥ 0, in x²/time: εI is added to A, which may then be singular. This is heat that the problem
            does not have: the equation and its propagations record it, and every answer moves by an amount of order ε.
        memory_limit: the most bytes that fields and rates may take.

    Raises:
        ValueError: as `Generator.of`, or if a potential is declared for a diffusion that is regularised.
    """

    def __init__(
        self,
        drift: VectorField,
        diffusion: TensorField,
        grid: Grid,
        potential: ScalarField | None = None,
        *,
        regularisation: float = 0.0,
        memory_limit: float = MEMORY_LIMIT,
    ) -> None:
        if not (np.isfinite(regularisation) and regularisation >= 0):
            raise ValueError(f"regularisation must be finite and not negative, got {regularisation}")
        if regularisation and potential is not None:
            raise ValueError("regularisation must be 0 beside a potential: e^{−ψ} belongs to A, not to A + εI")
        self.drift, self.diffusion, self.grid, self.potential = drift, diffusion, grid, potential
        self.regularisation, self.memory_limit = float(regularisation), memory_limit
        self.generator = Generator.of(grid, drift, self.tensor, potential, memory_limit)
        self._log_stationary: Float[np.ndarray, "*cells"] | None = None

    @property
    def tensor(self) -> TensorField:
        """A as it is solved for, (d,) → (d, d): with the εI of the regularisation, if there is one."""
        if not self.regularisation:
            return self.diffusion
        return jax.tree_util.Partial(_with_heat, self.diffusion, self.regularisation)

    @classmethod
    def limit_of(
        cls,
        sgd: SGD,
        grid: Grid,
        *,
        order: int | str = 1,
        regularisation: float = 0.0,
        memory_limit: float = MEMORY_LIMIT,
    ) -> "FokkerPlanck":
        """The density equation of the Langevin limit of a discrete process: to first order b = −∇f, A = T D(x).

        Where D = σ² I the first order's steady state is the Gibbs density of ψ = f/(Tσ²), and it is kept exactly. The
        steady state of `order="backward-error"` is the chain's own to O(η²), where the first order's is to O(η).

        Raises:
            ValueError: if T = 0, if the grid is not of the problem's dimension, or as `Generator.of`.
        """
        limit = limit_of_order(sgd, order)
        if grid.dim != limit.dim:
            raise ValueError(f"grid must have as many axes as the problem has dimensions, {limit.dim}, got {grid.dim}")
        if float(limit.temperature) == 0:
            raise ValueError(
                "the temperature is 0 (the batch is the whole sum, or there is one example): Langevin is then gradient "
                "flow, dx = −∇f dt, and there is no Fokker–Planck equation to solve"
            )
        return cls(
            limit.drift,
            limit.diffusion,
            grid,
            None if regularisation else limit.gibbs_potential,
            regularisation=regularisation,
            memory_limit=memory_limit,
        )

    @functools.cached_property
    def is_balanced(self) -> bool:
        """Whether detailed balance holds, so that the steady state has no current: declared, or found in the rates."""
        return self.potential is not None or is_balanced(self.generator)

    def density_of(self, start: Any) -> Float[np.ndarray, "*cells"]:
        """The exact cell masses of a Gaussian, (*cells,), divided by its mass in the box.

        Args:
            start: has `mean` (d,) and `covariance` (d, d).

        Raises:
            ValueError: if the covariance is not positive definite, or over 1e-6 of the mass is outside the box.
        """
        return gaussian_start_masses(self.grid, start)

    def propagate(
        self,
        p0: Float[Array | np.ndarray, "*cells"],
        times: Numbers,
        method: str = "auto",
        progress: bool = False,
        grid_error: bool = True,
    ) -> Propagation:
        """The masses at each time, from `p0` at t = 0, with the error that the grid makes.

        Args:
            p0: cell masses, (*cells,), ≥ 0, with sum one to 1e-6.
            times: (T,), strictly increasing, ≥ 0; the first may be 0.
            method: "auto", "uniformization", "chebyshev", "talbot" or "tr-bdf2"; `sgdsim.density.propagate.propagate`
                says what they are for. The answer names what was taken.
            progress: show a bar over the times.
            grid_error: propagate on a coarser grid as well (a fraction of the work) and report the difference.

        Raises:
            ValueError: if an argument is not as said, or the method needs a detailed balance that does not hold.
            ArithmeticError: if "tr-bdf2" does not settle.
        """
        masses, when = self.checked_masses("p0", p0), checked_times(times)
        answer = propagate(self, masses, when, method, progress)
        warn_of_cut_off(answer)
        if not grid_error or self.coarser is None:
            return answer
        rough = propagate(self.coarser, merge_cells(masses, self.grid.ratio_to(self.coarser.grid)), when)
        return dataclasses.replace(answer, grid_error=grid_errors(answer.masses, rough.masses))

    def stationary(self) -> Float[np.ndarray, "*cells"]:
        """The steady state's cell masses, (*cells,); far tails underflow to 0 at small temperature."""
        return np.exp(self.log_stationary())

    def log_stationary(self) -> Float[np.ndarray, "*cells"]:
        """The log of the steady state's cell masses, (*cells,).

        With a declared potential −ψ, normalised. Otherwise the null vector of the generator, each cell to a relative
        accuracy of a few hundred rounding units; computed once (128² cells: half a second, 256²: three) and kept.

        Raises:
            ValueError, ArithmeticError: as `stationary_log_masses`.
        """
        if self._log_stationary is None:
            if self.potential is None:
                self._log_stationary = stationary_log_masses(self.generator)
            else:
                values = potential_at(self.potential, self.grid.centres.reshape(-1, self.grid.dim))
                self._log_stationary = gibbs_log_masses(values.reshape(self.grid.cells), self.generator)
        return self._log_stationary.copy()

    def stationary_error(self) -> float:
        """Σ|Δmass| of the steady state that the cells' width makes; NaN where the cells cannot be merged."""
        if self.coarser is None:
            return math.nan
        return float(grid_errors(self.stationary()[None], self.coarser.stationary()[None])[0])

    def slow_modes(self, count: int = 1) -> SlowModes:
        """The `count` slowest decaying modes: their rates, densities and observables.

        Raises:
            ValueError, ArithmeticError: as `sgdsim.density.spectrum.slow_modes`.
        """
        return slow_modes(self.generator, self.log_stationary(), count)

    def gap(self) -> GridEstimate:
        """The spectral gap: the rate at which the slowest mode decays, in 1/time; 1/gap is the relaxation time."""
        return self._estimate(lambda fp: fp.slow_modes(1).gap)

    def passage_times(self, target: Target) -> Float[np.ndarray, "*cells"]:
        """The mean time from each cell until a particle first enters the target, (*cells,): 0 in it, inf if never.

        A target cell absorbs at its **centre**: put centres on the target's boundary (an odd number of cells for one in
        the middle), or the time is off by half a cell, which is an error of first order.

        Args:
            target: a function of the centres (*cells, d) that is True where the target is, or such a mask, (*cells,).

        Raises:
            ValueError: if the target is empty, everything, or of another shape.
        """
        mask = np.asarray(target(self.grid.centres) if callable(target) else target)
        return passage_times(self.generator, mask)

    def mean_passage_time(self, start: Any, target: Callable[[np.ndarray], np.ndarray]) -> GridEstimate:
        """The mean first passage time from a start into a target.

        Args:
            start: a point (d,), between whose neighbouring centres the time is interpolated, or a Gaussian.
            target: a function of points (..., d) that is True in the target.

        Raises:
            ValueError: as `passage_times`, or if the start is not in the box.
        """
        if not callable(target):
            raise ValueError(
                "target must be a function of points, so that a coarser grid can be asked too, got an array"
            )
        if not hasattr(start, "covariance"):
            return self._estimate(lambda fp: fp.interpolate(fp.passage_times(target), start))

        def average(fp: FokkerPlanck) -> float:
            masses, times = fp.density_of(start), fp.passage_times(target)
            return float(np.sum(masses[masses > 0] * times[masses > 0]))

        return self._estimate(average)

    def interpolate(self, values: Float[np.ndarray, "*cells"], point: Numbers) -> float:
        """Multilinear interpolation between the cells' centres of a function given on them.

        Raises:
            ValueError: if the point is not d numbers in the box.
        """
        x = np.asarray(point, dtype=np.float64)
        if x.shape != (self.grid.dim,) or not np.all((x >= self.grid.lower) & (x <= self.grid.upper)):
            raise ValueError(f"point must be {self.grid.dim} numbers in the box of {self.grid}, got {x.tolist()}")
        given = np.asarray(values, dtype=np.float64)
        if given.shape != self.grid.cells:
            raise ValueError(f"values must have the grid's shape {self.grid.cells}, got {given.shape}")
        # One more layer outside each wall: the value at the wall's own cells, or what comes round along a ring.
        for axis, closed in enumerate(self.grid.periodic):
            width = [(1, 1) if a == axis else (0, 0) for a in range(self.grid.dim)]
            given = np.pad(given, width, mode="wrap" if closed else "edge")
        axes = [
            np.concatenate([[c[0] - h], c, [c[-1] + h]])
            for c, h in ((self.grid.axis_centres(axis), self.grid.widths[axis]) for axis in range(self.grid.dim))
        ]
        return float(RegularGridInterpolator(axes, given)(x)[0])

    def current(self, masses: Float[Array | np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells d"]:
        """The probability current J = bρ − ∇·(Aρ) at the cells' centres, (*cells, d), in 1/(time · x^{d−1})."""
        return probability_current(self.grid, self.generator, self.checked_masses("masses", masses))

    def circulation(self, masses: Float[Array | np.ndarray, "*cells"], centre: Numbers = (0.0, 0.0)) -> float:
        """∫ (x − c) × J dx in 2-D, in x²/time, counterclockwise: zero wherever detailed balance holds.

        Raises:
            ValueError: in other dimensions, or with a periodic axis.
        """
        checked = self.checked_masses("masses", masses)
        return circulation(self.grid, self.generator, checked, np.asarray(centre, dtype=np.float64))

    def entropy_production(self, masses: Float[Array | np.ndarray, "*cells"]) -> EntropyProduction:
        """Entropy production of a density, in nats/time, and its housekeeping and excess parts."""
        return entropy_production(self.generator, self.checked_masses("masses", masses), self.log_stationary())

    def dissipation(self, masses: Float[Array | np.ndarray, "*cells"]) -> float:
        """−dKL(ρ ‖ ρ_ss)/dt = ∫ ρ ∇log(ρ/ρ_ss)ᵀ A ∇log(ρ/ρ_ss) dx, in nats/time."""
        return dissipation(self.generator, self.checked_masses("masses", masses), self.log_stationary())

    def free_energy(self, masses: Float[Array | np.ndarray, "*cells"], temperature: float) -> FreeEnergy:
        """F = E[Φ] − T H of a density, Φ = −T log ρ_ss, and its two parts."""
        checked = self.checked_masses("masses", masses)
        return free_energy(checked, self.log_stationary(), temperature, self.grid.cell_volume)

    def coarsen(self, factor: int = 2) -> "FokkerPlanck":
        """The same equation on `factor` times fewer cells per axis: its answer against this one's gives the error."""
        return FokkerPlanck(
            self.drift,
            self.diffusion,
            self.grid.coarsen(factor),
            self.potential,
            regularisation=self.regularisation,
            memory_limit=self.memory_limit,
        )

    @functools.cached_property
    def coarser(self) -> "FokkerPlanck | None":
        """The same equation on the finest grid that the cells can be merged to, made once; None if there is none."""
        factor = self.grid.coarsening_factor
        if factor is None:
            return None
        try:
            return self.coarsen(factor)
        except ValueError:  # too few cells for this tensor's edges, or a field that fails at the new centres
            return None

    def _estimate(self, measure: Callable[["FokkerPlanck"], float]) -> GridEstimate:
        """A number of this equation, with its error from the coarser grid."""
        value = measure(self)
        if self.coarser is None:
            return GridEstimate(value)
        try:
            rough = measure(self.coarser)
        except (ValueError, ArithmeticError):  # what these cells can still tell, coarser ones need not
            return GridEstimate(value)
        return GridEstimate(value, abs(value - rough) / error_multiple(self.grid.ratio_to(self.coarser.grid)))

    def boundary_mass(self, masses: Float[Array | np.ndarray, "*cells"]) -> float:
        """The mass in the cells at the walls: what the walls of the box may have touched."""
        return float(self.grid.boundary_mass(np.asarray(masses)))

    def checked_masses(self, name: str, given: Float[Array | np.ndarray, "*cells"]) -> Float[np.ndarray, "*cells"]:
        """The masses in float64, or a ValueError that names the argument where they are no density on this grid."""
        masses = np.asarray(given, dtype=np.float64)
        if masses.shape != self.grid.cells:
            raise ValueError(f"{name} must have the grid's shape {self.grid.cells}, got {masses.shape}")
        size = self.generator.rates_forward.dtype.itemsize
        if not (np.all(masses >= -_NEGATIVE[size]) and abs(np.sum(masses) - 1) <= _DEFECT[size]):
            raise ValueError(
                f"{name} must be non-negative cell masses (not densities) that sum to one, got smallest "
                f"{np.min(masses):.3g} and sum {np.sum(masses):.9g}"
            )
        return masses

    def __repr__(self) -> str:
        kind = "no potential declared" if self.potential is None else "with a potential"
        heat = f", regularised by {self.regularisation:g} I" if self.regularisation else ""
        return f"FokkerPlanck({self.grid!r}, {len(self.generator.offsets)} edges a cell, {kind}{heat})"


def _with_heat(diffusion: TensorField, heat: float, x: Array) -> Array:
    return jnp.asarray(diffusion(x), dtype=float) + heat * jnp.eye(x.size)


def checked_times(times: Numbers) -> Float[np.ndarray, " T"]:
    """The times in float64, or a ValueError unless they are finite, ≥ 0 and strictly increasing."""
    when = np.asarray(times, dtype=np.float64)
    if when.ndim != 1 or len(when) == 0:
        raise ValueError(f"times must be a list of at least one time, got shape {when.shape}")
    if not (np.all(np.isfinite(when)) and when[0] >= 0 and np.all(np.diff(when) > 0)):
        raise ValueError(f"times must be finite, ≥ 0 and strictly increasing, got {when.tolist()}")
    return when
