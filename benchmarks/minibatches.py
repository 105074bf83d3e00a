"""Ensembles that draw true minibatches: digits MLPs and logistic regression, each replica with batches of its own.

Mean loss and total variance of the clouds after a few steps are held against each other before any speed is reported:
sides without replacement among themselves, and those with, whose noise is (N − 1)/(N − B) times as strong, likewise.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import sgdsim as ss
from sgdsim.draws import Draws
from sgdsim.problems import risk
from sgdsim.problems.minibatches import minibatch_indices
from sgdsim.studies import preset

from . import harness
from .harness import Run, Side, timed
from .peers.asked import asked
from .sampling import largest_gap

WITHOUT, WITH = "without-replacement", "with-replacement"
OWN = "sgdsim"
OWN_WITH = "sgdsim, with replacement"
GIVEN = "sgdsim's step, indices given"
CHOICE = "scan, vmap(grad), jax.random.choice(replace=False)"
TOP_K = "scan, vmap(grad), top_k of N uniforms"
RANDINT = "scan, vmap(grad), jax.random.randint (with replacement)"
TORCH = "torch.func, topk of N uniforms"
TORCH_WITH = "torch.func, randint (with replacement)"
REPLACING = {OWN_WITH, RANDINT, TORCH_WITH}  # these have another law

Shapes = tuple[tuple[int, ...], ...]
Indices = Callable[[jax.Array], jax.Array]  # one replica's key → its batch, (B,)


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """What is run: P replicas of SGD at rate η from `start` (P, d), at B examples a step.

    Attributes:
        preset, batch_size, learning_rate, start: the run; float32.
        shapes: of the parameters, in the order of the flat vector.
        loss: mean loss of a batch at such parameters, as a JAX user writes it, without weight decay.
        checked: steps after which the laws are compared.
        steps: of a timed run; `slow` of one that draws N numbers for each replica.
    """

    preset: str
    batch_size: int
    learning_rate: float
    start: np.ndarray
    shapes: Shapes
    loss: Callable
    checked: int
    steps: int
    slow: int

    @property
    def particles(self) -> int:
        return len(self.start)


def network_loss(parameters: tuple[jax.Array, ...], x: jax.Array, y: jax.Array) -> jax.Array:
    weight, bias, last, final = parameters
    shares = jax.nn.log_softmax(jnp.tanh(x @ weight.T + bias) @ last.T + final)
    return -jnp.mean(jnp.take_along_axis(shares, y[:, None], 1))


def logistic_loss(parameters: tuple[jax.Array, ...], x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(jax.nn.softplus(-y * (x @ parameters[0])))


def digits(particles: int, checked: int, steps: int, slow: int) -> Ensemble:
    _, start = preset("digits-mlp").build()
    cloud = np.tile(np.asarray(start, np.float32), (particles, 1))
    shapes = ((16, 64), (16,), (10, 16), (10,))
    return Ensemble("digits-mlp", 32, 0.1, cloud, shapes, network_loss, checked, steps, slow)


def logistic(particles: int, checked: int, steps: int, slow: int) -> Ensemble:
    cloud = np.random.default_rng(0).normal(0, 0.2, (particles, 2)).astype(np.float32)
    return Ensemble("breast-cancer", 8, 1.0, cloud, ((2,),), logistic_loss, checked, steps, slow)


def problem_of(e: Ensemble) -> ss.EmpiricalRisk:
    problem, _ = preset(e.preset).build()
    assert isinstance(problem, ss.EmpiricalRisk)
    return problem


def paced(compute: Callable[[int, int], np.ndarray], checked: int, steps: int) -> Run:
    """The first run, which is compared, takes `checked` steps; the others, which are timed, `steps`."""
    left = [checked]

    def run(seed: int) -> tuple[np.ndarray, float]:
        count = left.pop() if left else steps
        return timed(lambda s: compute(s, count))(seed)

    return run


def own_side(name: str, problem: ss.EmpiricalRisk, e: Ensemble, sampling: str) -> Side:
    process = ss.SGD(problem, learning_rate=e.learning_rate, batch_size=e.batch_size, sampling=sampling)

    def compute(seed: int, steps: int) -> np.ndarray:
        return ss.simulate(process, e.start, steps=steps, key=jax.random.key(seed)).particles[-1]

    return Side(name, paced(compute, e.checked, e.steps), e.particles * e.steps, reference=sampling == WITH)


def given_side(problem: ss.EmpiricalRisk, e: Ensemble) -> Side:
    """The very same step, but its indices, (steps, B, P), were drawn before the clock starts."""

    def batches(seed: int, steps: int) -> tuple[Draws, jax.Array]:
        draws = Draws.of(jax.random.key(seed), np.arange(e.particles))
        return draws, drawn(draws, jnp.arange(steps, dtype=jnp.uint32))

    @jax.jit
    def drawn(draws: Draws, steps: jax.Array) -> jax.Array:
        return jax.lax.map(lambda k: minibatch_indices(draws.at(k), e.batch_size, problem.num_examples, WITHOUT), steps)

    @jax.jit
    def moved(x: jax.Array, draws: Draws, indices: jax.Array) -> jax.Array:
        def step(x: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            k, batch = at
            with mock.patch.object(risk, "minibatch_indices", return_value=batch):  # while this is traced
                gradient = problem.minibatch_gradient(x, draws.at(k), e.batch_size, WITHOUT)
            return (x - e.learning_rate * gradient).astype(x.dtype), None

        return jax.lax.scan(step, x, (jnp.arange(len(indices), dtype=jnp.uint32), indices))[0]

    def compute(draws: Draws, indices: jax.Array) -> np.ndarray:
        return np.asarray(moved(jnp.asarray(e.start.T), draws, indices)).T

    left = [e.checked]

    def run(seed: int) -> tuple[np.ndarray, float]:
        first = bool(left)
        draws, indices = jax.block_until_ready(batches(seed, left.pop() if left else e.steps))
        if first:
            compute(*jax.block_until_ready(batches(seed, e.steps)))  # compiles for the timed length
        begin = time.perf_counter()
        cloud = compute(draws, indices)
        return cloud, time.perf_counter() - begin

    return Side(GIVEN, run, e.particles * e.steps, reference=True)


def scan_side(name: str, problem: ss.EmpiricalRisk, e: Ensemble, indices: Indices, steps: int) -> Side:
    """As a JAX user writes it: parameters as a tuple of arrays (P, …), keys split for each replica and step."""
    x, y = problem.data
    decay, gradient = float(problem.weight_decay), jax.vmap(jax.grad(e.loss))
    places = np.cumsum([int(np.prod(shape)) for shape in e.shapes])[:-1]

    @jax.jit
    def moved(start: jax.Array, key: jax.Array, count: jax.Array) -> jax.Array:
        def step(k: jax.Array, cloud: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            batch = jax.vmap(indices)(jax.random.split(jax.random.fold_in(key, k), e.particles))
            slopes = gradient(cloud, x[batch], y[batch])
            return tuple(p - e.learning_rate * (g + decay * p) for p, g in zip(cloud, slopes, strict=True))

        pieces = jnp.split(start, places, axis=1)
        cloud = tuple(p.reshape(-1, *shape) for p, shape in zip(pieces, e.shapes, strict=True))
        cloud = jax.lax.fori_loop(0, count, step, cloud)
        return jnp.concatenate([p.reshape(e.particles, -1) for p in cloud], axis=1)

    def compute(seed: int, count: int) -> np.ndarray:
        return np.asarray(moved(e.start, jax.random.key(seed), jnp.int32(count)))

    return Side(name, paced(compute, e.checked, steps), e.particles * steps)


def torch_sides(problem: ss.EmpiricalRisk, e: Ensemble) -> list[Side]:
    """PyTorch's, which take `checked` steps whether they are compared or timed."""
    x, y = (np.asarray(each) for each in problem.data)
    numbers = {"rate": e.learning_rate, "decay": float(problem.weight_decay), "batch": e.batch_size}
    inputs = {"x": x, "y": y, "start": e.start, "steps": e.checked} | numbers
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    work = float(e.particles * e.checked)
    settings = {TORCH: (WITHOUT, arrays, work), TORCH_WITH: (WITH, arrays, work)}
    return asked("torch", "torch_batches_side.py", settings, install=True)


