"""CRC-32C of stretches: by the processor's instruction, by tables, and as plain Python."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robuststream.checksum import crcmod_crc32c
from robuststream.container import prefixes
from robuststream.entropy.rans import kernel

WORD = st.integers(0, 0xFFFFFFFF)

COMPARE = """
import numpy as np
from robuststream.container import prefixes
from robuststream.entropy.rans import kernel
print(prefixes.INSTRUCTION)
data = np.random.default_rng(1).integers(256, size=1000, dtype=np.uint8)
states = np.zeros(300, np.uint32)
states[0] = 0xFFFFFFFF
prefixes.sum_up(data, 0, 120, states, 0, 0)
print([prefixes.prefix(data, place, states, 0) for place in range(900)])
print([prefixes.short_crc(data, place, place + place % 17) for place in range(900)])
"""


def _four(state, word):
    return prefixes.four(state, word)


def _eight(state, word, behind):
    return prefixes.eight(state, word, behind)


compiled_four, compiled_eight = kernel(_four), kernel(_eight)


@given(WORD, WORD, WORD)
def test_steps_are_those_of_crcmod(state, word, behind):
    one, two = word.to_bytes(4, "little"), behind.to_bytes(4, "little")
    # crcmod takes the CRC so far, the state's complement.
    first = crcmod_crc32c(one, state ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    both = crcmod_crc32c(one + two, state ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    assert prefixes.four(state, word) == compiled_four(state, word) == first
    assert prefixes.eight(state, word, behind) == compiled_eight(state, word, behind) == both


def test_without_the_instruction_sums_are_the_same():
    """What numba compiles for any processor of the kind."""
    outputs = []
    for name in ({}, {"NUMBA_CPU_NAME": "generic"}):
        command = [sys.executable, "-c", COMPARE]
        out = subprocess.run(command, env=os.environ | name, capture_output=True, text=True, check=True).stdout
        outputs.append(out.splitlines())
    assert outputs[0][0] == str(prefixes.INSTRUCTION)
    assert outputs[1][0] == "False"
    assert outputs[0][1:] == outputs[1][1:]
    data = np.random.default_rng(1).integers(256, size=1000, dtype=np.uint8).tobytes()
    assert outputs[0][1] == str([crcmod_crc32c(data[:place]) for place in range(900)])
    assert outputs[0][2] == str([crcmod_crc32c(data[place : place + place % 17]) for place in range(900)])
