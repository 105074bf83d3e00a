"""Counter-based random draws: every number is a pure function of (key, stream, particle, step, slot).

A particle's own key is a hash of (key, stream, particle); the counter hashed under it is (step, slot). Nothing is
carried from one draw to the next, so a cloud is the same whether it is run whole, in chunks, on many devices or
resumed, and particle 7 does not depend on how many others there are.

The generator is Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2,
3", SC 2011). It is written out here, instead of called from `jax.random`, so that XLA fuses the drawing into the step
that uses it: an ensemble's step is mostly drawing, and this is several times faster than `jax.random.normal` on the
same cloud.
"""

import enum
import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Integer, Key, UInt32

# What a draw is used for. Streams have keys of their own, so that a new use never shifts the numbers of an old one.


class Stream(enum.IntEnum):
    """The independent sources of randomness that a particle has."""

    START = 0  # where it starts
    NOISE = 1  # modelled gradient noise, and the Brownian path of the Langevin limit
    MINIBATCH = 2  # which examples a minibatch holds
    PERTURBATION = 3  # isotropic noise added on top of minibatches
    TALLY = 4  # what a tally of the path draws for itself
    THREE_POINT = 5  # weak increments in place of a Brownian path


COUNTER_LIMIT = 2**32  # steps, slots and particles are 32-bit counters

