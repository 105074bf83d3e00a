"""The noise scale g = ηN/(B(1 − μ)): whether the test error knows rate, batch size and momentum by it alone."""

import itertools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num, PyTree
from tqdm import tqdm

from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, simulate
from sgdsim.measures import Estimate, bootstrap
from sgdsim.measures.lowest import lowest_place
from sgdsim.measures.operators import Hessian
from sgdsim.measures.spectrum import top_eigenpairs
from sgdsim.problems import EmpiricalRisk, datasets, networks
from sgdsim.problems.datasets import Dataset
from sgdsim.processes import SGD
from sgdsim.studies.finite_sum import check_counts, checked_risk
from sgdsim.studies.noise_scales import Cell, NoiseScales, Optima
from sgdsim.studies.result import process_settings

RATES = (0.2, 0.4, 0.8, 1.6)
BATCHES = (2, 4, 8, 16, 32, 64)
MOMENTA = (0.0, 0.9)
TIME = 400.0
CURVED = 2  # replicas whose largest curvature is found


def noisy_digits(
    key: Key[Array, ""], *, examples: int = 512, random_labels: float = 0.3, hidden: int = 32
) -> tuple[SGD, Dataset]:
    """A network that overfits: few digits to train on, some with random labels, the rest held out with true ones.

    Without wrong labels the smallest noise is the best or as good as any, and there is no best batch to speak of.

    Args:
        key: a typed `jax.random.key` for the split, the labels and the weights.
        examples: N, from 10 to 1,796.
        random_labels: the share of them with labels drawn at random.
        hidden: the width of a 64-hidden-10 network with tanh.

    Raises:
        ValueError: on numbers out of their range.
    """
    digits = datasets.digits()
    if isinstance(examples, bool) or not isinstance(examples, int) or not 10 <= examples < digits.num_examples:
        raise ValueError(f"examples must be a whole number from 10 to {digits.num_examples - 1}, got {examples!r}")
    split_key, label_key, weight_key = jax.random.split(key, 3)
    data = digits.split(1 - examples / digits.num_examples, key=split_key)
    data = data.with_random_labels(random_labels, key=label_key)
    risk = EmpiricalRisk(networks.cross_entropy, data, init=networks.mlp((64, hidden, 10), key=weight_key))
    return SGD(risk, learning_rate=0.1, batch_size=1), data


def noise_scale_of_digits(
    *,
    key: Key[Array, ""],
    examples: int = 512,
    random_labels: float = 0.3,
    particles: int = 32,
    progress: bool = False,
) -> NoiseScales:
    """`noise_scale` of `noisy_digits`."""
    problem_key, own = jax.random.split(key)
    sgd, data = noisy_digits(problem_key, examples=examples, random_labels=random_labels)
    return noise_scale(sgd, data, key=own, particles=particles, progress=progress)


