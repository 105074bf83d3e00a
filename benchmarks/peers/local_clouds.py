"""The peers that run in this very process: NumPy, `lax.scan` with `jax.random.normal`, diffrax's `diffeqsolve`.

Measured and left out: `rbg` and `unsafe_rbg` keys (the scan takes 4 to 14 times longer on CPU), `fold_in` at each step
instead of `split` before (2 times), 50 steps' normals in one call (4 times).
"""

from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np

import sgdsim as ss

from .clouds import COVARIANCE, HESSIAN, LEARNING_RATE, STARTS, Run

Field = Callable[[jax.Array], jax.Array]


def numpy_run(problem: str, particles: int, steps: int) -> Run:
    """Vectorised over the particles, one contiguous row for each coordinate, normals drawn in place."""
    start, rate = STARTS[problem], np.float32(LEARNING_RATE)
    if problem == "quadratic-10d":
        return numpy_quadratic(particles, steps)

    def run(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        cloud = np.repeat(start[:, None], particles, axis=1)
        move, spread = np.empty_like(cloud), np.empty_like(cloud)
        x, y = cloud
        for _ in range(steps):
            rng.standard_normal(dtype=np.float32, out=move)
            if problem == "state-dependent":
                np.multiply(cloud, cloud, out=spread)
                spread *= np.float32(0.5)
                spread += 1
                move *= np.sqrt(spread, out=spread)
            move[0] += x * (x * x - 1)
            move[1] += y
            move *= rate
            cloud -= move
        return cloud.T

    return run


def numpy_quadratic(particles: int, steps: int) -> Run:
    """Kx + Lξ in one product, of (K L) with x above ξ."""
    both = np.hstack([HESSIAN, np.linalg.cholesky(COVARIANCE)]).astype(np.float32)
    start, rate = STARTS["quadratic-10d"], np.float32(LEARNING_RATE)
    dim = len(start)

    def run(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        stacked = np.repeat(np.hstack([start, start])[:, None], particles, axis=1)
        cloud, xi, move = stacked[:dim], stacked[dim:], np.empty((dim, particles), np.float32)
        for _ in range(steps):
            rng.standard_normal(dtype=np.float32, out=xi)
            np.matmul(both, stacked, out=move)
            move *= rate
            cloud -= move
        return cloud.T

    return run


def potential_of(problem: str) -> Callable[[jax.Array], jax.Array]:
    return ss.potentials.Quadratic(HESSIAN) if problem == "quadratic-10d" else ss.potentials.DoubleWell(dim=2)


def noise_of(problem: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """√D(x) ξ of one particle."""
    if problem == "quadratic-10d":
        root = np.linalg.cholesky(COVARIANCE).astype(np.float32)
        return lambda x, xi: root @ xi
    if problem == "state-dependent":
        return lambda x, xi: jnp.sqrt(1 + x * x / 2) * xi
    return lambda x, xi: xi


def scan_run(problem: str, particles: int, steps: int, axis: int) -> Run:
    """One compiled scan over the steps' keys, the gradient by `vmap(grad)`, the cloud as (P, d) or (d, P)."""
    start = STARTS[problem]
    gradient = jax.vmap(jax.grad(potential_of(problem)), axis, axis)
    noise = jax.vmap(noise_of(problem), axis, axis)

    @jax.jit
    def final(key: jax.Array, cloud: jax.Array) -> jax.Array:
        def step(x: jax.Array, step_key: jax.Array) -> tuple[jax.Array, None]:
            xi = jax.random.normal(step_key, x.shape, x.dtype)
            return x - LEARNING_RATE * (gradient(x) + noise(x, xi)), None

        return jax.lax.scan(step, cloud, jax.random.split(key, steps))[0]

    def run(seed: int) -> np.ndarray:
        if axis:
            return np.asarray(final(jax.random.key(seed), jnp.broadcast_to(start[:, None], (len(start), particles)))).T
        return np.asarray(final(jax.random.key(seed), jnp.broadcast_to(start, (particles, len(start)))))

    return run


def diffeqsolve_run(problem: str, particles: int, steps: int, path: str) -> Run:
    """Euler on dX = −∇f dt + √(ηD) dW at steps of η, which is the same chain.

    `path` is "unsafe" or "tree", for one `diffeqsolve` a particle under `vmap`, or "cloud": the whole cloud as one
    state, (d, P), of an `UnsafeBrownianPath`. `ForwardMode` was as fast as `DirectAdjoint`; the default adjoint, which
    an `UnsafeBrownianPath` does not allow, was as fast on the tree.
    """
    start, end, size = STARTS[problem], steps * LEARNING_RATE, LEARNING_RATE**0.5
    gradient = jax.grad(potential_of(problem))
    gradient = jax.vmap(gradient, 1, 1) if path == "cloud" else gradient

    def drift(time: jax.Array, x: jax.Array, _: None) -> jax.Array:
        return -gradient(x)

    def root(time: jax.Array, x: jax.Array, _: None) -> lineax.AbstractLinearOperator:
        spread = jnp.sqrt(1 + x * x / 2) if problem == "state-dependent" else jnp.ones_like(x)
        return lineax.DiagonalLinearOperator(size * spread)

    def solve(x: jax.Array, key: jax.Array) -> jax.Array:
        if path == "tree":
            motion = diffrax.VirtualBrownianTree(0.0, end, tol=LEARNING_RATE / 2, shape=x.shape, key=key)
        else:
            motion = diffrax.UnsafeBrownianPath(shape=x.shape, key=key)
        return diffrax.diffeqsolve(
            diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(root, motion)),
            diffrax.Euler(),
            t0=0.0,
            t1=end,
            dt0=LEARNING_RATE,
            y0=x,
            saveat=diffrax.SaveAt(t1=True),
            adjoint=diffrax.ForwardMode(),
            max_steps=steps + 1,
        ).ys[0]

    if path == "cloud":
        whole = jax.jit(solve)
        spread_out = np.broadcast_to(start[:, None], (len(start), particles))
        return lambda seed: np.asarray(whole(jnp.asarray(spread_out), jax.random.key(seed))).T
    each = jax.jit(jax.vmap(lambda key: solve(jnp.asarray(start), key)))
    return lambda seed: np.asarray(each(jax.random.split(jax.random.key(seed), particles)))
