"""Toy ensembles: clouds that a step moves by a few operations, so that drawing random numbers is nearly all of it.

SGD with Gaussian gradient noise, learning rate 0.1 and one example a batch, through `ss.simulate` with its default
generator: from a vector on the host to the final cloud as a NumPy array, in float32. The problems are in
`peers/clouds.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

import sgdsim as ss
from sgdsim.draws import Draws
from sgdsim.ensemble.simulate import CPU_OPTIONS

from .harness import BEST, SIGMAS, Job, Side, largest_gap, timed
from .peers.asked import answered
from .peers.clouds import COVARIANCE, HESSIAN, LEARNING_RATE, STARTS, exact_moments
from .peers.local_clouds import diffeqsolve_run, numpy_run, scan_run

UNIT = "particle-steps"
PARTICLES, STEPS, QUICK_STEPS = 20_000, 500, 200

NUMPY, SCAN, SCAN_ROWS = "NumPy", "lax.scan + jax.random.normal, (d, P)", "lax.scan + jax.random.normal, (P, d)"
NUMBA, ZIGGURAT = "Numba prange, NumPy's Generator", "Numba prange, a ziggurat by hand"
EAGER, COMPILED, TORCHSDE = "PyTorch, in place", "PyTorch, torch.compile", "torchsde, Euler"
UNSAFE, TREE = "vmap(diffeqsolve), UnsafeBrownianPath", "vmap(diffeqsolve), VirtualBrownianTree"
HAND = "the same draws by hand in one lax.scan"
WHOLE = "diffeqsolve of the whole cloud, UnsafeBrownianPath"


@dataclass(frozen=True)
class Run:
    """What is run, and how peers of it are made. The slow ones move fewer particles: `Side.work` says so."""

    problem: str
    steps: int
    quick: bool
    particles: int = PARTICLES

    def side(self, name: str, share: int = 1) -> Side:
        """A peer by its name, on 1/share of the particles."""
        problem, particles, steps = self.problem, self.particles // share, self.steps
        foreign = {
            NUMBA: ("numba", "Generator"),
            ZIGGURAT: ("numba", "ziggurat"),
            EAGER: ("torch", "eager"),
            COMPILED: ("torch", "compiled"),
            TORCHSDE: ("torch", "torchsde"),
        }
        paths = {UNSAFE: "unsafe", TREE: "tree", WHOLE: "cloud"}
        if name in foreign:
            peer, setting = foreign[name]
            question = {"setting": setting, "problem": problem, "particles": particles, "steps": steps}
            run = answered(peer, f"{peer}_side.py", question, install=not self.quick)
        elif name in paths:
            run = timed(diffeqsolve_run(problem, particles, steps, paths[name]))
        elif name == NUMPY:
            run = timed(numpy_run(problem, particles, steps))
        else:
            run = timed(scan_run(problem, particles, steps, axis=1 if name == SCAN else 0))
        return Side(name, run, particles * steps)

    def own(self, name: str, process: ss.SGD | ss.Langevin, reference: bool = False) -> Side:
        """The public interface, the whole call."""
        start = STARTS[self.problem]

        def final(seed: int) -> np.ndarray:
            key = jax.random.key(seed)
            return ss.simulate(process, start, particles=self.particles, steps=self.steps, key=key).particles[-1]

        return Side(name, timed(final), self.particles * self.steps, reference)

    def check(self, clouds: dict[str, np.ndarray]) -> float:
        """Every cloud against every other, and against what is known exactly, in standard errors."""
        dim = len(STARTS[self.problem])
        for name, cloud in clouds.items():
            if cloud.shape[1:] != (dim,) or cloud.dtype != np.float32 or not np.all(np.isfinite(cloud)):
                raise ValueError(
                    f"{name} must return finite float32 of shape (P, {dim}), got {cloud.dtype} {cloud.shape}"
                )
        known, mean, covariance = exact_moments(self.problem, self.steps)
        gap = max(exact_gap(name, cloud, known, mean, covariance) for name, cloud in clouds.items())
        return (
            gap if len(mean) == dim else max(gap, largest_gap(clouds))
        )  # no peer is as sharp a test as the law itself


def exact_gap(name: str, cloud: np.ndarray, known: slice, mean: np.ndarray, covariance: np.ndarray) -> float:
    """The largest gap to the exact moments of the coordinates where they are known, in standard errors.

    Raises:
        ValueError: where it is rarer among so many moments than `SIGMAS` is for one: 65 of them in 10-D would go beyond
            4 standard errors once in 240 runs of each side, by chance.
    """
    part, largest, dim = cloud[:, known], 0.0, len(mean)
    allowed = float(norm.isf(norm.sf(SIGMAS) / (dim + dim * (dim + 1) / 2)))
    for label, measured, exact in (
        ("means", ss.measures.mean(part), mean),
        ("covariances", ss.measures.covariance(part), covariance),
    ):
        gap = float(np.max(np.abs(measured.z(exact))))
        if not gap <= allowed:
            raise ValueError(f"{label} of {name} lie {gap:.1f} standard errors off their exact values")
        largest = max(largest, gap)
    return largest


def problem_of(name: str) -> ss.NoisyPotential:
    """As a user states it."""
    if name == "quadratic-10d":
        return ss.NoisyPotential(ss.potentials.Quadratic(HESSIAN), ss.GaussianNoise(COVARIANCE))
    covariance = 1.0 if name == "double-well" else lambda x: jnp.diag(1 + x**2 / 2)
    return ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(covariance))


def chain_of(name: str) -> ss.SGD:
    return ss.SGD(problem_of(name), learning_rate=LEARNING_RATE, batch_size=1)


def ensemble(name: str, title: str, peers: dict[str, int], targets: dict[str, float], quick: bool) -> Job:
    """sgdsim against these peers, each on one part in so many of the particles."""
    run = Run(name, QUICK_STEPS if quick else STEPS, quick)
    title = f"{title}, {run.particles:,} particles × {run.steps} steps, float32"

    def sides() -> list[Side]:
        return [run.own("sgdsim", chain_of(name)), *(run.side(peer, share) for peer, share in peers.items())]

    return Job(name, title, UNIT, sides, run.check, targets)


def by_hand_run(particles: int, steps: int) -> Callable[[int], np.ndarray]:
    """What `simulate` does to the double well, on the package's draws, in one compiled scan."""
    well, options = ss.potentials.DoubleWell(dim=2), CPU_OPTIONS if jax.default_backend() == "cpu" else None

    @partial(jax.jit, compiler_options=options)
    def final(key: jax.Array, cloud: jax.Array) -> jax.Array:
        draws = Draws.of(key, jnp.arange(particles, dtype=jnp.uint32))

        def step(x: jax.Array, k: jax.Array) -> tuple[jax.Array, None]:
            gradient = jax.grad(lambda y: jnp.sum(jax.vmap(well, 1)(y)))(x)
            return x - LEARNING_RATE * (gradient - draws.at(k).normals(2, dtype=x.dtype)), None

        return jax.lax.scan(step, cloud, jnp.arange(steps, dtype=jnp.uint32))[0]

    def run(seed: int) -> np.ndarray:
        cloud = jnp.broadcast_to(STARTS["double-well"][:, None], (2, particles))
        return np.asarray(final(jax.random.key(seed), cloud)).T

    return run


