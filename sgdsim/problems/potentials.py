"""Toy landscapes: plain callables x → f(x), (d,) → scalar, that know their dimension.

Any callable of that form is a potential; these are the ones that the literature and the lectures use.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Quadratic(eqx.Module):
    """f(x) = ½ (x − c)ᵀ K (x − c).

    Args:
        hessian: K, symmetric, (d, d).
        centre: c, (d,); the origin by default.

    Raises:
        ValueError: if K is not a finite symmetric matrix or c does not fit it.
    """

    hessian: Float[Array, "d d"]
    centre: Float[Array, " d"]

    def __init__(self, hessian: np.ndarray | Array | list, centre: np.ndarray | Array | list | None = None):
        matrix = np.asarray(hessian, dtype=float)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"hessian must be a square matrix (d, d), got shape {matrix.shape}")
        if not np.all(np.isfinite(matrix)) or not np.allclose(matrix, matrix.T):
            raise ValueError(f"hessian must be finite and symmetric, got {matrix.tolist()}")
        point = np.zeros(len(matrix)) if centre is None else np.asarray(centre, dtype=float)
        if point.shape != matrix.shape[:1] or not np.all(np.isfinite(point)):
            raise ValueError(f"centre must be a finite vector of shape {matrix.shape[:1]}, got {point.tolist()}")
        self.hessian, self.centre = jnp.asarray(matrix), jnp.asarray(point)

    @property
    def dim(self) -> int:
        return self.hessian.shape[0]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return _half_form(self.hessian, x - self.centre)


@jax.custom_jvp
def _half_form(matrix: Float[Array, "d d"], y: Float[Array, " d"]) -> Float[Array, ""]:
    """½ yᵀ K y of a symmetric K, whose gradient is one product K y; JAX's own is two, and transposes the cloud."""
    return jnp.sum(y * (matrix @ y)) / 2


_half_form.defjvps(
    lambda tangent, _, matrix, y: jnp.sum(y * (tangent @ y)) / 2,
    lambda tangent, _, matrix, y: jnp.sum((matrix @ y) * tangent),
)


class DoubleWell(eqx.Module):
    """f(x) = (x₁² − 1)²/4 + ½ Σ_{i>1} xᵢ²: minima at x₁ = ±1 of curvature 2, a saddle of height ¼ at the origin.

    Args:
        dim: d ≥ 1.
    """

    dim: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        _check_dim(self.dim, 1)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return (x[0] * x[0] - 1) ** 2 / 4 + jnp.sum(x[1:] * x[1:]) / 2


