"""The fluctuation–dissipation relation: exact in the steady state at any learning rate, and only there."""

import warnings

import jax
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.ensemble import Totals
from sgdsim.measures.fluctuation_dissipation import (
    FluctuationDissipation,
    NotStationaryWarning,
    fluctuation_dissipation,
)
from sgdsim.studies import preset


def residual(sgd, start, *, particles, steps, every=None, seed=0, since=None, centre=None):
    tally = Totals(FluctuationDissipation(sgd, centre))
    key = jax.random.key(seed)
    cloud = ss.simulate(sgd, start, particles=particles, steps=steps, save_every=every, key=key, tally=tally)
    return fluctuation_dissipation(cloud, since=since)


def sgd_of(name, **settings):
    chosen = preset(name)
    problem, start = chosen.build()
    given = {"learning_rate": chosen.learning_rate, "batch_size": chosen.batch_size, "sampling": chosen.sampling}
    return ss.SGD(problem, **(given | settings)), start


@pytest.mark.parametrize("centre", [None, [1.0, -2.0]])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_holds_on_a_quadratic_with_unequal_curvatures_at_large_rates(momentum, centre):
    hessian, noise = [[2.0, 0.5], [0.5, 0.4]], [[1.0, 0.3], [0.3, 2.0]]
    sgd = ss.SGD(
        ss.NoisyPotential(ss.potentials.Quadratic(hessian, [0.5, 0.5]), ss.GaussianNoise(noise)),
        learning_rate=0.7,
        batch_size=1,
        momentum=momentum,
    )
    start = ss.Gaussian([0.5, 0.5], 1.0)
    found = residual(sgd, start, particles=2_000, steps=400, every=200, centre=centre and np.array(centre))
    assert found.agrees_with(0.0, sigmas=4)  # 4 comparisons
    assert found.standard_error < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("breast-cancer", {}),
        ("breast-cancer", {"learning_rate": 8.0}),
        ("breast-cancer", {"learning_rate": 0.5, "momentum": 0.9}),
        ("two-weight-network", {}),
        ("two-weight-network", {"learning_rate": 0.6}),
    ],
)
def test_holds_on_real_data_and_networks_at_small_and_large_rates(name, settings):
    sgd, start = sgd_of(name, **settings)
    found = residual(sgd, start, particles=2_000, steps=3_000, every=1_500)
    assert found.agrees_with(0.0, sigmas=4)  # 5 comparisons
    assert found.standard_error < 0.02


@pytest.mark.parametrize("name", ["breast-cancer", "two-weight-network"])
def test_flags_a_run_that_was_stopped_before_its_steady_state(name):
    sgd, start = sgd_of(name)
    with pytest.warns(NotStationaryWarning, match="not in its steady state"):
        found = residual(sgd, start, particles=1_000, steps=20, every=10)
    assert abs(found.z()) > 6


@pytest.mark.slow
def test_the_error_is_the_spread_over_fresh_clouds():
    sgd = ss.SGD(
        ss.NoisyPotential(ss.potentials.Quadratic([[1.0]]), ss.GaussianNoise(1.0)), learning_rate=0.5, batch_size=1
    )
    tally, particles = Totals(FluctuationDissipation(sgd)), 100
    start = np.sqrt(0.5 / 1.5) * np.random.default_rng(0).normal(size=(300 * particles, 1))
    cloud = ss.simulate(sgd, start, steps=40, save_every=20, key=jax.random.key(1), tally=tally)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotStationaryWarning)
        found = [
            fluctuation_dissipation(part(cloud, i * particles, (i + 1) * particles), since=0.0) for i in range(300)
        ]
    spread = np.std([e.value for e in found], ddof=1)
    assert np.mean([e.standard_error for e in found]) == pytest.approx(spread, rel=0.15)  # 3.7 sigmas


def part(cloud, begin, end):
    return ss.Trajectory(
        times=cloud.times,
        steps=cloud.steps,
        particles=cloud.particles[:, begin:end],
        seconds=1.0,
        tallied=tuple(a[:, begin:end] for a in cloud.tallied),
        tally=cloud.tally,
    )


def test_diverged_particles_are_left_out_and_counted():
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(1), ss.GaussianNoise(1.0))
    sgd = ss.SGD(problem, learning_rate=0.1, batch_size=4)
    start = np.concatenate([np.random.default_rng(0).choice([-1.0, 1.0], size=(500, 1)), np.full((3, 1), 20.0)])
    found = residual(sgd, start, particles=503, steps=200, every=100)
    assert found.left_out == 3
    assert found.agrees_with(0.0, sigmas=4)


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument():
    sgd, start = sgd_of("breast-cancer")
    epoch, _ = sgd_of("breast-cancer", sampling="epoch")
    with pytest.raises(ValueError, match="sampling must draw each batch independently"):
        FluctuationDissipation(epoch)
    with pytest.raises(TypeError, match="sgd must be an SGD process"):
        FluctuationDissipation(start)
    with pytest.raises(ValueError, match="centre must be a finite vector"):
        FluctuationDissipation(sgd, [0.0])
    with pytest.raises(ValueError, match="since must leave two saved times"):
        residual(sgd, start, particles=20, steps=4)
    for tally in (None, Totals(lambda x, dx: x)):  # the second has two numbers as well
        cloud = ss.simulate(sgd, start, particles=20, steps=4, save_every=2, key=jax.random.key(0), tally=tally)
        with pytest.raises(ValueError, match="tally=Totals"):
            fluctuation_dissipation(cloud, since=0.0)


@pytest.mark.slow
def test_a_network_on_digits_reaches_its_steady_state_and_is_flagged_before():
    """64-16-10 on 1,797 digits, weight decay .01: within 4 standard errors after 5 relaxation times, 25 before."""
    model = ss.networks.mlp((64, 16, 10), key=jax.random.key(1))
    data = ss.datasets.digits()
    risk = ss.EmpiricalRisk(ss.networks.cross_entropy, data, init=model, weight_decay=0.01)
    sgd = ss.SGD(risk, learning_rate=0.5, batch_size=32, sampling="without-replacement")
    run = ss.simulate(
        sgd,
        risk.x0,
        particles=32,
        steps=2_000,
        save_every=500,
        key=jax.random.key(0),
        dtype="float32",
        tally=ss.Totals(FluctuationDissipation(sgd), every=25),
    )
    assert run.times[1] * float(risk.weight_decay) >= 2.5  # relaxation times of what weight decay alone holds
    late = fluctuation_dissipation(run, since=run.times[2])
    assert abs(late.z()) < 4 and late.standard_error < 0.03
    with pytest.warns(NotStationaryWarning):
        early = fluctuation_dissipation(run, since=0.0)
    assert abs(early.z()) > 25
