"""The time loop: the same cloud however it is cut, and errors before anything is compiled."""

import importlib
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tqdm import tqdm

import sgdsim as ss

KEY = jax.random.key(0)
WELL = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(1.0))
START = ss.Gaussian([-1.0, 0.0], 0.04)


def sgd(**changes):
    return ss.SGD(WELL, **{"learning_rate": 0.1, "batch_size": 1} | changes)


def logistic():
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(60, 2)), np.sign(rng.normal(size=60)))
    return ss.EmpiricalRisk(ss.networks.logistic_loss, data, init=np.zeros(2), weight_decay=0.1)


@pytest.mark.parametrize(
    "process", [sgd(), sgd(momentum=0.5), ss.Langevin.limit_of(sgd())], ids=["sgd", "ball", "langevin"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_small_cloud_is_the_start_of_a_large_one_bit_for_bit(process, dtype):
    def run(particles):
        return ss.simulate(process, START, particles=particles, steps=60, save_every=20, key=KEY, dtype=dtype).particles

    # Up to jax 0.9 or before, XLA contracts a sum of Heun's another way in loops that it divides: one bit in a hundred
    # particles. 0.7.2 has it, 0.10.1 and 0.12 have not.
    old = jax.__version_info__ < (0, 10) and isinstance(process, ss.Langevin) and dtype == "float64"
    large = run(10_000)
    assert large.dtype == dtype
    for particles in (1_000, 1, 5, 1_001):  # also less than a vector register, and no multiple of one
        np.testing.assert_allclose(run(particles), large[:, :particles], rtol=0, atol=4e-16 if old else 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_make_the_same_cloud_bit_for_bit(monkeypatch, dtype):
    """Shares of one size but for the last; what a tally keeps is put together in their order."""
    loop = importlib.import_module("sgdsim.ensemble.simulate")

    def run(threads):
        monkeypatch.setattr(loop, "_threads", lambda process, count: threads)
        keywords = {"particles": 1_001, "steps": 60, "save_every": 20, "key": KEY, "dtype": dtype}
        return ss.simulate(sgd(momentum=0.5), START, tally=ss.Totals(lambda x, dx: x * dx), **keywords)

    alone, *shared = run(1), run(2), run(3)
    for each in shared:
        np.testing.assert_array_equal(each.particles, alone.particles)
        jax.tree.map(np.testing.assert_array_equal, each.tallied, alone.tallied)


def test_an_error_in_one_thread_ends_the_run(monkeypatch):
    loop = importlib.import_module("sgdsim.ensemble.simulate")
    monkeypatch.setattr(loop, "_threads", lambda process, count: 2)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tqdm, "update", interrupted)
    begin = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        ss.simulate(sgd(), START, particles=4_000, steps=2**31, key=KEY)
    assert time.perf_counter() - begin < 60  # two billion steps would take days


@pytest.mark.parametrize("sampling", ["with-replacement", "without-replacement", "epoch"])
def test_chunks_make_the_same_cloud(sampling):
    whole, cut = (
        ss.simulate(
            ss.SGD(logistic(), learning_rate=0.5, batch_size=7, sampling=sampling),
            START,
            particles=300,
            steps=40,
            save_every=15,
            chunk_size=chunk,
            key=KEY,
        ).particles
        for chunk in (None, 77)
    )
    assert np.allclose(whole, cut, atol=1e-12)  # to rounding: the data enter by a product


@pytest.mark.slow
def test_one_device_equals_four(tmp_path):
    script = """
import sys, jax, numpy as np, sgdsim as ss
well = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), ss.GaussianNoise(1.0))
sgd = ss.SGD(well, learning_rate=0.1, batch_size=1)
run = dict(particles=10_003, steps=100, save_every=50, key=jax.random.key(0))
out = [ss.simulate(p, ss.Gaussian([-1.0, 0.0], 0.04), **run).particles for p in (sgd, ss.Langevin.limit_of(sgd))]
np.save(sys.argv[1], np.stack(out))
print(jax.device_count())
"""
    clouds = []
    for devices in (1, 4):
        path = tmp_path / f"{devices}.npy"
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_PLATFORMS": "cpu",
        }
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], env=environment, capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == devices
        clouds.append(np.load(path))
    assert np.array_equal(*clouds)


def test_diverged_particles_are_marked_counted_and_stay_so():
    steep = ss.NoisyPotential(ss.potentials.DoubleWell(dim=1), ss.GaussianNoise(1.0))
    start = np.array([[0.5], [30.0], [-0.5]])
    run = ss.simulate(ss.SGD(steep, learning_rate=0.1, batch_size=1), start, steps=40, save_every=10, key=KEY)
    assert run.num_diverged == 1
    assert np.array_equal(run.diverged, [[False] * 3] + [[False, True, False]] * 4)
    assert "1 diverged" in repr(run)
    assert np.all(np.isfinite(run.particles[:, [0, 2]]))


