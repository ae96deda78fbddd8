"""Scanning what writers make, what is no stream, and what is made to keep a scanner busy: 100 MB of each."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bars.common import Figure, interleaved
from robuststream.checksum import crc16
from robuststream.container.layout import MAX_PAYLOAD, PACKET_FIELDS, SYNC, build_header, build_packet
from robuststream.container.packets import Header, Kind
from robuststream.container.reader import read_stream
from robuststream.container.scanner import scan_batches

SIZE = 100_000_000
IDENTITY = b"\x01\x02\x03\x04"


def scan(photos: Path) -> list[Figure]:
    """MB/s of the scanner and of the whole reader, and the peak memory of both."""
    inputs = {
        "noise": _noise(),
        "forged headers, lengths 2^20, nested": _forged([MAX_PAYLOAD]),
        "forged headers, lengths 0 to 2^20, nested": _forged(range(0, MAX_PAYLOAD, 997)),
        "forged headers, lengths 0 to 99": _forged(range(100)),
        "syncs only": _repeated(SYNC),
        "valid tiles of 20 kB": _tiles(20_000),
        "valid tiles of 1 kB": _tiles(1000),
    }
    times = dict(zip(inputs, interleaved(3, *(partial(_scan, data) for data in inputs.values())), strict=True))
    figures = [Figure(name, _rate(seconds)) for name, seconds in times.items()]
    noise, forged = list(inputs)[:2]
    ratio = times[forged] / times[noise]
    figures.append(Figure(f"{forged}, against noise", f"{ratio:.1f} of its time", "<= 3", ratio <= 3))
    figures.append(_flat("memory beside the file, forged headers", _scan, inputs[forged]))
    # Every reader must find a stream before it says anything.
    header = build_packet(Kind.HEADER, IDENTITY, 0, build_header(Header(100, 100, 64, bytes(16), bytes(16))))
    for name in (noise, forged):
        (seconds,) = interleaved(1, partial(read_stream, header + inputs[name]))
        figures.append(Figure(f"read_stream, {name}", _rate(seconds)))
        # A fifth of it: what is measured here runs several times slower.
        data = header + inputs[name][: SIZE // 5]
        figures.append(_flat(f"read_stream, memory beside the file, {name}", read_stream, data))
    return figures


def _rate(seconds: float) -> str:
    return f"{SIZE / seconds / 1e6:.0f} MB/s"


def _scan(data: bytes) -> None:
    for _ in scan_batches(data):
        pass


def _flat(what: str, action: Callable[[bytes], object], data: bytes) -> Figure:
    """Whether the memory that Python and NumPy hold at most does not grow with the file."""
    parts = data[: len(data) // 2], data
    half, whole = (_peak(partial(action, part)) for part in parts)
    sizes = [
        f"{peak / 1e6:.1f} MB for {len(part) / 1e6:.0f} MB" for peak, part in zip((half, whole), parts, strict=True)
    ]
    flat = whole <= 1.1 * half
    return Figure(what, ", ".join(reversed(sizes)), "flat", flat)


def _peak(action: Callable[[], object]) -> int:
    """Bytes, at most."""
    tracemalloc.start()
    action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def _noise() -> bytes:
    return np.random.default_rng(1).bytes(SIZE)


def _repeated(part: bytes) -> bytes:
    return (part * (SIZE // len(part) + 1))[:SIZE]


def _forged(lengths: list[int] | range) -> bytes:
    """Headers with nothing between them, each valid by its CRC-16: 16 stream ids, 64 numbers, all lengths in turn."""
    headers = []
    for count in range(max(len(lengths), 1024)):
        fields = {"kind": Kind.TILE, "stream_id": IDENTITY[:3] + bytes([count % 16]), "number": count // 16 % 64}
        raw = PACKET_FIELDS.build({**fields, "length": lengths[count % len(lengths)]})
        headers.append(SYNC + raw + struct.pack("<H", crc16(raw)))
    return _repeated(b"".join(headers))


def _tiles(size: int) -> bytes:
    rng = np.random.default_rng(2)
    return _repeated(b"".join(build_packet(Kind.TILE, IDENTITY, n, rng.bytes(size)) for n in range(1000)))
