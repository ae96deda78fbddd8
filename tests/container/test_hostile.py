"""Files made to exhaust a reader: what they declare allocates nothing, what they break is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from robuststream.container import layout
from robuststream.container.packets import Header, Kind
from robuststream.container.reader import read_stream
from tests.helpers import memory_below, packet, sample_header

IDENTITY = b"\x01\x02\x03\x04"


def huge(tile: int) -> Header:
    return sample_header(1 << 31, 1 << 31, tile)


@pytest.mark.parametrize("tile", [1, 256, 4096])
def test_declared_size_allocates_nothing(tile):
    payload = layout.build_header(huge(tile))
    data = packet(Kind.HEADER, IDENTITY, 0, payload) + packet(Kind.TILE, IDENTITY, 0, b"\x02")
    with memory_below(1 << 20):
        stream = read_stream(data)
        json.dumps(stream.report.to_json())
    assert stream.header.width == 1 << 31
    assert stream.report.missing_tiles == huge(tile).tiles - 1
    assert len(stream.report.tiles) == 1


def hostile() -> Iterator[tuple[str, bytes]]:
    header = packet(Kind.HEADER, IDENTITY, 0, layout.build_header(sample_header()))
    lie = packet(Kind.TILE, IDENTITY, 1, b"", length=layout.MAX_PAYLOAD)[:-4]
    yield "syncs", header + layout.SYNC * 20_000
    yield "forged tiles", header + lie * 5000
    yield (
        "many forged tiles",
        header
        + b"".join(packet(Kind.TILE, IDENTITY, number, b"", length=layout.MAX_PAYLOAD)[:-4] for number in range(9))
        * 500,
    )
    yield "foreign packets", header + b"".join(packet(Kind.TILE, n.to_bytes(4, "big"), 0, b"") for n in range(5000))
    yield "empty tiles", header + packet(Kind.TILE, IDENTITY, 1, b"") * 5000
    yield "gaps", header + (b"x" + packet(ord("x"), IDENTITY, 0, b"")) * 5000


@pytest.mark.parametrize(("name", "data"), list(hostile()), ids=[name for name, _ in hostile()])
def test_findings_are_capped(name, data):
    report = read_stream(data).report
    assert not report.intact
    assert len(report.findings) <= 1000
    kept_or_counted = len(report.findings) + report.findings_left_out
    assert kept_or_counted >= (4999 if name in ("foreign packets", "empty tiles", "gaps") else 1)
