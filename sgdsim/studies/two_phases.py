"""Drift, then diffusion: the mean of the minibatch gradient against its spread through training, layer by layer."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int, Key
from tqdm import tqdm

from sgdsim.draws import key_words
from sgdsim.ensemble import Gaussian, simulate
from sgdsim.measures import Estimate
from sgdsim.measures.common_motion import common_share
from sgdsim.measures.layers import Layers, layer_gradients, layers_of
from sgdsim.measures.loss import losses
from sgdsim.problems import EmpiricalRisk
from sgdsim.processes import SGD
from sgdsim.studies.finite_sum import check_counts, checked_risk
from sgdsim.studies.phases import GROWTHS, TwoPhases
from sgdsim.studies.result import process_settings

LOOKS = 10  # of each decade of steps
FEWEST = 4  # looks through which a growth exponent is fitted
WHOLE = "all weights"


def two_phases(
    sgd: SGD,
    start: Gaussian | np.ndarray | Array | list | None = None,
    *,
    key: Key[Array, ""],
    steps: int = 3_000,
    replicas: int = 16,
    tile: int | None = None,
    progress: bool = False,
    name: str = "two_phases",
) -> TwoPhases:
    """The mean of the minibatch gradient against its spread through training, layer by layer.

    Shwartz-Ziv and Tishby plot for every layer |⟨g⟩| and the standard deviation of g, each over |W|, against the step
    on logarithmic axes: first the mean is the larger ("drift"), then the spread ("diffusion"). Here neither is
    estimated from batches: |∇f| and √(s_B Tr D/B) are computed from all N examples at points of several replicas of
    the run, weight decay being in the mean and not in the spread. A layer is a module that holds a weight and its bias.

    A steady state has a ratio of its own. On a quadratic of Hessian K it is √(⟨|∇f|²⟩/Tr C) with ⟨|∇f|²⟩ ≈
    (η/2) Tr(KC), C = s_B D/B: of order √(ηk/2), far below 1. So the ratio must cross 1 wherever SGD comes near a
    minimum from afar, which makes the crossing a clock and no sign of compression (Saxe et al.).

    The distance from the start would grow as k in a steady drift and as √k in free diffusion. It is fitted on
    logarithmic axes from step 1 to each replica's own crossing, and after it; there also with distance and steps
    counted anew from the crossing, since |x_k − x_0| then holds all of the drift.

    Args:
        sgd: the chain, over an `EmpiricalRisk`.
        start: as `simulate` takes it; by default the risk's `init` for all replicas, whose spread is then that of the
            minibatches alone.
        key: a typed `jax.random.key`.
        steps: of the run.
        replicas: runs to take means over, at least 2.
        tile: how many examples' gradients to hold at a time, as `layer_gradients` takes it.
        progress: show bars.
        name: what to call the problem in the report.

    Raises:
        TypeError: on a process that is not SGD over an `EmpiricalRisk`.
        ValueError: on counts that cannot be, batches without noise, or fewer than two replicas that have not diverged.

    Source: Shwartz-Ziv and Tishby, "Opening the black box of deep neural networks via information", 2017, figure 4;
    Saxe et al., "On the information bottleneck theory of deep learning", ICLR 2018.
    """
    key_words(key)
    risk = _checked_risk(sgd, steps, replicas)
    positions = risk.x0 if start is None else start
    count = replicas if isinstance(positions, Gaussian) or np.ndim(positions) == 1 else None
    looks = _looks(steps)
    x = _positions(sgd, positions, looks, count, key, f"{name}, run" if progress else False)
    kept = np.isfinite(x[-1]).all(axis=1)
    if kept.sum() < 2:
        raise ValueError(f"learning_rate must let two replicas survive at least, got {kept.sum()} of {kept.size}")
    x = x[:, kept]
    squares, traces = [], []
    for cloud in tqdm(x, disable=not progress, desc=f"{name}, gradients", unit=" looks"):
        found = layer_gradients(risk, cloud, tile=tile)
        squares.append(found.squared_means)
        traces.append(found.traces * (sgd.sampling_factor / sgd.batch_size))
    means, spreads = (np.sqrt(_with_whole(np.array(parts))) for parts in (squares, traces))
    layers = layers_of(risk)
    weights, distances = (np.sqrt(_with_whole(layers.squared_norms(each))) for each in (x, x - x[0]))
    crossings, exponents = _phases(looks, means / spreads, x, distances, layers)
    sizes = np.bincount(layers.numbers)
    run = {"steps": steps, "replicas": int(kept.size)}
    return TwoPhases(
        name=name,
        settings=process_settings(sgd) | run,
        layers=(*layers.names, WHOLE),
        paths=(*layers.paths, ""),
        sizes=(*sizes.tolist(), risk.dim),
        steps=looks,
        losses=np.array([losses(risk, cloud) for cloud in x]),
        means=means,
        spreads=spreads,
        weights=weights,
        distances=distances,
        crossings=crossings,
        exponents=exponents,
        shared=_shared(looks, crossings, x, layers),
        left_out=int(np.sum(~kept)),
    )


def _checked_risk(sgd: SGD, steps: int, replicas: int) -> EmpiricalRisk:
    risk = checked_risk(sgd)
    if sgd.sampling_factor == 0:
        raise ValueError(f"batch_size must leave some noise: {sgd.batch_size} examples are the whole data")
    check_counts(steps=(steps, 10), replicas=(replicas, 2))
    return risk


def _looks(steps: int) -> Int[np.ndarray, " T"]:
    """0, and `LOOKS` steps of each decade of two significant digits, up to `steps`."""
    grid = 10 ** (np.arange(LOOKS * np.log10(steps) + 1e-9) / LOOKS)
    grain = 10 ** np.maximum(np.floor(np.log10(grid) + 1e-9) - 1, 0)
    return np.unique(np.concatenate([[0], np.round(grid / grain) * grain, [steps]]).astype(int))


def _positions(
    sgd: SGD,
    start: Any,
    looks: Int[np.ndarray, " T"],
    count: int | None,
    key: Key[Array, ""],
    progress: bool | str,
) -> Float[np.ndarray, "T R d"]:
    """The cloud at the looks, which no common step divides: the run is repeated for each decade with the same key.

    The same key gives the same particles, the short runs cost a ninth of the last one, and none saves more than a
    hundred times.
    """
    found, scale = {}, 1
    while looks[-1] not in found:
        run = simulate(
            sgd,
            start,
            steps=int(min(looks[-1], 100 * scale)),
            key=key,
            particles=count,
            save_every=scale,
            progress=progress if looks[-1] <= 100 * scale else False,
        )
        found |= {k: x for k, x in zip(run.steps.tolist(), run.particles, strict=True) if k in looks}
        scale *= 10
    return np.array([found[k] for k in looks.tolist()])


def _with_whole(squares: Float[np.ndarray, "*batch layers"]) -> Float[np.ndarray, "*batch more"]:
    """Squares of each layer, and their sum as the last."""
    return np.concatenate([squares, squares.sum(axis=-1, keepdims=True)], axis=-1)


def _phases(
    looks: Int[np.ndarray, " T"],
    ratios: Float[np.ndarray, "T R L"],
    x: Float[np.ndarray, "T R d"],
    distances: Float[np.ndarray, "T R L"],
    layers: Layers,
) -> tuple[Float[np.ndarray, "R L"], Float[np.ndarray, "3 R L"]]:
    """Each replica's crossing in each layer, and the growth exponents before and after it."""
    crossings = np.full(ratios.shape[1:], np.nan)
    exponents = np.full((len(GROWTHS), *ratios.shape[1:]), np.nan)
    for replica, layer in np.ndindex(crossings.shape):
        above = np.flatnonzero(ratios[:, replica, layer] >= 1)
        after = int(above[-1]) + 1 if len(above) else 0  # the first look from which all are below 1
        distance = distances[:, replica, layer]
        exponents[0, replica, layer] = _exponent(looks[1 : after + 1], distance[1 : after + 1])
        if after == len(looks):
            continue
        crossings[replica, layer] = _interpolated(looks, ratios[:, replica, layer], after)
        exponents[1, replica, layer] = _exponent(looks[max(after, 1) :], distance[max(after, 1) :])
        squares = _with_whole(layers.squared_norms(x[after + 1 :, replica] - x[after, replica]))[:, layer]
        exponents[2, replica, layer] = _exponent(looks[after + 1 :] - looks[after], np.sqrt(squares))
    return crossings, exponents