def by_hand(quick: bool) -> Job:
    """What the package itself costs: checks, keys, calls and copies, against the bare loop."""
    run = Run("double-well", QUICK_STEPS if quick else STEPS, quick)

    def sides() -> list[Side]:
        own = run.own("sgdsim", chain_of("double-well"))
        hand = timed(by_hand_run(run.particles, run.steps))
        return [own, Side(HAND, hand, run.particles * run.steps, reference=True)]

    title = f"double well by hand on the same draws, {run.particles:,} particles × {run.steps} steps, float32"
    return Job("by-hand", title, UNIT, sides, run.check, {HAND: 0.95})


def jobs(quick: bool) -> list[Job]:
    """The three ensembles, and the loop by hand.

    `quick` leaves out what the full run has shown to be far behind or long in compiling, and the third ensemble.
    """
    fast = {NUMPY: 1, ZIGGURAT: 1, SCAN: 1}
    more = {} if quick else {EAGER: 1, NUMBA: 1, COMPILED: 1, SCAN_ROWS: 1}
    planar = fast | {WHOLE: 1} | more | ({} if quick else {UNSAFE: 4, TORCHSDE: 1})
    full = fast | more
    table: list[tuple[str, str, dict[str, int], dict[str, float]]] = [
        ("double-well", "2-D double well, Gaussian noise", planar, {BEST: 3}),
        ("quadratic-10d", "10-D quadratic, full Hessian and covariance", full, {BEST: 2}),
        ("state-dependent", "2-D double well, noise with D(x) a callable", planar, {}),
    ]
    return [*(ensemble(*row, quick) for row in (table[:2] if quick else table)), by_hand(quick)]
