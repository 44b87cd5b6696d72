"""A shuffled order of `count` numbers that is computed number by number, and kept nowhere.

A Feistel network with two halves that need not be equally wide permutes all numbers of so many bits, whatever
its round function is. What falls beyond `count` goes through it again until it does not, which leaves a permutation of
the rest ("cycle walking": Black and Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002, section 4); on average
that takes less than two passes. It is good enough for the order of rows, and no cipher.
"""

from __future__ import annotations

import hashlib

_ROUNDS = 8
_MASK = (1 << 64) - 1


class Permutation:
    """A permutation of the numbers from 0 to `count` (not included).

    Args:
        count: How many numbers; at least one.
        *key: What chooses the permutation, such as a seed and the number of an epoch.
    """

    def __init__(self, count: int, *key: int | str) -> None:
        self._count = count
        bits = (count - 1).bit_length()
        self._low_bits = bits - bits // 2
        self._low_mask, self._high_mask = (1 << self._low_bits) - 1, (1 << bits // 2) - 1
        digest = hashlib.blake2b(repr(key).encode(), digest_size=8 * _ROUNDS).digest()
        self._keys = [int.from_bytes(digest[at : at + 8], "big") for at in range(0, len(digest), 8)]

    def __getitem__(self, place: int) -> int:
        """Return the number at a place of the shuffled order.

        Raises:
            IndexError: There is no such place.
        """
        if not 0 <= place < self._count:
            raise IndexError(place)
        number = self._pass(place)
        while number >= self._count:
            number = self._pass(number)
        return number

    def _pass(self, number: int) -> int:
        high, low = number >> self._low_bits, number & self._low_mask
        for at in range(0, _ROUNDS, 2):
            low ^= _mix(high ^ self._keys[at]) & self._low_mask
            high ^= _mix(low ^ self._keys[at + 1]) & self._high_mask
        return high << self._low_bits | low


def _mix(x: int) -> int:
    """Return 64 bits of which each depends on all of `x`: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31
