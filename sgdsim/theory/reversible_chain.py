"""The equilibrium twin of a steady process: the reversible Gaussian chain with its covariance and its steps' size."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sgdsim.theory._checks import Matrix, as_covariance, as_positive_definite, symmetric_part


@dataclass(frozen=True)
class ReversibleChain:
    """x ← E x + ξ with ξ ~ N(0, S − E S Eᵀ), whose steady state N(0, S) is in detailed balance as E S is symmetric.

    Attributes:
        covariance: S, (d, d).
        transition: E, (d, d); its eigenvalues are real.
        noise: S − E S Eᵀ, (d, d).
    """

    covariance: Float[np.ndarray, "d d"]
    transition: Float[np.ndarray, "d d"]
    noise: Float[np.ndarray, "d d"]

    def power(self, steps: int) -> Float[np.ndarray, "d d"]:
        """E to a power."""
        return np.linalg.matrix_power(self.transition, steps)

    def lagged_increments(self, lags: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """The correlation of a step's Δx_i with the one l ≥ 1 steps later, (n, d): −½ ηk (1−ηk)^{l−1} where E = 1 − ηk.

        ⟨Δ₀ Δ_lᵀ⟩ = 2C(l) − C(l−1) − C(l+1) = −E^{l−1} (1 − E)² S with C(l) = E^l S. Its trace is negative at every odd
        lag, and at every lag where E has no negative eigenvalue: a bowl sends back what has moved away.
        """
        rest = np.eye(len(self.transition)) - self.transition
        size = 2 * np.diag(rest @ self.covariance)
        return np.array([-np.diag(self.power(int(lag) - 1) @ rest @ rest @ self.covariance) / size for lag in lags])

    def successive_increments(self, spans: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
        """The correlation of x_i's increment over s steps with that over the next s, (n, d): −½ (1 − (1−ηk)^s) in 1-D.

        It falls from about 0, which is Brownian motion, to −½, which is a position that has forgotten where it was.
        """
        values = []
        for span in spans:
            rest = np.eye(len(self.transition)) - self.power(int(span))
            values.append(-np.diag(rest @ rest @ self.covariance) / (2 * np.diag(rest @ self.covariance)))
        return np.array(values)


def reversible_chain(S: Matrix, step_covariance: Matrix) -> ReversibleChain:
    """The reversible Gaussian chain of covariance S and Cov(Δx) = G: E = 1 − ½ G S⁻¹.

    Cov(Δx) = 2S − C(1) − C(1)ᵀ, and detailed balance asks for C(1) = E S symmetric, so E S = S − G/2: **there is only
    one**. It is the Ornstein–Uhlenbeck process dX = −A S⁻¹X dt + √(2A) dW, A symmetric, looked at every Δt, with A =
    −log(E) S/Δt → G/(2Δt), wherever E has no negative eigenvalue; where it has, the chain oversteps the minimum and no
    diffusion does so.

    Args:
        S: symmetric positive definite, (d, d).
        step_covariance: G, symmetric positive semidefinite, (d, d).

    Raises:
        ValueError: if shapes differ, S is no positive definite matrix, G no covariance, or no steady process makes
            steps that wide, G < 4S.

    Source: Gardiner, Handbook of Stochastic Methods, 2004, §5.3.6, for detailed balance of linear processes.
    """
    covariance = as_positive_definite("S", S, np.shape(S))
    steps = as_covariance("step_covariance", step_covariance, covariance.shape)
    symmetric = covariance - steps / 2
    transition = np.linalg.solve(covariance, symmetric).T
    noise = symmetric_part(covariance - transition @ covariance @ transition.T)
    if np.min(np.linalg.eigvals(transition).real) <= -1:
        raise ValueError("step_covariance must stay below 4 S: no steady process makes wider steps")
    return ReversibleChain(covariance, transition, noise)
