"""The test vectors: each a name, a sentence, and the bytes. Nothing here depends on chance or on the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from robuststream.container import layout, parity
from robuststream.container.packets import Colour, Header, Kind, Metadata, Mode, Packet, Tile
from robuststream.container.scanner import scan
from robuststream.container.tiles import build_tile
from robuststream.container.writer import assemble, write_stream
from robuststream.latents import encode_all
from robuststream.model.frozen import Model
from robuststream.picture.grid import Grid
from vectors.models import MODELS, Draw, make

#: 3 x 2 tiles, those at the right and at the bottom smaller.
WIDTH, HEIGHT, TILE = 39, 21, 16
MAIN = "mean-scale-hyperprior"
#: Bytes of version and guard, before a header's first field.
FRONT = 2 + len(layout.GUARD)
Edit = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Vector:
    """`rules`: of the findings that a reader must have, stated by hand; `refuse`, where there is to be no picture: the
    error's class, and a word of its message."""

    name: str
    what: str
    data: bytes
    model: str = MAIN
    rules: tuple[str, ...] = ()
    refuse: tuple[str, str] | None = None


model = lru_cache(make)


@lru_cache
def coded(
    name: str = MAIN,
    width: int = WIDTH,
    height: int = HEIGHT,
    quality: int = 0,
    mode: Mode = Mode.EXACT,
    seed: str = "y",
    times: int = 1,
) -> tuple[Header, list[Tile]]:
    """A header and tiles of drawn latents, up to 3 times `times`: between what symbols can be, so never halfway."""
    frozen = model(name)
    grid = Grid(width, height, TILE, frozen.latent_stride, frozen.factor)
    box = grid.latents
    y = Draw(f"{name} {seed}").integers(-800, 800, frozen.channels, box.height, box.width) * 2 + 1
    latents = torch.from_numpy(y * times / 512).float()
    tiles = encode_all([(latents, grid)], frozen, mode=mode, quality=quality)[0]
    return header_of(frozen, width, height, quality=quality, mode=mode), tiles


def header_of(frozen: Model, width: int, height: int, **more: object) -> Header:
    digests = {"parameters_digest": frozen.parameters_digest, "synthesis_digest": frozen.synthesis_digest}
    after_z = frozen.prior.has_z
    return Header(width, height, TILE, **digests, z_checkpoint=after_z, model_name=frozen.name, **more)  # type: ignore[arg-type]


def stream(
    name: str = MAIN,
    metadata: Metadata | None = None,
    parity: int = 0,
    colour: Colour = Colour.RGB,
    checkpoints: int = 0,
    **more: object,
) -> bytes:
    header, tiles = coded(name, **more)  # type: ignore[arg-type]
    return write_stream(replace(header, parity=parity, colour=colour, checkpoints=checkpoints), tiles, metadata)


# --- Edits ----------------------------------------------------------------------------------------------------------


def packets(data: bytes) -> list[Packet]:
    return [event for event in scan(data) if isinstance(event, Packet)]


def pieces(data: bytes) -> list[bytes]:
    return [data[packet.offset : packet.offset + packet.size] for packet in packets(data)]


def place(data: bytes, kind: Kind, number: int = 0) -> int:
    """Of a packet among all."""
    return next(n for n, packet in enumerate(packets(data)) if (packet.kind, packet.number) == (kind, number))


def replaced(data: bytes, at: int, new: bytes = b"") -> bytes:
    """The stream with other bytes, or none, in place of packet number `at`."""
    listed = pieces(data)
    return b"".join([*listed[:at], new, *listed[at + 1 :]])


def inverted(data: bytes, number: int, begin: int, size: int = 9) -> bytes:
    """Bytes of a tile's payload, from `begin` (before the end where negative), inverted."""
    packet = packets(data)[place(data, Kind.TILE, number)]
    end = packet.offset + packet.size - layout.PAYLOAD_CRC_BYTES
    start = end + begin if begin < 0 else end - len(packet.payload) + begin
    return data[:start] + bytes(byte ^ 0xFF for byte in data[start : start + size]) + data[start + size :]


def with_header(edit: Edit, *more: tuple[int, bytes]) -> bytes:
    """A stream whose HEADER payload is edited before anything is made of it; `more` packets, kind and payload, behind
    the tiles."""
    header, tiles = coded()
    payload = edit(layout.build_header(header))
    identity = layout.stream_id(payload, tiles)

    def packet(kind: int, number: int, content: bytes) -> bytes:
        return layout.build_packet(kind, identity, number, content)

    head = packet(Kind.HEADER, 0, payload)
    bodies = [packet(Kind.TILE, tile.index, build_tile(header, identity, tile)) for tile in tiles]
    raw = {(Kind.TILE, index): body for index, body in enumerate(bodies)}
    data = assemble({(Kind.HEADER, 0): head, **raw}, identity, 0)
    return data[: -len(head)] + b"".join(packet(kind, 0, content) for kind, content in more) + head


