"""Files made to keep a reader busy, of any size, and honest ones beside them.

All that these know of the format's bytes is what is imported here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import count, repeat

import numpy as np

from robuststream.container.layout import (
    MAX_PAYLOAD,
    MetadataPart,
    build_header,
    build_metadata,
    build_packet,
    build_packet_header,
)
from robuststream.container.packets import Header, Kind, Tile
from robuststream.container.parity import Block
from robuststream.container.writer import write_stream

IDENTITY = b"\x01\x02\x03\x04"


def noise(size: int) -> bytes:
    """Behind a HEADER: every reader must find a stream before it says anything."""
    return _filled(size, _header(), _chunks())


def others_nested(size: int) -> bytes:
    """Forged headers of 16 other streams, with the longest payloads."""
    return _repeated(size, _header(), [_forged(b"\x09\x02\x03" + bytes([n % 16]), n // 16) for n in range(1024)])


def own_nested(size: int) -> bytes:
    """The same with the stream's own id: the numbers of its four tiles, and more that it cannot have."""
    return _repeated(size, _header(), [_forged(IDENTITY, n) for n in range(64)])


def tiles_of_one_id(size: int) -> bytes:
    """Intact TILEs without a HEADER."""
    return _filled(size, b"", (build_packet(Kind.TILE, IDENTITY, n, b"") for n in count()))


def tiles_of_many_ids(size: int) -> bytes:
    """Intact TILEs without a HEADER, each of another stream."""
    return _filled(size, b"", (build_packet(Kind.TILE, struct.pack("<I", n), 0, b"") for n in count()))


def parity_noise(size: int) -> bytes:
    """Noise behind a HEADER that says that there is parity: a reader will want to restore."""
    return _filled(size, _header(parity=100), _chunks())


def parity_own_nested(size: int) -> bytes:
    """Forged headers of the stream's own id behind such a HEADER."""
    return _repeated(size, _header(parity=100), [_forged(IDENTITY, n) for n in range(64)])


def parity_nested_parity(size: int) -> bytes:
    """Forged headers of PARITY packets: any of them may be a damaged description."""
    return _repeated(size, _header(parity=100), [_forged(IDENTITY, n, Kind.PARITY) for n in range(4096)])


def parity_metadata(size: int) -> bytes:
    """Intact METADATA packets behind such a HEADER, as many as there is room for."""
    parts = (MetadataPart(1, 0, 1, b""), MetadataPart(3, 1, 9, b"x"))
    notes = (build_packet(Kind.METADATA, IDENTITY, n, build_metadata(parts[n % 2])) for n in count())
    return _filled(size, _header(parity=100, metadata_packets=size // 20), notes)


def parity_descriptions(size: int) -> bytes:
    """Intact PARITY packets behind such a HEADER, each of a block of its own, of one packet."""
    return _filled(size, _header(parity=100), (_description(n, [40]) for n in count()))


def parity_long_descriptions(size: int) -> bytes:
    """The same with blocks of a thousand packets each."""
    return _filled(size, _header(parity=100), (_description(n, [40] * 1000) for n in count()))


def one_block(size: int) -> bytes:
    """The same description over and over, of a block that is never solved."""
    block = _block(0, [40] * 1000, packets=4096)
    payload = block.description
    return _filled(size, _header(parity=100), (build_packet(Kind.PARITY, IDENTITY, n, payload) for n in count()))


def honest(size: int) -> bytes:
    """A stream as writers make them: tiles of 20 kB."""
    return _stream(size, 20_000)


def honest_small(size: int) -> bytes:
    """A stream of tiles of 1 kB."""
    return _stream(size, 1000)


HONEST = ("a stream of tiles of 20 kB", "a stream of tiles of 1 kB")
#: By what the table calls them: size in bytes, and a file of about so many.
INPUTS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "noise": (20_000_000, noise),
    HONEST[0]: (20_000_000, honest),
    HONEST[1]: (20_000_000, honest_small),
    "forged headers, nested, of other ids": (20_000_000, others_nested),
    "forged headers, nested, of its own id": (20_000_000, own_nested),
    "TILEs without a HEADER, of one id": (2_500_000, tiles_of_one_id),
    "TILEs without a HEADER, of as many ids": (2_500_000, tiles_of_many_ids),
    "parity HEADER, noise": (20_000_000, parity_noise),
    "parity HEADER, forged TILE headers": (20_000_000, parity_own_nested),
    "parity HEADER, forged PARITY headers": (20_000_000, parity_nested_parity),
    "parity HEADER, METADATA packets": (2_500_000, parity_metadata),
    "parity HEADER, PARITY descriptions": (2_500_000, parity_descriptions),
    "parity HEADER, long PARITY descriptions": (2_500_000, parity_long_descriptions),
    "parity HEADER, one block described again": (2_500_000, one_block),
}


def _header(**fields: int) -> bytes:
    header = Header(100, 100, 64, bytes(16), bytes(16), **fields)  # type: ignore[arg-type]
    return build_packet(Kind.HEADER, IDENTITY, 0, build_header(header))


def _forged(identity: bytes, number: int, kind: Kind = Kind.TILE) -> bytes:
    """A packet header, valid by its CRC-16, of a payload as long as can be."""
    return build_packet_header(kind, identity, number, MAX_PAYLOAD)


def _block(first: int, sizes: list[int], number: int = 0, packets: int = 1) -> Block:
    return Block(0, first, tuple(sizes), 32, packets, number, packets)


def _description(number: int, sizes: list[int]) -> bytes:
    block = _block(2 + number * len(sizes), sizes, number)
    return build_packet(Kind.PARITY, IDENTITY, number, block.description)


def _chunks() -> Iterator[bytes]:
    random = np.random.default_rng(1)
    while True:
        yield random.bytes(1 << 16)


def _stream(size: int, tile: int) -> bytes:
    random = np.random.default_rng(3)
    words = tile // 4
    tiles = [Tile(index, random.bytes(4 * words), index, words // 10) for index in range(max(1, size // tile))]
    return write_stream(Header(64 * len(tiles), 64, 64, bytes(16), bytes(16)), tiles)


def _repeated(size: int, begin: bytes, parts: list[bytes]) -> bytes:
    return _filled(size, begin, repeat(b"".join(parts)))


def _filled(size: int, begin: bytes, parts: Iterator[bytes]) -> bytes:
    """Exactly so many bytes; the last part may be cut."""
    data = bytearray(begin)
    while len(data) < size:
        data += next(parts)
    return bytes(data[:size])
