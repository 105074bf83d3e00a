"""The temperature of SGD, and what a batch without replacement leaves of it."""

from sgdsim.theory._checks import require_batch_size, require_momentum, require_positive


def temperature(learning_rate: float, batch_size: int, momentum: float = 0.0, sampling_factor: float = 1.0) -> float:
    """T = s_B η_e/(2B), η_e = η/(1−μ): the temperature of dX = −∇f dt + √(2T D(X)) dW.

    Args:
        learning_rate: η > 0.
        batch_size: B ≥ 1.
        momentum: μ in [0, 1).
        sampling_factor: s_B in [0, 1].

    Raises:
        ValueError: if an argument is out of its range.

    Source: Mandt, Hoffman, Blei (2017), eq. 9; Jastrzębski et al. (2017).
    """
    require_positive("learning_rate", learning_rate)
    require_batch_size("batch_size", batch_size)
    require_momentum("momentum", momentum)
    if not 0 <= sampling_factor <= 1:
        raise ValueError(f"sampling_factor must lie in [0, 1], got {sampling_factor}")
    return sampling_factor * learning_rate / (1 - momentum) / (2 * batch_size)


def sampling_factor(num_examples: int, batch_size: int) -> float:
    """s_B = (N−B)/(N−1): what one batch without replacement leaves of the variance of its mean; 0 at N = 1.

    D is 1/N-normalised. With replacement s_B is 1.

    Args:
        num_examples: N ≥ 1.
        batch_size: B, 1 ≤ B ≤ N.

    Raises:
        ValueError: if an argument is out of its range.

    Source: the finite-population correction (Cochran, Sampling Techniques, §2.6).
    """
    if not num_examples >= 1:
        raise ValueError(f"num_examples must be at least 1, got {num_examples}")
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size must lie between 1 and num_examples = {num_examples}, got {batch_size}")
    return (num_examples - batch_size) / (num_examples - 1) if num_examples > 1 else 0.0
