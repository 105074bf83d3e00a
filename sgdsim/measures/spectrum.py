"""Spectra without a d × d matrix: leading eigenpairs, traces and the alignment of two matrices."""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jaxtyping import Array, Float, Key

from sgdsim.draws import Draws, Stream, Words
from sgdsim.measures.estimate import Estimate

SMALLEST_ITERATED = 64  # dimensions below which eigenpairs are found from the dense matrix


@runtime_checkable
class Operator(Protocol):
    """A symmetric d × d matrix that is known by its products, such as `Hessian`, `NoiseCovariance` or `Fisher`."""

    @property
    def dim(self) -> int:
        """d."""
        ...

    def __call__(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        """The product with v."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class EigenPairs:
    """Some eigenvalues of a symmetric matrix, the largest first, and their vectors.

    Attributes:
        values: the eigenvalues, (k,). Their error is the residual |A v − λ v|: an exact eigenvalue lies as close.
        vectors: orthonormal, one a row, (k, d).
    """

    values: Estimate
    vectors: Float[np.ndarray, "k d"]


def top_eigenpairs(
    operator: Operator,
    count: int,
    *,
    key: Key[Array, ""],
    by: Literal["value", "magnitude"] = "value",
    tolerance: float | None = None,
) -> EigenPairs:
    """The leading eigenpairs of a symmetric matrix by implicitly restarted Lanczos (ARPACK), O(k d) in memory.

    A restarted iteration, since a single Krylov sequence breaks down where the matrix has few distinct eigenvalues: D
    of low rank, with or without ε²I. Below 64 dimensions, or where most eigenpairs are asked for, the matrix itself is
    diagonalised. The vectors of one eigenvalue are any basis of its space.

    Args:
        operator: the matrix, by its products.
        count: k, 1 ≤ k ≤ d.
        key: a typed `jax.random.key` for the vector to start from.
        by: `"value"` for the largest, `"magnitude"` for the largest in size, listed by value.
        tolerance: residual |A v − λ v|/|λ| to stop at; by default √ε of JAX's default float.

    Raises:
        ValueError: on a count that is no such number, or products that are not finite.
        scipy.sparse.linalg.ArpackNoConvergence: if 10 d restarts are not enough.
    """
    dim, dtype = operator.dim, jnp.result_type(float)
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= dim:
        raise ValueError(f"count must be a whole number from 1 to d = {dim}, got {count!r}")
    if by not in ("value", "magnitude"):
        raise ValueError(f"by must be 'value' or 'magnitude', got {by!r}")

    def product(v: np.ndarray) -> Float[np.ndarray, " d"]:
        return np.asarray(_product(operator, jnp.asarray(v.reshape(-1), dtype)), dtype=np.float64)

    start = np.asarray(Draws.of(key, np.arange(1)).normals(dim, dtype=dtype), dtype=np.float64)[:, 0]
    if not np.all(np.isfinite(first := product(start))):
        raise ValueError("operator must give finite products, got NaN or infinite entries")
    if dim < SMALLEST_ITERATED or 2 * count > dim or not np.any(first):
        values, vectors = _dense_pairs(product, dim, count, by) if np.any(first) else _of_zero(dim, count)
    else:
        # pyrefly does not see that LinearOperator() makes an operator of another class
        matrix = scipy.sparse.linalg.LinearOperator((dim, dim), matvec=product, dtype=np.float64)  # pyrefly: ignore
        stop = float(jnp.finfo(dtype).eps) ** 0.5 if tolerance is None else float(tolerance)
        which = "LA" if by == "value" else "LM"
        values, vectors = scipy.sparse.linalg.eigsh(matrix, k=int(count), which=which, v0=start, tol=stop)
        vectors = vectors.T
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[order]
    residuals = [np.linalg.norm(product(v) - value * v) for value, v in zip(values, vectors, strict=True)]
    return EigenPairs(Estimate(values, np.array(residuals)), vectors)


@eqx.filter_jit
def _product(operator: Operator, v: Float[Array, " d"]) -> Float[Array, " d"]:
    return operator(v)


def _dense_pairs(
    product: Callable[[np.ndarray], np.ndarray], dim: int, count: int, by: str
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k d"]]:
    matrix = np.array([product(row) for row in np.eye(dim)])
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    kept = np.argsort(values if by == "value" else np.abs(values))[::-1][:count]
    return values[kept], vectors.T[kept]


def _of_zero(dim: int, count: int) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k d"]]:
    """Those of the matrix 0, which ARPACK refuses: D where every example is fitted."""
    return np.zeros(count), np.eye(count, dim)


def trace(operator: Operator, *, key: Key[Array, ""], probes: int = 64) -> Estimate:
    """Tr A: exact by d products where d ≤ `probes`, else the mean of zᵀA z over vectors z of random signs.

    Its standard error is that of the probes' mean. For D itself `noise_spectrum` and `Problem.noise_trace` are exact.

    Args:
        operator: A, by its products.
        key: a typed `jax.random.key` for the signs.
        probes: how many products to take, at least 2.

    Source: Hutchinson (1990).
    """
    ((values,), is_exact) = _forms(_quadratic, (operator,), key, probes)
    if is_exact:
        return Estimate(float(np.sum(values)), 0.0)
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))))


def alignment(first: Operator, second: Operator, *, key: Key[Array, ""], probes: int = 64) -> Estimate:
    """cos(A, B) = Tr(AB)/(‖A‖ ‖B‖) with Frobenius norms: 1 for proportional matrices, 0 for orthogonal ones.

    Exact by 2d products where d ≤ `probes`. Else the three traces are means of Az·Bz, |Az|² and |Bz|² over the same
    vectors z of random signs, and the standard error is the delta method's over these. NaN where a matrix vanishes.

    Two positive semidefinite matrices are never at less than 0, and two that know nothing of each other read about
    √(r_A r_B)/d, r = (Tr A)²/Tr A² each one's participation: that is what chance gives, not 0.

    Args:
        first, second: A and B, by their products.
        key: a typed `jax.random.key` for the signs.
        probes: how many products of each to take, at least 2.

    Raises:
        ValueError: if the two have not one dimension, or `probes` is below 2.
    """
    if first.dim != second.dim:
        raise ValueError(f"second must have the dimension of first, {first.dim}; got {second.dim}")
    forms, is_exact = _forms(_squares, (first, second), key, probes)
    inner, one, two = np.mean(forms, axis=1)
    if not (one > 0 and two > 0):
        return Estimate(np.nan, np.nan)
    scale = np.sqrt(one * two)
    cosine = inner / scale
    if is_exact:
        return Estimate(float(cosine), 0.0)
    influence = forms[0] / scale - cosine * (forms[1] / one + forms[2] / two) / 2
    count = forms.shape[1]
    return Estimate(float(cosine), float(np.sqrt(np.sum(influence**2) / (count * (count - 1)))))


def overlap(first: Float[np.ndarray | Array, "k d"], second: Float[np.ndarray | Array, "m d"]) -> float:
    """‖U Vᵀ‖²/min(k, m) of two orthonormal sets of rows: the share of the smaller space that lies in the larger.

    1 where it lies within, 0 where they are orthogonal; max(k, m)/d in the mean for a random pair.

    Source: Gur-Ari, Roberts, Dyer, "Gradient descent happens in a tiny subspace", 2018, section 3.
    """
    u, v = (np.asarray(a, dtype=np.float64) for a in (first, second))
    return float(np.sum((u @ v.T) ** 2) / min(len(u), len(v)))


def _quadratic(operators: tuple[Operator, ...], z: Float[Array, " d"]) -> Float[Array, "1"]:
    return jnp.sum(z * operators[0](z))[None]


def _squares(operators: tuple[Operator, ...], z: Float[Array, " d"]) -> Float[Array, "3"]:
    a, b = operators[0](z), operators[1](z)
    return jnp.stack([jnp.sum(a * b), jnp.sum(a * a), jnp.sum(b * b)])


def _forms(
    form: Callable[..., Array], operators: tuple[Operator, ...], key: Key[Array, ""], probes: int
) -> tuple[Float[np.ndarray, "forms n"], bool]:
    """A quadratic form at each probe, and whether the probes are the d unit vectors, whose sum is exact."""
    if isinstance(probes, bool) or not isinstance(probes, int | np.integer) or probes < 2:
        raise ValueError(f"probes must be a whole number of at least 2, got {probes!r}")
    dim = operators[0].dim
    if dim <= probes:
        values = _at_units(form, operators, dim)
    else:
        values = _at_signs(form, operators, Draws.of(key, np.arange(probes)), dim)
    return np.asarray(values, dtype=np.float64).T, dim <= probes


@eqx.filter_jit
def _at_units(form: Callable[..., Array], operators: tuple[Operator, ...], dim: int) -> Float[Array, "n forms"]:
    return jax.lax.map(lambda z: form(operators, z), jnp.eye(dim))


@eqx.filter_jit
def _at_signs(
    form: Callable[..., Array], operators: tuple[Operator, ...], draws: Draws, dim: int
) -> Float[Array, "n forms"]:
    def at(keys: tuple[Words, ...]) -> Float[Array, " forms"]:
        word, _ = Draws(jax.tree.map(lambda word: word[None], keys), draws.step).words(
            Stream.NOISE, np.arange(dim, dtype=np.uint32)
        )
        return form(operators, jnp.where(word[:, 0] < np.uint32(2**31), -1.0, 1.0))

    return jax.lax.map(at, draws.keys)