class SlantedDoubleWell(eqx.Module):
    """f(x) = (x₁² − 1)²/4 + ½ (x₂ − a x₁)²: two wells in a valley that runs aslant, its floor the line x₂ = a x₁.

    The minima are ±(1, a), the saddle of height ¼ is the origin. Along the floor f is `DoubleWell`'s, but where its
    curvature there changes sign, at x₁ = ±1/√3, noise across the valley still moves x₁: so noise in the shape of the
    Hessian, which has none along the floor at that place, does not stop there as it does on an axis.

    Args:
        slope: a, finite.
    """

    slope: Float[Array, ""]

    def __init__(self, slope: float = 0.5):
        if not math.isfinite(slope):
            raise ValueError(f"slope must be finite, got {slope}")
        self.slope = jnp.asarray(slope, dtype=float)

    @property
    def dim(self) -> int:
        return 2

    def __call__(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        return (x[0] * x[0] - 1) ** 2 / 4 + (x[1] - self.slope * x[0]) ** 2 / 2


class SharpFlatDoubleWell(eqx.Module):
    """f(x) = ((x₁² − 1)²/4) · r^{−tanh(x₁)/(2 tanh 1)} + ½ Σ_{i>1} xᵢ²: a sharp well at −1 and a flat one at +1.

    Both minima are zero, so they share one barrier from below; their curvatures are 2√r and 2/√r, in the ratio r
    exactly, since (x₁² − 1)² vanishes to second order there. The hyperbolic tangent keeps the landscape confining.

    Args:
        ratio: r ≥ 1, the ratio of the two curvatures.
        dim: d ≥ 1.
    """

    ratio: Float[Array, ""]
    dim: int = eqx.field(static=True)

    def __init__(self, ratio: float = 4.0, dim: int = 1):
        _check_dim(dim, 1)
        if not 1 <= ratio < float("inf"):
            raise ValueError(f"ratio must be finite and at least 1, got {ratio}")
        self.ratio, self.dim = jnp.asarray(ratio, dtype=float), dim

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        stiffness = self.ratio ** (-jnp.tanh(x[0]) / (2 * math.tanh(1.0)))
        return stiffness * (x[0] * x[0] - 1) ** 2 / 4 + jnp.sum(x[1:] * x[1:]) / 2


class Saddle(eqx.Module):
    """f(x) = (x₁⁴/4 − a x₁²/2) + ½ Σ_{i>1} xᵢ²: a saddle at the origin that the quartic term closes far away.

    Near the origin f ≈ ½(−a x₁² + x₂² + …), whose escape is exponential at rate a; the closing minima are at x₁ = ±√a.

    Args:
        escape_rate: a > 0, minus the negative curvature.
        dim: d ≥ 2.
    """

    escape_rate: Float[Array, ""]
    dim: int = eqx.field(static=True)

    def __init__(self, escape_rate: float = 1.0, dim: int = 2):
        _check_dim(dim, 2)
        if not 0 < escape_rate < float("inf"):
            raise ValueError(f"escape_rate must be positive and finite, got {escape_rate}")
        self.escape_rate, self.dim = jnp.asarray(escape_rate, dtype=float), dim

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        square = x[0] * x[0]
        return square * square / 4 - self.escape_rate * square / 2 + jnp.sum(x[1:] * x[1:]) / 2


class CirculatingDoubleWell(eqx.Module):
    """Φ(x) = (x₁² − 1)²/4 + x₂²/2 with a drift that circulates as well as descends:

        dX = (j − ∇Φ) dt + √2 dW,    j = λ e^{Φ − |x|⁴/4} (−x₂, x₁).

    As ∇·(j e^{−Φ}) = 0, the steady state is e^{−Φ}/Z for every λ, though the drift vanishes elsewhere than ∇Φ: at
    λ = ½ off the origin at ±(0.902, 0.389) instead of (±1, 0), and beyond λ = e^{−1/4} at the origin alone. There the
    drift's linear part turns without growth or decay; the quartic terms make it a weak focus, not a limit cycle. The
    identity holds at T = 1, D = I; there is no loss of which this is SGD.

    Called, it is Φ. Give `drift` and `diffusion` to `FokkerPlanck` or `Langevin`.

    Source: Chaudhari and Soatto 2018, example 19.

    Args:
        strength: λ, how fast it turns; negative turns clockwise.
    """

    strength: Float[Array, ""]

    def __init__(self, strength: float = 0.5):
        if not math.isfinite(strength):
            raise ValueError(f"strength must be finite, got {strength}")
        self.strength = jnp.asarray(strength, dtype=float)

    @property
    def dim(self) -> int:
        return 2

    def __call__(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        return (x[0] * x[0] - 1) ** 2 / 4 + x[1] * x[1] / 2

    def circulating(self, x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """j(x), in x/time."""
        square = jnp.sum(x * x)
        return self.strength * jnp.exp(self(x) - square * square / 4) * jnp.stack([-x[1], x[0]])

    def drift(self, x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """b = j − ∇Φ, in x/time."""
        return self.circulating(x) - jnp.stack([x[0] * (x[0] * x[0] - 1), x[1]])

    def diffusion(self, x: Float[Array, " 2"]) -> Float[Array, "2 2"]:
        """A = I, in x²/time."""
        return jnp.eye(2, dtype=x.dtype)


class Rosenbrock(eqx.Module):
    """f(x) = Σ_{i<d} [b (x_{i+1} − xᵢ²)² + (1 − xᵢ)²]: a curved valley with its minimum at (1, …, 1).

    Args:
        steepness: b > 0 (Rosenbrock 1960 has 100).
        dim: d ≥ 2.
    """

    steepness: Float[Array, ""]
    dim: int = eqx.field(static=True)

    def __init__(self, steepness: float = 100.0, dim: int = 2):
        _check_dim(dim, 2)
        if not 0 < steepness < float("inf"):
            raise ValueError(f"steepness must be positive and finite, got {steepness}")
        self.steepness, self.dim = jnp.asarray(steepness, dtype=float), dim

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        bend = x[1:] - x[:-1] * x[:-1]
        return jnp.sum(self.steepness * bend * bend + (1 - x[:-1]) ** 2)


# Müller and Brown, Theoretica Chimica Acta 53, 75 (1979), Table 1; the depths are divided by 100 below.
_MUELLER_BROWN = np.array(
    [
        # A, a, b, c, x, y
        [-200.0, -1.0, 0.0, -10.0, 1.0, 0.0],
        [-100.0, -1.0, 0.0, -10.0, 0.0, 0.5],
        [-170.0, -6.5, 11.0, -6.5, -0.5, 1.5],
        [15.0, 0.7, 0.6, 0.7, -1.0, 1.0],
    ]
)


class MuellerBrown(eqx.Module):
    """The Müller–Brown surface of three wells and two saddles,

    f(x) = scale · Σ Aₖ exp[aₖ(x−xₖ)² + bₖ(x−xₖ)(y−yₖ) + cₖ(y−yₖ)²].

    Minima near (−0.558, 1.442), (0.623, 0.028) and (−0.050, 0.467); the first is the deepest, −146.70 · scale.

    Args:
        scale: height of the surface; the default 0.01 makes barriers of order one.
    """

    scale: Float[Array, ""]

    def __init__(self, scale: float = 0.01):
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale must be positive and finite, got {scale}")
        self.scale = jnp.asarray(scale, dtype=float)

    @property
    def dim(self) -> int:
        return 2

    def __call__(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        height, a, b, c, x0, y0 = _MUELLER_BROWN.T.astype(x.dtype)
        dx, dy = x[0] - x0, x[1] - y0
        return self.scale * jnp.sum(height * jnp.exp(a * dx * dx + b * dx * dy + c * dy * dy))


def _check_dim(dim: int, least: int) -> None:
    if not isinstance(dim, int) or dim < least:
        raise ValueError(f"dim must be a whole number of at least {least}, got {dim!r}")
