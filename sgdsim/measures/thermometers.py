"""All four thermometers at once, on a cloud of SGD's particles."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from tabulate import tabulate

from sgdsim.draws import Draws, Words, key_words
from sgdsim.measures.curvature import noise_curvature
from sgdsim.measures.diverged import Cloud, finite_rows
from sgdsim.measures.estimate import Estimate
from sgdsim.measures.fluctuation_dissipation import warn_unless_stationary
from sgdsim.measures.ratio import ratio
from sgdsim.measures.temperature import (
    boltzmann_temperature,
    configurational_temperature,
    kinetic_temperature,
    virial_temperature,
)
from sgdsim.processes import SGD

BATCH = 64  # particles whose full gradients are computed at a time
BOLTZMANN_DIMENSIONS = 3  # above, nearest neighbours are too far away to tell a density


@dataclasses.dataclass(frozen=True)
class Thermometers:
    """What four thermometers read off one cloud, in units of the temperature T of dX = −∇f dt + √(2T D(X)) dW.

    Attributes:
        temperature: the prediction s_B η_e/(2B), with η_e = η/(1−μ). For `"epoch"` that of one batch.
        noise: η_e Tr Cov(g_B given x)/(2 Tr D), in any state.
        virial: ⟨(x−c)·∇f⟩/⟨Tr D⟩, in the steady state.
        configurational: ⟨|∇f|²⟩/⟨Tr(D∇²f)⟩, in the steady state.
        boltzmann: the inverse slope of −log ρ against f over σ², in the steady state; None unless D = σ²I and d ≤ 3.
        stationarity: ⟨(x−c)·∇f⟩/((η/2)⟨|g_B|²⟩) − 1, zero in the steady state (no temperature); None where one
            snapshot cannot tell: with momentum, whose velocity it lacks, or reshuffled passes.
    """

    temperature: float
    noise: Estimate
    virial: Estimate
    configurational: Estimate
    boltzmann: Estimate | None
    stationarity: Estimate | None

    def __str__(self) -> str:
        readings = {
            "noise": self.noise,
            "virial": self.virial,
            "configurational": self.configurational,
            "Boltzmann": self.boltzmann,
        }
        over = 1 / self.temperature if self.temperature else np.nan
        rows = [[name, str(found), str(found * over)] for name, found in readings.items() if found is not None]
        table = tabulate(
            [["predicted", f"{self.temperature:.5g}", "1"], *rows],
            headers=["thermometer", "T", "T / predicted"],
            disable_numparse=True,
            stralign="right",
        )
        if self.stationarity is None:
            return f"{table}\nstationarity was not tested: with momentum or reshuffled passes a cloud alone cannot tell"
        return f"{table}\nfluctuation–dissipation residual {self.stationarity}, z = {self.stationarity.z():.1f}"


def thermometers(
    sgd: SGD,
    particles: Cloud | Float[np.ndarray | Array, "T P d"],
    *,
    key: Key[Array, ""],
    centre: Float[np.ndarray | Array, " d"] | None = None,
) -> Thermometers:
    """Read four thermometers off a cloud of independent particles in SGD's steady state.

    Each particle draws one fresh minibatch, which is the noise thermometer's; ∇f, Tr D and Tr(D∇²f) are computed beside
    it (`curvature.noise_curvature`, which samples the last where there is no dense root). All agree with s_B η_e/(2B)
    as η → 0; at finite η each shows an excess of its own, see `measures.temperature`.

    Without momentum the same minibatches tell whether the state is steady: ⟨(x−c)·∇f⟩ = (η/2)⟨|g_B|²⟩ there
    (`fluctuation_dissipation`, which sums it over a run, with momentum as well). Beyond four standard errors a
    `NotStationaryWarning` is given: then the last three do not read a temperature.

    With `"epoch"` sampling a minibatch is one of a fresh pass, and the prediction that of one batch. The cloud is
    colder, as the batches of a pass cancel each other, and the last three show it.

    Args:
        sgd: the chain that the particles come from.
        particles: one snapshot, (P, d), or several of the same particles, (T, P, d). Each particle's numerators and
            denominators are summed over the snapshots, and the errors are of the spread over particles alone.
        key: a typed `jax.random.key`, for the minibatches; another one than the run's.
        centre: c, (d,). By default the virial thermometer takes the cloud's own mean, which makes it sharpest, and the
            stationarity the origin, as Yaida does, because it must see a mean that still moves. The nearer to the cloud
            c is, the sharper it sees the spread.

    Raises:
        ValueError: if the particles or the centre do not fit the problem, all particles have diverged in some snapshot,
            the noise has no covariance or vanishes, or (where Boltzmann's is read) more than six particles coincide or
            fewer than seven are left.
        TypeError: on a key that is not a typed key.

    Source: Yaida (2019) for stationarity; see each thermometer for its own.
    """
    key_words(key)
    places, point = _checked(sgd, particles, centre)
    batch_key, curvature_key = jax.random.split(key)
    fields = _fields(sgd, places, batch_key)
    curvatures = noise_curvature(sgd.problem, places, key=curvature_key)
    (x, f, gradient, minibatch, traces, curvatures), left_out = finite_rows(places, *fields, curvatures)
    count, times, _ = x.shape
    forces, steps = gradient.reshape(count, -1), minibatch.reshape(count, -1)  # snapshots side by side
    traces, curvatures = np.sum(traces, axis=1), np.sum(curvatures, axis=1)
    centres, rate = None if point is None else np.tile(point, times), float(sgd.effective_learning_rate)
    noise = kinetic_temperature(-rate * steps, rate, -forces, traces)
    virial = virial_temperature(x.reshape(count, -1), forces, traces, centres)
    configurational = configurational_temperature(forces, curvatures)
    boltzmann, stationarity = _boltzmann(sgd, x, f), _stationarity(sgd, x, gradient, minibatch, point)
    if stationarity is not None:
        warn_unless_stationary(stationarity)

    def counted(reading: Estimate) -> Estimate:
        return dataclasses.replace(reading, left_out=left_out)

    return Thermometers(
        temperature=float(sgd.temperature),
        noise=counted(noise),
        virial=counted(virial),
        configurational=counted(configurational),
        boltzmann=boltzmann and counted(boltzmann),
        stationarity=stationarity and counted(stationarity),
    )


def _boltzmann(sgd: SGD, x: Float[np.ndarray, "n T d"], f: Float[np.ndarray, "n T"]) -> Estimate | None:
    variance = sgd.problem.isotropic_variance
    if variance is None or sgd.dim > BOLTZMANN_DIMENSIONS:
        return None
    return boltzmann_temperature(np.swapaxes(x, 0, 1), f.T, float(variance))


def _stationarity(
    sgd: SGD,
    x: Float[np.ndarray, "n T d"],
    gradient: Float[np.ndarray, "n T d"],
    minibatch: Float[np.ndarray, "n T d"],
    centre: Float[np.ndarray, " d"] | None,
) -> Estimate | None:
    """The residual of the fluctuation–dissipation relation; None where a cloud alone cannot tell."""
    if sgd.has_momentum or sgd.sampling == "epoch":
        return None
    work = np.sum((x - (0.0 if centre is None else centre)) * gradient, axis=(1, 2))
    dissipated = float(sgd.learning_rate) / 2 * np.sum(minibatch**2, axis=(1, 2))
    return ratio(work, dissipated, name="the minibatch gradient") - 1.0


def _checked(
    sgd: SGD,
    particles: Float[np.ndarray | Array, "..."],
    centre: Float[np.ndarray | Array, "..."] | None,
) -> tuple[Float[np.ndarray, "P T d"], Float[np.ndarray, " d"] | None]:
    """The snapshots of each particle, (P, T, d), and the centre, (d,); what cannot be read raises."""
    if not isinstance(sgd, SGD):
        raise TypeError(f"sgd must be an SGD process, got {type(sgd).__name__}")
    sgd.problem.require_covariance()
    x = np.asarray(particles, dtype=np.float64)
    if x.ndim not in (2, 3) or x.size == 0 or x.shape[-1] != sgd.dim:
        raise ValueError(f"particles must have shape (P, {sgd.dim}) or (T, P, {sgd.dim}), got {x.shape}")
    point = None if centre is None else np.asarray(centre, dtype=np.float64)
    if point is not None and not (point.shape == (sgd.dim,) and np.all(np.isfinite(point))):
        raise ValueError(f"centre must be a finite vector of shape {(sgd.dim,)}, got {point.tolist()}")
    return np.swapaxes(x[None] if x.ndim == 2 else x, 0, 1), point


def _fields(sgd: SGD, places: Float[np.ndarray, "P T d"], key: Key[Array, ""]) -> list[Float[np.ndarray, "P T ..."]]:
    """f, ∇f, a fresh minibatch's gradient and Tr D at each place, in float64 on the host."""
    rows = places.reshape(-1, sgd.dim)
    count = len(rows)
    numbers = np.minimum(np.arange(-(-count // BATCH) * BATCH), count - 1)  # whole batches: a rest would compile again
    fields = _fields_of_rows(sgd, jnp.asarray(rows[numbers], dtype=float), Draws.of(key, numbers))
    return [np.asarray(a[:count], dtype=np.float64).reshape(*places.shape[:2], *a.shape[1:]) for a in fields]


@eqx.filter_jit
def _fields_of_rows(
    sgd: SGD, x: Float[Array, "n d"], draws: Draws
) -> tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"], Float[Array, " n"]]:
    problem = sgd.problem

    def of_batch(batch: tuple[Float[Array, "b d"], tuple[Words, ...]]) -> tuple[Float[Array, "b ..."], ...]:
        y, keys = batch
        own = Draws(keys, draws.step)
        minibatch = problem.minibatch_gradient(y.T, own, sgd.batch_size, sgd.sampling).T
        return jax.vmap(problem.loss)(y), jax.vmap(problem.gradient)(y), minibatch, jax.vmap(problem.noise_trace)(y)

    batches = jax.tree.map(lambda a: a.reshape(-1, BATCH, *a.shape[1:]), (x, draws.keys))
    fields = jax.lax.map(of_batch, batches)
    return tuple(a.reshape(-1, *a.shape[2:]) for a in fields)
