"""A run with diverged particles: every measure refuses it, or says how many it left out."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import measures
from sgdsim.density.grid import Grid

KEY = jax.random.key(0)
N, LOST = 400, 3
GRID = Grid([-4.0, -4.0], [4.0, 4.0], [16, 16])
QUADRATIC = ss.NoisyPotential(ss.potentials.Quadratic(np.eye(2)), ss.GaussianNoise(1.0))
RISK = ss.EmpiricalRisk(ss.networks.squared_error, (np.eye(2), np.ones(2)), init=np.zeros(2))
SGD = ss.SGD(QUADRATIC, learning_rate=0.1, batch_size=1)


def cloud(seed=0, shape=(N, 2)):
    return np.random.default_rng(seed).normal(size=shape)


def lost(x):
    """The same with the first particles gone: NaN, and one infinite."""
    x = np.array(x)
    x[:LOST] = np.nan
    x[0, -1] = np.inf
    return x


def masses():
    x = GRID.centres
    weights = np.exp(-np.sum(x**2, axis=-1) / 2)
    return weights / weights.sum()


def passed():
    """A run watched for a passage, three particles of which diverge first."""
    start = np.concatenate([np.full((LOST, 1), 40.0), np.full((N, 1), -1.0)])
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(1), ss.GaussianNoise(20.0))
    sgd = ss.SGD(problem, learning_rate=0.1, batch_size=1)
    tally = ss.FirstPassage(lambda x: jnp.abs(x[0]) - 0.2)
    return ss.simulate(sgd, start, steps=40, key=KEY, tally=tally)


def tallied():
    start = np.concatenate([np.full((LOST, 1), 40.0), np.random.default_rng(0).choice([-1.0, 1.0], size=(N, 1))])
    sgd = ss.SGD(ss.NoisyPotential(ss.potentials.DoubleWell(1), ss.GaussianNoise(1.0)), learning_rate=0.1, batch_size=1)
    tally = ss.Totals(measures.FluctuationDissipation(sgd))
    return ss.simulate(sgd, start, steps=40, save_every=10, key=KEY, tally=tally)


def plane_run():
    start = np.concatenate([np.full((LOST, 2), 40.0), np.ones((N, 2))])
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(2), ss.GaussianNoise(1.0))
    sgd, tally = ss.SGD(problem, learning_rate=0.1, batch_size=1), ss.Totals(measures.swept_area)
    return ss.simulate(sgd, start, steps=40, save_every=10, key=KEY, tally=tally)


ones = np.ones(N)
LEFT_OUT = {
    "autocorrelation": lambda: measures.autocorrelation(lost(cloud(shape=(N, 60))).T, max_lag=5),
    "binned": lambda: measures.binned(lost(cloud()), cloud(1), 0.1, GRID),
    "binned_current": lambda: measures.binned_current(lost(cloud()), cloud(1), 0.1, GRID),
    "boltzmann_temperature": lambda: measures.boltzmann_temperature(
        lost(cloud()), np.sum(cloud() ** 2, axis=1) / 2, 1.0
    ),
    "bootstrap": lambda: measures.bootstrap(lambda x: float(np.median(x)), lost(cloud()), key=KEY),
    "circulation": lambda: measures.circulation(lost(cloud()), cloud(1), 0.1),
    "circulation_matrix": lambda: measures.circulation_matrix(lost(cloud()), cloud(1), 0.1),
    "configurational_temperature": lambda: measures.configurational_temperature(lost(cloud()), ones),
    "total_variance": lambda: measures.total_variance(lost(cloud())),
    "common_share": lambda: measures.common_share(lost(cloud())),
    "covariance": lambda: measures.covariance(lost(cloud())),
    "covariance_distance": lambda: measures.covariance_distance(lost(cloud()), cloud(1), key=KEY),
    "effective_sample_size": lambda: measures.effective_sample_size(lost(cloud(shape=(N, 60))).T),
    "energy_distance": lambda: measures.energy_distance(lost(cloud()), cloud(1), key=KEY),
    "entropy": lambda: measures.entropy(lost(cloud())),
    "excess_kurtosis": lambda: measures.excess_kurtosis(lost(cloud())),
    "fluctuation_dissipation": lambda: measures.fluctuation_dissipation(tallied()),
    "hill_tail_index": lambda: measures.hill_tail_index(lost(cloud())),
    "integrated_time": lambda: measures.integrated_time(lost(cloud(shape=(N, 60))).T),
    "kinetic_temperature": lambda: measures.kinetic_temperature(lost(cloud()), 0.1, cloud(1), ones),
    "kl": lambda: measures.kl(lost(cloud()), GRID, masses()),
    "mean": lambda: measures.mean(lost(cloud())),
    "mean_loss": lambda: measures.mean_loss(QUADRATIC, lost(cloud())),
    "mean_distance": lambda: measures.mean_distance(lost(cloud()), cloud(1)),
    "moment_kl": lambda: measures.moment_kl(lost(cloud()), ss.Gaussian([0.0, 0.0], 1.0)),
    "over_times": lambda: measures.over_times(measures.mean, np.stack([cloud(), lost(cloud())])),
    "paired_kl": lambda: measures.paired_kl(lost(cloud()), cloud() * 1.01, order=1),
    "passage_time": lambda: measures.passage_time(passed()),
    "principal_variances": lambda: measures.principal_variances(lost(cloud()), 2),
    "project": lambda: measures.project(
        lost(cloud(shape=(4_000, 3))), cloud(1, (4_000, 3)), 0.1, plane=np.eye(3)[:, :2]
    ),
    "regress_diffusion": lambda: measures.regress_diffusion(lost(cloud()), 0.1, cloud(1), ones),
    "regress_drift": lambda: measures.regress_drift(lost(cloud()), cloud(1), 0.1, cloud()),
    "run_circulation": lambda: measures.run_circulation(plane_run()),
    "sliced_wasserstein": lambda: measures.sliced_wasserstein(lost(cloud()), cloud(1), key=KEY),
    "stable_index": lambda: measures.stable_index(lost(cloud())),
    "stein_discrepancy": lambda: measures.stein_discrepancy(lost(cloud()), lambda x: -x, key=KEY),
    "tail_drift": lambda: measures.tail_drift(passed(), tail_from=0.0),
    "thermometers": lambda: measures.thermometers(SGD, lost(cloud() * 0.2), key=KEY),
    "variance_exponent": lambda: measures.variance_exponent(lost(cloud()) ** 2, np.array([1.0, 2.0])),
    "virial_temperature": lambda: measures.virial_temperature(lost(cloud()), cloud(), ones),
}
REFUSES = {
    "flatness": lambda: measures.flatness(QUADRATIC, np.array([np.nan, 0.0]), np.eye(2)),
    "layer_gradients": lambda: measures.layer_gradients(
        ss.studies.preset("two-weight-network").build()[0].problem, lost(cloud())
    ),
    "noise_spectrum": lambda: measures.noise_spectrum(QUADRATIC, np.array([np.nan, 0.0])),
    "wasserstein_1d": lambda: measures.wasserstein_1d(lost(cloud())[:, 0], cloud()[:, 0]),
}
# No particles go in, or (`leading_plane`) no number comes out.
NO_CLOUD = {
    "alignment",
    "layers_of",
    "leading_plane",
    "overlap",
    "top_eigenpairs",
    "trace",
    "entropy_of_masses",
    "finite_step_moments",
    "kl_between_densities",
    "merge",
    "score_interval",
    "slice_plane",
    "swept_area",
}


def test_every_measure_is_asked():
    functions = {name for name in measures.__all__ if inspect.isfunction(getattr(measures, name))}
    assert functions == LEFT_OUT.keys() | REFUSES.keys() | NO_CLOUD


@pytest.mark.parametrize("name", LEFT_OUT)
def test_says_how_many_it_left_out(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few hundred particles are too few for much
        found = LEFT_OUT[name]()
    readings = [found]
    if not hasattr(found, "left_out"):
        readings = [r for r in vars(found).values() if hasattr(r, "left_out")]
    assert readings
    for reading in readings:
        assert reading.left_out == LOST
        if isinstance(reading, measures.Estimate):
            assert np.all(np.isfinite(reading.value))
            assert "3 diverged left out" in str(reading)


@pytest.mark.parametrize("name", REFUSES)
def test_refuses(name):
    with pytest.raises(ValueError, match="finite"):
        REFUSES[name]()