THREE_POINTS_PER_SLOT = 8  # four base-6 digits from each of a slot's two words
_SIXTH, _FIVE_SIXTHS = (np.uint32(i * 2**32 // 6) for i in (1, 5))  # the largest words below 2³²/6 and 5·2³²/6

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry2x32(
    key: tuple[UInt32[Array, "*#shape"], UInt32[Array, "*#shape"]],
    counter: tuple[UInt32[Array, "*#shape"], UInt32[Array, "*#shape"]],
) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """Threefry-2x32-20: two words of a counter hashed under two words of a key, elementwise.

    Source: Salmon et al. 2011, Table 2 and the reference implementation Random123.
    """
    k0, k1 = key
    schedule = (k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA))
    x0, x1 = counter[0] + k0, counter[1] + k1
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
            x1 = x1 ^ x0
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


Words = tuple[UInt32[Array, "*#shape"], UInt32[Array, "*#shape"]]


class Draws(eqx.Module):
    """The random numbers of a cloud of P particles at one step.

    Arrays of draws are coordinates first, (n, P), as the cloud is inside the time loop.

    Build with `Draws.of(key, particles)`; move in time with `at(step)`.
    """

    keys: tuple[Words, ...]  # of each stream: two words for each particle, (P,)
    step: UInt32[Array, ""]

    @classmethod
    def of(cls, key: Key[Array, ""], particles: Integer[Array | np.ndarray, " P"]) -> "Draws":
        """The draws of the particles with these numbers (0, 1, … for a whole cloud), at step 0.

        Args:
            key: a typed `jax.random.key`. Only its words matter; any implementation will do.
            particles: the particles' numbers in the whole cloud, (P,), each below 2³².
        """
        return cls(keys=_particle_keys(key_words(key), jnp.asarray(particles, dtype=jnp.uint32)), step=jnp.uint32(0))

    def at(self, step: Int[Array, ""] | UInt32[Array, ""] | int) -> "Draws":
        """The same particles' draws at another step, 0 ≤ step < 2³²."""
        return Draws(keys=self.keys, step=jnp.asarray(step, dtype=jnp.uint32))

    @property
    def particles(self) -> int:
        """Number of particles, P."""
        return self.keys[0][0].shape[-1]

    def words(
        self, stream: Stream, slots: UInt32[Array | np.ndarray, " n"], step: UInt32[Array, ""] | None = None
    ) -> tuple[UInt32[Array, "n P"], UInt32[Array, "n P"]]:
        """Two uniform 32-bit words for each slot and particle; at another step where one is given."""
        step = self.step if step is None else step
        return _word_pairs(self.keys[int(stream)], (step, jnp.asarray(slots)[:, None]))

    def normals(
        self, count: int, *, stream: Stream = Stream.NOISE, first: int = 0, dtype: DTypeLike | None = None
    ) -> Float[Array, "count P"]:
        """Independent standard normals, `count` for each particle.

        Normal i uses words (u, v) of slot ⌊i/2⌋ by Box and Muller (1958): √(−2 log u) · cos 2π(v − (i mod 2)/4), so an
        even i takes the cosine and the odd one after it the sine.

        The words have 32 bits, so the normals reach ±6.8, and float32 and float64 see the same numbers to rounding.

        Args:
            count: normals per particle.
            stream: the source to read.
            first: number of the first normal. Must be even.
            dtype: float32 or float64 (default: JAX's default float).
        """
        if first % 2:
            raise ValueError(f"first must be even (normals come in pairs), got {first}")
        if (first + count + 1) // 2 > COUNTER_LIMIT:
            raise OverflowError(f"count must leave slots below 2³², got {count} normals from {first}")
        dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
        slots = (first // 2 + np.arange(-(-count // 2), dtype=np.uint64)).astype(np.uint32)
        counter = (self.step, jnp.asarray(slots)[:, None])
        even, odd = _normal_pairs(self.keys[int(stream)], counter, dtype)
        return jnp.stack([even, odd], axis=1).reshape(-1, self.particles)[:count]

    def uniforms(
        self, count: int, *, stream: Stream = Stream.NOISE, first: int = 0, dtype: DTypeLike | None = None
    ) -> Float[Array, "count P"]:
        """Independent uniform numbers in (0, 1], `count` for each particle; the arguments are those of `normals`.

        Number i is word i mod 2 of slot ⌊i/2⌋, so a pair of them is the pair of words that two normals are made of.
        """
        number = first + np.arange(count, dtype=np.uint64)
        dtype = jnp.result_type(float) if dtype is None else dtype
        word0, word1 = self.words(stream, (number // 2).astype(np.uint32))
        return unit_interval(jnp.where((number % 2)[:, None] == 0, word0, word1), dtype)

    def three_points(
        self, count: int, *, stream: Stream = Stream.THREE_POINT, first: int = 0, dtype: DTypeLike | None = None
    ) -> Float[Array, "count P"]:
        """Independent numbers ±√3 with probability 1/6 each and 0 with 2/3: the moments of a normal up to the fifth.

        They are base-6 digits of a word, 0 for −√3 and 5 for +√3: the leading digit of w/2³² by comparison, the next
        one from 6w mod 2³². Four digits of a word are independent to within 6⁴/2³², so that a slot's two words make
        eight numbers, where they make two normals.

        Args:
            count: numbers per particle.
            stream: the source to read.
            first: number of the first. Must be a multiple of 8: number i is digit i mod 8 of slot ⌊i/8⌋.
            dtype: float32 or float64 (default: JAX's default float).

        Source: Kloeden and Platen, Numerical Solution of Stochastic Differential Equations (1992), section 14.2.
        """
        if first % THREE_POINTS_PER_SLOT:
            raise ValueError(f"first must be a multiple of {THREE_POINTS_PER_SLOT}, a slot's numbers, got {first}")
        slots = first // THREE_POINTS_PER_SLOT + np.arange(-(-count // THREE_POINTS_PER_SLOT), dtype=np.uint64)
        if first + count > THREE_POINTS_PER_SLOT * COUNTER_LIMIT:
            raise OverflowError(f"count must leave slots below 2³², got {count} numbers from {first}")
        dtype = jnp.result_type(float) if dtype is None else dtype
        words = jnp.stack(self.words(stream, slots.astype(np.uint32)), axis=1)[:, :, None]
        powers = np.asarray([6**i for i in range(THREE_POINTS_PER_SLOT // 2)], dtype=np.uint32)
        digits = (words * powers[:, None]).reshape(-1, self.particles)[:count]
        root = np.asarray(3**0.5, dtype)
        return jnp.where(digits <= _SIXTH, -root, jnp.where(digits > _FIVE_SIXTHS, root, np.zeros((), dtype)))

    def below(self, limit: int, count: int, *, stream: Stream = Stream.MINIBATCH) -> UInt32[Array, "count P"]:
        """Independent whole numbers, uniform on 0 … limit−1 to within limit/2³²."""
        number = np.arange(count, dtype=np.uint32)
        word0, word1 = self.words(stream, number // 2)
        return multiply_high(jnp.where((number % 2)[:, None] == 0, word0, word1), np.uint32(limit))


def key_words(key: Key[Array, ""]) -> UInt32[Array, "2"]:
    """The first two 32-bit words of a typed key.

    Raises:
        TypeError: if `key` is not a typed scalar key from `jax.random.key`.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0):
        raise TypeError(f"key must be one typed key from jax.random.key(seed), got {type(key).__name__}")
    data = jax.random.key_data(key)
    return data if data.shape == (2,) else data.ravel()[:2]


@jax.jit
def _particle_keys(words: UInt32[Array, "2"], number: UInt32[Array, " P"]) -> tuple[Words, ...]:
    """Each particle's own key in each stream."""
    streams = jnp.asarray(list(Stream), dtype=jnp.uint32)
    first, second = threefry2x32((words[0], words[1]), (streams[:, None], number))
    return tuple(zip(first, second, strict=True))


def multiply_high(a: UInt32[Array, "*shape"], b: UInt32[Array, "*#shape"] | np.uint32) -> UInt32[Array, "*shape"]:
    """⌊a·b/2³²⌋ from 16-bit halves, since 64-bit integers are off by default in JAX."""
    half, mask = np.uint32(16), np.uint32(0xFFFF)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    middle = a_high * b_low + (a_low * b_low >> half)
    carry = (middle & mask) + a_low * b_high
    return a_high * b_high + (middle >> half) + (carry >> half)


def unit_interval(word: UInt32[Array, "*shape"], dtype: DTypeLike) -> Float[Array, "*shape"]:
    """(word + ½)/2³² in (0, 1]: never 0, so that its logarithm is finite."""
    return (word.astype(dtype) + 0.5) * 2.0**-32


@jax.jit
def _word_pairs(key: Words, counter: Words) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """Both words of each counter."""

    def as_floats() -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        word0, word1 = threefry2x32(key, counter)
        return jax.lax.bitcast_convert_type(word0, jnp.float32), jax.lax.bitcast_convert_type(word1, jnp.float32)

    word0, word1 = _in_one_loop(as_floats, counter[0])
    return jax.lax.bitcast_convert_type(word0, jnp.uint32), jax.lax.bitcast_convert_type(word1, jnp.uint32)


@partial(jax.jit, static_argnames="dtype")
def _normal_pairs(key: Words, counter: Words, dtype: np.dtype) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """The two normals of each counter's words."""

    def box_muller() -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        word0, word1 = threefry2x32(key, counter)
        radius = jnp.sqrt(-2 * jnp.log(unit_interval(word0, dtype)))
        cosine, sine = cos_sin_turns(word1, dtype)
        # cosine first: with the factors the other way round XLA's simplifier goes in circles, and says so on stderr
        return cosine * radius, sine * radius

    return _in_one_loop(box_muller, counter[0])


def _in_one_loop(
    pair: Callable[[], tuple[Float[Array, "*shape"], Float[Array, "*shape"]]], step: UInt32[Array, "*#shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`pair()`, computed once on CPU, where XLA would compute it again for each of the two and for each reader.

    XLA's loops on the CPU have one result, and it copies what a loop reads into that loop. As one complex array the
    pair is one result; a branch that is always taken, unknown to XLA, keeps it out of the loops that read it. On an
    accelerator the numbers are best drawn where they are used, and stay in registers.
    """

    def branch() -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        joined = jax.eval_shape(lambda: jax.lax.complex(*pair()))
        always = jnp.ravel(step)[0] | np.uint32(1) != 0
        both = jax.lax.cond(always, lambda: jax.lax.complex(*pair()), lambda: jnp.zeros(joined.shape, joined.dtype))
        return both.real, both.imag

    return jax.lax.platform_dependent(cpu=branch, default=pair)


def cos_sin_turns(
    word: UInt32[Array, "*shape"], dtype: DTypeLike
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """cos and sin of 2π word/2³², without the library's, which XLA does not vectorise on CPU.

    The nearest quarter turn q is taken off as an integer, exactly; on the rest, |r| ≤ π/4, cosine and sine are Taylor
    polynomials to the last bit; and cos(qπ/2 + r) is cos r, −sin r, −cos r or sin r.
    """
    angle = jax.lax.bitcast_convert_type(word, jnp.int32)
    quarter = (angle + np.int32(2**29)) >> np.int32(30)
    rest = (angle - (quarter << np.int32(30))).astype(dtype) * (2 * np.pi * 2.0**-32)
    terms = 5 if jnp.finfo(dtype).bits == 32 else 9
    square = rest * rest
    cosine = horner(square, [(-1) ** k / math.factorial(2 * k) for k in range(terms)])
    sine = rest * horner(square, [(-1) ** k / math.factorial(2 * k + 1) for k in range(terms)])
    swapped = quarter & 1 == 1
    cosine, sine = jnp.where(swapped, sine, cosine), jnp.where(swapped, cosine, sine)
    return jnp.where((quarter + 1) & 2 == 2, -cosine, cosine), jnp.where(quarter & 2 == 2, -sine, sine)


def horner(x: Float[Array, "*shape"], coefficients: list[float]) -> Float[Array, "*shape"]:
    """Σ cₖ xᵏ."""
    total = jnp.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total
