"""Random numbers of a sample: a stream of its own, for one sample or for all of a batch at once."""

import random
from typing import Any

import numpy as np

MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_PCG_MULTIPLIER = (0x2360ED051FC65DA4, 0x4385DF649FCCF645)  # upper and lower half


def mixed(value: Any) -> Any:
    """SplitMix64's step and finaliser, a bijection of 64 bits (Steele, Lea, Flood, OOPSLA 2014).

    Args:
        value: an int of 0 to 2^64 - 1, or uint64 (N,).
    """
    value = (value + _GOLDEN) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


class SplitMix(random.Random):
    """Python's `random.Random` on SplitMix64, which is reseeded by setting one integer.

    The Mersenne Twister of `random.Random` takes 4.6 µs for that, as long as a flip. All other
    methods (uniform, randint, choice, shuffle ...) draw through these two.
    """

    position = 0
    gauss_next: float | None

    def random(self) -> float:
        position = self.position
        self.position = (position + _GOLDEN) & MASK
        return (mixed(position) >> 11) * 2.0**-53

    def getrandbits(self, k: int) -> int:
        bits = 0
        for _ in range(0, k, 64):
            bits = bits << 64 | mixed(self.position)
            self.position = (self.position + _GOLDEN) & MASK
        return bits >> (-k % 64)


def pcg_state(key: Any) -> tuple[Any, Any]:
    """The 128 bits from which a sample's numpy generator (PCG64) starts: upper and lower half.

    The increment, PCG64's choice of sequence, is the same for all samples.

    Args:
        key: the sample's, an int or uint64 (N,).
    """
    return mixed(key ^ MASK), mixed(key ^ MASK ^ 1)


class BatchStreams:
    """The streams of a batch's samples: for each the very numbers that its generators would draw.

    SplitMix64 and PCG64 are arithmetic on whole numbers, which numpy does for many at once. `rows`
    are the samples that draw, int (M,), each at most once in a call; the others' streams stand still.

    Args:
        keys: uint64 (N,), each sample's.
        increment: of numpy's PCG64, 128 bits.

    Attributes:
        positions: uint64 (N,), what `SplitMix.position` would be.
        words: int64 (N,), how many times numpy's generator would have drawn 32 bits.
    """

    def __init__(self, keys: np.ndarray, increment: int) -> None:
        self.positions = keys.copy()
        self.words = np.zeros(len(keys), np.int64)
        self._keys = keys
        self._increment = increment
        self._state: tuple[np.ndarray, np.ndarray] | None = None
        self._drawn: list[np.ndarray] = []  # 32 bits of every sample, in the order they come

    def random(self, rows: np.ndarray) -> np.ndarray:
        """`random.Random.random`: float64 (M,), 0 to 1."""
        position = self.positions[rows]
        self.positions[rows] = position + _GOLDEN
        return (mixed(position) >> 11) * 2.0**-53

    def below(self, rows: np.ndarray, n: int) -> np.ndarray:
        """`random.Random.randrange(n)`: int64 (M,), 0 to n - 1."""
        # Python draws as many bits as n has until the number is below n: up to half are too large.
        # Eight attempts at a time, of which the first that succeeds counts.
        attempts = np.arange(8, dtype=np.uint64) * _GOLDEN
        values = np.zeros(len(rows), np.int64)
        left = np.arange(len(rows))
        while len(left):
            position = self.positions[rows[left]]
            drawn = mixed(position[:, None] + attempts) >> (64 - n.bit_length())
            below = drawn < n
            first, success = below.argmax(axis=1), below.any(axis=1)
            values[left] = drawn[np.arange(len(left)), first]
            used = np.where(success, first + 1, len(attempts)).astype(np.uint64)
            self.positions[rows[left]] = position + used * _GOLDEN
            left = left[~success]
        return values

    def integers(self, rows: np.ndarray, low: int, high: int | np.ndarray) -> np.ndarray:
        """`numpy.random.Generator.integers(low, high)`: int64 (M,), `high` left out.

        Lemire's method (arXiv 1805.10941) on 32 bits, so at most 2^32 - 1 values.
        """
        span = np.broadcast_to(np.asarray(high - low, np.uint64), rows.shape)
        values = np.zeros(len(rows), np.uint64)
        left = np.flatnonzero(span > 1)  # of one value numpy draws nothing
        while len(left):
            product = self._word(rows[left]) * span[left]
            values[left] = product >> 32
            left = left[(product & 0xFFFFFFFF) < (2**32 - span[left]) % span[left]]
        return low + values.astype(np.int64)

    def _word(self, rows: np.ndarray) -> np.ndarray:
        place = self.words[rows]
        while len(self._drawn) <= place.max():
            bits = self._step()
            self._drawn += [bits & 0xFFFFFFFF, bits >> 32]
        self.words[rows] = place + 1
        return np.stack(self._drawn)[place, rows]

    def _step(self) -> np.ndarray:
        """64 bits of every sample's PCG64 (XSL-RR; O'Neill, HMC-CS-2014-0905): uint64 (N,)."""
        high, low = self._state or pcg_state(self._keys)
        factor_high, factor_low = _PCG_MULTIPLIER
        high = _upper_product(low, factor_low) + high * factor_low + low * factor_high
        low = low * factor_low + (self._increment & MASK)
        carry = low < (self._increment & MASK)
        high = high + (self._increment >> 64) + carry
        self._state = high, low
        bits, turn = high ^ low, high >> 58
        return (bits >> turn) | (bits << (-turn & 63))


def _upper_product(values: np.ndarray, factor: int) -> np.ndarray:
    """The upper 64 bits of products of 64 bits each: uint64 (N,)."""
    half = 0xFFFFFFFF
    low, high = values & half, values >> 32
    factor_low, factor_high = factor & half, factor >> 32
    crossed = high * factor_low + (low * factor_low >> 32)
    middle = low * factor_high + (crossed & half)
    return high * factor_high + (crossed >> 32) + (middle >> 32)
