"""The context digest against its definition: what enters it, how wide, in which order."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robuststream.priors.digest import ContextDigest
from tests.helpers import slow_crc32c

NAME = bytes(range(16))


def by_definition(steps: list[tuple[list[int], list[int]]]) -> int:
    data = NAME
    for rows, means in steps:
        data += struct.pack(f"<{len(rows)}H", *rows) + struct.pack(f"<{len(means)}i", *means)
    return slow_crc32c(data)


def test_digest_begins_with_the_models():
    assert ContextDigest(NAME, 3).values == [slow_crc32c(NAME)] * 3


def test_digest_written_out():
    digest = ContextDigest(NAME, 1)
    digest.update(np.array([[1, 0x1234]], np.uint16), np.array([[-1, 0x01020304]], np.int32))
    assert digest.values == [slow_crc32c(NAME + b"\x01\x00\x34\x12" + b"\xff\xff\xff\xff\x04\x03\x02\x01")]


STEP = st.lists(st.tuples(st.integers(0, 65535), st.integers(-(2**31), 2**31 - 1)), max_size=12)


@given(st.lists(STEP, max_size=4))
def test_digest_of_any_steps(steps):
    digest = ContextDigest(NAME, 1)
    listed = [([row for row, _ in step], [mean for _, mean in step]) for step in steps]
    for rows, means in listed:
        digest.update(np.array([rows], np.uint16), np.array([means], np.int32))
    assert digest.values == [by_definition(listed)]


def test_each_tile_has_its_own():
    rows, means = np.arange(12, dtype=np.uint16).reshape(3, 4), np.arange(12, dtype=np.int32).reshape(3, 4) * -7
    digest = ContextDigest(NAME, 3)
    digest.update(rows, means)
    digest.update(rows[:, ::2], means[:, ::2])
    expected = [
        by_definition([(r.tolist(), m.tolist()), (r[::2].tolist(), m[::2].tolist())])
        for r, m in zip(rows, means, strict=True)
    ]
    assert digest.values == expected
    assert len(set(expected)) == 3


def test_memory_layout_and_byte_order_do_not_matter():
    rows, means = np.arange(6, dtype=np.uint16).reshape(2, 3), np.arange(6, dtype=np.int32).reshape(2, 3)
    plain, other = ContextDigest(NAME, 2), ContextDigest(NAME, 2)
    plain.update(rows, means)
    other.update(np.asfortranarray(rows).astype(">u2"), np.asfortranarray(means).astype(">i4"))
    assert plain.values == other.values
