"""What `EmpiricalRisk` refuses, by name, and before anything is compiled."""

import logging

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.problems import networks

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, CLASSES, SIGNS = RNG.normal(size=(12, 3)), np.arange(12) % 3, np.arange(12) % 2 * 2 - 1
MODEL, ONE = networks.mlp((3, 3), key=KEY), networks.mlp((3, 1), key=KEY)


def with_entry(array, value):
    changed = np.array(array)
    changed.flat[5] = value
    return changed


def pytree_apply(params, x):
    return params["w"] @ x


def compiled(caplog):
    """What XLA was given to compile; `jit(stage)` is only the copy of an array to the device."""
    starts = [record.message for record in caplog.records if record.message.startswith("Compiling")]
    return [message for message in starts if not message.startswith("Compiling jit(stage)")]


HALF = {"w": np.ones((3, 3)), "b": np.arange(3)}
INTEGERS = eqx.tree_at(lambda m: m.layers[0].bias, MODEL, jnp.arange(3))


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("loss", "data", "options", "error", "message"),
    [
        (
            networks.cross_entropy,
            (X, CLASSES + 1),
            {"init": MODEL},
            ValueError,
            r"data .*labels 0 … 2 .*got 3 for ex.* 2$",
        ),
        (networks.cross_entropy, (X, CLASSES - 1), {"init": MODEL}, ValueError, "data must have labels 0 … 2.*got -1"),
        (networks.cross_entropy, (X, CLASSES * 1.0), {"init": MODEL}, ValueError, "data must have one whole number"),
        (
            networks.cross_entropy,
            (X, np.eye(12, 3, dtype=int)),
            {"init": MODEL},
            ValueError,
            "data must have one whole",
        ),
        (
            networks.cross_entropy,
            (X, CLASSES),
            {"init": ONE},
            ValueError,
            "init must be a model with one output for each",
        ),
        (
            networks.cross_entropy,
            (X[:, :2], CLASSES),
            {"init": MODEL},
            ValueError,
            "init must be a model of one example",
        ),
        (networks.cross_entropy, X, {"init": MODEL}, ValueError, "data must be a pair"),
        (networks.hinge, (X, CLASSES + 1), {"init": MODEL}, ValueError, "data must have labels 0 … 2.*for hinge"),
        (networks.hinge, (X, CLASSES), {"init": ONE}, ValueError, "data must have labels −1 or 1 for hinge, got 0"),
        (networks.logistic_loss, (X, (SIGNS + 1) // 2), {"init": np.zeros(3)}, ValueError, "labels −1 or 1.*got 0"),
        (networks.logistic_loss, (X, SIGNS), {"init": MODEL}, ValueError, "init must be a model with one output"),
        (networks.logistic_loss, (X, np.ones((12, 2))), {"init": ONE}, ValueError, "data must have one label"),
        (networks.squared_error, (X, CLASSES), {"init": MODEL}, ValueError, r"labels of the shape .*\(3,\).*got \(\)"),
        (networks.squared_error, (X, X[:, :2]), {"init": MODEL}, ValueError, r"labels of the shape .*got \(2,\)"),
        (networks.squared_error, (X, X), {"init": {"w": np.eye(3)}}, ValueError, "parameters alone want apply="),
        (
            networks.cross_entropy,
            (with_entry(X, np.nan), CLASSES),
            {"init": MODEL},
            ValueError,
            "data must be finite, got 1",
        ),
        (networks.squared_error, (X, with_entry(X, np.inf)), {"init": MODEL}, ValueError, "data must be finite, got 1"),
        (
            networks.cross_entropy,
            (X[:0], CLASSES[:0]),
            {"init": MODEL},
            ValueError,
            "data must hold arrays with a leading",
        ),
        (
            networks.cross_entropy,
            (X, CLASSES[:5]),
            {"init": MODEL},
            ValueError,
            "data must have one number of examples",
        ),
        (
            networks.cross_entropy,
            (X, CLASSES.astype(str)),
            {"init": MODEL},
            ValueError,
            "data must hold numbers, got an",
        ),
        (
            lambda p, z: p * z[0],
            (X, CLASSES),
            {"init": np.ones(3)},
            ValueError,
            "example_loss must return one real number",
        ),
        (lambda p, z: z[1], (X, CLASSES), {"init": np.ones(3)}, ValueError, "example_loss must return one real number"),
        (lambda p, z: 1 / 0, (X, CLASSES), {"init": np.ones(3)}, ValueError, "example_loss must be a JAX function"),
        (
            networks.squared_error,
            (X, X),
            {"init": HALF, "apply": pytree_apply},
            TypeError,
            r"got int.* at .params\['b'\]",
        ),
        (networks.squared_error, (X, X), {"init": INTEGERS}, TypeError, r"init must hold floating-.*layers\[0\].bias"),
        (lambda p, z: jnp.sum(p.real), (X,), {"init": np.ones(3) * 1j}, TypeError, "init must hold floating-point"),
        (
            networks.squared_error,
            (X, X),
            {"init": eqx.nn.Identity()},
            ValueError,
            "init must hold at least one floating",
        ),
    ],
)
def test_bad_input_is_named_before_anything_compiles(loss, data, options, error, message, caplog):
    with (
        jax.log_compiles(),
        caplog.at_level(logging.WARNING, logger="jax"),
        pytest.raises(error, match=message) as raised,
    ):
        ss.EmpiricalRisk(loss, data, **options)
    assert "\n" not in str(raised.value)
    assert compiled(caplog) == []


def test_a_compilation_would_have_been_seen(caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        ss.EmpiricalRisk(networks.cross_entropy, (X, CLASSES), init=MODEL)
    assert compiled(caplog)


@pytest.mark.parametrize("sampling", ["without-replacement", "epoch"])
def test_a_batch_larger_than_the_data_is_refused(sampling):
    risk = ss.EmpiricalRisk(networks.cross_entropy, (X, CLASSES), init=MODEL)
    with pytest.raises(ValueError, match="batch_size must be at most N = 12"):
        ss.SGD(risk, learning_rate=0.1, batch_size=13, sampling=sampling)


def test_labels_that_fit_in_another_shape_are_let_through():
    one = ss.EmpiricalRisk(networks.squared_error, (X, X[:, :1]), init=np.ones(3))  # scalars against (1,)
    flat = ss.EmpiricalRisk(networks.squared_error, (X, X[:, 0]), init=np.ones(3))
    assert float(one.loss(one.x0)) == pytest.approx(float(flat.loss(flat.x0)))
    again = ss.EmpiricalRisk(networks.hinge, (X, SIGNS[:, None]), init=ONE)
    plain = ss.EmpiricalRisk(networks.hinge, (X, SIGNS), init=ONE)
    assert float(again.loss(again.x0)) == pytest.approx(float(plain.loss(plain.x0)))


def test_losses_of_a_user_are_asked_for_a_scalar_alone():
    risk = ss.EmpiricalRisk(lambda model, z: jnp.sum(model(z[0])) * z[1], (X, CLASSES + 7), init=MODEL)
    assert risk.num_examples == 12