def noise_scale(
    sgd: SGD,
    test: Dataset | tuple[Any, Any],
    start: Gaussian | np.ndarray | Array | list | None = None,
    *,
    key: Key[Array, ""],
    learning_rates: Sequence[float] = RATES,
    batch_sizes: Sequence[int] = BATCHES,
    momenta: Sequence[float] = MOMENTA,
    time: float | None = None,
    steps: int | None = None,
    sizes: Sequence[int] | None = None,
    particles: int = 32,
    progress: bool = False,
    name: str = "noise_scale",
) -> NoiseScales:
    """Train over a grid of learning rates, batches and momenta, and lay the test errors over g = s_B η_e N/B.

    g is 2NT: N times the noise that the limit dX = −∇f dt + √(2T D) dW has. For a fixed problem, that limit, and with
    it the law of the weights at every time t = η_e k, knows η, B and μ by g alone. So all cells run for one *time*, in
    which the drift does the same work, and should agree wherever they agree on g, at the end as on the way. Smith and
    Le held the number of updates instead, long enough to be near a steady state; with `steps` that is done here, and
    cells of one g then differ in how far the drift has come.

    Learning rates are the effective ones, η_e = η/(1 − μ): chains with and without momentum share g and their clock,
    and a grid in powers of two has many cells at each g. They are compared with the cells of the smallest η_e at their
    g, which are the closest to the limit: no curve is fitted. What the limit leaves out is η_e k_max, against 2(1 + μ)/
    (1 − μ) where the chain is unstable; the memory of momentum, 1/(1 − μ) steps; and all but two moments of the noise.

    The best batch of each η_e is the vertex of the parabola through the lowest mean and its neighbours on the axis
    log₂ B. If all depends on g alone, it grows as η_e and, if the best g is the same at each N, as N.

    Args:
        sgd: a chain over an `EmpiricalRisk`, for its problem and sampling: its η, B and μ play no part.
        test: examples of the form of the risk's own, or a `Dataset` with held-out ones.
        start: as `simulate` takes it; by default the risk's `init` for all replicas.
        key: a typed `jax.random.key`.
        learning_rates: η_e.
        batch_sizes: B; those not below N are left out.
        momenta: μ, each with its own chain η = η_e(1 − μ); fewer examples than all are run with the first alone.
        time: t for all cells; by default 400.
        steps: k for all cells instead.
        sizes: numbers of training examples n, every (N/n)-th of the risk's; by default N/4, N/2 and N.
        particles: replicas of each cell, at least 4.
        progress: show a bar.
        name: what to call the problem in the report.

    Raises:
        TypeError: on a process that is not SGD over an `EmpiricalRisk`.
        ValueError: on settings that cannot work, before anything is run.

    Source: Smith and Le, "A Bayesian perspective on generalization and stochastic gradient descent", ICLR 2018; Smith,
    Kindermans, Ying, Le, "Don't decay the learning rate, increase the batch size", ICLR 2018.
    """
    key_words(key)
    risk = checked_risk(sgd)
    examples = _checked_test(risk, test)
    amount = _checked_numbers(time, steps, particles)
    counts = sorted({*(sizes or [max(risk.num_examples // part, 1) for part in (4, 2, 1)]), risk.num_examples})
    if counts[0] < 2 or counts[-1] > risk.num_examples:
        raise ValueError(f"sizes must be from 2 to N = {risk.num_examples}, got {sizes}")
    chains = []
    for count, momentum, rate, batch in itertools.product(counts, momenta, sorted(learning_rates), sorted(batch_sizes)):
        if batch < count and (count == counts[-1] or momentum == momenta[0]):
            part = risk if count == counts[-1] else _share(risk, count)
            settings = {"batch_size": batch, "momentum": momentum, "sampling": sgd.sampling}
            chains.append(SGD(part, learning_rate=rate, **settings).with_rate(rate * (1 - momentum)))
    if not chains:
        raise ValueError(f"batch_sizes must have one below N = {risk.num_examples} at least, got {batch_sizes}")
    place = risk.x0 if start is None else start
    keys, cells = jax.random.split(key, len(chains) + 1), []
    for chain, own in zip(tqdm(chains, disable=not progress, desc=name, unit=" cells"), keys[1:], strict=True):
        count = steps or max(1, round(amount / float(chain.time_step)))
        curved = CURVED if chain.problem.num_examples == risk.num_examples else 0
        cells.append(_cell(chain, place, examples, count, particles, own, curved))
    return NoiseScales(
        name=name,
        settings={k: process_settings(sgd)[k] for k in ("dimension", "num_examples", "update", "sampling")}
        | {"weight_decay": float(risk.weight_decay), "particles": particles, "amount": amount},
        held="time" if steps is None else "steps",
        cells=tuple(cells),
        optima={quantity: _optima(cells, quantity, keys[0]) for quantity in cells[0].measured},
    )


def _checked_test(risk: EmpiricalRisk, test: Any) -> PyTree[Array]:
    if isinstance(test, Dataset):
        if test.test_inputs is None:
            raise ValueError("test must be a data set with examples held out (`split`), got one without")
        test = (test.test_inputs, test.test_labels)
    held = jax.tree.map(jnp.asarray, test)
    same = jax.tree.structure(held) == jax.tree.structure(risk.data) and all(
        a.shape[1:] == b.shape[1:] and len(a) > 0
        for a, b in zip(jax.tree.leaves(held), jax.tree.leaves(risk.data), strict=True)
    )
    if not same:
        want, got = (jax.tree.map(lambda a: a.shape[1:], each) for each in (risk.data, held))
        raise ValueError(f"test must hold examples of the form of the risk's own, {want}, got {got}")
    return held


def _checked_numbers(time: float | None, steps: int | None, particles: int) -> float:
    """The time, or the number of steps, of all cells."""
    if time is not None and steps is not None:
        raise ValueError(f"time and steps must not both be given, got {time} and {steps}")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps must be a positive whole number, got {steps!r}")
    check_counts(particles=(particles, 4))
    amount = float(steps or (TIME if time is None else time))
    if not 0 < amount < float("inf"):
        raise ValueError(f"time must be positive and finite, got {time}")
    return amount


def _share(risk: EmpiricalRisk, count: int) -> EmpiricalRisk:
    """The risk over `count` of its examples, evenly spread, since data are often sorted."""
    places = np.arange(count) * risk.num_examples // count
    return eqx.tree_at(lambda r: r.data, risk, jax.tree.map(lambda a: a[places], risk.data))


def _cell(
    sgd: SGD, start: Any, test: PyTree[Array], steps: int, particles: int, key: Key[Array, ""], curved: int
) -> Cell:
    """One cloud, and what is read of it at its end; the curvature of so many replicas."""
    own, curvature_key = jax.random.split(key)
    count = particles if isinstance(start, Gaussian) or np.ndim(start) == 1 else None
    last = simulate(sgd, start, steps=steps, key=own, particles=count, dtype="float32").particles[-1]
    risk, whole = checked_risk(sgd), np.isfinite(last).all(axis=1)
    read = np.array(_read(risk, jnp.asarray(np.where(whole[:, None], last, 0.0), float), test, _classes(risk)))
    whole &= np.isfinite(read).all(axis=0)
    train, *rest = read[:, whole]
    tops = [top_eigenpairs(Hessian(risk, x), 1, key=curvature_key).values[0].value for x in last[whole][:curved]]
    return Cell(
        num_examples=risk.num_examples,
        rate=float(sgd.time_step),
        batch_size=sgd.batch_size,
        momentum=float(sgd.momentum),
        steps=steps,
        noise_scale=2 * risk.num_examples * float(sgd.temperature),
        curvature=_mean(np.array(tops, dtype=float)),
        train_loss=_mean(train),
        measured=dict(zip(("test loss", "error rate"), rest, strict=False)),
        diverged=int(np.sum(~whole)),
    )


def _mean(values: Float[np.ndarray, " n"]) -> Estimate:
    if len(values) < 2:
        return Estimate(np.nan, np.nan)
    return Estimate(float(np.mean(values)), np.std(values, ddof=1) / np.sqrt(len(values)))


def _classes(risk: EmpiricalRisk) -> Num[Array, " K"] | None:
    """The classes that the labels are of, where data are pairs whose second part is classes."""
    if not isinstance(risk.data, tuple | list) or len(risk.data) != 2 or not hasattr(risk.data[1], "shape"):
        return None
    classes = Dataset("", np.zeros((risk.num_examples, 1)), np.asarray(risk.data[1])).classes
    return None if classes is None else jnp.asarray(classes)


@eqx.filter_jit
def _read(
    risk: EmpiricalRisk, cloud: Float[Array, "P d"], test: PyTree[Array], classes: Num[Array, " K"] | None
) -> tuple[Float[Array, " P"], ...]:
    """Of each particle the training loss, the test loss and, with classes, the error rate.

    An example is right where no other label has as small a loss, whatever the loss is: for cross-entropy, hinge and
    logistic loss that is where the model's output for the label, or of its sign, is the largest.
    """

    def of_particle(x: Float[Array, " d"]) -> tuple[Float[Array, ""], ...]:
        model = risk.parameters(x)
        loss = jnp.mean(jax.vmap(lambda z: risk.example_loss(model, z))(test))
        if classes is None:
            return risk.loss(x), loss

        def wrong(z: PyTree[Array]) -> Float[Array, ""]:
            each = jax.vmap(lambda label: risk.example_loss(model, (z[0], label)))(classes)
            return 1.0 * (jnp.sum(each <= risk.example_loss(model, (z[0], z[1]))) > 1)

        return risk.loss(x), loss, jnp.mean(jax.vmap(wrong)(test))

    return jax.lax.map(of_particle, cloud)


def _optima(cells: Sequence[Cell], quantity: str, key: Key[Array, ""]) -> Optima:
    """The best batch of each line of equal (N, μ, η_e), and its powers of η_e and N, by the bootstrap."""
    lines: dict[tuple[int, float, float], list[int]] = {}
    sound = [cell for cell in cells if len(cell.measured[quantity]) > 1]
    for i, cell in enumerate(sound):
        lines.setdefault((cell.num_examples, cell.momentum, cell.rate), []).append(i)
    batches = [np.log2([sound[i].batch_size for i in places]) for places in lines.values()]

    def best(means: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " lines"]:
        return np.array([lowest_place(b, means[p]) for b, p in zip(batches, lines.values(), strict=True)])

    found = best(np.array([np.mean(cell.measured[quantity]) for cell in sound]))
    inside = np.array([b[0] < at < b[-1] for b, at in zip(batches, found, strict=True)])
    axes = np.log2([[rate, count] for count, _, rate in lines])[inside]
    known = [len(np.unique(axis)) > 1 for axis in axes.T]
    design = np.column_stack([np.ones(len(axes)), axes[:, known]])
    fits = np.linalg.matrix_rank(design) == design.shape[1] < len(axes)

    def statistic(*values: Float[np.ndarray, "P 1"]) -> Float[np.ndarray, " numbers"]:
        places = best(np.array([np.mean(v) for v in values]))
        powers = np.full(2, np.nan)
        if fits:
            powers[known] = np.linalg.lstsq(design, places[inside], rcond=None)[0][1:]
        return np.append(places, powers)

    told = bootstrap(statistic, *(cell.measured[quantity][:, None] for cell in sound), key=key)
    return Optima(tuple(lines), told[:-2], inside, told[-2], told[-1])
