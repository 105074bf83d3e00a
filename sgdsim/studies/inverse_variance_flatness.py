"""Are sharp directions the wide ones? Feng and Tu's relation, with the sampling and the windows that mimic it."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from sgdsim.draws import key_words
from sgdsim.ensemble import Trajectory, simulate
from sgdsim.measures.flatness import flatness
from sgdsim.measures.operators import Hessian, NoiseCovariance
from sgdsim.measures.spectrum import Operator, top_eigenpairs
from sgdsim.problems import EmpiricalRisk
from sgdsim.processes import SGD
from sgdsim.studies.finite_sum import check_counts, checked_risk
from sgdsim.studies.result import process_settings
from sgdsim.studies.variance_flatness import PrincipalDirections, Sampled, VarianceFlatness
from sgdsim.theory import heavy_ball_variance
from sgdsim.theory.epoch_sampling import epoch_crossover, epoch_variance, window_share

LOOKS = 100  # snapshots of a window
FLAT_RUNS = 8  # runs whose flatness is measured, loss by loss
FEWEST = 8  # replicas


def inverse_variance_flatness(
    sgd: SGD,
    start: Float[np.ndarray | Array, " d"] | list | None = None,
    *,
    key: Key[Array, ""],
    settle: int = 20_000,
    relax: int = 200,
    window: int = 50,
    replicas: int = 32,
    directions: int = 40,
    components: int = 20,
    progress: bool = False,
    name: str = "inverse_variance_flatness",
) -> VarianceFlatness:
    """Weight variance against curvature: with independent batches and reshuffled epochs, over replicas and over time.

    In equilibrium a flat direction is a wide one, σ² = T/k. Feng and Tu find the reverse in trained networks: along the
    principal directions of one run's window, σ² is the larger the *smaller* the flatness F. Two things beside the
    landscape do the same, and here each is switched on by itself:

    - **reshuffled epochs**: their batches make up for each other, which takes the variance off directions flatter than
      3/(ηM), M batches in an epoch (`theory.epoch_sampling`: one power of k more in the mean over an epoch, two at its
      end). Independent batches of the same size are the control.
    - **the window**: what a run has not had the time to do does not show in it, which takes the variance off directions
      whose relaxation is longer (`window_share`). The variance over replicas at one time has no window.

    One run goes from `start` to late weights; from there the replicas part, which relax and then are looked at, with
    both samplings. So flat directions may not have spread in full over replicas, and the laws are taken at the times of
    the looks, after a start at a point. Directions are the leading eigenvectors of the Hessian at the mean of all late
    weights, the same for all; the laws use D there, and hold exactly on a quadratic with noise that does not depend on
    x. Principal directions of each run are looked at beside them, with flatness as Feng and Tu define it. Errors are
    over replicas of the one place that the first run led to; another place has curvatures of its own.

    Args:
        sgd: the chain, over an `EmpiricalRisk`. Its sampling is the control's, or `"without-replacement"` where it is
            `"epoch"`; the other is always `"epoch"`.
        start: one vector (d,); by default the risk's `init`.
        key: a typed `jax.random.key`.
        settle: steps of the run that all replicas start from.
        relax: epochs of M = ⌊N/B⌋ steps that pass before the window.
        window: epochs that are looked at, about a hundred times.
        replicas: of each sampling, at least 8.
        directions: of the Hessian, at most d are.
        components: principal directions of each run's window.
        progress: show bars.
        name: what to call the problem in the report.

    Raises:
        TypeError: on a process that is not SGD over an `EmpiricalRisk`.
        ValueError: on counts that cannot be, fewer than 2 batches in an epoch, or fewer than 8 replicas that have not
            diverged.

    Source: Feng and Tu, "The inverse variance–flatness relation in stochastic gradient descent is critical for finding
    flat minima", PNAS 2021; Kühn and Rosenow, arXiv:2306.05300, 2023, for the effect of epochs.
    """
    key_words(key)
    risk, batches = _checked(sgd, settle, relax, window, replicas, directions, components)
    point = risk.x0 if start is None else jnp.asarray(start)
    if point.shape != (sgd.dim,):
        raise ValueError(f"start must be one vector of shape ({sgd.dim},), got {point.shape}")
    keys = jax.random.split(key, 6)
    control = "without-replacement" if sgd.sampling == "epoch" else sgd.sampling
    chains = [_resampled(sgd, sampling) for sampling in (control, "epoch")]
    bar = f"{name}, run" if progress else False
    trunk = simulate(
        chains[0], point, particles=1, steps=settle, save_every=max(settle, 1), key=keys[0], progress=bar
    ).particles[-1, 0]
    if not np.all(np.isfinite(trunk)):
        raise ValueError("learning_rate must let the run survive, but it diverged")
    runs, lost = [], []
    for chain, own in zip(chains, keys[1:3], strict=True):
        bar = f"{name}, {chain.sampling}" if progress else False
        run = _late(chain, trunk, (relax, window), batches, replicas, own, bar)
        kept = ~run.diverged[-1]
        if np.sum(kept) < FEWEST:
            raise ValueError(f"learning_rate must let {FEWEST} replicas survive at least, got {np.sum(kept)}")
        runs.append((run, kept))
        lost.append(replicas - int(np.sum(kept)))
    centre = np.mean([run.particles[:, kept].mean(axis=(0, 1), dtype=np.float64) for run, kept in runs], axis=0)
    hessian, noise = Hessian(risk, centre), NoiseCovariance(risk, centre)
    pairs = top_eigenpairs(hessian, min(directions, sgd.dim), key=keys[3])
    positive = np.asarray(pairs.values.value) > 0
    curvatures, rows = np.asarray(pairs.values.value)[positive], pairs.vectors[positive]
    if len(rows) < 3:
        raise ValueError(f"directions must hold three of positive curvature at least, got {len(rows)}")
    along = np.asarray(_forms(noise, jnp.asarray(rows)), dtype=np.float64)
    sides = []
    for chain, (run, kept), out in zip(chains, runs, lost, strict=True):
        times = relax * batches + run.steps
        law = _laws(chain, risk.num_examples, curvatures, along, times)
        squares = _squares(run.particles[:, kept], rows)
        principal = _principal(risk, hessian, run.particles[:, kept], components)
        sides.append(Sampled(chain.sampling, squares, law, principal, out))
    extra = {"settle": settle, "relax": relax, "window": window, "replicas": replicas, "batches_per_epoch": batches}
    return VarianceFlatness(
        name=name,
        settings=process_settings(sgd) | extra,
        curvatures=curvatures,
        noise=along,
        dropped=int(np.sum(~positive)),
        crossover=epoch_crossover(float(sgd.effective_learning_rate), risk.num_examples, sgd.batch_size),
        independent=sides[0],
        reshuffled=sides[1],
    )


def _late(
    chain: SGD,
    point: Float[np.ndarray, " d"],
    epochs: tuple[int, int],
    batches: int,
    replicas: int,
    key: Key[Array, ""],
    progress: str | bool,
) -> Trajectory:
    """The window of replicas that have parted at a point: whole epochs before it, looks in all phases, its end one."""
    keys, (relax, window) = jax.random.split(key), (n * batches for n in epochs)
    early = simulate(
        chain, point, particles=replicas, steps=relax, key=keys[0], dtype="float32", progress=progress
    ).particles[-1]
    early = np.where(np.isfinite(early), early, point)  # a diverged one cannot start; it will diverge again
    every = max(window // LOOKS, 1)
    while math.gcd(every, batches) > 1 and every < window:  # else the same phases would be seen again and again
        every += 1
    return simulate(chain, early, steps=window, save_every=every, key=keys[1], dtype="float32", progress=progress)


def _squares(
    particles: Float[np.ndarray, "T R d"], rows: Float[np.ndarray, "m d"]
) -> dict[str, Float[np.ndarray, "R m"]]:
    """Each replica's squared deviation along each direction, in the three ways of measuring."""
    y = np.asarray(particles, dtype=np.float64) @ rows.T
    count = y.shape[1]
    apart = (y - y.mean(axis=1, keepdims=True)) ** 2 * count / (count - 1)
    return {"ensemble": apart.mean(axis=0), "end": apart[-1], "window": np.var(y, axis=0)}


