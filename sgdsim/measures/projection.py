"""A cloud in many dimensions seen in a plane, with a density equation of its own: an approximation.

No grid holds a density in d > 3, but one holds that of the projection Y = Pᵀ(X − c) on two orthonormal directions.
Where dX = b dt + √(2A) dW, Y's laws at single times are those of a diffusion in the plane with the coefficients

    b̄(y, t) = E[Pᵀb(X) | Y = y],    Ā(y, t) = E[PᵀA(X)P | Y = y].

But Y is no Markov process, and these coefficients belong to one moment of one cloud. Here one estimate, pooled over all
particles that are given, serves all times. That is **exact** where the plane decouples from the rest, and for the
steady state if the particles are in it; elsewhere it is an approximation whose error nothing here bounds. A step of
length Δt adds Δt/2 Cov(Pᵀb | y) to Ā as measured: in a plane the drift is not a function of the place.

Sources: Gyöngy 1986, Theorem 4.6 (mimicking a process by a diffusion); Risken, The Fokker–Planck Equation, chapter 4.
"""

import dataclasses
import warnings

import numpy as np
from jaxtyping import Array, Float

from sgdsim.density.fokker_planck import FokkerPlanck
from sgdsim.density.grid import Grid
from sgdsim.measures.diverged import Cloud, finite_rows
from sgdsim.measures.kramers_moyal import BinnedKramersMoyal, binned, checked_step
from sgdsim.measures.plane_fields import fit_fields

Plane = Float[np.ndarray | Array, "d 2"]

_ORTHONORMAL = 1e-6  # by which PᵀP may miss the identity: float32 directions pass
_MARGIN = 0.35  # of the cloud's width (quantiles .001 to .999) that the box adds on each side
_OUTSIDE = 0.01  # share of a cloud outside the box that is worth a warning
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclasses.dataclass(frozen=True, eq=False)
class Projection:
    """A cloud on a plane and the closed Fokker–Planck equation fitted to it there: AN APPROXIMATION.

    The projected process is not Markov. Exact only where the plane decouples from the other directions, or for the
    steady state when the coefficients were measured in it; see the module. `project` makes one.

        p = project(x, dx, dt, plane=leading_plane(x))
        p.fokker_planck.propagate(p.masses_of(start), times)     # beside p.masses_of(later)

    Args:
        plane: P, two orthonormal columns, (d, 2).
        centre: c, the point that y = 0 stands for, (d,), in units of x.
        names: what to write at the two axes.
        binned: drift and diffusion in each cell as measured, with errors and counts; NaN where particles were few.
        fokker_planck: the equation in the plane, with smooth fields fitted to the cells.
        degrees: total degrees of the polynomials in y that give the drift and the logarithm of the diffusion.
        misfit: χ² per degree of freedom of the cells' drift about the fitted one: about 1 where the polynomial
            suffices, more where it is too stiff.
        covered: share of the finite particles that lie in measured cells, where the fields are fitted; beyond them
            they are continued.
    """

    plane: Float[np.ndarray, "d 2"]
    centre: Float[np.ndarray, " d"]
    names: tuple[str, str]
    binned: BinnedKramersMoyal
    fokker_planck: FokkerPlanck
    degrees: tuple[int, int]
    misfit: float
    covered: float

    @property
    def grid(self) -> Grid:
        """The grid on the plane."""
        return self.fokker_planck.grid

    def coordinates(self, cloud: Cloud) -> Float[np.ndarray, "P 2"]:
        """y = Pᵀ(x − c) of every particle, (P, 2), in units of x; NaN where it has diverged.

        Raises:
            ValueError: if the cloud is not (P, d).
        """
        x = np.asarray(cloud, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.plane):
            raise ValueError(f"cloud must have shape (P, {len(self.plane)}), got {x.shape}")
        finite = np.isfinite(x).all(axis=1, keepdims=True)
        return np.where(finite, (np.where(finite, x, self.centre) - self.centre) @ self.plane, np.nan)

    def outside(self, cloud: Cloud) -> int:
        """How many finite particles lie outside the box, and so are missing from `masses_of`."""
        y = self.coordinates(cloud)
        return int(np.sum(self.grid.locate(y[np.isfinite(y).all(axis=1)]) < 0))

    def masses_of(self, cloud: Cloud) -> Float[np.ndarray, "*cells"]:
        """The histogram of a projected cloud: cell masses, (*cells,), that sum to one.

        Diverged particles and those outside the box are left out; a warning tells where more than 1 % are outside.

        Raises:
            ValueError: if the cloud is not (P, d), or no particle lies in the box.
        """
        (y,), _ = finite_rows(self.coordinates(cloud))
        cells = self.grid.locate(y)
        inside = cells[cells >= 0]
        if not len(inside):
            raise ValueError(f"cloud must have particles in the box of {self.grid}, got none of {len(y)} in it")
        if len(inside) < (1 - _OUTSIDE) * len(y):
            lost = 1 - len(inside) / len(y)
            warnings.warn(f"{lost:.1%} of the cloud lies outside the box and is left out: widen the grid", stacklevel=2)
        return np.bincount(inside, minlength=self.grid.num_cells).reshape(self.grid.cells) / len(inside)

    def __repr__(self) -> str:
        return (
            f"Projection({self.names[0]}, {self.names[1]} of {len(self.plane)} dimensions: an approximation, as the "
            f"projected process is not Markov; {self.grid!r}, drift of degree {self.degrees[0]}, log diffusion of "
            f"degree {self.degrees[1]}, misfit {self.misfit:.3g}, {self.covered:.1%} of particles in measured cells)"
        )