def _shared(
    looks: Int[np.ndarray, " T"], crossings: Float[np.ndarray, "R L"], x: Float[np.ndarray, "T R d"], layers: Layers
) -> Estimate:
    """What the replicas have in common of their way from the median crossing to the end, in each layer and in all."""
    shares = []
    for layer, middle in enumerate(np.median(np.nan_to_num(crossings, nan=np.inf), axis=0)):
        begin = int(np.searchsorted(looks, middle))
        inside = layers.numbers == layer if layer < len(layers.paths) else slice(None)
        moved = x[-1][:, inside] - x[min(begin, len(looks) - 1)][:, inside]
        unread = begin >= len(looks) - 1 or len(moved) < 3 or not np.any(moved)
        shares.append(Estimate(np.nan, np.nan) if unread else common_share(moved))
    value, error, floor = (
        np.array([getattr(share, field) for share in shares]) for field in ("value", "standard_error", "floor")
    )
    return Estimate(value, error, floor)


def _interpolated(looks: Int[np.ndarray, " T"], ratio: Float[np.ndarray, " T"], after: int) -> float:
    """Where log ratio is 0 on the straight line from the last look above 1 to the first below; 0 if none is above."""
    if after == 0:
        return 0.0
    high, low = np.log(ratio[after - 1]), np.log(ratio[after])
    return float(looks[after - 1] + (looks[after] - looks[after - 1]) * high / (high - low))


def _exponent(steps: Int[np.ndarray, " n"], distances: Float[np.ndarray, " n"]) -> float:
    """Slope of log distance against log step; NaN through too few looks."""
    if len(steps) < FEWEST or not np.all(distances > 0):
        return np.nan
    return float(np.polyfit(np.log(steps), np.log(distances), 1)[0])
