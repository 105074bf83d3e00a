"""What reshuffled passes leave of SGD's variance on a quadratic, and what a finite window shows of it.

Losses k/2 x² + aᵢx of N examples, of which (1/N) Σ (aᵢ − ā)² = D, are read in M = ⌊N/B⌋ batches of B by a fresh
permutation in each epoch. With x from the minimum and a = 1 − ηk a step is x ← ax − ηg, where within an epoch

    Cov(g_s, g_t) = D/(N−1) · [(N/B) δ_st − 1]:

batches are anticorrelated, as what one has drawn the others lack (for N = MB they sum to zero), and epochs are
independent. So j steps from a point at the start of an epoch give the variance η²Q_j, with

    Q_j = D/(N−1) · [(N/B) (1−a^{2j})/(1−a²) − ((1−a^j)/(1−a))²].

The sum of squares is what batches without replacement would give, of covariance C = s_B D/B (D/(N−1) less); the second
term grows with the square of the number of batches that pull together, and takes the noise of slow directions off. A
direction of a Hessian obeys this with its own k and D_ii = v·Dv, whatever else D correlates.

Source: Kühn and Rosenow, "Correlated noise in epoch-based stochastic gradient descent: implications for weight
variances", 2023, arXiv:2306.05300, for the anticorrelation and its effect; the closed forms are derived here.
"""

import numpy as np
from jaxtyping import Float, Int

from sgdsim.theory._checks import require_positive

Numbers = float | Float[np.ndarray, "..."]


def epoch_variance(
    k: Numbers,
    variance: Numbers,
    eta: float,
    num_examples: int,
    batch_size: int,
    steps: int | Int[np.ndarray, "..."] | None = None,
) -> Numbers:
    """Var x under reshuffled epochs: at an epoch's end in the steady state, or so many steps after a start at a point.

    In the steady state V = η²Q_M/(1 − a^{2M}), that is

        V = D/((N−1)k²) · [(N/B) ηk/(2−ηk) − (1−a^M)/(1+a^M)],

    for N = MB and a = e^{−h} > 0 the same as D/((N−1)k²) · [M tanh(h/2) − tanh(Mh/2)]. Where ηkM ≫ 1 the second term is
    lost in the first, which is the variance of independent batches times (M/(M−1)); where ηkM ≪ 1 they cancel to
    V → D η³k (M³−M)/(24(N−1)): **proportional to k** where independent batches have ηC/(2k).

    n epochs and j steps after a start at a point V = a^{2j}(1 − a^{2Mn}) V_∞ + η²Q_j; a long run passes through these
    values in each epoch, and `epoch_mean_variance` is their mean.

    The difference of the two terms has a relative rounding error of about 10⁻¹⁵/(ηkM)².

    Args:
        k: curvatures > 0.
        variance: D ≥ 0, the variance of **one example's** gradient, 1/N-normalised.
        eta: η in (0, 2/k).
        num_examples: N ≥ 2.
        batch_size: B, 1 ≤ B ≤ N. What a last partial batch would hold is dropped in each epoch.
        steps: steps from the start; by default infinitely many whole epochs. Arrays broadcast.

    Raises:
        ValueError: if an argument is out of its range, or the chain diverges.
    """
    k, d, batches = _checked(k, variance, eta, num_examples, batch_size)
    a = 1 - eta * k
    together = (1 - a**batches) / (1 + a**batches)
    steady = d / ((num_examples - 1) * k**2) * (num_examples / batch_size * (1 - a) / (1 + a) - together)
    if steps is None:
        return _plain(steady)
    count = np.asarray(steps)
    if count.dtype.kind not in "iu" or np.any(count < 0):
        raise ValueError(f"steps must be whole numbers and not negative, got {steps}")
    epochs, j = np.divmod(count, batches)
    alone = num_examples / batch_size * (1 - a ** (2 * j)) / (1 - a**2)
    gained = eta**2 * d / (num_examples - 1) * (alone - ((1 - a**j) / (1 - a)) ** 2)
    return _plain(a ** (2 * j) * (1 - a ** (2 * batches * epochs)) * steady + gained)


