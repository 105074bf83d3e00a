"""How a cloud relaxes, and what goes on turning once it has: the KL divergence, and currents."""

import jax
import numpy as np
from jaxtyping import Array, Key

from sgdsim import theory
from sgdsim.density import FokkerPlanck, Grid
from sgdsim.density.drift_zeros import drift_zeros
from sgdsim.density.grid_estimate import error_multiple
from sgdsim.ensemble import Gaussian, Process, Totals, simulate
from sgdsim.measures import Estimate, kl_between_densities, moment_kl, run_circulation, swept_area
from sgdsim.problems.potentials import CirculatingDoubleWell
from sgdsim.processes import ItoDiffusion, Langevin
from sgdsim.studies.laws.law import Check, law, scaled
from sgdsim.studies.laws.stationary import HESSIAN, NOISE, TIME, quadratic

CELLS = 128  # along each axis
ROOT_ERROR = 1e-7  # to which a zero of a drift is found


@law(
    "kl",
    "F = T·KL(ρ‖ρ_ss) falls monotonically, dKL/dt = −∫ρ ∇log(ρ/ρ_ss)ᵀ A ∇log(ρ/ρ_ss)",
    "Chaudhari and Soatto 2018, thm 5",
)
def kl_decay(key: Key[Array, ""], effort: float) -> list[Check]:
    """Of a cloud, by its moments; and of a density on a grid, over a current, where the identity is integrated."""
    eta, start = 0.3, Gaussian([1.0, -1.0], 0.05)
    limit = Langevin.limit_of(quadratic(eta), substeps=16)
    cloud = simulate(limit, start, particles=scaled(50_000, effort), steps=8, save_every=2, key=key, dtype="float32")
    steady = theory.ou_stationary_covariance(HESSIAN, NOISE, eta)
    checks = []
    for t, x in zip(cloud.times[1:], cloud.particles[1:], strict=True):
        m, s = theory.ou_mean_covariance(HESSIAN, eta / 2 * NOISE, start.mean, start.covariance, float(t))
        truth = theory.gaussian_kl(m, s, np.zeros(2), steady)
        checks.append(Check(f"KL to the steady state, t = {t:.2g}", truth, moment_kl(x, Gaussian([0.0, 0.0], steady))))
    return [*checks, *_density_identity()]


def _density_identity() -> list[Check]:
    """KL lost over the integral of the dissipation, and the largest rise of KL, on a grid whose steady state turns."""
    sgd = quadratic(0.3)
    fp = FokkerPlanck.limit_of(sgd, Grid([-3.2, -3.2], [3.2, 3.2], [CELLS, CELLS]))
    nodes, weights = np.polynomial.legendre.leggauss(8)
    begin, end = 0.3, 2.4
    times = np.concatenate([[begin], begin + (end - begin) * (nodes + 1) / 2, [end]])

    def lost_and_rise(fp: FokkerPlanck) -> tuple[float, float]:
        masses = fp.propagate(fp.density_of(Gaussian([1.0, -1.0], 0.05)), times, grid_error=False).masses
        kl = [kl_between_densities(p, fp.stationary(), log_q=fp.log_stationary()) for p in masses]
        dissipated = (end - begin) / 2 * float(weights @ [fp.dissipation(p) for p in masses[1:-1]])
        return (kl[0] - kl[-1]) / dissipated, max(0.0, float(np.max(np.diff(kl))))

    (value, rise), (rough, _) = lost_and_rise(fp), lost_and_rise(fp.coarsen(2))
    return [
        Check(f"KL lost over ∫ dissipation dt, {CELLS}² cells", 1.0, _of_second_order(value, rough), is_random=False),
        Check("largest rise of KL between 10 times", 0.0, Estimate(rise, 0.0), is_random=False),
    ]


