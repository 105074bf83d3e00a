"""Mean first passage times with censoring, against exact laws."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.ensemble import FirstPassage, Trajectory
from sgdsim.ensemble.first_passage import NEVER
from sgdsim.measures.passage import passage_time, tail_drift


def trajectory(times, end, diverged=None, step=1e-4):
    """What a run that ends at `end` would hold of these passage times."""
    steps = np.ceil(np.asarray(times) / step).astype(np.int64)
    last = round(end / step)
    tallied = np.stack([np.full(len(steps), NEVER), np.where(steps <= last, steps, NEVER)]).astype(np.uint32)
    particles = np.zeros((2, len(steps), 1))
    if diverged is not None:
        particles[1, diverged] = np.nan
    return Trajectory(
        times=np.array([0.0, last * step]),
        steps=np.array([0, last]),
        particles=particles,
        seconds=1.0,
        tallied=tallied,
        tally=FirstPassage(lambda x: x[0]),
    )


def late_exponential(n, seed):
    """A delay that no exponential has, then an exponential of mean 2: ⟨τ⟩ = 2.5, exponential beyond 1."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, size=n) + rng.exponential(2.0, size=n)


def test_censored_and_complete_runs_read_the_same_mean():
    times = late_exponential(100_000, seed=0)
    full, cut = trajectory(times, 100.0), trajectory(times, 4.0)
    assert passage_time(full).value == pytest.approx(np.mean(times), abs=1e-4)
    assert passage_time(full).agrees_with(2.5, sigmas=4)  # 2 comparisons
    assert passage_time(cut, tail_from=1.5).agrees_with(2.5, sigmas=4)
    assert not passage_time(cut, tail_from=0.0).agrees_with(2.5, sigmas=4)  # the delay is no exponential's
    assert tail_drift(cut, tail_from=1.5).agrees_with(0.0, sigmas=4)
    assert not tail_drift(cut, tail_from=0.0).agrees_with(0.0, sigmas=10)


@pytest.mark.parametrize("end", [3.0, 50.0])
@pytest.mark.slow
def test_the_error_is_the_spread_over_fresh_clouds(end):
    found = [passage_time(trajectory(late_exponential(500, seed), end), tail_from=1.0) for seed in range(600)]
    values = np.array([e.value for e in found])
    assert np.mean([e.standard_error for e in found]) == pytest.approx(values.std(ddof=1), rel=0.1)  # 3.5 sigmas
    assert values.mean() == pytest.approx(2.5, abs=4 * values.std() / np.sqrt(600) + 2.5 / 500)


def test_escape_from_a_quadratic_well_against_quadrature():
    # dX = −X dt + √(2T) dW from 0 to |x| = 1 at T = ½: E τ = ∫₀¹ e^{y²/2T} ∫₋ᵧʸ e^{−z²/2T} dz dy / 2T
    temperature = 0.5
    y = np.linspace(0, 1, 4001)
    inner = np.concatenate([[0.0], np.cumsum(np.diff(y) * (np.exp(-(y[1:] ** 2)) + np.exp(-(y[:-1] ** 2))) / 2)])
    exact = np.trapezoid(np.exp(y**2) * inner, y) / temperature
    problem = ss.NoisyPotential(ss.potentials.Quadratic([[1.0]]), ss.GaussianNoise(1.0))
    limit = ss.Langevin.limit_of(ss.SGD(problem, learning_rate=0.01, batch_size=1))
    limit = ss.Langevin(
        dataclasses.replace(limit.limit, temperature=jax.numpy.asarray(temperature)), step_size=0.01, substeps=1
    )
    runs = {}
    for bridge in (limit.limit.diffusion, None):
        tally = FirstPassage(lambda x: 1 - abs(x[0]), diffusion=bridge)
        runs[bridge is not None] = passage_time(
            ss.simulate(limit, [0.0], particles=40_000, steps=400, key=jax.random.key(1), tally=tally)
        )
    assert runs[True].value == pytest.approx(exact, abs=4 * runs[True].standard_error + 0.005)  # a step's resolution
    assert runs[False].value > exact + 8 * runs[False].standard_error  # watched at steps only: too late, by O(√h)


def test_particles_that_diverge_are_left_out_and_counted():
    times = late_exponential(1000, seed=2)
    clean = passage_time(trajectory(times, 4.0))
    gone = np.arange(1004) >= 1000
    dirty = passage_time(trajectory(np.concatenate([times, np.full(3, 9.0), [0.5]]), 4.0, diverged=gone))
    assert dirty.left_out == 4
    assert dirty.value == clean.value
    with pytest.raises(ValueError, match="two particles that have not diverged, got 0 of 2"):
        passage_time(trajectory([9.0, 9.0], 4.0, diverged=np.ones(2, bool)))


def test_a_chain_that_explodes_has_not_arrived():
    """At η = 1.2 the quartic well throws every particle out, in growing steps to both sides: past the target too."""
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(1), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=1.2, batch_size=1)
    start = np.concatenate([np.full((200, 1), -3.0), np.full((300, 1), 0.0)])
    runs = {"steps": 200, "key": jax.random.key(0)}
    exploding = ss.simulate(sgd, start[:200], tally=FirstPassage(lambda x: 50 - x[0]), **runs)
    assert exploding.num_diverged == 200
    with pytest.raises(ValueError, match="got 0 of 200"):
        passage_time(exploding)
    tame = ss.SGD(problem, learning_rate=0.05, batch_size=1)
    mixed = ss.simulate(tame, np.where(start < 0, 30.0, 0.0), tally=FirstPassage(lambda x: 0.9 - jnp.abs(x[0])), **runs)
    assert 0 < mixed.num_diverged == passage_time(mixed).left_out


def test_errors_name_the_argument():
    times = late_exponential(200, seed=3)
    with pytest.raises(ValueError, match="tail_from must lie in the run"):
        passage_time(trajectory(times, 4.0), tail_from=4.0)
    with pytest.raises(ValueError, match="trajectory must run longer"):
        passage_time(trajectory(times, 0.1))
    with pytest.raises(ValueError, match="tally=FirstPassage"):
        passage_time(dataclasses.replace(trajectory(times, 4.0), tally=None))
    with pytest.raises(ValueError, match="10 passages in each half"):
        tail_drift(trajectory(times, 0.1))