def epoch_mean_variance(k: Numbers, variance: Numbers, eta: float, num_examples: int, batch_size: int) -> Numbers:
    """Var x in the steady state of reshuffled epochs, averaged over the M steps of an epoch.

    With the sums G₁ = (1−a^M)/(1−a) and G₂ = (1−a^{2M})/(1−a²) of a^j and a^{2j} over j = 0 … M−1

        V̄ = (1/M) { G₂ V + η² D/(N−1) [(N/B)(M − G₂)/(1−a²) − (M − 2G₁ + G₂)/(1−a)²] },

    V that of `epoch_variance` at an epoch's end. For ηkM ≪ 1 and N = MB it tends to η²D(M²−1)/(6(N−1)), the bridge that
    one epoch makes from its start to its end: **independent of k** at one D, so ∝ k where D ∝ k.

    Args:
        k, variance, eta, num_examples, batch_size: as for `epoch_variance`.

    Raises:
        ValueError: as `epoch_variance`.
    """
    k, d, batches = _checked(k, variance, eta, num_examples, batch_size)
    a = 1 - eta * k
    first, second = (1 - a**batches) / (1 - a), (1 - a ** (2 * batches)) / (1 - a**2)
    pull = (batches - 2 * first + second) / (1 - a) ** 2
    bridge = num_examples / batch_size * (batches - second) / (1 - a**2) - pull
    end = epoch_variance(k, d, eta, num_examples, batch_size)
    return _plain((second * end + eta**2 * d / (num_examples - 1) * bridge) / batches)


def epoch_crossover(eta: float, num_examples: int, batch_size: int) -> float:
    """3/(ηM): the curvature where the two limits of the epoch's mean variance meet, ηDM/(2kN) and η²DM²/(6N).

    Sharper directions have the variance of independent batches, flatter ones that of a bridge over one epoch: their
    relaxation takes longer than a third of an epoch.

    Args:
        eta: η > 0.
        num_examples: N ≥ 2.
        batch_size: B, 1 ≤ B ≤ N.

    Raises:
        ValueError: if an argument is out of its range.
    """
    require_positive("eta", eta)
    return 3 / (eta * _batches(num_examples, batch_size))


def window_share(decay: Numbers, count: int) -> Numbers:
    """The share of its variance that a steady series shows about its own mean over a window of n values, in the mean.

    For a correlation r^l at l values' distance E[(1/n) Σ (y − ȳ)²]/Var y = 1 − Var ȳ/Var y is

        1 − (1/n) [(1+r)/(1−r) − (2r/n) (1−r^n)/(1−r)²].

    SGD with independent batches has r = (1−ηk)^m from step to m-th step. A window much shorter than the relaxation
    shows a share ηkmn/3 of the variance: **proportional to k**, so that flat directions look narrow which are not.
    Looks at the ends of epochs have r = (1−ηk)^M under reshuffling too.

    Args:
        decay: r, −1 < r < 1.
        count: n ≥ 1.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Priestley, Spectral Analysis and Time Series, 1981, §5.3.2, for the variance of a mean.
    """
    r = np.asarray(decay, dtype=np.float64)
    if not np.all(np.abs(r) < 1):
        raise ValueError(f"decay must lie between -1 and 1, got {decay}")
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"count must be a positive whole number, got {count!r}")
    return _plain(1 - ((1 + r) / (1 - r) - 2 * r / count * (1 - r**count) / (1 - r) ** 2) / count)


def _batches(num_examples: int, batch_size: int) -> int:
    if not num_examples >= 2:
        raise ValueError(f"num_examples must be at least 2, got {num_examples}")
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size must lie between 1 and num_examples = {num_examples}, got {batch_size}")
    return num_examples // batch_size


def _checked(
    k: Numbers, variance: Numbers, eta: float, num_examples: int, batch_size: int
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."], int]:
    """Curvatures, variances and M, or a ValueError that names what is wrong."""
    require_positive("eta", eta)
    batches = _batches(num_examples, batch_size)
    curvatures, noise = np.asarray(k, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    if not np.all(np.isfinite(curvatures) & (curvatures > 0)):
        raise ValueError(f"k must be positive and finite, got {k}")
    if not np.all(np.isfinite(noise) & (noise >= 0)):
        raise ValueError(f"variance must be finite and not negative, got {variance}")
    if np.max(curvatures, initial=0.0) * eta >= 2:
        raise ValueError(f"eta must stay below 2/k = {2 / np.max(curvatures):g}, got {eta}: the chain diverges")
    return curvatures, noise, batches


def _plain(value: Numbers) -> Numbers:
    return float(value) if np.ndim(value) == 0 else value