def _circulation(process: Process, start: Gaussian, steps: int, particles: int, key: Key[Array, ""]) -> Estimate:
    """What a cloud circulates about the origin over the last three quarters of a run."""
    tally, every = Totals(swept_area), steps // 4
    cloud = simulate(
        process, start, particles=particles, steps=steps, save_every=every, key=key, tally=tally, dtype="float32"
    )
    return run_circulation(cloud, since=float(cloud.times[1]))


@law(
    "rotation",
    "a quadratic turns where D and K do not commute: ∫x×J dx = 2Q₁₂, Q₁₂ = A₁₂(k₁−k₂)/(k₁+k₂), A = T D",
    "Chaudhari and Soatto 2018, lemma 20",
)
def rotation(key: Key[Array, ""], effort: float) -> list[Check]:
    """SGD's step sees the force where it starts, so that its circulation is the law's at the chain's own covariance."""
    eta, particles = 0.1, scaled(20_000, effort)
    sgd, start = quadratic(eta), Gaussian([0.0, 0.0], 0.05)
    chain = theory.sgd_stationary_covariance(HESSIAN, NOISE, eta)[0, 1] * (HESSIAN[0, 0] - HESSIAN[1, 1])
    limit_law = theory.ou_circulation(HESSIAN, eta / 2 * NOISE)[0, 1]
    steps = round(2 * TIME / eta)
    found = _circulation(sgd, start, steps, particles, key)
    fp = FokkerPlanck.limit_of(sgd, Grid([-1.6, -2.4], [1.6, 2.4], [CELLS, CELLS]))
    values = [each.circulation(each.stationary()) for each in (fp, fp.coarsen(2))]
    return [
        Check(f"SGD, η = {eta}", chain, found),
        Check(f"Fokker-Planck, {CELLS}² cells", limit_law, _of_second_order(*values), is_random=False),
    ]


@law(
    "example-19",
    "ρ_ss = e^{−Φ}/Z for every λ, with a current: ∫x×J dx = 2πλ/Z; zeros off the origin until λ = e^{−1/4}",
    "Chaudhari and Soatto 2018, example 19",
)
def example_19(key: Key[Array, ""], effort: float) -> list[Check]:
    """The current on a grid and of a cloud, and the zeros of the drift, below the critical strength and above it."""
    checks, grid = [], Grid([-3.0, -3.5], [3.0, 3.5], [96, 96])
    for strength, k in zip((0.5, 1.5), jax.random.split(key), strict=True):
        well, law_of_it = CirculatingDoubleWell(strength), theory.circulating_double_well(strength)
        fp = FokkerPlanck(well.drift, well.diffusion, grid)
        values = [each.circulation(each.stationary()) for each in (fp, fp.coarsen(2))]
        on_grid = _of_second_order(*values)
        checks.append(Check(f"∫x×J dx, λ = {strength}, 96² cells", law_of_it.circulation, on_grid, is_random=False))
        process = Langevin(ItoDiffusion(drift=well.drift, diffusion=well.diffusion, dim=2), step_size=0.005, substeps=1)
        found = _circulation(process, Gaussian([0.0, 0.0], 1.0), 4_000, scaled(10_000, effort), k)
        checks.append(Check(f"∫x×J dx, λ = {strength}, Langevin cloud", law_of_it.circulation, found))
        zeros = [z.position for z in drift_zeros(grid, well.drift) if z.position[0] > 0.01]
        count = Estimate(float(len(zeros)), 0.0)
        checks.append(Check(f"zeros at x₁ > 0, λ = {strength}", len(law_of_it.zeros) / 2, count, is_random=False))
        for i, name in enumerate(("x₁", "x₂") if len(zeros) == 1 else ()):
            expected, found = float(law_of_it.zeros[-1][i]), Estimate(zeros[0][i], ROOT_ERROR)
            checks.append(Check(f"{name} of the zero, λ = {strength}", expected, found, is_random=False))
    return checks


def _of_second_order(fine: float, coarse: float) -> Estimate:
    """A number from a grid, extrapolated from cells of twice the width, with what that took off as its error."""
    step = (fine - coarse) / error_multiple(2)
    return Estimate(fine + step, abs(step))