def sides(e: Ensemble, quick: bool) -> list[Side]:
    problem = problem_of(e)
    count, batch = len(problem.data[0]), e.batch_size
    return [
        own_side(OWN, problem, e, WITHOUT),
        given_side(problem, e),
        own_side(OWN_WITH, problem, e, WITH),
        scan_side(CHOICE, problem, e, lambda k: jax.random.choice(k, count, (batch,), replace=False), e.slow),
        scan_side(TOP_K, problem, e, lambda k: jax.lax.top_k(jax.random.uniform(k, (count,)), batch)[1], e.slow),
        scan_side(RANDINT, problem, e, lambda k: jax.random.randint(k, (batch,), 0, count), e.steps),
        *([] if quick else torch_sides(problem, e)),
    ]


def check(e: Ensemble, clouds: dict[str, np.ndarray]) -> float:
    """The largest gap of mean losses and total variances within each of the two laws, in standard errors."""
    problem = problem_of(e)
    gaps = [0.0]
    for one, other in itertools.combinations(clouds, 2):
        if (one in REPLACING) == (other in REPLACING):
            gap = largest_gap(problem, clouds[one], clouds[other])
            if not gap <= harness.SIGMAS:
                raise ValueError(f"loss or variance of {one} and {other} lie {gap:.1f} standard errors apart")
            gaps.append(gap)
    return max(gaps)


def jobs(quick: bool) -> list[harness.Job]:
    ensembles = {
        "digits-64": (
            "64 digits MLPs, B = 32, without replacement",
            lambda: digits(64, *((20, 400, 3) if quick else (100, 1_000, 20))),
            {CHOICE: 40, GIVEN: 0.85},
        ),
        "digits-1024": (
            "1,024 digits MLPs, B = 32, without replacement",
            lambda: digits(1_024, 20, 50, 3),
            {GIVEN: 0.85},
        ),
        "logistic": (
            "10,000 logistic regressions (569 × 2), B = 8, without replacement",
            lambda: logistic(10_000, 20, 200, 2),
            {},
        ),
    }
    if quick:
        ensembles = {"digits-64": ensembles["digits-64"]}
    return [job_of(name, title, make(), targets, quick) for name, (title, make, targets) in ensembles.items()]


def job_of(name: str, title: str, e: Ensemble, targets: dict[str, float], quick: bool) -> harness.Job:
    return harness.Job(name, title, "particle-steps", lambda: sides(e, quick), lambda clouds: check(e, clouds), targets)
