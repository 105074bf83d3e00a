"""Escape from the double well: the mean time from −1 to +1."""

from jaxtyping import Array, Key

from sgdsim import theory
from sgdsim.density import FokkerPlanck, Grid
from sgdsim.ensemble import FirstPassage, simulate
from sgdsim.measures import Estimate, passage_time
from sgdsim.problems import GaussianNoise, NoisyPotential
from sgdsim.problems.potentials import DoubleWell
from sgdsim.processes import SGD, Langevin
from sgdsim.studies.laws.law import Check, law, scaled

STEP = 0.02


def well(temperature: float) -> SGD:
    """SGD on the double well, its temperature set by the noise: σ² = 2BT/η."""
    noise = GaussianNoise(2 * temperature / STEP)
    return SGD(NoisyPotential(DoubleWell(1), noise), learning_rate=STEP, batch_size=1)


@law("escape", "mean time −1 → +1 in (x²−1)²/4: 66.27 at T = 0.1, 729.67 at T = 0.05", "Kramers 1940; quadrature")
def escape(key: Key[Array, ""], effort: float) -> list[Check]:
    """A cloud with Brownian bridges between its steps, its late passages censored; and the generator of the density."""
    checks = []
    truths = {t: theory.mean_passage_time(lambda x: (x**2 - 1) ** 2 / 4, -1.0, 1.0, t) for t in (0.1, 0.05)}
    for temperature, truth in truths.items():
        # +1 is a centre of these cells and of the ones three times as wide, where a target's first cell absorbs
        fp = FokkerPlanck.limit_of(well(temperature), Grid([-2.495], [2.515], [501]))
        found = fp.mean_passage_time([-1.0], lambda x: x[..., 0] >= 1 - 1e-9)
        measured = Estimate(found.value, found.grid_error)
        checks.append(Check(f"T = {temperature}, Fokker-Planck, 501 cells", truth, measured, is_random=False))
    temperature = 0.1
    limit = Langevin.limit_of(well(temperature), substeps=1)
    tally = FirstPassage(lambda x: 1 - x[0], diffusion=limit.limit.diffusion)
    cloud = simulate(
        limit, [-1.0], particles=scaled(20_000, effort), steps=round(160 / STEP), key=key, tally=tally, dtype="float32"
    )
    found = passage_time(cloud, tail_from=40.0)
    return [*checks, Check(f"T = {temperature}, Langevin cloud", truths[temperature], found)]