def _laws(
    chain: SGD, count: int, k: Float[np.ndarray, " m"], noise: Float[np.ndarray, " m"], times: np.ndarray
) -> dict[str, Float[np.ndarray, " m"] | None]:
    """Variances of a quadratic at these steps from a point: their mean, at the last, and in a steady window."""
    eta, size = float(chain.learning_rate), chain.batch_size
    if chain.has_momentum or np.max(k) * eta >= 2:
        return {"ensemble": None, "end": None, "window": None}
    if chain.sampling == "epoch":
        variances = np.asarray(epoch_variance(k, noise, eta, count, size, times[:, None]))
        return {"ensemble": np.mean(variances, axis=0), "end": variances[-1], "window": None}
    minibatch = chain.sampling_factor * noise / size
    steady = np.array([heavy_ball_variance(a, c, eta, 0.0) for a, c in zip(k, minibatch, strict=True)])
    spread = steady * (1 - (1 - eta * k) ** (2 * times[:, None]))
    seen = steady * window_share((1 - eta * k) ** int(times[1] - times[0]), len(times))
    return {"ensemble": spread.mean(axis=0), "end": spread[-1], "window": seen}


def _principal(
    risk: EmpiricalRisk, hessian: Hessian, particles: Float[np.ndarray, "T R d"], components: int
) -> PrincipalDirections:
    """Variances, curvatures and flatness along the principal directions of each run's window."""
    variances, curvatures, widths, trends = [], [], [], []
    for run in np.moveaxis(np.asarray(particles, dtype=np.float64), 1, 0):
        middle = run.mean(axis=0)
        left, sizes, rows = np.linalg.svd(run - middle, full_matrices=False)
        trends.append(np.corrcoef(left[:, 0], np.arange(len(run)))[0, 1] ** 2)
        rows = rows[: min(components, len(run) - 1)]
        variances.append(sizes[: len(rows)] ** 2 / len(run))
        curvatures.append(np.asarray(_forms(hessian, jnp.asarray(rows)), dtype=np.float64))
        if len(widths) < FLAT_RUNS:
            widths.append(flatness(risk, middle, rows))
    return PrincipalDirections(np.array(variances), np.array(curvatures), np.array(widths), np.array(trends))


@eqx.filter_jit
def _forms(operator: Operator, rows: Float[Array, "m d"]) -> Float[Array, " m"]:
    """v·Av of each row."""
    return jax.lax.map(lambda v: jnp.sum(v * operator(v)), rows)


def _resampled(sgd: SGD, sampling: str) -> SGD:
    return SGD(
        sgd.problem,
        learning_rate=float(sgd.learning_rate),
        batch_size=sgd.batch_size,
        momentum=float(sgd.momentum),
        sampling=sampling,
    )


def _checked(
    sgd: Any, settle: int, relax: int, window: int, replicas: int, directions: int, components: int
) -> tuple[EmpiricalRisk, int]:
    """The risk and M, or an error that names what is wrong."""
    risk = checked_risk(sgd)
    check_counts(settle=(settle, 0), relax=(relax, 1), window=(window, 2), replicas=(replicas, FEWEST))
    check_counts(directions=(directions, 3), components=(components, 3))
    batches = risk.num_examples // sgd.batch_size
    if batches < 2:
        raise ValueError(f"batch_size must leave two batches in an epoch at least, got {sgd.batch_size}")
    return risk, batches