def slice_plane(dim: int, axes: tuple[int, int]) -> Float[np.ndarray, "d 2"]:
    """The plane of two coordinates, (dim, 2): axes (0, 2) are x₁ and x₃.

    Raises:
        ValueError: if the axes are not two different whole numbers from 0 to dim − 1.
    """
    whole = all(isinstance(a, int | np.integer) and not isinstance(a, bool) and 0 <= a < dim for a in axes)
    if len(axes) != 2 or not whole or axes[0] == axes[1]:
        raise ValueError(f"axes must be two different whole numbers from 0 to {dim - 1}, got {axes}")
    return np.eye(dim)[:, list(axes)]


def leading_plane(cloud: Cloud) -> Float[np.ndarray, "d 2"]:
    """The two directions along which the finite particles spread most, (d, 2), the wider one first.

    Principal directions: eigenvectors of the covariance, by way of the smaller of XᵀX and XXᵀ. The sign is such that
    the largest component of each is positive.

    Raises:
        ValueError: if d < 2, or the finite particles are fewer than three or do not span a plane.
    """
    (x,), _ = finite_rows(cloud)
    if x.shape[1] < 2 or len(x) < 3:
        raise ValueError(f"cloud must hold three finite particles in two dimensions or more, got shape {x.shape}")
    x = x - x.mean(axis=0)
    wide = x.shape[1] > len(x)
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    if values[-2] <= 1e-14 * values[-1]:
        raise ValueError("cloud must span a plane, but all its particles lie on one line")
    leading = vectors[:, [-1, -2]]
    plane = np.linalg.qr(x.T @ leading if wide else leading)[0]
    return plane * np.sign(plane[np.argmax(np.abs(plane), axis=0), [0, 1]])


def project(
    x: Cloud,
    dx: Cloud,
    dt: float,
    *,
    plane: Plane,
    centre: Float[np.ndarray | Array, " d"] | None = None,
    cells: int | tuple[int, int] = 64,
    grid: Grid | None = None,
    fewest: int = 10,
    degrees: tuple[int, int] = (6, 4),
    names: tuple[str, str] | None = None,
) -> Projection:
    """Fit a Fokker–Planck equation to one step of a cloud, seen in a plane. It is an approximation: see `Projection`.

    The equation stands on polynomials in y for b̄ and log Ā that are fitted to all cells by their counts
    (`plane_fields`), not on the cells' own scatter. Beyond the measured cells both are continued from the nearest one,
    b̄ with the contracting part of its linear fit added, so that the density does not leak into corners that no
    particle has seen.

    Measured on 50,000 steps of length .05 in a multiplicative noise, L1 of the steady state to the exact one on 48²
    cells: .13 so, .26 with the cells' own fields interpolated, .09 for the histogram of the particles themselves.

    Args:
        x: where the particles were, (P, d), in units of x. Several saved times may be stacked: the coefficients are
            then averages over them all. For the steady state, give particles that have reached it.
        dx: their increments over one step, (P, d). Rows that are not finite in both are left out and counted.
        dt: that step on the process's clock. With momentum increments over one step are not those of a diffusion.
        plane: two orthonormal columns, (d, 2): `slice_plane`, `leading_plane`, or any other.
        centre: where y = 0 is, (d,): by default the origin if the plane is one of two coordinates, else the mean.
        cells: cells per axis of a box about the cloud, unless a grid is given.
        grid: a grid on the plane instead, not periodic.
        fewest: cells with fewer particles than this count as not measured.
        degrees: the highest total degrees tried, of b̄ and of log Ā.
        names: of the axes; by default coordinates, "leading direction", or "direction 1", with their share of variance.

    Raises:
        ValueError: if a shape does not fit, the plane is not orthonormal, dt is not positive, the grid is not 2-D, all
            particles have diverged or no cell has enough of them, or the increments spread in fewer than two
            directions of the plane; or as `FokkerPlanck`.
    """
    checked_step(dt)
    directions = _checked_plane(plane, x, dx)
    if min(degrees) < 0:
        raise ValueError(f"degrees must not be negative, got {degrees}")
    (positions, increments), left_out = finite_rows(x, dx)
    origin = _checked_centre(centre, directions, positions)
    y, dy = (positions - origin) @ directions, increments @ directions
    box = _box_about(y, cells) if grid is None else grid
    if box.dim != 2 or any(box.periodic):
        raise ValueError(f"grid must have two axes and not be periodic, got {box}")
    measured = dataclasses.replace(binned(y, dy, dt, box, fewest=fewest), left_out=left_out)
    if not np.any(seen := measured.counts >= fewest):
        most = np.max(measured.counts)
        raise ValueError(f"x must put fewest = {fewest} particles in some cell, got {most} at most: use fewer cells")
    # Two particles already tell of drift and spread, and a fit loses nothing by their scatter.
    fields, used, misfit = fit_fields(binned(y, dy, dt, box, fewest=2), dt, seen, degrees)
    return Projection(
        plane=directions,
        centre=origin,
        names=_names(directions, positions) if names is None else names,
        binned=measured,
        fokker_planck=FokkerPlanck(fields.drift, fields.diffusion, box),
        degrees=used,
        misfit=misfit,
        covered=float(measured.counts[seen].sum() / len(y)),
    )


