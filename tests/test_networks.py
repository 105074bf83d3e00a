"""Every family of networks: its outputs, its per-example gradients, D, Hessian-vector products, and the root of D."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.problems import datasets, networks

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
QUICK_COMPILATION = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
N = 64  # two tiles of examples
X = RNG.normal(size=(N, 3))
SIGNS, CLASSES, TARGETS = np.sign(RNG.normal(size=N)), RNG.integers(0, 3, N), RNG.normal(size=(N, 3))


def apply_pair(params, x):
    return params["out"] @ jnp.sin(params["in"] @ x)


def applied():
    params = {"in": RNG.normal(size=(4, 3)), "out": RNG.normal(size=(3, 4))}
    return ss.EmpiricalRisk(networks.squared_error, (X, TARGETS), init=params, apply=apply_pair, root="weighted")


def risk(loss, labels, init, inputs=X, weight_decay=0.1):
    return ss.EmpiricalRisk(loss, (inputs, labels), init=init, weight_decay=weight_decay, root="weighted")


def student():
    teacher, model = networks.teacher_student((3, 3, 1), 3, key=KEY)
    data = datasets.from_teacher(teacher, N, inputs=3, noise=0.1, key=jax.random.key(1))
    return ss.EmpiricalRisk(networks.squared_error, data, init=model, root="weighted")


FAMILIES = {
    "linear": lambda: risk(networks.squared_error, X[:, 0] - SIGNS, RNG.normal(size=3)),
    "logistic": lambda: risk(networks.logistic_loss, SIGNS, RNG.normal(size=3)),
    "hinge": lambda: risk(networks.hinge, SIGNS, RNG.normal(size=3)),
    "softmax": lambda: risk(networks.cross_entropy, CLASSES, networks.mlp((3, 3), key=KEY)),
    "tanh": lambda: risk(networks.cross_entropy, CLASSES, networks.mlp((3, 3, 3), key=KEY)),
    "relu-hinge": lambda: risk(networks.hinge, CLASSES, networks.mlp((3, 3, 3, 3), key=KEY, activation=jax.nn.relu)),
    "quadratic": lambda: risk(
        networks.squared_error, TARGETS, networks.mlp((3, 3, 3), key=KEY, activation=networks.quadratic)
    ),
    "deep-linear": lambda: risk(networks.squared_error, TARGETS, networks.deep_linear((3, 3, 3), key=KEY)),
    "residual": lambda: risk(networks.cross_entropy, CLASSES, networks.Residual((3, 3, 3), blocks=1, key=KEY)),
    "teacher-student": student,
    "two-weight": lambda: risk(
        networks.squared_error, SIGNS, networks.TwoWeightNetwork(0.7, -0.4), X[:, 0], weight_decay=0.0
    ),
    "three-weight": lambda: risk(networks.squared_error, SIGNS, networks.ThreeWeightNetwork(0.7, 0.3, -0.4), X[:, 0]),
    "init-apply": applied,
}


def derivatives(problem, x, vectors):
    """By reverse mode (the library's own), by forward mode, and by central differences of losses and of gradients."""
    h = 1e-5
    steps = h * jnp.eye(problem.dim)
    above, below = jnp.split(jax.vmap(problem.losses)(x + jnp.concatenate([steps, -steps])), 2)
    points = jnp.concatenate([x[None], x + h * vectors, x - h * vectors])
    gradient, *sides = jnp.split(jax.vmap(problem.gradient)(points), [1, 1 + len(vectors)])
    cloud = jnp.broadcast_to(x[:, None], (problem.dim, N))
    return {
        "gradient": gradient[0],
        "reverse": problem.example_gradients(x),
        "forward": jax.jacfwd(problem.losses)(x),
        "differences": (above - below).T / (2 * h),
        "covariance": problem.noise_covariance(x),
        "columns": problem.noise(cloud, jnp.eye(N)),
        "products": jax.vmap(lambda v: jax.jvp(problem.gradient, (x,), (v,))[1])(vectors),
        "product differences": (sides[0] - sides[1]) / (2 * h),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_covariance_its_root_and_hessian_products_agree(family):
    problem = FAMILIES[family]()
    x = problem.x0
    vectors = jnp.asarray(np.random.default_rng(1).normal(size=(2, problem.dim)))
    # Compiled without optimisation: the program is larger than its work.
    program = jax.jit(lambda y, v: derivatives(problem, y, v), compiler_options=QUICK_COMPILATION)
    found = {name: np.asarray(value) for name, value in program(x, vectors).items()}
    reverse, forward, differences = found["reverse"], found["forward"], found["differences"]
    assert reverse.shape == (N, problem.dim) and np.any(reverse != 0)
    assert np.allclose(reverse, forward, atol=1e-12)
    assert np.allclose(reverse, differences, atol=1e-7)
    assert np.allclose(found["gradient"], forward.mean(0) + problem.weight_decay * x, atol=1e-13)

    covariance, scale = found["covariance"], np.trace(found["covariance"])
    assert np.allclose(covariance, np.cov(forward.T, bias=True), atol=1e-13 * scale)
    assert np.allclose(covariance, np.cov(differences.T, bias=True), atol=1e-7 * scale)
    columns = found["columns"]  # of the root that needs no matrix: one for each example
    assert columns.shape == (problem.dim, N)
    assert np.allclose(columns @ columns.T, covariance, atol=1e-12 * scale)

    products = found["products"]
    assert np.allclose(products, found["product differences"], atol=1e-7)
    assert products[0] @ vectors[1] == pytest.approx(products[1] @ vectors[0])  # the Hessian is symmetric


def test_outputs_are_the_formulas():
    x = jnp.asarray([0.3, -0.8, 0.5])
    model = networks.mlp((3, 5, 2, 4), key=KEY, activation=networks.quadratic)
    *hidden, last = model.layers[::2]
    h = x
    for layer in hidden:
        h = (layer.weight @ h + layer.bias) ** 2
    assert [layer.weight.shape for layer in (*hidden, last)] == [(5, 3), (2, 5), (4, 2)]
    assert np.allclose(model(x), last.weight @ h + last.bias)

    deep = networks.deep_linear((3, 3, 3, 2), key=KEY)
    product = np.linalg.multi_dot([layer.weight for layer in reversed(deep.layers)])
    assert np.allclose(deep(x), product @ x)
    assert len(jax.tree.leaves(eqx.filter(deep, eqx.is_array))) == 3  # no biases

    residual = networks.Residual((3, 3, 3), blocks=2, key=KEY)
    h = residual.first.weight @ x + residual.first.bias
    for block in residual.blocks:
        inner, _, outer = block.layers
        h = h + outer.weight @ jnp.tanh(inner.weight @ h + inner.bias) + outer.bias
    assert np.allclose(residual(x), residual.last.weight @ h + residual.last.bias)

    three = networks.ThreeWeightNetwork(0.7, 0.2, -2.0)
    assert float(three(jnp.asarray(0.5))) == pytest.approx(-2 * np.tanh(0.55))
    assert np.allclose(jax.flatten_util.ravel_pytree(three)[0], [0.7, 0.2, -2.0])
    opposite = networks.ThreeWeightNetwork(-0.7, -0.2, 2.0)
    assert float(three(jnp.asarray(0.5))) == pytest.approx(float(opposite(jnp.asarray(0.5))))


def test_losses_are_the_formulas():
    x, w = jnp.asarray([1.0, 2.0]), jnp.asarray([0.5, -0.4])
    scores = jnp.asarray([1.0, 2.0, 0.5])
    assert float(networks.squared_error(w, (x, jnp.asarray(1.0)))) == pytest.approx(1.3**2 / 2)
    assert float(networks.hinge(w, (x, jnp.asarray(1)))) == pytest.approx(1.3)
    assert float(networks.hinge(10 * w, (x, jnp.asarray(-1)))) == 0
    assert float(networks.hinge(lambda _: scores, (x, jnp.asarray(0)))) == pytest.approx(2.0)
    assert float(networks.hinge(lambda _: scores, (x, jnp.asarray(1)))) == 0
    assert float(networks.hinge(lambda _: 3 * scores, (x, jnp.asarray(1)))) == 0
    model = networks.mlp((2, 1), key=KEY)
    margin = -float(model(x)[0])
    assert float(networks.logistic_loss(model, (x, jnp.asarray(-1)))) == pytest.approx(np.log1p(np.exp(-margin)))


def test_a_student_fits_its_teacher_without_noise():
    teacher, model = networks.teacher_student((3, 3, 1), 3, key=KEY)
    data = datasets.from_teacher(teacher, N, inputs=3, noise=0.0, key=KEY)
    at_the_teacher = ss.EmpiricalRisk(networks.squared_error, data, init=teacher)
    assert float(at_the_teacher.loss(at_the_teacher.x0)) == pytest.approx(0, abs=1e-25)
    assert not np.allclose(model.layers[0].weight, teacher.layers[0].weight)


def test_an_init_apply_pair_is_its_equinox_twin():
    problem = applied()
    assert problem.dim == 24
    model = problem.parameters(problem.x0)
    assert np.allclose(jax.vmap(model)(jnp.asarray(X)), np.sin(X @ model.params["in"].T) @ model.params["out"].T)
    assert float(problem.loss(problem.x0)) == pytest.approx(
        float(np.mean(np.sum((jax.vmap(model)(jnp.asarray(X)) - TARGETS) ** 2, axis=1)) / 2)
    )


class WithSettings(eqx.Module):
    """What Equinox's own modules hold beside their weights: switches and rates."""

    linear: eqx.nn.Linear
    drop: eqx.nn.Dropout
    norm: eqx.nn.LayerNorm
    temperature: float

    def __call__(self, x):
        return self.linear(self.norm(self.drop(x))) / self.temperature


def test_any_equinox_module_gives_its_arrays_alone():
    module = WithSettings(eqx.nn.Linear(3, 3, key=KEY), eqx.nn.Dropout(0.3, inference=True), eqx.nn.LayerNorm(3), 2.0)
    problem = ss.EmpiricalRisk(networks.cross_entropy, (X, CLASSES), init=module)
    assert problem.dim == 12 + 6
    again = problem.parameters(problem.x0)
    assert again.temperature == 2.0
    assert np.array_equal(again(jnp.asarray(X[0])), module(jnp.asarray(X[0])))
    scalars = ss.EmpiricalRisk(lambda p, z: (p["w"] * z + p["b"]) ** 2, X[:, 0], init={"w": 0.5, "b": jnp.ones(())})
    assert scalars.dim == 2  # outside a module, plain numbers are parameters


def test_networks_take_the_type_of_their_weights():
    single = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, networks.mlp((3, 2), key=KEY))
    problem = ss.EmpiricalRisk(networks.cross_entropy, (X.astype(np.float32), CLASSES % 2), init=single)
    assert problem.x0.dtype == jnp.float32
    assert jax.eval_shape(problem.example_gradients, problem.x0).dtype == jnp.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.mlp((3,), key=KEY), "sizes must be"),
        (lambda: networks.mlp((3, 0, 2), key=KEY), "sizes must be"),
        (lambda: networks.deep_linear((3, -2, 2), key=KEY), "sizes must be"),
        (lambda: networks.Residual((3, 0, 2), blocks=1, key=KEY), "sizes must be"),
        (lambda: networks.Residual((3, 4, 2), blocks=0, key=KEY), "blocks must be at least 1"),
    ],
)
def test_bad_sizes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("as_users_run")
def test_apply_must_be_a_callable():
    with pytest.raises(TypeError, match="apply must be a callable"):
        networks.Applied(3.0, np.ones(2))
