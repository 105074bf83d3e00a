"""Schedules: the chain, its limit and its density along one clock, against exact moments of a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sgdsim.density import Grid, propagate_scheduled
from sgdsim.ensemble import FirstPassage, Gaussian, simulate
from sgdsim.measures import covariance, mean
from sgdsim.problems import EmpiricalRisk, GaussianNoise, NoisyPotential
from sgdsim.processes import SGD, Langevin, ScheduledSGD

CURVATURE, VARIANCE = 1.5, 2.0
QUADRATIC = NoisyPotential(lambda x: CURVATURE * jnp.sum(x**2) / 2, GaussianNoise(VARIANCE), dim=1)
COSINE = optax.cosine_decay_schedule(0.2, 40, alpha=0.1)
PHASES = [(20, 2), (15, 8)]
START = Gaussian([1.0], 0.04)
RUN = {"steps": 60, "save_every": 15, "key": jax.random.key(5)}


def chain(momentum: float = 0.0) -> SGD:
    return SGD(QUADRATIC, learning_rate=0.1, batch_size=2, momentum=momentum)


SCHEDULES = {
    "rate": {"learning_rate": COSINE},
    "batches": {"batch_size": PHASES},
    "both": {"learning_rate": COSINE, "batch_size": PHASES},
    "restarts": {"learning_rate": optax.join_schedules([COSINE, COSINE], [30])},
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def batches(scheduled: ScheduledSGD) -> np.ndarray:
    return np.array([s.batch_size for s in scheduled.stretches])[scheduled.phases(60)]


def chain_moments(scheduled: ScheduledSGD, momentum: float = 0.0) -> np.ndarray:
    """⟨x⟩ and Var x of heavy ball at the saved steps, by the linear recursion of (x, v)."""
    m, s = np.array([1.0, 0.0]), np.diag([0.04, 0.0])
    saved = [(m[0], s[0, 0])]
    for k, (rate, batch) in enumerate(zip(scheduled.learning_rates(60), batches(scheduled), strict=True), start=1):
        step = np.array([[1 - rate * CURVATURE, -rate * momentum], [CURVATURE, momentum]])
        kick = np.array([-rate, 1.0])
        m, s = step @ m, step @ s @ step.T + VARIANCE / batch * np.outer(kick, kick)
        if k % 15 == 0:
            saved.append((m[0], s[0, 0]))
    return np.array(saved)


def limit_moments(scheduled: ScheduledSGD) -> np.ndarray:
    """The same of dX = −kX dt + √(2T(t)D) dW, exact from step to step."""
    m, s = 1.0, 0.04
    saved = [(m, s)]
    for k, (rate, temperature) in enumerate(
        zip(scheduled.learning_rates(60), scheduled.temperatures(60), strict=True), start=1
    ):
        decay, steady = np.exp(-CURVATURE * rate), temperature * VARIANCE / CURVATURE
        m, s = decay * m, steady + decay**2 * (s - steady)
        if k % 15 == 0:
            saved.append((m, s))
    return np.array(saved)


def agree(cloud, moments) -> bool:
    """All means and variances within 4 standard errors; 10 comparisons."""
    readings = [(mean(x)[0], covariance(x)[0, 0]) for x in cloud.particles]
    return all(
        a.agrees_with(m, sigmas=4) and b.agrees_with(v, sigmas=4)
        for (a, b), (m, v) in zip(readings, moments, strict=True)
    )


@every_schedule
def test_chain_and_limit_follow_the_schedule(name):
    scheduled = ScheduledSGD(chain(), **SCHEDULES[name])
    cloud = simulate(scheduled, START, particles=20_000, **RUN)
    limit = simulate(scheduled.langevin(substeps=16), START, particles=20_000, **RUN)
    np.testing.assert_allclose(cloud.times, np.append(0, np.cumsum(scheduled.learning_rates(60)))[::15])
    np.testing.assert_array_equal(limit.times, cloud.times)
    assert agree(cloud, chain_moments(scheduled))
    assert agree(limit, limit_moments(scheduled))
    assert not agree(limit, chain_moments(scheduled))  # the two differ, and it shows


def test_momentum_keeps_its_velocity():
    scheduled = ScheduledSGD(chain(momentum=0.8), **SCHEDULES["both"])
    cloud = simulate(scheduled, START, particles=20_000, **RUN)
    assert agree(cloud, chain_moments(scheduled, momentum=0.8))
    np.testing.assert_allclose(cloud.times[-1], 5 * np.sum(scheduled.learning_rates(60)))


def test_the_second_order_limit_follows_as_well():
    """dX = −(k + η_k k²/2)X dt + √(2T_k D) dW, exact from step to step; 10 comparisons within 4 standard errors."""
    scheduled = ScheduledSGD(chain(), **SCHEDULES["both"])
    m, s, moments = 1.0, 0.04, [(1.0, 0.04)]
    rates, heat = scheduled.learning_rates(60), scheduled.temperatures(60)
    for k, (eta, temperature) in enumerate(zip(rates, heat, strict=True), start=1):
        pull = CURVATURE + eta * CURVATURE**2 / 2
        decay, steady = np.exp(-pull * eta), temperature * VARIANCE / pull
        m, s = decay * m, steady + decay**2 * (s - steady)
        moments += [(m, s)] if k % 15 == 0 else []
    cloud = simulate(scheduled.langevin(order=2, substeps=16), START, particles=20_000, **RUN)
    assert agree(cloud, np.array(moments))
    assert not agree(cloud, limit_moments(scheduled))


@pytest.mark.slow
def test_noise_that_depends_on_x_and_momentum_follow_as_well():
    """D = 1 + x²/2 with momentum: E x² of the overdamped limit, dS/dt = −2kS + 2T_k(1 + S/2)."""
    problem = NoisyPotential(
        lambda x: CURVATURE * jnp.sum(x**2) / 2, GaussianNoise(lambda x: (1 + x**2 / 2)[:, None]), dim=1
    )
    sgd = SGD(problem, learning_rate=0.05, batch_size=2, momentum=0.5)
    scheduled = ScheduledSGD(sgd, learning_rate=COSINE)
    s = 1.04
    for eta, temperature in zip(scheduled.learning_rates(60), scheduled.temperatures(60), strict=True):
        pull = 2 * CURVATURE - temperature
        s = 2 * temperature / pull + np.exp(-pull * 2 * eta) * (s - 2 * temperature / pull)
    cloud = simulate(scheduled.langevin(substeps=32), START, particles=40_000, **RUN)
    assert mean(cloud.particles[-1] ** 2).agrees_with(s, sigmas=4)


def test_half_the_substeps_are_on_the_same_path():
    scheduled = ScheduledSGD(chain(), **SCHEDULES["both"])
    limit = scheduled.langevin(substeps=2)
    a, b = (simulate(p, START, particles=2_000, **RUN).particles[-1, :, 0] for p in (limit, limit.halved()))
    assert np.corrcoef(a, b)[0, 1] > 0.999 and np.any(a != b)
    weak = scheduled.langevin(increments="three-point")
    assert agree(simulate(weak, START, particles=20_000, **RUN), limit_moments(scheduled))


@every_schedule
def test_density_follows_the_schedule(name):
    scheduled = ScheduledSGD(chain(), **SCHEDULES[name])
    grid = Grid([-1.5], [2.5], [800])
    answer = propagate_scheduled(scheduled, grid, START, np.arange(0, 61, 15))
    x, exact = grid.axis_centres(0), limit_moments(scheduled)
    m = answer.masses @ x
    np.testing.assert_allclose(m, exact[:, 0], atol=5e-4)
    np.testing.assert_allclose(answer.masses @ x**2 - m**2, exact[:, 1], rtol=3e-3)
    np.testing.assert_allclose(answer.times, scheduled.times(np.arange(0, 61, 15)))


def test_pieces_of_a_schedule_err_to_second_order():
    scheduled = ScheduledSGD(chain(), learning_rate=optax.exponential_decay(0.02, 200, 0.05))
    grid, steps = Grid([-1.5], [2.5], [200]), [300]

    def density(tolerance: float) -> np.ndarray:
        return propagate_scheduled(scheduled, grid, START, steps, tolerance=tolerance, grid_error=False).masses

    exact = density(0.02)
    coarse, fine = (np.abs(density(tolerance) - exact).sum() for tolerance in (1.2, 0.4))
    assert 1e-7 < fine < coarse / 4  # log 2.2/log 1.4 = 2.3, squared 5.5


def test_a_cycle_needs_no_more_equations_than_its_first_turn(monkeypatch):
    from sgdsim.density import schedule

    made = []
    monkeypatch.setattr(
        schedule.FokkerPlanck,
        "limit_of",
        lambda sgd, grid, of=schedule.FokkerPlanck.limit_of: made.append(1) or of(sgd, grid),
    )
    scheduled = ScheduledSGD(chain(), learning_rate=lambda k: jnp.where(k % 20 < 10, 0.1, 0.05))
    propagate_scheduled(scheduled, Grid([-1.5], [2.5], [40]), START, [200], grid_error=False)
    assert len(made) == 2


def test_a_constant_schedule_changes_nothing():
    scheduled = ScheduledSGD(chain(), learning_rate=optax.constant_schedule(0.1), batch_size=[(10, 2), (3, 2)])
    for same, one in ((scheduled, chain()), (scheduled.langevin(), Langevin.limit_of(chain()))):
        a, b = (simulate(process, START, particles=100, **RUN) for process in (same, one))
        np.testing.assert_allclose(a.particles, b.particles, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(a.times, b.times)


def test_minibatches_follow_their_phases():
    data = (np.random.default_rng(0).normal(size=(30, 2)), np.random.default_rng(1).normal(size=30))
    risk = EmpiricalRisk(lambda w, example: (example[0] @ w - example[1]) ** 2 / 2, data, init=jnp.zeros(2))
    small, large = (SGD(risk, learning_rate=0.1, batch_size=b, sampling="without-replacement") for b in (2, 30))
    scheduled = ScheduledSGD(small, batch_size=[(10, 2), (10, 30)])
    run = {"particles": 20, "steps": 20, "save_every": 10, "key": jax.random.key(0)}
    cloud = simulate(scheduled, [0.0, 0.0], **run).particles
    np.testing.assert_allclose(cloud[1], simulate(small, [0.0, 0.0], **run).particles[1], rtol=1e-12)
    descent = simulate(large, cloud[1], **run | {"particles": None, "steps": 10}).particles[-1]  # B = N: no noise
    np.testing.assert_allclose(cloud[2], descent, rtol=1e-9)
    assert scheduled.temperatures(20)[9] > 0 == scheduled.temperatures(20)[10]


def test_same_key_couples_chain_and_limit():
    scheduled = ScheduledSGD(chain(), **SCHEDULES["both"])
    a, b = (simulate(p, START, particles=5_000, **RUN).particles[-1] for p in (scheduled, scheduled.langevin()))
    assert np.corrcoef(a[:, 0], b[:, 0])[0, 1] > 0.99


def test_float32():
    scheduled = ScheduledSGD(chain(), **SCHEDULES["both"])
    for process in (scheduled, scheduled.langevin()):
        wide, narrow = (simulate(process, START, particles=64, dtype=t, **RUN) for t in ("float64", "float32"))
        np.testing.assert_allclose(narrow.particles, wide.particles, atol=1e-5)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({}, ValueError, "learning_rate or batch_size must be given as a schedule; got neither"),
        ({"learning_rate": 0.1}, TypeError, "learning_rate must be a schedule, a function of the step; got 0.1"),
        ({"learning_rate": lambda k: 0.0 * k}, ValueError, "positive and finite at every step, got 0 at step 0"),
        ({"batch_size": []}, ValueError, r"batch_size must be phases \[\(steps, B\), …\]"),
        ({"batch_size": [(0, 4)]}, ValueError, r"batch_size must be phases \[\(steps, B\), …\]"),
        ({"learning_rate": lambda k: 0.1 if k < 5 else 0.01}, ValueError, "learning_rate must be a JAX function"),
        ({"batch_size": 64}, ValueError, r"batch_size must be phases \[\(steps, B\), …\]"),
        ({"batch_size": [(2**32, 8), (5, 64)]}, ValueError, "fewer than 2³² steps in all"),
        ({"batch_size": [(5, 0)]}, ValueError, "batch_size must be a positive whole number, got 0"),
    ],
)
def test_bad_schedules(change, error, message):
    with pytest.raises(error, match=message):
        ScheduledSGD(chain(), **change)


@pytest.mark.usefixtures("as_users_run")
def test_what_a_schedule_cannot_do():
    with pytest.raises(TypeError, match="a schedule goes to ScheduledSGD"):
        SGD(QUADRATIC, learning_rate=COSINE, batch_size=1)
    dying = ScheduledSGD(chain(), learning_rate=optax.linear_schedule(0.1, 0.0, 10))
    with pytest.raises(ValueError, match="got 0 at step 10"):
        simulate(dying, START, particles=10, **RUN)
    scheduled = ScheduledSGD(chain(), learning_rate=COSINE)
    crossing = FirstPassage(lambda x: x[0])
    with pytest.raises(ValueError, match="process must not follow a schedule"):
        simulate(scheduled, START, particles=10, tally=crossing, **RUN)
    with pytest.raises(ValueError, match="momentum must be 0 for the second-order limit"):
        ScheduledSGD(chain(momentum=0.5), learning_rate=COSINE).langevin(order=2)
    with pytest.raises(ValueError, match="tolerance must be positive"):
        propagate_scheduled(scheduled, Grid([-1.5], [2.5], [40]), START, [10], tolerance=0.0)
