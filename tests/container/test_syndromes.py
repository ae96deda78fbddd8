"""Bits and pairs of bits by their syndrome, against all of them tried."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from robuststream.checksum import crcmod_crc32c
from robuststream.container.syndromes import MAX_PAIR_BITS, bit_of, pairs_of


def syndrome(size: int, *distances: int) -> int:
    """Of zeros and their CRC-32C, `size` bytes in all, with the bits at these distances from the end flipped:
    the stored sum xor the computed one."""
    body = bytearray(bytes(size - 4) + crcmod_crc32c(bytes(size - 4)).to_bytes(4, "little"))
    for distance in distances:
        body[-1 - (distance >> 3)] ^= 0x80 >> (distance & 7)
    return crcmod_crc32c(bytes(body[:-4])) ^ int.from_bytes(body[-4:], "little")


@pytest.mark.parametrize("size", [4, 5, 12, 40])
def test_all_of_a_short_packet(size):
    bits = 8 * size
    singles = {syndrome(size, one): one for one in range(bits)}
    assert [bit_of(value, bits) for value in singles] == list(singles.values())
    assert bit_of(syndrome(size + 1, bits), bits) is None
    pairs: dict[int, list[tuple[int, int]]] = {}
    for two, one in combinations(range(bits), 2):
        pairs.setdefault(syndrome(size, one) ^ syndrome(size, two), []).append((one, two))
    assert {value: pairs_of(value, bits) for value in pairs} == pairs
    assert not any(bit_of(value, bits) for value in pairs)


@pytest.mark.parametrize("distance", [MAX_PAIR_BITS - 1, MAX_PAIR_BITS, 3 * MAX_PAIR_BITS + 77, 8 * (1 << 20) + 31])
def test_a_bit_of_a_long_packet(distance):
    value = syndrome((1 << 20) + 4, distance)
    assert bit_of(value, distance + 1) == distance
    assert bit_of(value, distance) is None


def test_pairs_of_the_longest_packet_that_has_them():
    """Each syndrome of a pair has it among those that explain it, and all of these do."""
    random = np.random.default_rng(1)
    size = MAX_PAIR_BITS // 8
    for _ in range(5):
        two, one = sorted(map(int, random.choice(MAX_PAIR_BITS, 2, replace=False)))
        value = syndrome(size, one, two)
        pairs = pairs_of(value, MAX_PAIR_BITS)
        assert (one, two) in pairs
        assert {syndrome(size, *pair) for pair in pairs} == {value}
