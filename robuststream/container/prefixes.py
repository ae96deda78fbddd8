"""The CRC-32C of any stretch of a block, compiled, out of two prefixes of the block (spec/format.md, section 10).

But for initial value and final XOR a CRC is linear: what bytes add to it can be summed apart and XORed in. Four or
eight bytes are one instruction where the processor has it (SSE4.2), elsewhere as many look-ups (Kounavis and Berry, "A
systematic approach to building high performance software-based CRC generators", 2005).
"""

from __future__ import annotations

import platform
from typing import Any

import llvmlite.binding
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from robuststream.checksum import crc32c_shift
from robuststream.kernels import kernel

_Words = npt.NDArray[np.uint32]
LOW = 0xFFFFFFFF
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)

# --- Steps ----------------------------------------------------------------------------------------------------------


def _sums_of(columns: list[int]) -> _Words:
    """Entry v is the XOR of those `columns` for which v has the bit set."""
    table = np.zeros(1, np.uint32)
    for column in columns:
        table = np.concatenate((table, table ^ np.uint32(column)))
    return table


#: Row n: what a byte adds to the state n bytes behind it.
_SLICES = np.stack([_sums_of([crc32c_shift(1 << bit, 1 + behind) for bit in range(8)]) for behind in range(8)])


def four(state: Any, word: Any) -> Any:
    """The state behind four bytes, a little-endian word; all int64."""
    mixed = state ^ word
    low = np.int64(_SLICES[3, mixed & 255]) ^ np.int64(_SLICES[2, mixed >> 8 & 255])
    return low ^ np.int64(_SLICES[1, mixed >> 16 & 255]) ^ np.int64(_SLICES[0, mixed >> 24 & 255])


def eight(state: Any, word: Any, behind: Any) -> Any:
    """The state behind two words."""
    mixed = state ^ word
    low = np.int64(_SLICES[7, mixed & 255]) ^ np.int64(_SLICES[6, mixed >> 8 & 255])
    high = np.int64(_SLICES[5, mixed >> 16 & 255]) ^ np.int64(_SLICES[4, mixed >> 24 & 255])
    return low ^ high ^ four(0, behind)


def _instruction(name: str, bits: int) -> Any:
    """LLVM's own function of that name: a state and so many bits of data to the next state."""

    @intrinsic
    def step(typing, state, data):  # type: ignore[no-untyped-def]
        def code(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
            size = ir.IntType(bits)
            kind = ir.FunctionType(size, (size, size))
            function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
            narrow = [builder.trunc(operand, size) for operand in operands] if bits < 64 else operands
            after = builder.call(function, narrow)
            return builder.zext(after, ir.IntType(64)) if bits < 64 else after

        return types.int64(types.int64, types.int64), code

    return step


_crc32_32 = _instruction("llvm.x86.sse42.crc32.32.32", 32)
_crc32_64 = _instruction("llvm.x86.sse42.crc32.64.64", 64)
#: Whether numba compiles for this very processor, and that has SSE4.2's CRC-32C.
INSTRUCTION = (
    config.CPU_NAME is None  # type: ignore[attr-defined]
    and config.CPU_FEATURES is None  # type: ignore[attr-defined]
    and platform.machine() in ("x86_64", "AMD64")
    and bool(llvmlite.binding.get_host_cpu_features().get("crc32"))
)


_four, _eight = kernel(four), kernel(eight)


@overload(four, inline="always")
def _compiled_four(state, word):  # type: ignore[no-untyped-def]
    step = _crc32_32 if INSTRUCTION else _four
    return lambda state, word: step(state, word)


@overload(eight, inline="always")
def _compiled_eight(state, word, behind):  # type: ignore[no-untyped-def]
    steps = {
        True: lambda state, word, behind: _crc32_64(state, word | behind << 32),
        False: lambda state, word, behind: _eight(state, word, behind),
    }
    return steps[INSTRUCTION]


@kernel
def word_at(data, at):  # type: ignore[no-untyped-def]
    """Four bytes, little-endian, as int64."""
    # Of an index without a sign the compiler knows that it does not count from the end: four loads become one.
    at = np.uint64(at)
    low = np.int64(data[at]) | np.int64(data[at + _ONE]) << 8
    return low | np.int64(data[at + _TWO]) << 16 | np.int64(data[at + _THREE]) << 24


@kernel
def _behind(state, rest, word):  # type: ignore[no-untyped-def]
    """The state behind the first `rest` bytes of a word, 0 to 3. (Zeros before them leave a state of zero as it is.)"""
    return state >> 8 * rest ^ four(0, (state ^ word) << 32 - 8 * rest & LOW)


# --- Stretches ------------------------------------------------------------------------------------------------------


@kernel
def short_crc(data, start, end):  # type: ignore[no-untyped-def]
    """The CRC-32C of a few bytes; up to three behind them are read and do not matter."""
    state = LOW
    while start + 8 <= end:
        state = eight(state, word_at(data, start), word_at(data, start + 4))
        start += 8
    if start + 4 <= end:
        state = four(state, word_at(data, start))
        start += 4
    return _behind(state, end - start, word_at(data, start)) ^ LOW


@kernel
def sum_up(data, at, steps, states, gone, kept):  # type: ignore[no-untyped-def]
    """Drop the first `gone` of `states`; add those up to each fourth byte in `steps` of 8 from `at`, behind `kept`."""
    if at < 0 or gone < 0 or kept < 0:  # pragma: no cover: never; but so the compiler need not ask at each index
        return
    for i in range(kept + 1):
        states[i] = states[gone + i]
    state = np.int64(states[kept])
    for i in range(kept + 1, kept + 1 + 2 * steps, 2):
        word = word_at(data, at)
        states[i] = four(state, word)
        state = eight(state, word, word_at(data, at + 4))
        states[i + 1] = state
        at += 8


@kernel
def prefix(data, place, states, lead):  # type: ignore[no-untyped-def]
    """The CRC-32C up to `place`; up to four bytes behind it are read and do not matter.

    Args:
        states: uint32, up to each fourth byte, from `lead` bytes before `data` on; lead < 8.
    """
    rest = place + lead & 3
    return _behind(np.int64(states[np.uint64(place + lead >> 2)]), rest, word_at(data, place - rest)) ^ LOW


@kernel
def moved(crc, length, shifts):  # type: ignore[no-untyped-def]
    """crc32c_shift, by a length below 2^21; `shifts` are SHIFTS."""
    for digit in range(3):
        value = length >> 7 * digit & 127
        if value:
            row = value << 10
            low = np.int64(shifts[digit, row | crc & 255]) ^ np.int64(shifts[digit, row | 256 | crc >> 8 & 255])
            high = np.int64(shifts[digit, row | 512 | crc >> 16 & 255]) ^ np.int64(
                shifts[digit, row | 768 | crc >> 24 & 255]
            )
            crc = low ^ high
    return crc


def _shift_table(step: int) -> _Words:
    """Entry [n << 10 | k << 8 | v]: what v as byte k of a CRC-32C becomes when n * `step` bytes follow; n < 128."""
    columns = [1 << bit for bit in range(32)]
    tables = []
    for _ in range(128):
        tables += [_sums_of(columns[bit : bit + 8]) for bit in range(0, 32, 8)]
        columns = [crc32c_shift(column, step) for column in columns]
    return np.concatenate(tables)


#: Lengths take three digits of 7 bits: enough for MAX_PAYLOAD.
SHIFTS = np.stack([_shift_table(1 << 7 * digit) for digit in range(3)])