def field(tag: int, value: bytes) -> bytes:
    return bytes([tag, len(value)]) + value


# --- The lists ------------------------------------------------------------------------------------------------------


def good() -> Iterator[Vector]:
    for name in MODELS:
        yield Vector(f"good-{name}", f"A picture of 6 tiles; the model {name}.", stream(name), name)
    rated = stream("variable-rate", quality=2)
    yield Vector("good-quality", "Variable rate at quality index 2.", rated, "variable-rate")
    yield Vector("good-grey", "A grey picture.", stream(colour=Colour.GREY))
    blocks = Metadata(icc=Draw("icc").bytes(16400), exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0", xmp=b"")
    yield Vector("good-metadata", "An ICC profile in two parts, EXIF, an empty XMP block.", stream(metadata=blocks))
    yield Vector("good-parity", "PARITY packets, which may be ignored.", stream(parity=200))
    yield Vector("good-checkpoints", "7 checkpoints in y.", stream(checkpoints=7))
    yield Vector("good-native", "Native mode.", stream(mode=Mode.NATIVE))
    yield Vector("good-one-pixel", "A picture of one pixel.", stream(width=1, height=1))
    single = stream("checkerboard", width=1, height=1)
    yield Vector("good-one-pixel-checkerboard", "One pixel, so 2 x 2 latents.", single, "checkerboard")
    yield Vector("good-escapes", "Latents far beyond the tables: most symbols are escapes.", stream(times=900))
    newer = with_header(lambda payload: payload[:1] + b"\x09" + payload[2:] + field(100, b"new"), (0x71, b"new"))
    yield Vector("good-newer-minor", "Version 1.9, an ancillary tag and an ancillary kind not in 1.0.", newer)
    stated = with_header(lambda payload: payload + field(9, b"\0") + field(11, b"\0") + field(13, b"\1"))
    yield Vector("good-defaults", "Header fields written out at their default values.", stated)


def lost() -> Iterator[Vector]:
    """Bytes are other ones, or gone."""
    data = stream()
    found, listed = packets(data), pieces(data)
    at = [place(data, Kind.TILE, number) for number in range(6)]

    def vector(name: str, what: str, data: bytes, *rules: str) -> Vector:
        return Vector(f"bad-{name}", what, data, rules=rules)

    yield vector("tile-crc", "The last 9 bytes of a tile are others: z is left.", inverted(data, 1, -9), "TILE-CRC")
    yield vector("tile-crc-z", "9 bytes of z's words are others: nothing is left.", inverted(data, 1, 9), "TILE-CRC")
    flipped = bytearray(data)
    flipped[found[at[3]].offset + 40] ^= 8
    what = "One bit of a tile is flipped: it may be put right, and is then told."
    yield vector("flipped-bit", what, bytes(flipped), "TILE-CRC", "CORRECTED")
    cut = data[: found[at[4]].offset + 60]
    yield vector("truncated", "The file ends inside tile 4.", cut, "TILE-CRC", "TILE-MISSING")
    late = data[found[at[1]].offset + 20 :]
    yield vector("cut-start", "The file begins inside tile 1.", late, "GAP", "TILE-MISSING")
    yield vector("tile-missing", "A tile is gone.", replaced(data, at[4]), "TILE-MISSING")
    gap = Draw("gap").bytes(40) + listed[at[1]]
    yield vector("gap", "40 bytes that are no packet stand between two.", replaced(data, at[1], gap), "GAP")
    nested = layout.build_packet(Kind.TILE, found[0].stream_id, 0, bytes(1 << 10))[:13] + listed[at[0]]
    what = "A packet header that is right declares 1024 bytes: what stands in them is found."
    yield vector("nested", what, replaced(data, at[0], nested), "GAP")
    blocks = stream(metadata=Metadata(icc=Draw("icc").bytes(16400), xmp=b"<x/>"))
    halved = replaced(blocks, place(blocks, Kind.METADATA, 1))
    yield vector("metadata", "Half of the ICC profile is gone: it is left out, XMP is not.", halved, "METADATA")
    yield vector("no-index", "INDEX is gone.", replaced(data, place(data, Kind.INDEX)), "INDEX")
    yield vector("no-last-header", "The last copy of HEADER is gone.", replaced(data, len(found) - 1), "ORDER")


def half_lost() -> Iterator[Vector]:
    """A tile of which checkpoints in y prove a part."""
    for name in ("mean-scale-hyperprior", "factorized", "raster-scan"):
        data = stream(name, checkpoints=3)
        what = f"9 bytes late in a tile are others: what stands before a checkpoint in y is kept; the model {name}."
        yield Vector(f"bad-y-{name}", what, inverted(data, 1, -14), name, ("TILE-CRC",))
    data = stream(checkpoints=3)
    tile = packets(data)[place(data, Kind.TILE, 4)]
    what = "The file ends in the y of tile 4, behind a checkpoint."
    yield Vector("bad-y-truncated", what, data[: tile.offset + tile.size - 14], rules=("TILE-CRC", "TILE-MISSING"))


def joined(listed: Iterable[Packet]) -> bytes:
    return b"".join(layout.build_packet(item.kind, item.stream_id, item.number, item.payload) for item in listed)


def misplaced() -> Iterator[Vector]:
    """Every packet is intact, and something is wrong all the same."""
    data, (header, tiles) = stream(), coded()
    found, listed = packets(data), pieces(data)
    identity, other = found[0].stream_id, stream(seed="other")
    at = [place(data, Kind.TILE, number) for number in range(6)]

    def vector(name: str, what: str, data: bytes, *rules: str) -> Vector:
        return Vector(f"bad-{name}", what, data, rules=rules)

    def tile(changed: Tile) -> bytes:
        return layout.build_packet(Kind.TILE, identity, changed.index, build_tile(header, identity, changed))

    def edited(edit: Edit) -> bytes:
        """Tile 2, its payload edited, under right CRCs."""
        raw = layout.build_packet(Kind.TILE, identity, 2, edit(found[at[2]].payload))
        return replaced(data, at[2], raw)

    foreign = replaced(data, at[2], pieces(other)[at[2]])
    yield vector("foreign-tile", "A tile of another stream in place of one.", foreign, "FOREIGN", "TILE-MISSING")
    yield vector("two-streams", "Another stream behind the whole one.", data + other, "FOREIGN")
    doubled = replaced(data, at[2], 2 * listed[at[2]])
    yield vector("duplicate", "A tile stands there twice.", doubled, "DUPLICATE")
    swapped = replaced(replaced(data, at[1], listed[at[2]]), at[2], listed[at[1]])
    yield vector("swapped", "Two tiles have changed places.", swapped, "ORDER")
    wrong = layout.build_packet(Kind.INDEX, identity, 0, b"\1" + found[place(data, Kind.INDEX)].payload[1:])
    distant = replaced(data, place(data, Kind.INDEX), wrong)
    yield vector("index", "INDEX has a distance that is not right.", distant, "INDEX")
    seam = edited(lambda payload: b"\x7f" + payload[1:])
    yield vector("tile-format", "A tile's seam is above its number of words.", seam, "TILE-FORMAT")
    crc = edited(lambda payload: payload[:1] + bytes(4) + payload[5:])
    yield vector("checkpoint", "A tile's checkpoint has another CRC.", crc, "TILE-FORMAT")
    seventh = replaced(data, at[5], listed[at[5]] + tile(replace(tiles[5], index=6)))
    yield vector("tile-number", "A tile more than the picture has.", seventh, "TILE-FORMAT")
    digest = edited(lambda payload: payload[:5] + bytes(4) + payload[9:])
    yield vector("context-desync", "A tile's context digest is another.", digest, "CONTEXT-DESYNC")
    longer = write_stream(header, [*tiles[:2], replace(tiles[2], words=tiles[2].words + bytes(4)), *tiles[3:]])
    yield vector("entropy", "A tile's words go on behind the end of its string.", longer, "ENTROPY")
    painted = replaced(data, at[2], tile(coded(seed="other")[1][2]))
    what = "A tile of another picture under this stream's id: no tile is proven."
    yield vector("stream-id", what, painted, "STREAM-ID")
    short = replaced(data, at[5])
    second = replaced(short, at[2], listed[at[2]] + tile(coded(seed="other")[1][2]))
    what = "Two packets of a tile that differ, and another tile gone: that one is not proven."
    yield vector("tile-conflict", what, second, "TILE-CONFLICT", "TILE-MISSING")
    with_parity = packets(stream(parity=100))
    gone = [item for item in with_parity if item.kind != Kind.TILE or item.number > 3]
    seven = [replace(item, number=7) if item.kind == Kind.HEADER else item for item in gone]
    what = "HEADER has number 7, which is not interpreted; more tiles are gone than parity gives back."
    yield vector("numbered-header", what, joined(seven), "TILE-MISSING")
    wide = parity.Block(0, 2, (12 * len(data),), 32, 1, 0, 1).description
    forged = [replace(item, payload=wide) if item.kind == Kind.PARITY else item for item in gone]
    what = "Tiles are gone, and PARITY describes one of very many symbols, of which there is none."
    yield vector("wide-description", what, joined(forged), "TILE-MISSING", "PARITY")
    smaller = layout.build_packet(Kind.HEADER, identity, 0, layout.build_header(replace(header, height=HEIGHT - 1)))
    what = "A copy of HEADER has another height, and a tile is gone: no tile is proven."
    yield vector("header-conflict", what, replaced(short, at[3] - 1, smaller), "HEADER-CONFLICT", "TILE-MISSING")


def refused() -> Iterator[Vector]:
    """No picture may be made."""
    data = stream()
    headers = [n for n, packet in enumerate(packets(data)) if packet.kind == Kind.HEADER]

    def vector(name: str, what: str, data: bytes, error: str = "DamagedStream", word: str = "HEADER") -> Vector:
        return Vector(f"bad-{name}", what, data, refuse=(error, word))

    def unsupported(name: str, what: str, data: bytes, word: str = "") -> Vector:
        return Vector(f"unsupported-{name}", what, data, refuse=("UnsupportedVersion", word))

    def added(tag: int, value: bytes) -> bytes:
        return with_header(lambda payload: payload + field(tag, value))

    bare = b"".join(piece for n, piece in enumerate(pieces(data)) if n not in headers)
    yield vector("no-header", "No copy of HEADER is there.", bare)
    whole = pieces(data)
    yield vector("no-tile", "HEADER and INDEX alone.", whole[0] + whole[1] + whole[-1], word="")
    yield vector("not-a-stream", "Text.", b"Not a robuststream.\n", "NotARobustStream", "")
    unit = layout.build_packet(Kind.UNIT, bytes(4), 0, b"\1")
    yield vector("unit", "A packed unit (packed.md), which is no stream.", unit, word="unit")
    side = with_header(lambda payload: payload.replace(field(3, b"\x10"), field(3, b"\x90\0")))
    yield vector("varint", "The tile's side is a varint longer than needed.", side)
    yield vector("tags", "A header tag stands there twice.", added(7, bytes(16)))
    sizeless = with_header(lambda payload: payload[:FRONT] + payload[FRONT + 4 :])
    yield vector("no-size", "The header has no picture size.", sizeless)
    protected, larger = stream(parity=1000), replace(coded()[0], tile=8 * TILE, parity=1000)
    lost = replaced(replaced(protected, place(protected, Kind.TILE, 5)), place(protected, Kind.TILE, 0))
    first = layout.build_packet(Kind.HEADER, packets(protected)[0].stream_id, 0, layout.build_header(larger))
    what = "The first HEADER has one large tile, which is gone; parity gives back tiles of the true HEADER."
    yield vector("parity-header", what, replaced(lost, 0, first), word="tile")
    most = field(1, b"\xff\xff\xff\xff\x0f" * 2)
    vast = with_header(lambda payload: payload[:FRONT] + most + payload[FRONT + 4 :])
    yield vector("large", "A picture of 2^32 - 1 pixels each way.", vast, "ImageError", "")
    what = "Decoded with another model than the header names."
    yield replace(vector("model", what, data, "ModelMismatch", ""), model="raster-scan")
    yield vector("many-checkpoints", "16 checkpoints in y.", added(23, b"\x10"), word="checkpoints")
    yield unsupported("major", "Version 2.0.", with_header(lambda payload: b"\2" + payload[1:]), "version 2")
    critical = with_header(lambda payload: payload, (0x51, b""))
    yield unsupported("critical-kind", "A packet of the critical kind `Q`.", critical, "0x51")
    yield unsupported("critical-tag", "The critical header tag 17.", added(17, b"\x0a"), "17")
    yield unsupported("mode", "Mode 2.", added(9, b"\2"))
    yield unsupported("colour", "Colour 2.", added(11, b"\2"))
    yield unsupported("z-checkpoints", "2 checkpoints after z.", added(13, b"\2"))


def all_vectors() -> list[Vector]:
    return [*good(), *lost(), *half_lost(), *misplaced(), *refused()]
