"""Bytes that go or come, so that everything behind them moves."""

from __future__ import annotations

from collections.abc import Sequence

from robuststream.faults.chance import generator


def truncate(data: bytes, length: int) -> bytes:
    """Keep the first `length` bytes. Raises ValueError for a negative length."""
    if length < 0:
        raise ValueError(f"data cannot be cut to {length} bytes")
    return data[:length]


def cut_start(data: bytes, *, length: int) -> bytes:
    """Cut off the first `length` bytes; all, where there are fewer. Raises ValueError for a negative length."""
    if length < 0:
        raise ValueError(f"{length} bytes cannot be cut off at the beginning")
    return data[length:]


def delete(data: bytes, *, seed: int, length: int, count: int = 1) -> bytes:
    """Cut out `count` runs of `length` bytes, one after the other, at random places; all, where there is less.

    Raises:
        ValueError: a negative length or count.
    """
    _check_runs(count, length, "cut out")
    random = generator(seed)
    for _ in range(count if length else 0):
        if len(data) <= length:
            return b""
        start = int(random.integers(len(data) - length + 1))
        data = data[:start] + data[start + length :]
    return data


def insert(data: bytes, *, seed: int, length: int, count: int = 1) -> bytes:
    """Put in `count` runs of `length` random bytes, at random places.

    Raises:
        ValueError: a negative length or count.
    """
    _check_runs(count, length, "put in")
    random = generator(seed)
    places = [int(place) for place in random.integers(len(data) + 1, size=count)]
    return put_in(data, places, [random.bytes(length) for _ in places])


def put_in(data: bytes, places: Sequence[int], additions: Sequence[bytes]) -> bytes:
    """Each addition before the byte of `data` at its place; those at one place in the order they are given."""
    joined, at = [], 0
    for place, addition in sorted(zip(places, additions, strict=True), key=lambda pair: pair[0]):
        joined += [data[at:place], addition]
        at = place
    return b"".join([*joined, data[at:]])


def _check_runs(count: int, length: int, what: str) -> None:
    if length < 0 or count < 0:
        raise ValueError(f"{count} runs of {length} bytes cannot be {what}")
