"""Bytes that a transfer took or changed are found by the CRC-32C: against what was there, and by trying all sets."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robuststream.checksum import crc32c
from robuststream.transfers import insertions
from robuststream.transfers.insertions import CR, LF, Change, cost, explain

#: What a transfer does, and its inverse.
CHANGES: dict[str, tuple[Callable[[bytes], bytes], Change]] = {
    "CRLF to LF": (lambda body: body.replace(b"\r\n", b"\n"), Change(insert=CR)),
    "CRLF to CR": (lambda body: body.replace(b"\r\n", b"\r"), Change(insert=LF)),
    "CR dropped": (lambda body: body.replace(b"\r", b""), Change(CR, anywhere=True)),
    "NUL dropped": (lambda body: body.replace(b"\0", b""), Change(0, anywhere=True)),
    "CR to LF": (lambda body: body.replace(b"\r", b"\n"), Change(flip=LF)),
    "lone CR to LF": (lambda body: re.sub(rb"\r(?!\n)", b"\n", body), Change(flip=LF)),
    "lone LF to CR": (lambda body: re.sub(rb"(?<!\r)\n", b"\r", body), Change(flip=CR)),
    "ends to LF": (lambda body: re.sub(rb"\r\n?", b"\n", body), Change(insert=CR, flip=LF)),
    "ends to CR": (lambda body: re.sub(rb"\r?\n", b"\r", body), Change(insert=LF, flip=CR)),
}
BEFORE = crc32c(b"what is summed before")


def whole(payload: bytes) -> bytes:
    """With its CRC-32C."""
    return payload + crc32c(payload, BEFORE).to_bytes(4, "little")


def holds(body: bytes) -> bool:
    return crc32c(body[:-4], BEFORE).to_bytes(4, "little") == body[-4:]


@given(
    st.sampled_from(list(CHANGES)),
    st.lists(st.one_of(st.sampled_from(b"\r\n\0"), st.integers(0, 255)), max_size=60).map(bytes),
)
def test_what_was_there_is_found(name, payload):
    transfer, change = CHANGES[name]
    body = whole(payload)
    hurt = transfer(body)
    if cost(hurt, len(body) - len(hurt), change) is None:
        return
    found = explain(BEFORE, hurt, len(body) - len(hurt), change)
    assert body in found
    assert all(holds(item) and len(item) == len(body) for item in found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("size", [0, 5, 200, 700])
def test_bytes_of_a_tile(name, size):
    transfer, change = CHANGES[name]
    for seed in range(5):
        body = whole(np.random.default_rng(seed).bytes(size))
        hurt = transfer(body)
        missing = len(body) - len(hurt)
        if size < 700:
            assert cost(hurt, missing, change) is not None
        if cost(hurt, missing, change) is not None:
            assert explain(BEFORE, hurt, missing, change) == [body]


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
@pytest.mark.parametrize("anywhere", [False, True])
def test_every_set_of_places_is_found(missing, anywhere):
    change = Change(CR, anywhere=anywhere)
    payload = b"a\nb\nc\nd\ne\n"
    gaps = [gap for gap in change.gaps(payload) if gap < len(payload)]
    choose = itertools.combinations_with_replacement if anywhere else itertools.combinations
    sets = list(choose(gaps, missing))
    assert change.ways(len(gaps), missing) == len(sets) > 0
    for chosen in sets:
        made = whole(change.undone(payload, chosen))
        assert explain(BEFORE, payload + made[-4:], missing, change) == [made]


def test_nothing_is_missing():
    body = whole(b"a\nb")
    assert explain(BEFORE, body, 0, Change(insert=CR)) == [body]
    assert explain(BEFORE, body[:-1] + bytes([body[-1] ^ 1]), 0, Change(insert=CR)) == []


def test_other_damage_has_no_explanation():
    body = whole(np.random.default_rng(1).bytes(300))
    hurt = bytes([body[0] ^ 1]) + body[1:]
    for transfer, change in CHANGES.values():
        there = transfer(hurt)
        assert explain(BEFORE, there, len(hurt) - len(there), change) == []


def test_what_a_crc_cannot_tell_is_not_tried():
    long = bytes(range(14, 256)) * 100
    assert cost(long, 3, Change(CR, anywhere=True)) is None  # too many sets
    assert cost(long[:1000], 3, Change(CR, anywhere=True)) is not None
    assert cost(long[:1200], 3, Change(CR, anywhere=True)) is None
    assert cost(b"\n" * 29, 0, Change(flip=LF)) is None
    assert cost(b"\n" * 28, 0, Change(flip=LF)) is not None
    assert cost(b"\n" * 12, 6, Change(insert=CR, flip=LF)) is None  # few to choose from, and each a search
    assert cost(b"abc", -1, Change(CR, anywhere=True)) is None  # too many bytes, none missing
    assert cost(b"", 16, Change(CR, anywhere=True)) is not None
    assert cost(b"", 17, Change(CR, anywhere=True)) is None
    assert cost(b"abc", 1, Change(insert=CR)) is None  # nowhere
    assert cost(b"abc", 1, Change(flip=LF)) is None


def test_half_of_the_sets_is_limited(monkeypatch):
    body = bytes(range(14, 34))
    assert cost(body, 3, Change(CR, anywhere=True)) is not None
    monkeypatch.setattr(insertions, "MAX_HALVES", 100)
    assert cost(body, 3, Change(CR, anywhere=True)) is None


def test_the_same_bytes_count_once_and_solutions_are_limited(monkeypatch):
    # In a run of zeros it does not matter where one is put in.
    body = whole(bytes(30))
    assert explain(BEFORE, body[1:], 1, Change(0, anywhere=True)) == [body]
    every = insertions._insertions(BEFORE, body[1:], list(range(len(body))), 1, Change(0, anywhere=True))
    assert len(every) == insertions.MAX_SOLUTIONS
    monkeypatch.setattr(insertions, "MAX_SOLUTIONS", 3)
    assert len(insertions._insertions(BEFORE, body[1:], list(range(len(body))), 1, Change(0, anywhere=True))) == 3
