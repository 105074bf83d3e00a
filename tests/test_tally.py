"""Tallies: what is kept of every step is what the steps were, and keeping it changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.ensemble import FirstPassage, Previous, Totals, block_means
from sgdsim.ensemble.first_passage import NEVER

KEY = jax.random.key(0)
PROBLEM = ss.NoisyPotential(ss.potentials.Quadratic([[1.0, 0.3], [0.3, 0.5]]), ss.GaussianNoise(1.0))
SGD = ss.SGD(PROBLEM, learning_rate=0.2, batch_size=2)
START = ss.Gaussian([1.0, -1.0], 0.25)


def run(tally=None, process=SGD, steps=12, every=4, particles=50, **options):
    return ss.simulate(
        process, START, particles=particles, steps=steps, save_every=every, key=KEY, tally=tally, **options
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_a_tally_does_not_move_the_particles(dtype, momentum):
    process = ss.SGD(PROBLEM, learning_rate=0.2, batch_size=2, momentum=momentum)
    watched = run(Totals(lambda x, dx: x), process, dtype=dtype)
    np.testing.assert_array_equal(watched.particles, run(None, process, dtype=dtype).particles)
    assert run(None, process).tallied is None


@pytest.mark.parametrize("chunk_size", [None, 7])
def test_totals_are_the_sums_over_every_step(chunk_size):
    path = run(every=1)
    x, dx = path.particles[:-1], np.diff(path.particles, axis=0)
    terms = np.concatenate([x * dx, np.sum(dx**2, axis=-1, keepdims=True)], axis=-1)  # (steps, P, 3)

    def observable(x, dx):
        return jnp.concatenate([x * dx, jnp.sum(dx**2, keepdims=True)])

    for every in (1, 2):
        watched = run(Totals(observable, every=every), chunk_size=chunk_size)
        expected = terms[::every].reshape(3, 4 // every, 50, 3).mean(axis=1)
        np.testing.assert_allclose(block_means(watched.tallied), expected, rtol=1e-12, atol=1e-15)


def test_totals_in_float32_keep_what_a_plain_sum_would_lose():
    tenth = Totals(lambda x, dx: jnp.full(1, 0.1, x.dtype))
    watched = run(tenth, steps=200_000, every=100_000, particles=8, dtype="float32")
    total = watched.tallied[0]
    assert total.dtype == np.float32
    exact = float(np.float32(0.1))
    np.testing.assert_allclose(block_means(watched.tallied), exact, rtol=1e-9)
    plain = np.float32(0)
    for _ in range(200_000):
        plain += np.float32(0.1)
    assert abs(plain / 200_000 - exact) > 1e-5


def test_previous_holds_the_last_increment():
    path, watched = run(every=1), run(Previous())
    np.testing.assert_array_equal(watched.tallied, path.particles[[0, 3, 7, 11]])


def test_first_passage_is_the_first_step_in_the_target():
    path, watched = run(every=1), run(FirstPassage(lambda x: x[0]))
    inside = path.particles[:, :, 0] <= 0
    first = np.where(inside.any(axis=0), np.argmax(inside, axis=0), NEVER)
    np.testing.assert_array_equal(watched.tallied[-1], first)
    assert 0 < np.sum(first == 0) < np.sum(first != NEVER) <= 50
    for i, k in enumerate(watched.steps):
        np.testing.assert_array_equal(watched.tallied[i], np.where(first <= k, first, NEVER))


def test_the_bridge_crosses_as_brownian_motion_does():
    # free Brownian motion from 1, watched after one step of length 1: P(min < 0) = 2 P(W₁ < −1), exactly
    free = ss.Langevin(
        ss.ItoDiffusion(drift=lambda x: 0 * x, diffusion=lambda x: jnp.full((1, 1), 0.5), dim=1), step_size=1.0
    )
    n, exact = 200_000, 0.31731050786291415
    for bridge, truth in ((free.limit.diffusion, exact), (None, exact / 2)):
        found = ss.simulate(
            free, [1.0], particles=n, steps=1, key=KEY, tally=FirstPassage(lambda x: x[0], diffusion=bridge)
        )
        share = np.mean(found.tallied[-1] == 1)
        assert abs(share - truth) <= 4 * np.sqrt(truth * (1 - truth) / n)  # 2 comparisons


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument():
    for wrong in (3, Previous):
        with pytest.raises(TypeError, match="tally must be an object with the methods of Tally"):
            run(wrong)
    with pytest.raises(ValueError, match="every must be a positive whole number"):
        Totals(lambda x, dx: x, every=0)
    with pytest.raises(TypeError, match="observable must be a callable"):
        Totals(1)
    with pytest.raises(ValueError, match=r"observable must return a vector \(m,\), got ShapeDtypeStruct\(shape=\(\)"):
        run(Totals(lambda x, dx: x[0]))
    with pytest.raises(TypeError, match="level must be a JAX function"):
        FirstPassage(0.0)
    with pytest.raises(TypeError, match="diffusion must be a JAX function"):
        FirstPassage(lambda x: x[0], diffusion=1.0)
    with pytest.raises(ValueError, match="level must return one number"):
        run(FirstPassage(lambda x: x))
    with pytest.raises(ValueError, match=r"diffusion must return a matrix \(2, 2\), got shape \(2,\)"):
        run(FirstPassage(lambda x: x[0], diffusion=lambda x: x))
    line = ss.NoisyPotential(ss.potentials.DoubleWell(1), ss.GaussianNoise(1.0))
    process = ss.SGD(line, learning_rate=0.1, batch_size=1)
    with pytest.raises(ValueError, match="swept_area must be given positions in the plane, got 1"):
        ss.simulate(process, [0.0], particles=9, steps=1, key=KEY, tally=Totals(ss.measures.swept_area))
    with pytest.raises(ValueError, match="tallied must be what a run with a Totals holds, got NoneType"):
        block_means(run().tallied)
    with pytest.raises(ValueError, match="tallied must hold a term between any two saved times"):
        block_means(run(Totals(lambda x, dx: x, every=100), every=1).tallied)