def test_what_a_trajectory_says_of_itself():
    run = ss.simulate(sgd(), START, particles=100, steps=10, save_every=5, key=KEY, dtype="float32", progress="cloud")
    for part in ("3 snapshots × 100 particles × 2 coordinates", "float32", "MB", "t = 0 … 1", "10 steps", "0 diverged"):
        assert part in repr(run)
    assert run.particle_steps_per_second > 0


def test_changing_a_number_does_not_trace_again():
    traced = []

    def potential(x):
        traced.append(x)
        return jnp.sum(x * x)

    problem = ss.NoisyPotential(potential, ss.GaussianNoise(1.0), dim=2)
    run = {"particles": 10, "steps": 3, "key": KEY}
    ss.simulate(ss.SGD(problem, learning_rate=0.1, batch_size=1), START, **run)
    before = len(traced)
    ss.simulate(ss.SGD(problem, learning_rate=0.2, batch_size=1), START, **run)
    assert len(traced) == before


def test_starts():
    points = np.arange(6.0).reshape(3, 2) / 10
    run = ss.simulate(sgd(), points, steps=0, key=KEY)
    assert np.array_equal(run.particles[0], points)
    run = ss.simulate(sgd(), points[1], particles=4, steps=0, key=KEY)
    assert np.array_equal(run.particles[0], np.tile(points[1], (4, 1)))
    wide = ss.Gaussian([1.0, 2.0], [[1.0, 0.6], [0.6, 2.0]])
    x = ss.simulate(sgd(), wide, particles=100_000, steps=0, key=KEY).particles[0]
    # 2 means and 3 covariances at 4.5 standard errors
    assert np.all(np.abs(x.mean(0) - wide.mean) < 4.5 * np.sqrt(np.diag(wide.covariance) / len(x)))
    assert np.allclose(np.cov(x.T), wide.covariance, atol=4.5 * 2 * np.sqrt(2 / len(x)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": -1}, "steps must be a whole number"),
        ({"particles": 0}, "particles must be a positive whole number"),
        ({"particles": None}, "particles must be given"),
        ({"save_every": 0}, "save_every must be a positive whole number"),
        ({"chunk_size": 0}, "chunk_size must be a positive whole number"),
        ({"dtype": "int32"}, "dtype must be float32"),
        ({"start": np.zeros(3)}, r"start must have shape \(2,\) or \(P, 2\), got \(3,\)"),
        ({"start": np.array([np.nan, 0.0])}, "start must be finite"),
        ({"start": np.zeros((5, 2))}, "particles must be 5"),
        ({"start": ss.Gaussian([0.0], 1.0)}, "start must have the problem's dimension 2"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"start": START, "steps": 3, "particles": 10, "key": KEY} | changes
    with pytest.raises(ValueError, match=message):
        ss.simulate(sgd(), **arguments)


def test_a_loss_that_is_not_finite_at_the_start_is_named():
    problem = ss.NoisyPotential(lambda x: jnp.log(x[0]), ss.GaussianNoise(1.0), dim=1)
    with pytest.raises(ValueError, match="loss must be finite with a finite gradient where the cloud starts"):
        ss.simulate(ss.SGD(problem, learning_rate=0.1, batch_size=1), -np.ones(1), particles=2, steps=1, key=KEY)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (lambda x: -jnp.eye(1), "covariance must be positive semidefinite"),
        (lambda x: jnp.eye(2), r"covariance must map \(1,\) to \(1, 1\), got shape \(2, 2\)"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_a_field_that_is_no_covariance_at_the_start_is_named(covariance, message):
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(), ss.GaussianNoise(covariance))
    with pytest.raises(ValueError, match=message):
        ss.simulate(ss.SGD(problem, learning_rate=0.1, batch_size=1), np.ones(1), particles=2, steps=1, key=KEY)


@pytest.mark.parametrize(
    ("mean", "covariance", "message"),
    [
        ([[0.0]], 1.0, "mean must be a finite vector"),
        ([np.inf], 1.0, "mean must be a finite vector"),
        ([0.0, 0.0], -1.0, "covariance must be positive semidefinite"),
        ([0.0, 0.0], [1.0, 1.0, 1.0], "covariance must fit the mean's 2 entries"),
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], "covariance must be positive semidefinite"),
    ],
)
def test_bad_gaussians(mean, covariance, message):
    with pytest.raises(ValueError, match=message):
        ss.Gaussian(mean, covariance)


def test_a_run_that_is_saved_at_every_step_may_be_long():
    """The number of steps a call takes must not grow while the next save is one step away."""
    run = ss.simulate(sgd(), START, particles=4, steps=1_500, save_every=1, key=KEY)
    assert len(run.steps) == 1_501
