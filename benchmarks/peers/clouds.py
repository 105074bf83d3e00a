"""The clouds that every side moves, as numbers that all can read, and what a process that moves them is asked.

A step is x ← x − η(∇f(x) + √D(x) ξ) with η = `LEARNING_RATE` and standard normals ξ, in float32.

| problem | f | D |
|---|---|---|
| double-well | (x₁² − 1)²/4 + x₂²/2 | I |
| quadratic-10d | xᵀKx/2, K = `HESSIAN`, full | `COVARIANCE`, full |
| state-dependent | the double well's | diag(1 + x₁²/2, 1 + x₂²/2) |
"""

from collections.abc import Callable

import numpy as np

LEARNING_RATE = 0.1


def _rotated(values: np.ndarray, seed: int) -> np.ndarray:
    """A symmetric matrix with these eigenvalues and eigenvectors of no particular direction."""
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return (basis * values) @ basis.T


HESSIAN, COVARIANCE = _rotated(np.linspace(0.2, 2.0, 10), 1), _rotated(np.linspace(0.5, 2.0, 10), 2)
STARTS = {  # near the barrier, so that the cloud splits over both wells
    "double-well": np.array([0.2, 1.0], dtype=np.float32),
    "quadratic-10d": np.ones(10, dtype=np.float32),
    "state-dependent": np.array([0.2, 1.0], dtype=np.float32),
}


def exact_moments(problem: str, steps: int) -> tuple[slice, np.ndarray, np.ndarray]:
    """The coordinates whose law is known in closed form, and their mean and covariance after so many steps."""
    start, a = STARTS[problem].astype(float), 1 - LEARNING_RATE
    if problem == "quadratic-10d":
        mean, second, along = start, np.zeros((10, 10)), np.eye(10) - LEARNING_RATE * HESSIAN
        for _ in range(steps):
            mean, second = along @ mean, along @ second @ along + LEARNING_RATE**2 * COVARIANCE
        return slice(0, 10), mean, second
    mean, square = start[1], start[1] ** 2  # of x₂, which does not hear of x₁
    for _ in range(steps):
        variance = 1 + square / 2 if problem == "state-dependent" else 1.0
        mean, square = a * mean, a**2 * square + LEARNING_RATE**2 * variance
    return slice(1, 2), np.array([mean]), np.array([[square - mean**2]])


Run = Callable[[int], np.ndarray]  # seed → final cloud (P, d)

REQUEST = ("setting", "problem", "particles", "steps")  # what a process that moves clouds is asked, see `answers.py`
