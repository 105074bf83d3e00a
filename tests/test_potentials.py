"""The toy landscapes: their minima and curvatures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim import potentials

MINIMA = [
    (potentials.Quadratic([[2.0, 0.3], [0.3, 0.5]], [1.0, -1.0]), [1.0, -1.0], [[2.0, 0.3], [0.3, 0.5]], 0.0),
    (potentials.DoubleWell(dim=2), [1.0, 0.0], [[2.0, 0.0], [0.0, 1.0]], 0.0),
    (potentials.SlantedDoubleWell(slope=0.5), [-1.0, -0.5], [[2.25, -0.5], [-0.5, 1.0]], 0.0),
    (potentials.SharpFlatDoubleWell(ratio=9.0), [-1.0], [[6.0]], 0.0),
    (potentials.SharpFlatDoubleWell(ratio=9.0), [1.0], [[2.0 / 3.0]], 0.0),
    (potentials.Saddle(escape_rate=0.25), [0.5, 0.0], [[0.5, 0.0], [0.0, 1.0]], -1 / 64),
    (potentials.Rosenbrock(steepness=100.0), [1.0, 1.0], [[802.0, -400.0], [-400.0, 200.0]], 0.0),
]


@pytest.mark.parametrize(("potential", "minimum", "curvature", "depth"), MINIMA, ids=lambda v: type(v).__name__)
def test_minima(potential, minimum, curvature, depth):
    x = jnp.asarray(minimum)
    assert potential.dim == len(minimum)
    assert np.allclose(jax.grad(potential)(x), 0, atol=1e-12)
    assert np.allclose(jax.hessian(potential)(x), curvature, atol=1e-9)
    assert float(potential(x)) == pytest.approx(depth, abs=1e-12)


def test_saddle_point():
    assert np.allclose(jax.hessian(potentials.Saddle(2.0, dim=3))(jnp.zeros(3)), np.diag([-2.0, 1.0, 1.0]))


def test_the_slanted_valley_has_no_curvature_along_its_floor_halfway():
    hessian = jax.hessian(potentials.SlantedDoubleWell(0.5))
    assert np.allclose(hessian(jnp.asarray([3**-0.5, 0.5 * 3**-0.5])) @ jnp.asarray([1.0, 0.5]), 0, atol=1e-12)
    assert np.allclose(hessian(jnp.zeros(2)), [[-0.75, -0.5], [-0.5, 1.0]])


@pytest.mark.parametrize(
    ("point", "height"),  # Müller and Brown 1979, in units of 100
    [
        ((-0.55822363, 1.44172584), -1.4669952),
        ((0.62349941, 0.02803776), -1.0816673),
        ((-0.05001083, 0.46669410), -0.8076782),
    ],
)
def test_mueller_brown_minima(point, height):
    surface = potentials.MuellerBrown()
    assert float(surface(jnp.asarray(point))) == pytest.approx(height, abs=1e-6)
    assert np.allclose(jax.grad(surface)(jnp.asarray(point)), 0, atol=1e-4)
    assert np.linalg.eigvalsh(jax.hessian(surface)(jnp.asarray(point)))[0] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: potentials.Quadratic([[1.0, 2.0], [0.0, 1.0]]), "hessian must be finite and symmetric"),
        (lambda: potentials.Quadratic([1.0, 2.0]), "hessian must be a square matrix"),
        (lambda: potentials.Quadratic([[1.0]], [0.0, 0.0]), "centre must be a finite vector"),
        (lambda: potentials.DoubleWell(dim=0), "dim must be a whole number of at least 1"),
        (lambda: potentials.SlantedDoubleWell(slope=float("nan")), "slope must be finite"),
        (lambda: potentials.SharpFlatDoubleWell(ratio=0.5), "ratio must be finite and at least 1"),
        (lambda: potentials.Saddle(dim=1), "dim must be a whole number of at least 2"),
        (lambda: potentials.Rosenbrock(steepness=-1.0), "steepness must be positive"),
        (lambda: potentials.MuellerBrown(scale=0.0), "scale must be positive"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
