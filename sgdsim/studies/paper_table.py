"""The literature's numbers next to ours: every law expected, measured, and held or not."""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key
from tqdm import tqdm

from sgdsim import plots
from sgdsim.draws import key_words
from sgdsim.studies.laws import LAWS, SIGMAS, Check, Law
from sgdsim.studies.reading import table
from sgdsim.studies.result import write_study

TABLE_FILES = ("table.png", "table.json", "table.npz")
QUICK = 0.1  # of the full table's particles
SHOWN = 8  # checks of one law beyond which only the worst is printed


@dataclasses.dataclass(frozen=True)
class Row:
    """One law of the table.

    Attributes:
        law: what it says, and where it is from.
        checks: its numbers.
        seconds: wall time of measuring them, with compiling.
    """

    law: Law
    checks: tuple[Check, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every number lies within four standard errors."""
        return all(check.holds for check in self.checks)

    @property
    def worst(self) -> Check:
        """The check that is furthest off, in standard errors."""
        return max(self.checks, key=lambda check: np.inf if np.isnan(check.z) else abs(check.z))


@dataclasses.dataclass(frozen=True, repr=False)
class PaperTable:
    """Each law of the literature: expected, measured ± error, z, verdict and seconds.

    Attributes:
        rows: one for each law.
        quick: whether a tenth of the particles were used.
    """

    rows: tuple[Row, ...]
    quick: bool

    @property
    def holds(self) -> bool:
        """Whether every row holds."""
        return all(row.holds for row in self.rows)

    def __str__(self) -> str:
        lines = [line for row in self.rows for line in _lines(row)]
        header = ["law", "quantity", "expected", "measured", "z", "verdict", "s"]
        return "\n\n".join([table(header, lines, left=2), self.reading])

    __repr__ = __str__

    @property
    def reading(self) -> str:
        """One plain paragraph: how many laws hold, which do not and by how much."""
        checks = [check for row in self.rows for check in row.checks]
        chance = min(1.0, sum(check.is_random for check in checks) * 6.3e-5)
        start = (
            f"{sum(row.holds for row in self.rows)} of {len(self.rows)} laws hold in {len(checks)} comparisons, each "
            f"within {SIGMAS:g} standard errors (by chance alone one would fail in {chance:.1%} of such tables); "
            f"{sum(row.seconds for row in self.rows):.0f} s."
        )
        failed = [
            f"{row.law.name} ({row.worst.quantity}: expected {row.worst.expected:.6g}, measured {row.worst.measured}, "
            f"z = {row.worst.z:.1f})"
            for row in self.rows
            if not row.holds
        ]
        return f"{start} Not so: {'; '.join(failed)}." if failed else start

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "holds": self.holds,
            "quick": self.quick,
            "sigmas": SIGMAS,
            "rows": [
                {
                    "law": row.law.name,
                    "statement": row.law.statement,
                    "source": row.law.source,
                    "holds": row.holds,
                    "seconds": row.seconds,
                    "checks": [
                        {
                            "quantity": check.quantity,
                            "expected": check.expected,
                            "measured": check.measured.value,
                            "standard_error": check.measured.standard_error,
                            "z": check.z,
                            "holds": check.holds,
                        }
                        for check in row.checks
                    ],
                }
                for row in self.rows
            ],
            "reading": self.reading,
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw every z-score, law by law, against the band within which it should lie."""
        plots.save(plots.scores([(row.law.name, [c.z for c in row.checks]) for row in self.rows], SIGMAS), path)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write figure, JSON and NPZ into a folder and return their paths."""
        checks = [(row.law.name, check) for row in self.rows for check in row.checks]
        arrays = {
            "law": np.array([name for name, _ in checks]),
            "expected": np.array([c.expected for _, c in checks]),
            "measured": np.array([c.measured.value for _, c in checks]),
            "standard_error": np.array([c.measured.standard_error for _, c in checks]),
            "z": np.array([c.z for _, c in checks]),
        }
        return write_study(folder, TABLE_FILES, self.plot, self.to_dict(), arrays)


def paper_table(
    laws: str | Sequence[str] | None = None, *, key: Key[Array, ""], quick: bool = False, progress: bool = False
) -> PaperTable:
    """Measure laws of the literature: simulation against closed form, each number with its error.

    Densities are as exact as JAX's default float; clouds run in float32.

    Args:
        laws: which, by name; all of them by default. `LAWS` has the names.
        key: a typed `jax.random.key`. A law's numbers depend on it and its own name's place alone, so that one law
            reads the same by itself.
        quick: with a tenth of the particles, within a minute on two cores instead of several.
        progress: show a bar.

    Raises:
        ValueError: on a law that is not there, or none.
    """
    key_words(key)
    names = list(LAWS) if laws is None else [laws] if isinstance(laws, str) else list(dict.fromkeys(laws))
    if not names:
        raise ValueError(f"laws must name one at least of {', '.join(LAWS)}; got none")
    for name in names:
        if name not in LAWS:
            raise ValueError(f"laws must be among {', '.join(LAWS)}; got {name!r}")
    keys = dict(zip(LAWS, jax.random.split(key, len(LAWS)), strict=True))
    rows = []
    with tqdm(names, disable=not progress, unit=" law") as bar:
        for name in bar:
            bar.set_description(name)
            begin = time.perf_counter()
            checks = LAWS[name].measure(keys[name], QUICK if quick else 1.0)
            rows.append(Row(LAWS[name], tuple(checks), time.perf_counter() - begin))
    return PaperTable(tuple(rows), quick)


def _lines(row: Row) -> list[list[str]]:
    """The printed lines of a law: all of its checks, or the worst of many."""
    shown = row.checks if len(row.checks) <= SHOWN else (row.worst,)
    verdict, lines = "holds" if row.holds else "FAILS", []
    for i, check in enumerate(shown):
        many = f"worst of {len(row.checks)}: " if len(shown) < len(row.checks) else ""
        own = verdict if i == 0 else "" if check.holds else "FAILS"
        lines.append(
            [
                row.law.name if i == 0 else "",
                many + check.quantity,
                f"{check.expected:.5g}",
                str(check.measured),
                f"{check.z:+.1f}",
                own,
                f"{row.seconds:.1f}" if i == 0 else "",
            ]
        )
    return lines
