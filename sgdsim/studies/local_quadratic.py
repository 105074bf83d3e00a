"""The loss's quadratic at a minimum: what a cloud's width does there along a schedule, exactly."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sgdsim import theory
from sgdsim.ensemble import Gaussian
from sgdsim.measures import curvature
from sgdsim.processes import SGD, ScheduledSGD
from sgdsim.studies.steady_grid import loss_minima

GRID_DIMENSIONS = 3  # minima are looked for on a lattice up to here


@dataclasses.dataclass(frozen=True)
class LocalQuadratic:
    """f ≈ ½(x − x*)ᵀK(x − x*) with constant noise, and how wide a cloud starts.

    Attributes:
        minimum: x*, (d,).
        hessian: K there, (d, d).
        noise: D there, (d, d).
        start: covariance of the start, (d, d).
        count: how many minima were found: with more than one, a cloud may be wider than any of them makes it.
    """

    minimum: Float[np.ndarray, " d"]
    hessian: Float[np.ndarray, "d d"]
    noise: Float[np.ndarray, "d d"]
    start: Float[np.ndarray, "d d"]
    count: int

    @classmethod
    def of(cls, sgd: SGD, start: Any) -> "LocalQuadratic | None":
        """At the lowest minimum that is found; None where there is none or d > 3."""
        minima = loss_minima(sgd) if sgd.dim <= GRID_DIMENSIONS else np.empty((0, sgd.dim))
        if len(minima) == 0:
            return None
        minimum = min(minima, key=lambda x: float(sgd.problem.loss(jnp.asarray(x))))
        noise = np.asarray(sgd.problem.noise_covariance(jnp.asarray(minimum)), dtype=float)
        if isinstance(start, Gaussian):
            width = np.asarray(start.covariance, dtype=float)
        else:
            points = np.atleast_2d(np.asarray(start, dtype=float))
            width = np.atleast_2d(np.cov(points, rowvar=False)) if len(points) > 1 else np.zeros_like(noise)
        return cls(minimum, curvature.hessian(sgd.problem, minimum), noise, width, len(minima))

    @property
    def curvatures(self) -> Float[np.ndarray, " d"]:
        """The eigenvalues of K, increasing."""
        return np.linalg.eigvalsh(self.hessian)

    def chain_widths(self, chain: ScheduledSGD, steps: int) -> Float[np.ndarray, " saved"]:
        """Tr Cov(x) after 0 … `steps` steps of the chain: the linear recursion of (x, v), exact at any η and μ.

        The minibatch gradient's C is 2T(1 − μ)/η times D, from T = s_B η/(2B(1 − μ)).
        """
        mu, dim = float(chain.stretches[0].momentum), len(self.hessian)
        z = np.kron([[1.0, 0.0], [0.0, 0.0]], self.start)
        widths = [np.trace(self.start)]
        for eta, temperature in zip(chain.learning_rates(steps), chain.temperatures(steps), strict=True):
            share = 2 * temperature * (1 - mu) / eta
            turn, kick = theory.heavy_ball_recursion(self.hessian, share * self.noise, eta, mu)
            z = turn @ z @ turn.T + kick
            widths.append(np.trace(z[:dim, :dim]))
        return np.array(widths)

    def limit_widths(
        self, chain: ScheduledSGD, steps: int, weight: Float[np.ndarray, "d d"] | None = None
    ) -> Float[np.ndarray, " saved"]:
        """The same of the first-order limit, dS/dt = −KS − SK + 2T(t)D, exact from step to step; or Tr(weight S)."""
        curvatures, axes = np.linalg.eigh(self.hessian)
        rates = curvatures[:, None] + curvatures
        noise, s = axes.T @ self.noise @ axes, axes.T @ self.start @ axes
        lengths = np.diff(chain.times(np.arange(steps + 1)))
        trace = axes.T @ (np.eye(len(s)) if weight is None else weight) @ axes
        widths = [np.sum(trace * s)]
        for temperature, length in zip(chain.temperatures(steps), lengths, strict=True):
            s = s * np.exp(-rates * length) - 2 * temperature * noise * np.expm1(-rates * length) / rates
            widths.append(np.sum(trace * s))
        return np.array(widths)
