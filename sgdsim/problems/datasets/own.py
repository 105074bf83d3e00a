"""A user's own data, from arrays or from a file. Nothing is ever unpickled."""

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim.problems.datasets.dataset import Dataset


def from_arrays(inputs: Any, labels: Any, *, name: str = "arrays") -> Dataset:
    """A user's inputs (N, …) and labels (N, …), checked; `standardised` and `split` are the data set's own methods.

    Inputs become floats. Labels stay whole numbers (classes) or floats, as they are.

    Raises:
        ValueError: on empty arrays, unequal lengths, entries that are not finite real numbers.
    """
    x, y = _numbers("inputs", inputs), _numbers("labels", labels)
    if len(x) != len(y):
        raise ValueError(f"labels must be as many as the {len(x)} inputs, got {len(y)}")
    return Dataset(name, x if np.issubdtype(x.dtype, np.floating) else x.astype(float), y)


def from_npz(path: str | Path, *, inputs: str = "X", labels: str = "y") -> Dataset:
    """The arrays of these names from an .npz file, as `np.savez(path, X=…, y=…)` writes it.

    Raises:
        ValueError: if it is no such file, holds pickled objects, or lacks a name; as `from_arrays` does.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with file:
            missing = [key for key in (inputs, labels) if key not in file.files]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)} among {', '.join(file.files)}")
            x, y = file[inputs], file[labels]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"path must be an .npz file of plain arrays, got {path}: {error}") from error
    return from_arrays(x, y, name=Path(path).stem)


def from_csv(path: str | Path, *, labels: str | int = -1) -> Dataset:
    """A table of numbers separated by commas, one example a row, with or without a header of column names.

    Labels that are all whole numbers are read as classes.

    Args:
        path: the file.
        labels: the labels' column, by name or by place; the last by default. The others are the inputs.

    Raises:
        ValueError: if an entry is missing or no number, the rows differ in length, or there is no such column.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        names = [name.strip() for name in next(csv.reader(file), [])]
    header = any(not _is_number(name) for name in names)
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=int(header), ndmin=2, encoding="utf-8-sig", quotechar='"')
    except ValueError as error:
        raise ValueError(f"path must be a table of numbers separated by commas, got {path}: {error}") from error
    if table.size == 0 or table.shape[1] < 2:
        raise ValueError(f"path must hold rows of inputs and a label, got a table of shape {table.shape}")
    column = _column(labels, names if header else [], table.shape[1])
    y = table[:, column]
    whole = np.all(np.isfinite(y)) and np.all(y == np.round(y)) and np.all(np.abs(y) < 2**31)
    return from_arrays(np.delete(table, column, axis=1), y.astype(int) if whole else y, name=Path(path).stem)


def _column(labels: str | int, names: list[str], count: int) -> int:
    if isinstance(labels, str):
        if labels not in names:
            raise ValueError(f"labels must be one of the columns {', '.join(names) or '(no header)'}; got {labels!r}")
        return names.index(labels)
    if not -count <= labels < count:
        raise ValueError(f"labels must be the place of one of {count} columns, got {labels}")
    return labels % count


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} must hold at least one example along a leading axis, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got {array.dtype}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {int(np.sum(~np.isfinite(array)))} NaN or infinite entries")
    return array.astype(int) if array.dtype.kind == "b" else array
