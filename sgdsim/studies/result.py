"""What every study returns, and how its files are written."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sgdsim.measures.operators import finite_sum
from sgdsim.processes import SGD


class StudyResult(Protocol):
    """A frozen result: `print(result)` shows its table."""

    @property
    def reading(self) -> str:
        """One plain paragraph: where the limit holds, where it breaks, by how much."""
        ...

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the figure to a file."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        ...


def process_settings(sgd: SGD) -> dict[str, Any]:
    """What process was run, as reports and JSON say it."""
    risk, _ = finite_sum(sgd.problem)
    data: dict[str, Any] = {} if risk is None else {"weight_decay": float(risk.weight_decay)}
    if risk is not None and risk.source:
        data["data"] = risk.source
    return {
        "dimension": sgd.dim,
        "num_examples": sgd.problem.num_examples,
        "learning_rate": float(sgd.learning_rate),
        "batch_size": sgd.batch_size,
        "momentum": float(sgd.momentum),
        "update": "v ← μv + g, x ← x − ηv",
        "sampling": sgd.sampling,
        "sampling_factor": sgd.sampling_factor,
    } | data


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass without copying what they hold."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def check_folder(folder: str | os.PathLike[str], names: Iterable[str] = ()) -> Path:
    """Raise ValueError in one line where these files could not be written into the folder; nothing is made yet."""
    path = Path(folder)
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ValueError(f"output must be a folder that can be written, got {path}: {error.strerror}") from error
    for name in names:
        if (path / name).exists() and not (path / name).is_file():
            raise ValueError(f"output must not hold a folder named {name}, got {path}")
    return path


def write_files(folder: str | os.PathLike[str], writers: Mapping[str, Callable[[Path], None]]) -> list[Path]:
    """Write every file under a temporary name, and rename all of them only when all are complete."""
    target = check_folder(folder, writers)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".writing-") as temporary:
        for name, write in writers.items():
            write(Path(temporary) / name)
        for name in writers:
            os.replace(Path(temporary) / name, target / name)
    return [target / name for name in writers]


def write_study(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    plot: Callable[[Path], None],
    content: Mapping[str, Any],
    arrays: Mapping[str, Any],
) -> list[Path]:
    """Write a study's figure, JSON and NPZ, named in this order; all of them or none."""
    writers = (plot, partial(write_json, content=content), partial(write_npz, arrays=arrays))
    return write_files(folder, dict(zip(names, writers, strict=True)))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; what is not finite is null."""
    path.write_text(as_json(content), encoding="utf-8")


def as_json(content: Mapping[str, Any]) -> str:
    """The content as JSON text; what is not finite is null."""
    return json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays, compressed, without pickles."""
    # Checked here: before 2.1 NumPy takes `allow_pickle` for the name of an array, and pickles.
    pickled = [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]
    if pickled:
        raise ValueError(f"arrays must be of numbers, got objects in {', '.join(pickled)}")
    np.savez(path, **arrays)  # clouds are noise: to compress them takes a second and saves a twelfth


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
