"""The weak error of both limits: at a finite time, by coupling, and in the steady state."""

import jax
import numpy as np
from jaxtyping import Array, Key

from sgdsim import theory
from sgdsim.ensemble import Gaussian, simulate
from sgdsim.measures import Estimate, mean
from sgdsim.processes import Langevin
from sgdsim.studies.laws.law import Check, covariance_checks, law, scaled
from sgdsim.studies.laws.stationary import quadratic

RATES, TIME, VARIANCE, START = (0.2, 0.1, 0.05), 1.0, 0.1, 1.0
SUBSTEPS = 16  # the solver's own error, about (1.1 η/16)²/6 of the mean, is then half a per cent of the second order's


@law(
    "weak-order",
    "error of ⟨x²⟩ at t = 1: slope 1 in η for the first-order limit, 2 for the second",
    "Li, Tai, E 2017, thm 1",
)
def weak_order(key: Key[Array, ""], effort: float) -> list[Check]:
    """SGD and its limits on the same draws: what differs between them is the error, and most of the noise drops out."""
    checks = []
    for order, name in ((1, "first-order"), (2, "second-order")):
        own = []
        for eta, k in zip(RATES, jax.random.split(key, len(RATES)), strict=True):
            sgd, steps = quadratic(eta, hessian=np.eye(1), noise=VARIANCE), round(TIME / eta)
            run = {"particles": scaled(100_000, effort), "steps": steps, "key": k}
            chain = simulate(sgd, [START], **run).particles[-1].astype(float)
            cloud = simulate(Langevin.limit_of(sgd, order=order, substeps=SUBSTEPS), [START], **run).particles[-1]
            laws = [theory.quadratic_moments(1.0, VARIANCE, eta, START, steps, d)[1] for d in (name, "sgd")]
            found = mean(cloud.astype(float) ** 2 - chain**2)[0]
            own.append(Check(f"{name} limit, η = {eta}: Δ⟨x²⟩", laws[0] - laws[1], found))
        checks += [*own, Check(f"{name} limit: slope in η", *_slopes(own))]
    return checks


def _slopes(checks: list[Check]) -> tuple[float, Estimate]:
    """Least-squares slopes of log|error| against log η: of the laws, and of the readings, which are independent."""
    x = np.log(RATES) - np.mean(np.log(RATES))
    weights = x / np.sum(x**2)
    value, error = (np.array([getattr(c.measured, f) for c in checks]) for f in ("value", "standard_error"))
    spread = float(np.linalg.norm(weights * error / value))
    expected = weights @ np.log(np.abs([c.expected for c in checks]))
    return float(expected), Estimate(float(weights @ np.log(np.abs(value))), spread)


@law(
    "second-order-steady",
    "in the steady state the second-order limit is worse: S = ηC/(2k(1 + ηk/2))",
    "from Li, Tai, E 2017; derived",
)
def second_order_steady(key: Key[Array, ""], effort: float) -> list[Check]:
    """Where the first-order limit has ηC/2k, the second moves away from the chain."""
    eta = 0.5
    limit = Langevin.limit_of(quadratic(eta, hessian=np.eye(1), noise=1.0), order=2, substeps=16)
    start, truth = Gaussian([0.0], 0.3), theory.second_order_stationary_covariance(np.eye(1), np.eye(1), eta)
    settings, particles = f"η = {eta} (the chain has {eta / (2 - eta):.4g})", scaled(100_000, effort)
    return covariance_checks(limit, start, truth, settings, particles=particles, time=16.0, key=key)
