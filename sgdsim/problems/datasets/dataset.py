"""Inputs and labels, with a statement of what was done to them."""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Key, Num


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """N examples to train on, perhaps others held out, and how they came about. `X, y = dataset` unpacks the former.

    Every change makes a new data set: `digits().split(0.2, key=key).standardised().with_random_labels(0.5, key=key)`.

    Attributes:
        name: what it is.
        inputs, labels: the N training examples.
        test_inputs, test_labels: those held out; None without a split.
        history: what was done, in order, in words.
        centre, scale: inputs are (raw − centre)/scale, entry by entry; None where they are raw.
        label_centre, label_scale: the same for the labels.
        replaced: (N,), which training labels are random; None where none is.
    """

    name: str
    inputs: Float[np.ndarray, "N *in"]
    labels: Num[np.ndarray, "N *out"]
    test_inputs: Float[np.ndarray, "M *in"] | None = None
    test_labels: Num[np.ndarray, "M *out"] | None = None
    history: tuple[str, ...] = ()
    centre: Float[np.ndarray, "*in"] | None = None
    scale: Float[np.ndarray, "*in"] | None = None
    label_centre: Float[np.ndarray, "*out"] | None = None
    label_scale: Float[np.ndarray, "*out"] | None = None
    replaced: Bool[np.ndarray, " N"] | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.inputs, self.labels))

    def __repr__(self) -> str:
        shape = f"{self.num_examples:,} examples of shape {self.inputs.shape[1:]}"
        held = "" if self.test_inputs is None else f", {len(self.test_inputs):,} held out"
        return "; ".join((f"{self.name}: {shape}{held}", *self.history))

    @property
    def num_examples(self) -> int:
        """N, of the training examples."""
        return len(self.inputs)

    @property
    def classes(self) -> Num[np.ndarray, " K"] | None:
        """The labels that occur, where they are classes (whole numbers, or ±1); None where they are values."""
        if self.labels.ndim == 1 and np.issubdtype(self.labels.dtype, np.integer):
            return np.unique(self.labels)
        signs = np.asarray([-1.0, 1.0])
        return signs if self.labels.ndim == 1 and np.all(np.isin(self.labels, signs)) else None

    def split(self, test_fraction: float, *, key: Key[Array, ""]) -> "Dataset":
        """Hold out a random share of the examples, drawn without replacement.

        Raises:
            ValueError: on a share that leaves either part empty, or where the data are split or randomised already.
        """
        count = round(test_fraction * self.num_examples) if 0 < test_fraction < 1 else 0
        if not 0 < count < self.num_examples:
            raise ValueError(
                f"test_fraction must leave examples in both parts of {self.num_examples}, got {test_fraction}"
            )
        if self.test_inputs is not None or self.replaced is not None:
            raise ValueError("split must come once, and before with_random_labels: a test is of true labels")
        order = np.asarray(jax.random.permutation(key, self.num_examples))
        test, train = np.sort(order[:count]), np.sort(order[count:])
        return dataclasses.replace(
            self,
            inputs=self.inputs[train],
            labels=self.labels[train],
            test_inputs=self.inputs[test],
            test_labels=self.labels[test],
            history=(*self.history, f"split at random into {len(train):,} to train on and {count:,} held out"),
        )

    def standardised(self, *, labels: bool = False) -> "Dataset":
        """Centre each entry of the inputs and divide it by its standard deviation, both over the training examples.

        An entry that is the same in all of them is centred alone. Examples held out get the same centre and scale, so
        split first where they must not be known.

        Args:
            labels: the same for the labels, which must be values.

        Raises:
            ValueError: if labels to standardise are classes.
        """
        centre, scale, constant = _standard(self.inputs)
        changes = {
            "inputs": (self.inputs - centre) / scale,
            "test_inputs": None if self.test_inputs is None else (self.test_inputs - centre) / scale,
            **_composed("", self.centre, self.scale, centre, scale),
        }
        what = "inputs"
        if labels:
            if self.classes is not None:
                raise ValueError("labels must be values to be standardised, got classes")
            middle, width, _ = _standard(self.labels)
            changes |= {
                "labels": (self.labels - middle) / width,
                "test_labels": None if self.test_labels is None else (self.test_labels - middle) / width,
                **_composed("label_", self.label_centre, self.label_scale, middle, width),
            }
            what = "inputs and labels"
        left = f" ({constant} constant entries only centred)" if constant else ""
        done = f"{what} standardised by {self.num_examples:,} examples{left}"
        return dataclasses.replace(self, **changes, history=(*self.history, done))

    def with_random_labels(self, fraction: float, *, key: Key[Array, ""]) -> "Dataset":
        """Give a share of the training examples labels drawn uniformly from the classes, whatever their inputs.

        round(fraction·N) examples are chosen without replacement; one in K of them draws its own label again.

        Raises:
            ValueError: on a share outside 0 … 1, labels that are not classes, or labels that are random already.

        Source: Zhang, Bengio, Hardt, Recht, Vinyals, "Understanding deep learning requires rethinking generalization",
        ICLR 2017.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be from 0 to 1, got {fraction}")
        classes = self.classes
        if classes is None or self.replaced is not None:
            raise ValueError("labels must be classes, and not random already, to be replaced by random ones")
        choice_key, label_key = jax.random.split(key)
        count = round(fraction * self.num_examples)
        chosen = np.asarray(jax.random.permutation(choice_key, self.num_examples))[:count]
        labels, replaced = self.labels.copy(), np.zeros(self.num_examples, bool)
        labels[chosen] = classes[np.asarray(jax.random.randint(label_key, (count,), 0, len(classes)))]
        replaced[chosen] = True
        done = f"{count:,} of {self.num_examples:,} training labels random"
        return dataclasses.replace(self, labels=labels, replaced=replaced, history=(*self.history, done))


def _standard(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and standard deviation over the first axis, 1 for entries that do not vary, and how many these are."""
    centre, scale = np.asarray(values.mean(axis=0)), np.asarray(values.std(axis=0))
    constant = scale <= 1e-12 * np.abs(values).max(axis=0)  # a mean is rounded: equal entries need not give 0
    return centre, np.where(constant, 1.0, scale), int(np.sum(constant))


def _composed(
    prefix: str, centre: np.ndarray | None, scale: np.ndarray | None, more: np.ndarray, wider: np.ndarray
) -> dict[str, np.ndarray]:
    """Centre and scale of two standardisations, one after the other."""
    if centre is not None and scale is not None:
        more, wider = centre + scale * more, scale * wider
    return {f"{prefix}centre": np.asarray(more), f"{prefix}scale": np.asarray(wider)}
