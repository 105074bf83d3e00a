"""Escape from the double well: the mean time from −1 to +1."""

from jaxtyping import Array, Key

from sgdsim.density import FokkerPlanck
from sgdsim.ensemble import FirstPassage, simulate
from sgdsim.measures import Estimate, passage_time
from sgdsim.processes import Langevin
from sgdsim.studies.double_well import LINE, arrived, exact_time, to_go, well
from sgdsim.studies.laws.law import Check, law, scaled

STEP = 0.02


@law("escape", "mean time −1 → +1 in (x²−1)²/4: 66.27 at T = 0.1, 729.67 at T = 0.05", "Kramers 1940; quadrature")
def escape(key: Key[Array, ""], effort: float) -> list[Check]:
    """A cloud with Brownian bridges between its steps, its late passages censored; and the generator of the density."""
    checks = []
    truths = {t: exact_time(t) for t in (0.1, 0.05)}
    for temperature, truth in truths.items():
        fp = FokkerPlanck.limit_of(well(temperature, STEP), LINE)
        found = fp.mean_passage_time([-1.0], arrived)
        measured = Estimate(found.value, found.grid_error)
        checks.append(Check(f"T = {temperature}, Fokker-Planck, 501 cells", truth, measured, is_random=False))
    temperature = 0.1
    limit = Langevin.limit_of(well(temperature, STEP), substeps=1)
    tally = FirstPassage(to_go, diffusion=limit.limit.diffusion)
    cloud = simulate(
        limit, [-1.0], particles=scaled(20_000, effort), steps=round(160 / STEP), key=key, tally=tally, dtype="float32"
    )
    found = passage_time(cloud, tail_from=40.0)
    return [*checks, Check(f"T = {temperature}, Langevin cloud", truths[temperature], found)]
