"""Gradient noise: what a model must give, and α-stable noise against its exact law."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import sgdsim as ss
from sgdsim.draws import Draws
from sgdsim.problems.noise import AlphaStableNoise, GradientNoise, symmetric_stable

KEY = jax.random.key(5)
P = 100_000


def drawn(noise, dim=1, batch_size=1, dtype="float64", key=KEY):
    draws = Draws.of(key, np.arange(P)).at(3)
    minibatch = eqx.filter_jit(type(noise).minibatch)
    return np.asarray(minibatch(noise, jnp.zeros((dim, P), dtype), draws, batch_size), dtype=float)


def characteristic_z(x, alpha, scale=1.0):
    """E cos(kx) less exp(−|ck|^α) at seven k, in its exact standard errors."""
    k = np.array([0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0])[:, None] / scale
    law, law_at_twice = np.exp(-(np.abs(scale * k) ** alpha)), np.exp(-(np.abs(2 * scale * k) ** alpha))
    variance = (1 + law_at_twice) / 2 - law**2
    return (np.mean(np.cos(k * x), axis=1) - law[:, 0]) / np.sqrt(variance[:, 0] / x.size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.3, 1.8, 1.99])
def test_draws_have_the_stable_characteristic_function(alpha, dtype):
    # two coordinates of scales 0.1 and 30: 14 comparisons a case, 140 in all, at 4.5 sigmas
    x = drawn(AlphaStableNoise(alpha, [0.1, 30.0]), dim=2, dtype=dtype)
    for row, scale in zip(x, (0.1, 30.0), strict=True):
        assert np.max(np.abs(characteristic_z(row, alpha, scale))) < 4.5
        assert abs(np.mean(row > 0) - 0.5) < 4.5 * 0.5 / np.sqrt(P)
    clipped = np.clip(x / [[0.1], [30.0]], -5, 5)
    assert abs(np.corrcoef(clipped)[0, 1]) < 4.5 / np.sqrt(P)
    assert abs(np.corrcoef(np.abs(clipped))[0, 1]) < 4.5 / np.sqrt(P)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.5, 1.9])
def test_tails_are_those_of_scipy(alpha, dtype):
    # P(|X| > r) at eight r out to where 1 particle in 1,000 lies: 64 comparisons at 4.5 sigmas
    x = np.abs(drawn(AlphaStableNoise(alpha), dtype=dtype)[0])
    for r in np.geomspace(0.1, np.quantile(x, 0.999), 8):
        exact = 2 * scipy.stats.levy_stable.sf(r, alpha, 0)
        assert abs(np.mean(x > r) - exact) < 4.5 * np.sqrt(exact / P)


def test_alpha_one_is_cauchy_and_alpha_near_two_gaussian():
    assert scipy.stats.kstest(drawn(AlphaStableNoise(1.0, 2.0))[0] / 2, "cauchy").pvalue > 1e-4
    assert scipy.stats.kstest(drawn(AlphaStableNoise(2 - 1e-9, 2.0))[0] / 8**0.5, "norm").pvalue > 1e-4


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.7])
def test_the_mean_of_a_minibatch_is_stable_with_its_own_scale(alpha):
    # 7 comparisons each of drawn means and of means taken by hand, 42 in all, at 4.5 sigmas
    noise, batch_size = AlphaStableNoise(alpha, 0.3), 8
    scale = 0.3 * batch_size ** (1 / alpha - 1)
    by_hand = drawn(noise, dim=batch_size).mean(axis=0)
    for x in (drawn(noise, batch_size=batch_size)[0], by_hand):
        assert np.max(np.abs(characteristic_z(x, alpha, scale))) < 4.5
    assert np.allclose(drawn(noise, batch_size=batch_size), batch_size ** (1 / alpha - 1) * drawn(noise), rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.999999, 1.0, 1.000001, 1.5, 2 - 1e-9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_uniform_makes_a_nan(alpha, dtype):
    ends = np.array([0, 1, 2, 3, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 3, 2**32 - 2, 2**32 - 1], np.uint32)
    angle, weight = map(jnp.asarray, np.meshgrid(ends, ends))
    x = np.asarray(symmetric_stable(jnp.asarray(alpha, dtype), angle, weight), dtype=float)
    assert not np.any(np.isnan(x))
    assert np.array_equal(np.sign(x), np.where(np.asarray(angle) % 2, -1, 1) * np.sign(np.abs(x)))
    if alpha > 0.5:  # below, the law itself reaches past float32
        assert np.all(np.isfinite(x)) and np.all(x != 0)
    if jnp.asarray(alpha, dtype) == 2:  # rounded: 2 sin V √W with W < 33 log 2, no jumps are left
        assert np.max(np.abs(x)) < 2 * np.sqrt(33 * np.log(2)) * 1.001


def test_both_precisions_draw_the_same_numbers():
    for alpha in (0.75, 1.0, 1.5, 2 - 2**-10):  # numbers that both have
        single, double = (drawn(AlphaStableNoise(alpha), dim=3, dtype=dtype) for dtype in ("float32", "float64"))
        assert np.allclose(single, double, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("alpha", [0.8, 1.0, 1.6])
def test_sgd_on_a_quadratic_ends_in_a_stable_law(alpha, batch_size):
    """x ← (1−ηk)x + ηξ: the scales add as powers α, so S = ηc B^{1/α−1} (1 − |1−ηk|^α)^{−1/α}; 42 at 4.5 sigmas."""
    problem = ss.NoisyPotential(ss.potentials.Quadratic([[2.0]]), AlphaStableNoise(alpha, 0.5))
    sgd = ss.SGD(problem, learning_rate=0.25, batch_size=batch_size)
    # 0.5^60 of the start is left: nothing
    cloud = ss.simulate(sgd, np.zeros(1), particles=P, steps=60, key=KEY).particles[-1, :, 0]
    scale = 0.25 * 0.5 * batch_size ** (1 / alpha - 1) * (1 - 0.5**alpha) ** (-1 / alpha)
    assert np.max(np.abs(characteristic_z(cloud, alpha, scale))) < 4.5
    assert np.max(np.abs(characteristic_z(cloud, alpha, 1.1 * scale))) > 10


def test_a_user_sees_heavy_tails_in_every_process_that_needs_no_covariance():
    """In float32, with momentum and perturbed; where the loss is steep a jump ends a particle, which is counted."""
    well = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), AlphaStableNoise(1.2, 0.5))
    sgd = ss.SGD(ss.Perturbed(well, 0.1), learning_rate=0.05, batch_size=2, momentum=0.5)
    run = ss.simulate(sgd, np.array([-1.0, 0.0]), particles=2000, steps=50, key=KEY, dtype="float32")
    assert 0 < run.num_diverged < 1000
    assert np.array_equal(np.isnan(run.particles[-1, :, 0]), run.diverged[-1])


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: ss.Perturbed(p, 0.1)])
def test_without_a_covariance_there_is_no_limit(wrap):
    problem = wrap(ss.NoisyPotential(ss.potentials.DoubleWell(), AlphaStableNoise(1.5)))
    sgd, x = ss.SGD(problem, learning_rate=0.1, batch_size=1), jnp.zeros(1)
    asked = [
        lambda: problem.require_covariance(),
        lambda: problem.noise_covariance(x),
        lambda: eqx.filter_jit(problem.noise_trace)(x),
        lambda: problem.noise(x[:, None], x[:, None]),
        lambda: ss.Langevin.limit_of(sgd),
        lambda: ss.Langevin.limit_of(sgd, order=2),
        lambda: ss.FokkerPlanck.limit_of(sgd, ss.Grid([-3.0], [3.0], [16])),
    ]
    for ask in asked:
        with pytest.raises(ValueError, match="AlphaStableNoise has no covariance"):
            ask()


class Rotating(GradientNoise):
    """A user's model: nothing but D(x)."""

    def matrix(self, x):
        direction = jnp.stack([jnp.cos(x[0]), jnp.sin(x[0])])
        return 2 * jnp.outer(direction, direction) + 0.1 * jnp.eye(2)


