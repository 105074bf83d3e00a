"""Flat or sharp: which of two equally deep wells holds the cloud, and whether sharpness can be what decides it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Key
from tqdm import tqdm

from sgdsim import theory
from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.grid_estimate import GridEstimate, error_multiple
from sgdsim.draws import Draws, key_words
from sgdsim.ensemble import simulate
from sgdsim.measures import Estimate, curvature, mean
from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential, Problem
from sgdsim.problems.noise_shapes import reshape_noise
from sgdsim.problems.potentials import SharpFlatDoubleWell
from sgdsim.processes import SGD, Langevin
from sgdsim.studies.occupations import OccupationRow, Occupations

RELAXATIONS = 8.0  # a run in relaxation times 1/gap: e⁻⁸ of the start is left
WELLS = np.array([-1.0, 1.0])
SPAN = (-2.6, 3.2)  # outside of it no particle is
CELLS = 512
# T times the variances of the labels and of the slopes: the noise that follows the curvature, and the one that does not
LABELS, SLOPES = 0.05, 0.06
CORNER = 0.5  # width of the bend of φ
LARGEST_RATIO = 16.0  # of curvatures; beyond, φ would all but stand still far to the right


class Coordinates(eqx.Module):
    """y = φ(x) = a x − b √(ε² + x²), a smooth change of coordinates with a closed inverse.

    The numbers a and b are such that φ'(−1) = √r and φ'(1) = 1/√r. A minimum's curvature f'' is f''/φ'² in y, so that
    two of ratio r change places.
    """

    a: Float[Array, ""]
    b: Float[Array, ""]

    def __init__(self, ratio: float):
        steep, flat = math.sqrt(ratio), 1 / math.sqrt(ratio)
        a, b = (steep + flat) / 2, (steep - flat) / 2 * math.sqrt(1 + CORNER**2)  # a > b up to r = 17.9
        self.a, self.b = jnp.asarray(a), jnp.asarray(b)

    def forward(self, x: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """φ(x)."""
        return self.a * x - self.b * jnp.sqrt(CORNER**2 + x * x)

    def inverse(self, y: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """φ⁻¹(y), the larger root of (a x − y)² = b² (ε² + x²)."""
        spread = self.a**2 - self.b**2
        return (self.a * y + self.b * jnp.sqrt(y * y + spread * CORNER**2)) / spread


class PushedForward(eqx.Module):
    """A process seen in other coordinates, y ← φ(step(φ⁻¹(y))): the same process, whatever its gradients are.

    Args:
        process: without a memory, as SGD without momentum is.
        coordinates: φ.
    """

    process: SGD
    coordinates: Coordinates

    def __check_init__(self) -> None:
        if self.process.has_momentum:
            raise ValueError("process must have no momentum: a velocity is not a point that φ could move")

    @property
    def dim(self) -> int:
        """Number of coordinates, d."""
        return self.process.dim

    @property
    def time_step(self) -> Float[Array, ""]:
        """One step's share of the common clock."""
        return self.process.time_step

    def check(self, x: Float[Array, " d"]) -> None:
        """Raise ValueError where the process cannot start."""
        self.process.check(self.coordinates.inverse(x))

    def init(self, x: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """The state is y."""
        return x

    def step(self, state: Float[Array, "d P"], draws: Draws) -> Float[Array, "d P"]:
        """The process's step, there and back."""
        inner = self.process.step(self.process.init(self.coordinates.inverse(state)), draws)
        return self.coordinates.forward(self.process.position(inner))

    def position(self, state: Float[Array, "d P"]) -> Float[Array, "d P"]:
        """y."""
        return state


def flat_or_sharp(
    *,
    key: Key[Array, ""],
    ratio: float = 4.0,
    learning_rate: float = 0.02,
    particles: int = 10_000,
    progress: bool = False,
) -> Occupations:
    """Which of two equally deep wells SGD's cloud prefers, by which noise, and in which coordinates.

    The loss is `SharpFlatDoubleWell`, as the least squares of a model h(x) with h²/2 = f: four examples with the losses

        ℓ(x; y, v) = ½ (y − h(x))² + v x,    y = ±s, v = ±c,

    so that f is their mean up to a constant and D(x) = s² h'(x)² + c²: label noise makes D ≈ s² f'' at the minima (as
    for any least squares), scattered slopes the part that does not depend on x and lets particles cross the barrier,
    where h' vanishes. s² and c² are held at T s² = 0.05, T c² = 0.06 whatever η is.

    *Reparametrised* (Dinh, Pascanu, Bengio, Bengio, "Sharp minima can generalize for deep nets", ICML 2017): the
    coordinates y = φ(x) exchange the curvatures of the two minima. Seen in y, the chain is the same process. Run in
    y, by gradients with respect to y, it is another.

    Clouds start half in each well and run for eight relaxation times.

    Args:
        key: a typed `jax.random.key`.
        ratio: of the wells' curvatures, above 1 and at most 16.
        learning_rate: η.
        particles: of each of SGD's clouds, at least 4; the Langevin clouds have half as many.
        progress: show a bar over the clouds.

    Raises:
        ValueError: on numbers out of their range.
    """
    key_words(key)
    if not 1 < ratio <= LARGEST_RATIO:
        raise ValueError(f"ratio must lie above 1 and be at most {LARGEST_RATIO:g}, got {ratio:g}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate:g}")
    if particles < 4:
        raise ValueError(f"particles must be at least 4, got {particles}")
    setting = _Setting(ratio, learning_rate, particles)
    keys = jax.random.split(key, 5)
    with tqdm(total=6, desc="flat_or_sharp", unit=" clouds", disable=not progress) as bar:
        thermal = _row("constant", setting.thermal("x"), setting, "x", keys[0], bar)
        minibatch = _row("minibatches", setting.risk("x"), setting, "x", keys[1], bar)
        model = _row("Gaussian, same D(x)", reshape_noise(setting.risk("x"), "true"), setting, "x", keys[2], bar)
        pushed, strayed = _pushed(minibatch, setting, keys[1], bar)
        minibatch_in_y = _row("minibatches", setting.risk("y"), setting, "y", keys[3], bar)
        thermal_in_y = _row("constant", setting.thermal("y"), setting, "y", keys[4], bar)
    settings = {"ratio": ratio, "learning_rate": learning_rate, "particles": particles}
    settings |= {"barrier": setting.top, "relaxations": RELAXATIONS}
    return Occupations(settings, thermal, minibatch, model, pushed, minibatch_in_y, thermal_in_y, strayed)


@dataclasses.dataclass(frozen=True)
class _Setting:
    """The loss, its problems in both coordinates, and the grids."""

    ratio: float
    learning_rate: float
    particles: int

    @property
    def potential(self) -> SharpFlatDoubleWell:
        return SharpFlatDoubleWell(self.ratio)

    @property
    def coordinates(self) -> Coordinates:
        return Coordinates(self.ratio)

    @property
    def top(self) -> float:
        """The top of the barrier, in x."""
        f = jax.jit(lambda x: -self.potential(x[None]))
        found = scipy.optimize.minimize_scalar(lambda x: float(f(jnp.asarray(x))), bounds=(-0.8, 0.8), method="bounded")
        return float(found.x)

    def to_x(self, coordinate: str) -> Callable[[Float[Array, "*n"]], Float[Array, "*n"]]:
        """x of a point in this coordinate."""
        return self.coordinates.inverse if coordinate == "y" else lambda x: x

    def places(self, coordinate: str, x: Any) -> Float[np.ndarray, "*n"]:
        """Points x in this coordinate."""
        points = jnp.asarray(x, dtype=float)
        return np.asarray(self.coordinates.forward(points) if coordinate == "y" else points, dtype=float)

    def variances(self) -> tuple[float, float]:
        """s² and c², the variances of the labels and of the slopes: T = η/2."""
        temperature = self.learning_rate / 2
        return LABELS / temperature, SLOPES / temperature

    def risk(self, coordinate: str) -> EmpiricalRisk:
        """The finite sum of four examples, a function of this coordinate."""
        labels, slopes = (math.sqrt(v) for v in self.variances())
        data = (np.array([1.0, 1.0, -1.0, -1.0]) * labels, np.array([1.0, -1.0, 1.0, -1.0]) * slopes)
        to_x, rate = self.to_x(coordinate), math.log(self.ratio) / (4 * math.tanh(1.0))

        def example_loss(point: Float[Array, " 1"], example: tuple[Array, Array]) -> Float[Array, ""]:
            x, (y, v) = to_x(point)[0], example
            model = (x * x - 1) / math.sqrt(2) * jnp.exp(-rate * jnp.tanh(x))
            return (y - model) ** 2 / 2 + v * x

        return EmpiricalRisk(example_loss, data, init=np.zeros(1))

    def mean_noise(self) -> float:
        """σ², the mean of D = s²f'' + c² at the two minima in x, where f'' is 2√r and 2/√r."""
        labels, slopes = self.variances()
        return labels * (math.sqrt(self.ratio) + 1 / math.sqrt(self.ratio)) + slopes

    def thermal(self, coordinate: str) -> NoisyPotential:
        """The same loss with constant noise in this coordinate."""
        to_x = self.to_x(coordinate)
        return NoisyPotential(lambda point: self.potential(to_x(point)), GaussianNoise(self.mean_noise()), dim=1)

    def grid(self, coordinate: str) -> Grid:
        """Cells with the top of the barrier between two of them, in the coarser grid as well."""
        low, top, high = self.places(coordinate, [SPAN[0], self.top, SPAN[1]])
        below = 2 * round(CELLS / 2 * (top - low) / (high - low))
        width = (top - low) / below
        return Grid([low], [low + CELLS * width], [CELLS])

    def right_share(self, coordinate: str, fp: FokkerPlanck) -> float:
        """The mass to the right of the barrier in the steady state."""
        return self._mass_right(coordinate, fp.grid, fp.stationary())

    def _mass_right(self, coordinate: str, grid: Grid, masses: Float[np.ndarray, " n"]) -> float:
        return float(np.sum(masses[grid.axis_centres(0) > self.places(coordinate, self.top)]))

    def gibbs_share(self, coordinate: str, grid: Grid, loss: Float[np.ndarray, " n"]) -> float:
        """What e^{−f/(Tσ²)} has to the right of the barrier."""
        masses = theory.gibbs(loss, self.learning_rate / 2, self.mean_noise())
        return self._mass_right(coordinate, grid, masses)


def _row(
    name: str, problem: Problem, setting: _Setting, coordinate: str, key: Key[Array, ""], bar: tqdm
) -> OccupationRow:
    """One noise in one coordinate: the density, SGD's cloud and the Langevin limit's."""
    sgd = SGD(problem, learning_rate=setting.learning_rate, batch_size=1)
    fp = FokkerPlanck.limit_of(sgd, setting.grid(coordinate))
    time = 1 / fp.gap().value
    keys = jax.random.split(key, 2)
    right, moved, positions = _cloud(sgd, setting, coordinate, time, setting.particles, keys[0])
    limit, *_ = _cloud(Langevin.limit_of(sgd), setting, coordinate, time, setting.particles // 2, keys[1])
    bar.update()
    return _told(name, fp, setting, coordinate, (right, limit, moved), time, positions)


def _pushed(inner: OccupationRow, setting: _Setting, key: Key[Array, ""], bar: tqdm) -> tuple[OccupationRow, int]:
    """The chain of `inner`, told in y, on the same draws; and how many particles end in another well than there.

    Its limit is Itô's: dY = (φ' b + φ'' A) dt + φ' √(2A) dW at x = φ⁻¹(Y).
    """
    sgd = SGD(setting.risk("x"), learning_rate=setting.learning_rate, batch_size=1)
    process = PushedForward(sgd, setting.coordinates)
    time, first = inner.relaxation_time, jax.random.split(key, 2)[0]
    right, moved, positions = _cloud(process, setting, "y", time, setting.particles, first)
    top = float(setting.places("y", setting.top))
    strayed = int(np.sum((positions > top) != (inner.positions > setting.top)))
    fp = _pushed_density(sgd, setting)
    bar.update()
    none = Estimate(math.nan, math.nan)
    return _told("minibatches, pushed forward", fp, setting, "y", (right, none, moved), time, positions), strayed


def _pushed_density(sgd: SGD, setting: _Setting) -> FokkerPlanck:
    limit, phi = Langevin.limit_of(sgd).limit, setting.coordinates
    slope = jax.grad(lambda z: phi.forward(z))

    def drift(y: Float[Array, " 1"]) -> Float[Array, " 1"]:
        x = phi.inverse(y)
        return slope(x[0]) * limit.drift(x) + jax.grad(slope)(x[0]) * limit.diffusion(x)[0]

    def diffusion(y: Float[Array, " 1"]) -> Float[Array, "1 1"]:
        x = phi.inverse(y)
        return slope(x[0]) ** 2 * limit.diffusion(x)

    return FokkerPlanck(drift, diffusion, setting.grid("y"))


def _told(
    name: str,
    fp: FokkerPlanck,
    setting: _Setting,
    coordinate: str,
    clouds: tuple[Estimate, Estimate, Estimate],
    time: float,
    positions: Float[np.ndarray, " P"],
) -> OccupationRow:
    """A row from its equation and its clouds."""
    share, coarse = (setting.right_share(coordinate, each) for each in (fp, fp.coarsen(2)))
    plain = setting.thermal(coordinate)
    loss = np.asarray(jax.jit(jax.vmap(plain.loss))(jnp.asarray(fp.grid.centres)), dtype=float)
    minima = setting.places(coordinate, WELLS)
    left, right = (float(curvature.hessian(plain, np.array([x]))[0, 0]) for x in minima)
    return OccupationRow(
        name=name,
        coordinate=coordinate,
        sharpness=(left, right),
        gibbs=setting.gibbs_share(coordinate, fp.grid, loss),
        density=GridEstimate(share, abs(share - coarse) / error_multiple(2)),
        sgd=clouds[0],
        langevin=clouds[1],
        moved=clouds[2],
        relaxation_time=time,
        grid=fp.grid,
        masses=fp.stationary(),
        loss=loss,
        positions=positions,
    )


def _cloud(
    process: Any, setting: _Setting, coordinate: str, time: float, particles: int, key: Key[Array, ""]
) -> tuple[Estimate, Estimate, Float[np.ndarray, " P"]]:
    """The right well's share at the end, what of it came in the last quarter, and the positions at the end."""
    quarter = math.ceil(RELAXATIONS * time / float(process.time_step) / 4)
    start = setting.places(coordinate, np.resize(WELLS, particles))[:, None]
    run = simulate(process, start, steps=4 * quarter, save_every=quarter, key=key, dtype="float32")
    x = run.particles[..., 0].astype(float)
    inside = np.where(np.isfinite(x), x > setting.places(coordinate, setting.top), np.nan)
    return mean(inside[-1, :, None])[0], mean((inside[-1] - inside[-2])[:, None])[0], x[-1]