def _checked_plane(plane: Plane, x: Cloud, dx: Cloud) -> Float[np.ndarray, "d 2"]:
    directions, shape = np.asarray(plane, dtype=np.float64), np.shape(x)
    if len(shape) != 2 or np.shape(dx) != shape:
        raise ValueError(f"x and dx must be of one shape (P, d), got {shape} and {np.shape(dx)}")
    if directions.shape != (shape[1], 2):
        raise ValueError(f"plane must have shape ({shape[1]}, 2), got {directions.shape}")
    if not np.allclose(gram := directions.T @ directions, np.eye(2), rtol=0, atol=_ORTHONORMAL):
        raise ValueError(f"plane must have orthonormal columns, got PᵀP = {gram.tolist()}")
    return directions


def _checked_centre(
    centre: Float[np.ndarray | Array, " d"] | None, plane: Float[np.ndarray, "d 2"], x: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, " d"]:
    if centre is None:
        return np.zeros(len(plane)) if _is_slice(plane) else x.mean(axis=0)
    point = np.asarray(centre, dtype=np.float64)
    if point.shape != (len(plane),) or not np.all(np.isfinite(point)):
        raise ValueError(f"centre must be {len(plane)} finite numbers, got {point.tolist()}")
    return point


def _is_slice(plane: Float[np.ndarray, "d 2"]) -> bool:
    return bool(np.all((plane == 0) | (plane == 1)))


def _names(plane: Float[np.ndarray, "d 2"], x: Float[np.ndarray, "n d"]) -> tuple[str, str]:
    """Coordinates by their number from 1; other directions with the share of the cloud's variance that they hold."""
    if _is_slice(plane):
        first, second = ("x" + str(i + 1).translate(_SUBSCRIPTS) for i in np.argmax(plane, axis=0))
        return first, second
    total = float(np.var(x, axis=0).sum())
    shares = [f"({v / total:.0%} of variance)".replace("%", " %") for v in np.var(x @ plane, axis=0)]
    leads = len(x) > 2 and np.allclose(np.abs(np.sum(leading_plane(x) * plane, axis=0)), 1, rtol=0, atol=_ORTHONORMAL)
    kinds = ("leading direction", "second direction") if leads else ("direction 1", "direction 2")
    return f"{kinds[0]} {shares[0]}", f"{kinds[1]} {shares[1]}"


def _box_about(y: Float[np.ndarray, "n 2"], cells: int | tuple[int, int]) -> Grid:
    """A box about all but the last thousandth of the cloud at each end, with room for tails on each side."""
    low, high = np.quantile(y, [1e-3, 1 - 1e-3], axis=0)
    if not np.all((width := high - low) > 0):
        raise ValueError(f"x must spread in both directions of the plane, got widths {width.tolist()}")
    room = _MARGIN * width
    return Grid(low - room, high + room, (cells, cells) if isinstance(cells, int) else cells)