def test_a_users_noise_needs_its_covariance_alone():
    """Its minibatches have the covariance D(x)/B, 3 entries at 4.5 sigmas; what is not said of it is not claimed."""
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), Rotating())
    assert not problem.has_additive_noise and problem.isotropic_variance is None
    x = jnp.asarray([0.7, -0.4])
    cloud = jnp.broadcast_to(x[:, None], (2, P))
    g = problem.minibatch_gradient(cloud, Draws.of(KEY, np.arange(P)), 5, "with-replacement")
    noise = np.asarray(g - problem.gradient(x)[:, None])
    products = noise[:, None] * noise[None]
    exact = np.asarray(Rotating().matrix(x)) / 5
    assert np.all(np.abs(products.mean(axis=2) - exact) < 4.5 * products.std(axis=2) / np.sqrt(P))
    ss.Langevin.limit_of(ss.SGD(problem, learning_rate=0.1, batch_size=5))


@pytest.mark.parametrize("covariance", [0.5, [0.5, 2.0], [[1.0, 0.8], [0.8, 1.0]], lambda x: jnp.diag(1 + x * x)])
def test_gaussian_noise_moves_along_its_own_normals(covariance):
    """g_B = ∇f − √(D/B) ξ, with the very numbers that the Langevin limit reads, bit for bit."""
    noise = ss.GaussianNoise(covariance)
    problem = ss.NoisyPotential(ss.potentials.DoubleWell(dim=2), noise)
    draws = Draws.of(KEY, np.arange(100)).at(7)
    x = draws.at(0).normals(2)
    expected = jax.vmap(problem.gradient, 1, 1)(x) - 3**-0.5 * noise.apply_root(x, draws.normals(2))
    assert np.array_equal(problem.minibatch_gradient(x, draws, 3, "with-replacement"), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AlphaStableNoise(2.0), r"alpha must lie above 0 and below 2, got 2.0: use GaussianNoise"),
        (lambda: AlphaStableNoise(0.0), "alpha must lie above 0 and below 2, got 0.0"),
        (lambda: AlphaStableNoise(float("nan")), "alpha must lie above 0 and below 2, got nan"),
        (lambda: AlphaStableNoise(1.5, -1.0), "scale must be a number or"),
        (lambda: AlphaStableNoise(1.5, [1.0, np.inf]), "scale must be a number or"),
        (lambda: AlphaStableNoise(1.5, np.ones((2, 2))), "scale must be a number or"),
        (
            lambda: ss.NoisyPotential(ss.potentials.DoubleWell(dim=3), AlphaStableNoise(1.5, [1.0, 2.0])),
            "dim must be the same",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
