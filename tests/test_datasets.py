"""Data sets: what is in them, what was done to them, and that they say so."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import sgdsim as ss
from sgdsim.problems import datasets

KEY = jax.random.key(0)


def ramp(count=20):
    return datasets.from_arrays(np.arange(3.0 * count).reshape(count, 3) ** 2, np.arange(count) % 4)


@pytest.mark.parametrize(
    ("load", "shape", "labels"),
    [
        (datasets.digits, (1797, 64), range(10)),
        (datasets.wine, (178, 13), range(3)),
        (datasets.breast_cancer, (569, 2), (-1, 1)),
        (lambda: datasets.breast_cancer(None), (569, 30), (-1, 1)),
    ],
)
def test_bundled_classes(load, shape, labels):
    data = load()
    x, y = data
    assert x.shape == shape and y.shape == shape[:1]
    assert x is data.inputs and data.num_examples == shape[0]
    assert np.array_equal(data.classes, labels)
    if shape[1] != 64:
        assert np.allclose([x.mean(0), x.std(0)], [[0] * shape[1], [1] * shape[1]], atol=1e-12)
        assert f"inputs standardised by {shape[0]} examples" in repr(data)


def test_bundled_values_are_standardised_and_can_be_undone():
    data = datasets.diabetes()
    assert data.inputs.shape == (442, 10) and data.classes is None
    assert np.allclose([data.labels.mean(), data.labels.std()], [0, 1], atol=1e-12)
    raw = data.labels * data.label_scale + data.label_centre
    assert (raw.min(), raw.max()) == pytest.approx((25, 346))
    assert np.allclose(np.unique(np.round(data.inputs[:, 1] * data.scale[1] + data.centre[1], 9)), [1, 2])  # sex
    assert "inputs and labels standardised" in repr(data)


def test_a_split_holds_out_every_other_example_once():
    whole = ramp()
    data = whole.split(0.25, key=KEY)
    assert (data.inputs.shape, data.test_inputs.shape) == ((15, 3), (5, 3))
    rows = np.concatenate([data.inputs, data.test_inputs])
    assert np.array_equal(np.sort(rows[:, 0]), whole.inputs[:, 0])
    for inputs, labels in (data, (data.test_inputs, data.test_labels)):
        assert np.array_equal(labels, np.sqrt(inputs[:, 0]) / 3 % 4)
    assert "15 to train on and 5 held out" in repr(data)
    assert not np.array_equal(data.test_inputs, whole.split(0.25, key=jax.random.key(1)).test_inputs)


def test_standardisation_is_by_the_training_examples_and_composes():
    whole = ramp()
    data = whole.split(0.25, key=KEY).standardised()
    again = whole.standardised().split(0.25, key=KEY).standardised()
    assert np.allclose([data.inputs.mean(0), data.inputs.std(0)], [[0] * 3, [1] * 3], atol=1e-12)
    assert not np.allclose(data.test_inputs.mean(0), 0, atol=1e-3)
    for name in ("inputs", "test_inputs", "centre", "scale"):
        assert np.allclose(getattr(data, name), getattr(again, name), atol=1e-12)
    raw = np.concatenate([data.inputs, data.test_inputs]) * data.scale + data.centre
    assert np.allclose(np.sort(raw[:, 2]), whole.inputs[:, 2])
    assert "standardised by 15 examples" in repr(data)


def test_constant_entries_are_only_centred():
    data = datasets.digits().standardised()
    assert np.all(np.isfinite(data.inputs))
    assert "(3 constant entries only centred)" in repr(data)
    assert np.all(data.inputs[:, 0] == 0)
    assert data.centre[20] == pytest.approx((data.inputs * data.scale + data.centre)[:, 20].mean())
    raw = data.inputs * data.scale + data.centre
    assert (raw.min(), raw.max()) == pytest.approx((0, 16))  # brightness, as it came
    tenths = datasets.from_arrays(np.full((7, 1), 0.1), np.arange(7)).standardised()  # whose mean is not 0.1 exactly
    assert np.allclose(tenths.inputs, 0, atol=1e-15)


def test_random_labels_are_of_the_share_asked_and_uniform():
    """3/10 of 40,000 labels of 4 classes: 2 chi-square p-values above 1e-4, and a mean of 569 signs, 4 sigmas."""
    true = datasets.gaussian_blobs(np.eye(4), 40_000, spread=1.0, key=KEY)
    data = true.with_random_labels(0.3, key=jax.random.key(1))
    chosen = data.replaced
    assert chosen.sum() == 12_000
    assert np.array_equal(data.labels[~chosen], true.labels[~chosen])
    pairs = np.bincount(4 * true.labels[chosen] + data.labels[chosen], minlength=16)
    assert scipy.stats.chisquare(pairs).pvalue > 1e-4  # whatever the true label was
    places = np.add.reduceat(chosen.astype(int), np.arange(0, 40_000, 1000))
    spread = 300 * 0.7 * 40_000 / 39_999  # of a multivariate hypergeometric law
    assert scipy.stats.chi2.sf(np.sum((places - 300) ** 2) / spread, 39) > 1e-4
    assert "12,000 of 40,000 training labels random" in repr(data)
    assert np.array_equal(true.with_random_labels(0.0, key=KEY).labels, true.labels)
    signs = datasets.breast_cancer().with_random_labels(1.0, key=KEY)
    assert set(signs.labels) == {-1.0, 1.0} and np.all(signs.replaced)
    assert abs(signs.labels.mean()) < 4 / np.sqrt(569)


def test_a_held_out_part_keeps_its_true_labels():
    data = ramp().split(0.25, key=KEY).with_random_labels(1.0, key=KEY)
    assert np.array_equal(data.test_labels, np.sqrt(data.test_inputs[:, 0]) / 3 % 4)
    assert data.replaced.shape == (15,)


def test_gaussian_blobs_are_normal_about_their_centres():
    centres = np.array([[0.0, 3.0], [-2.0, 0.0], [5.0, 5.0]])
    data = datasets.gaussian_blobs(centres, 3001, spread=0.5, key=KEY)
    assert np.array_equal(np.bincount(data.labels), [1001, 1000, 1000])
    residual = (data.inputs - centres[data.labels]) / 0.5
    assert scipy.stats.kstest(residual.ravel(), "norm").pvalue > 1e-3
    assert "about 3 centres" in repr(data)


def test_teachers_are_arrays_of_weights_or_models():
    weights = np.array([1.0, -2.0, 0.5])
    data = datasets.from_teacher(weights, 500, noise=0.2, key=KEY)
    assert data.inputs.shape == (500, 3)
    residual = (data.labels - data.inputs @ weights) / 0.2
    assert scipy.stats.kstest(residual, "norm").pvalue > 1e-3
    model = datasets.from_teacher(lambda x: jnp.tanh(x[:2]), 5, noise=0.0, inputs=4, key=KEY)
    assert np.allclose(model.labels, np.tanh(model.inputs[:, :2]))
    assert datasets.from_teacher(jnp.tanh, 5, noise=0.0, key=KEY).inputs.shape == (5,)


def test_a_data_set_goes_into_a_risk_whole():
    data = datasets.wine().split(0.2, key=KEY)
    risk = ss.EmpiricalRisk(ss.networks.cross_entropy, data, init=ss.networks.mlp((13, 3), key=KEY))
    assert risk.num_examples == 142
    assert np.array_equal(risk.data[0], data.inputs)


def test_npz_files(tmp_path):
    path, (x, y) = tmp_path / "mine.npz", (np.arange(6.0).reshape(3, 2), np.array([0, 1, 1]))
    np.savez(path, X=x, y=y, other=x)
    data = datasets.from_npz(path)
    assert data.name == "mine"
    assert np.array_equal(data.inputs, x) and np.array_equal(data.labels, y)
    assert np.array_equal(datasets.from_npz(str(path), labels="other").labels, x)
    with pytest.raises(ValueError, match=r"path must be an .npz file.*no target among X, y, other"):
        datasets.from_npz(path, labels="target")


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a file was unpickled",)


def test_no_file_is_ever_unpickled(tmp_path):
    objects, pickled, broken = tmp_path / "objects.npz", tmp_path / "pickled.npz", tmp_path / "broken.npz"
    np.savez(objects, X=np.array([Trap(), None], dtype=object), y=np.arange(2))
    pickled.write_bytes(pickle.dumps(Trap()))
    broken.write_bytes(objects.read_bytes()[:60])
    np.save(tmp_path / "single.npy", np.arange(3))
    for path in (objects, pickled, broken, tmp_path / "single.npy"):
        with pytest.raises(ValueError, match=r"path must be an \.npz file of plain arrays"):
            datasets.from_npz(path)


def test_csv_files(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('a,"b",kind\n1,2.5,0\n3,4,2\n')
    data = datasets.from_csv(path)
    assert np.array_equal(data.inputs, [[1, 2.5], [3, 4]])
    assert np.array_equal(data.classes, [0, 2])
    assert np.array_equal(datasets.from_csv(path, labels="b").labels, [2.5, 4])
    assert datasets.from_csv(path, labels="b").classes is None
    path.write_text("1,2.5\n3,4\n")  # no header
    assert np.array_equal(datasets.from_csv(path, labels=0).labels, [1, 3])
    assert np.array_equal(datasets.from_csv(path, labels=0).inputs, [[2.5], [4]])


@pytest.mark.parametrize(
    ("text", "labels", "message"),
    [
        ("a,b\n1,\n", -1, "path must be a table of numbers"),
        ("a,b\n1,2\n3\n", -1, "path must be a table of numbers"),
        ("a,b\n1,x\n", -1, "path must be a table of numbers"),
        ("a,b\n1,nan\n", -1, "labels must be finite, got 1 NaN"),
        ("a,b\n1,2\n", "c", "labels must be one of the columns a, b"),
        ("1,2\n", "c", r"labels must be one of the columns \(no header\)"),
        ("1,2\n", 2, "labels must be the place of one of 2 columns"),
        ("1\n2\n", -1, "path must hold rows of inputs and a label"),
    ],
)
def test_bad_tables(tmp_path, text, labels, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        datasets.from_csv(path, labels=labels)


@pytest.mark.filterwarnings("ignore:loadtxt")
def test_an_empty_table(tmp_path):
    path = tmp_path / "table.csv"
    for text in ("", "a,b\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="path must hold rows"):
            datasets.from_csv(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: datasets.from_arrays(np.zeros((0, 2)), np.zeros(0)), "inputs must hold at least one example"),
        (lambda: datasets.from_arrays(np.zeros((3, 2)), np.zeros(2)), "labels must be as many as the 3 inputs"),
        (lambda: datasets.from_arrays([[1.0, np.nan]], [1]), "inputs must be finite, got 1 NaN"),
        (lambda: datasets.from_arrays([[1.0]], ["cat"]), "labels must be real numbers"),
        (lambda: datasets.from_arrays([[1.0], [2.0]], [1j, 2]), "labels must be real numbers"),
        (lambda: ramp().split(0.0, key=KEY), "test_fraction must leave examples in both parts"),
        (lambda: ramp().split(0.001, key=KEY), "test_fraction must leave examples in both parts"),
        (lambda: ramp().split(0.5, key=KEY).split(0.5, key=KEY), "split must come once"),
        (lambda: ramp().with_random_labels(0.1, key=KEY).split(0.5, key=KEY), "split must come once"),
        (lambda: ramp().with_random_labels(1.1, key=KEY), "fraction must be from 0 to 1"),
        (lambda: datasets.diabetes().with_random_labels(0.5, key=KEY), "labels must be classes"),
        (lambda: ramp().standardised(labels=True), "labels must be values"),
        (lambda: datasets.breast_cancer(()), "features must be among"),
        (lambda: datasets.from_teacher(np.ones(2), 0, noise=0.1, key=KEY), "num_examples must be positive"),
        (lambda: datasets.from_teacher(np.ones(2), 9, noise=-0.1, key=KEY), "noise not negative"),
        (lambda: datasets.from_teacher(np.ones(2), 9, noise=0.1, inputs=3, key=KEY), "inputs must be the length"),
        (lambda: datasets.from_teacher(jnp.tanh, 9, noise=0.1, inputs=0, key=KEY), "inputs must be a positive"),
        (lambda: datasets.gaussian_blobs([[1.0]], 9, spread=1.0, key=KEY), "centres must be a finite array"),
        (lambda: datasets.gaussian_blobs(np.eye(3), 2, spread=1.0, key=KEY), "num_examples must be at least the 3"),
        (lambda: datasets.gaussian_blobs(np.eye(3), 9, spread=-1.0, key=KEY), "spread must be finite"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
