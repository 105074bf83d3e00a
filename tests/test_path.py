"""The path along a few directions is that of the saved cloud; the equilibrium twin is what it claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.ensemble.path import ProjectedPath, path_of

KEY = jax.random.key(0)
PROBLEM = ss.NoisyPotential(ss.potentials.Quadratic(np.diag([1.0, 0.5, 0.2])), ss.GaussianNoise(1.0))
START = ss.Gaussian([1.0, -1.0, 0.0], 0.25)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("chunk_size", [None, 7])
def test_path_is_the_saved_one(momentum, chunk_size):
    sgd = ss.SGD(PROBLEM, learning_rate=0.2, batch_size=2, momentum=momentum)
    directions, centre = np.array([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]), np.array([0.5, 0.0, -1.0])
    run = {"particles": 20, "steps": 12, "key": KEY, "chunk_size": chunk_size}
    full = ss.simulate(sgd, START, save_every=1, **run).particles
    seen = ss.simulate(sgd, START, save_every=4, tally=ProjectedPath(directions, centre, every=4), **run)
    np.testing.assert_array_equal(seen.particles, full[::4])
    np.testing.assert_allclose(path_of(seen), (full - centre) @ directions.T, atol=1e-12)


def test_diverged_particles_are_nan_throughout():
    problem = ss.NoisyPotential(lambda x: jnp.sum(x**4), ss.GaussianNoise(0.0), dim=2)
    sgd = ss.SGD(problem, learning_rate=0.1, batch_size=1)
    start = np.array([[0.1, 0.1], [100.0, 0.0]])
    run = ss.simulate(sgd, start, steps=8, save_every=8, key=KEY, tally=ProjectedPath(np.eye(2), np.zeros(2), every=8))
    path = path_of(run)
    assert path.shape == (9, 2, 2) and np.all(np.isfinite(path[:, 0])) and np.all(np.isnan(path[:, 1]))


@pytest.mark.usefixtures("as_users_run")
def test_bad_arguments():
    with pytest.raises(ValueError, match="centre must be finite, of shape"):
        ProjectedPath(np.eye(2), np.zeros(3), every=4)
    with pytest.raises(ValueError, match="directions must be finite"):
        ProjectedPath(np.full((1, 2), np.nan), np.zeros(2), every=4)
    with pytest.raises(ValueError, match="every must be a positive whole number, got 0"):
        ProjectedPath(np.eye(2), np.zeros(2), every=0)
    sgd = ss.SGD(PROBLEM, learning_rate=0.2, batch_size=2)
    tally = ProjectedPath(np.eye(3), np.zeros(3), every=4)
    with pytest.raises(ValueError, match="must be saved every 4 steps to its last"):
        path_of(ss.simulate(sgd, START, particles=5, steps=6, save_every=4, key=KEY, tally=tally))
    with pytest.raises(ValueError, match="must have been run with tally=ProjectedPath"):
        path_of(ss.simulate(sgd, START, particles=5, steps=6, key=KEY))
