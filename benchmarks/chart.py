"""How much longer than sgdsim each side takes, as bars on a logarithmic axis, with the targets."""

import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .harness import BEST

ROW = 0.27  # inches of a bar and its gap
MET, MISSED, PLAIN = "#2a7f62", "#c0392b", "#8899aa"


def wanted_of(report: dict[str, Any], side: str) -> dict[str, Any] | None:
    """The side's target, or the best peer's where it is that."""
    return report["targets"].get(side) or (report["targets"].get(BEST) if side == report["best_peer"] else None)


def save_chart(reports: list[dict[str, Any]], path: Path) -> None:
    """A PNG, written under another name first. Jobs that ended in an error are left out."""
    rows: list[tuple[str, dict[str, Any] | None, dict[str, Any] | None]] = []
    for report in (report for report in reports if "error" not in report):
        rows.append((f"{report['name']}", None, None))
        peers = list(report["sides"].items())[1:]
        rows += [(name, side["ratio"], wanted_of(report, name)) for name, side in peers]
    figure = Figure(figsize=(9.5, 1.3 + ROW * max(len(rows), 3)), layout="constrained")
    axes = figure.subplots()
    for at, (_, ratio, target) in enumerate(rows):
        if ratio is not None:
            draw(axes, at, ratio, target)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    for label, (_, ratio, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if ratio else "bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(len(rows), 3) - 0.4, -0.6)
    ends = [end for _, ratio, target in rows if ratio for end in (ratio["max"], (target or ratio).get("wanted", 1))]
    starts = [ratio["min"] for _, ratio, _ in rows if ratio]
    axes.set_xlim(min([0.8, *starts]) / 1.3, max([10, *ends]) * 3)  # room for the number behind the longest bar
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("time / sgdsim's: median, least and largest of all turns;\ndiamond: target")
    axes.spines[["top", "right", "left"]].set_visible(False)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.png")
    try:
        figure.savefig(partial, dpi=130)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def draw(axes: Any, at: int, ratio: dict[str, float], target: dict[str, Any] | None) -> None:
    """One bar from 1 to the median, its spread, its number behind whatever reaches farthest, and its target."""
    median = ratio["median"]
    colour = PLAIN if target is None else MET if target["met"] else MISSED
    axes.barh(at, median - 1, left=1, height=0.66, color=colour)
    axes.hlines(at, ratio["min"], ratio["max"], color="black", linewidth=0.9)
    end = max(ratio["max"], 1.0)
    if target is not None:
        axes.plot(target["wanted"], at, "D", color="white", markeredgecolor="black", markersize=5, zorder=3)
        end = max(end, target["wanted"])
    text = f"{median:.3g}" if target is None else f"{median:.3g} (≥ {target['wanted']:g})"
    axes.annotate(text, (end, at), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)
