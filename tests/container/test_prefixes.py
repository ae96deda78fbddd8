"""CRC-32C of stretches out of states before each byte, compiled and as plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.checksum import crcmod_crc32c
from robuststream.container import prefixes

ONES = 0xFFFFFFFF
KERNELS = [True, False]


def run(kernel, compiled, *args):
    return kernel(*args) if compiled else kernel.py_func(*args)


@pytest.mark.parametrize("compiled", KERNELS)
@given(st.binary(max_size=40), st.integers(0, ONES), st.integers(0, 40))
def test_states_are_those_of_crcmod(compiled, data, first, at):
    """From the start on, whatever the first state is, and from where a sum before left off."""
    at = min(at, len(data))
    states = np.full(len(data) + 1, 0x55, np.uint32)
    states[at] = first
    run(prefixes.sum_up, compiled, np.frombuffer(data, np.uint8), at, states)
    assert states[:at].tolist() == [0x55] * at
    # crcmod takes the CRC so far, the state's complement.
    assert states[at:].tolist() == [
        crcmod_crc32c(data[at:end], first ^ ONES) ^ ONES if end > at else first for end in range(at, len(data) + 1)
    ]


@pytest.mark.parametrize("compiled", KERNELS)
@given(st.binary(max_size=9), st.integers(0, 5) | st.sampled_from([127, 128, 16384, 70_001, (1 << 21) - 1]))
def test_what_a_crc_becomes_with_bytes_behind(compiled, data, length):
    """By the sum over these bytes, against that over as many without them."""
    zeros = bytes(length)
    expected = crcmod_crc32c(data + zeros) ^ crcmod_crc32c(bytes(len(data)) + zeros)
    crc = crcmod_crc32c(data) ^ crcmod_crc32c(bytes(len(data)))
    assert run(prefixes.moved, compiled, np.uint32(crc), length, prefixes.SHIFTS) == expected
