"""SVAG(l): its steady state between SGD's and the limit's, on modelled noise and on true minibatches."""

import jax
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import theory


def quadratic(learning_rate=0.8, **options):
    problem = ss.NoisyPotential(ss.potentials.Quadratic([[1.0]]), ss.GaussianNoise(1.0))
    return ss.SGD(problem, learning_rate=learning_rate, batch_size=1, **options)


@pytest.mark.parametrize("refinement", [1, 2, 4, 16])
def test_stationary_variance(refinement):
    process = ss.SVAG(quadratic(), refinement)
    cloud = ss.simulate(
        process, ss.Gaussian([0.0], 0.5), particles=50_000, steps=15 * refinement, key=jax.random.key(0)
    )
    truth = theory.svag_variance(1.0, 1.0, 0.8, refinement)
    assert ss.measures.covariance(cloud.particles[-1]).agrees_with(truth, sigmas=4)  # 4 comparisons
    assert cloud.times[-1] == pytest.approx(15 * 0.8)


@pytest.mark.slow
def test_the_limit_of_many_true_minibatches_is_closer_to_langevin():
    data = ss.datasets.from_teacher(lambda x: 0.5 * x, 60, noise=1.0, key=jax.random.key(3))
    risk = ss.EmpiricalRisk(lambda w, z: (w[0] * z[0] - z[1]) ** 2 / 2, data, init=np.zeros(1))
    sgd = ss.SGD(risk, learning_rate=0.6, batch_size=2, sampling="without-replacement")
    start, key = ss.Gaussian([0.5], 0.2), jax.random.key(1)
    limit = ss.simulate(ss.Langevin.limit_of(sgd, substeps=16), start, particles=40_000, steps=12, key=key)
    truth = ss.measures.covariance(limit.particles[-1])
    z = {}
    for refinement in (1, 16):
        cloud = ss.simulate(ss.SVAG(sgd, refinement), start, particles=40_000, steps=12 * refinement, key=key)
        z[refinement] = float(ss.measures.covariance(cloud.particles[-1]).z(truth)[0, 0])
    assert z[1] > 20
    assert z[16] < z[1] / 4


@pytest.mark.usefixtures("as_users_run")
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="refinement must be a positive whole number, got 0"):
        ss.SVAG(quadratic(), 0)
    with pytest.raises(ValueError, match=r"sgd must have no momentum for SVAG, got momentum 0\.5"):
        ss.SVAG(quadratic(momentum=0.5), 2)
    with pytest.raises(TypeError, match="sgd must be an SGD process"):
        ss.SVAG("sgd", 2)
    data = (np.arange(4.0),)
    risk = ss.EmpiricalRisk(lambda w, z: (w[0] - z[0]) ** 2 / 2, data, init=np.zeros(1))
    with pytest.raises(ValueError, match="sampling must draw each batch independently"):
        ss.SVAG(ss.SGD(risk, learning_rate=0.1, batch_size=2, sampling="epoch"), 2)
