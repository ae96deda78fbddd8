"""The stream's structures in the order of spec/format.md, each rule beside the code that implements it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import construct as c

from robuststream.checksum import crc16, crc32c
from robuststream.container.packets import (
    MAJOR,
    MAX_CHECKPOINTS,
    MAX_PARITY,
    MAX_TILE,
    MINOR,
    Buffer,
    Colour,
    Header,
    Kind,
    Mode,
    Tile,
    kind_name,
)
from robuststream.errors import DamagedStream, ImageError, UnsupportedVersion

# --- Section 2: integers -------------------------------------------------------------------------------------------


MAX_VARINT = (1 << 32) - 1


def read_varint(data: Buffer, at: int) -> tuple[int, int] | None:
    """The value of the varint at `at`, and where it ends: unsigned LEB128 of at most 5 bytes, below 2^32, in its
    shortest form; None where that is broken or `data` ends."""
    value = 0
    for place, byte in enumerate(data[at : at + 5]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return None if value > MAX_VARINT or (byte == 0 and place) else (value, at + place + 1)
    return None


def read_varints(data: Buffer, at: int, count: int) -> tuple[list[int], int]:
    """`count` varints from `at` on, fewer where one is broken, and where they end."""
    values: list[int] = []
    while len(values) < count and (read := read_varint(data, at)) is not None:
        values.append(read[0])
        at = read[1]
    return values, at


def build_varint(value: int) -> bytes:
    """Raises ValueError below 0 and above 32 bits."""
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{value} does not fit a varint of 32 bits")
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F)
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


class VarIntClass(c.Construct):  # type: ignore[misc]
    """The same varint as a field of `construct` structures."""

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        at = c.stream_tell(stream, path)
        read = read_varint(stream.read(5), 0)
        if read is None:
            raise c.ValidationError("a varint is cut off, not in its shortest form, or above 32 bits", path)
        c.stream_seek(stream, at + read[1], 0, path)
        return read[0]

    def _build(self, obj: int, stream: Any, context: Any, path: str) -> int:
        try:
            raw = build_varint(obj)
        except ValueError as error:
            raise c.IntegerError(str(error), path) from error
        c.stream_write(stream, raw, len(raw), path)
        return obj


VarInt = VarIntClass()

# --- Section 4: packets --------------------------------------------------------------------------------------------

SYNC = b"\xb7RS"
MAX_PAYLOAD = 1 << 20
#: sync, kind, stream id, number (5), length (3), CRC-16: no packet header is longer.
MAX_PACKET_HEADER = 3 + 1 + 4 + 5 + 3 + 2
#: The same with number and length in one byte each.
MIN_PACKET_HEADER = 3 + 1 + 4 + 1 + 1 + 2
PAYLOAD_CRC_BYTES = 4


def build_packet(kind: int, stream_id: bytes, number: int, payload: bytes) -> bytes:
    """One whole packet. The CRC-32C also covers kind, stream id, number and length: none can be swapped unnoticed."""
    if len(payload) > MAX_PAYLOAD:
        advice = "smaller" if kind == Kind.TILE else "larger"
        raise ImageError(
            f"a {kind_name(kind)} packet would hold {len(payload)} bytes, more than {MAX_PAYLOAD}: use {advice} tiles"
        )
    head = build_packet_header(kind, stream_id, number, len(payload))
    return head + payload + struct.pack("<I", crc32c(payload, crc32c(head[len(SYNC) : -2])))


def build_packet_header(kind: int, stream_id: bytes, number: int, length: int) -> bytes:
    """What stands before a payload of `length` bytes."""
    fields = bytes((kind,)) + stream_id + build_varint(number) + build_varint(length)
    return SYNC + fields + struct.pack("<H", crc16(fields))


def packet_size(number: int, payload: int) -> int:
    """Bytes of a whole packet with a payload of `payload` bytes."""
    return len(build_packet_header(0, bytes(4), number, payload)) + payload + PAYLOAD_CRC_BYTES


class PacketFields(NamedTuple):
    """What stands between sync and CRC-16, and what the CRC-16 covers."""

    kind: int
    stream_id: bytes
    number: int
    length: int


def parse_packet_header(data: bytes) -> tuple[PacketFields, int, int] | None:
    """Fields, CRC-32C so far, and size of the packet header at the start of `data`; None where there is none.

    A length is only ever trusted after this CRC-16 holds.
    """
    if data[: len(SYNC)] != SYNC:
        return None
    number = read_varint(data, len(SYNC) + 5)
    length = read_varint(data, number[1]) if number else None
    if number is None or length is None:
        return None
    raw, end = data[len(SYNC) : length[1]], length[1] + 2
    if data[length[1] : end] != crc16(raw).to_bytes(2, "little") or length[0] > MAX_PAYLOAD:
        return None
    return PacketFields(raw[0], raw[1:5], number[0], length[0]), crc32c(raw), end


def whole_packet(raw: Buffer) -> PacketFields | None:
    """The fields of a packet that is intact, and all of `raw`; else None."""
    head = parse_packet_header(bytes(raw[:MAX_PACKET_HEADER]))
    if head is None:
        return None
    fields, crc, size = head
    end = size + fields.length
    right = len(raw) == end + PAYLOAD_CRC_BYTES and crc32c(raw[size:end], crc).to_bytes(4, "little") == raw[end:]
    return fields if right else None


def payload_of(raw: Buffer) -> Buffer:
    """The payload of a whole, intact packet."""
    head = parse_packet_header(bytes(raw[:MAX_PACKET_HEADER]))
    assert head is not None
    return raw[head[2] : head[2] + head[0].length]


# --- Section 5: HEADER ---------------------------------------------------------------------------------------------

#: As in PNG's signature: CRLF, ^Z, LF and CR. Each kind of text-mode transfer changes these bytes in a way of its own.
GUARD = b"\r\n\x1a\n\r"
FIELD = c.Struct("tag" / VarInt, "value" / c.Prefixed(VarInt, c.GreedyBytes))
HEADER = c.Struct(
    "major" / c.Byte,
    "minor" / c.Byte,
    "guard" / c.Const(GUARD),
    "fields" / c.GreedyRange(FIELD),
    c.Terminated,
)

SIZE = c.Struct("width" / VarInt, "height" / VarInt, c.Terminated)
NUMBER = c.FocusedSeq("number", "number" / VarInt, c.Terminated)
DIGEST = c.FocusedSeq("digest", "digest" / c.Bytes(16), c.Terminated)
NAME_BYTES = 64

#: Tags with bit 0 set are critical: a decoder that does not know one refuses the stream.
TAG_SIZE, TAG_TILE, TAG_PARAMETERS, TAG_SYNTHESIS, TAG_MODE, TAG_COLOUR, TAG_Z_CHECKPOINT = 1, 3, 5, 7, 9, 11, 13
TAG_QUALITY, TAG_CHECKPOINTS = 15, 23
TAG_NAME, TAG_METADATA, TAG_PARITY = 2, 4, 8
REQUIRED = (TAG_SIZE, TAG_TILE, TAG_PARAMETERS, TAG_SYNTHESIS)
#: Fields of one varint that may be left out: their names in Header, and the values they have then.
OPTIONAL = {
    TAG_METADATA: ("metadata_packets", 0),
    TAG_PARITY: ("parity", 0),
    TAG_MODE: ("mode", Mode.EXACT),
    TAG_COLOUR: ("colour", Colour.RGB),
    TAG_Z_CHECKPOINT: ("z_checkpoint", True),
    TAG_QUALITY: ("quality", 0),
    TAG_CHECKPOINTS: ("checkpoints", 0),
}


def build_header(header: Header) -> bytes:
    """HEADER payload. Fields stand in the order of their tags; one at its default value is left out."""
    fields = {
        TAG_SIZE: SIZE.build({"width": header.width, "height": header.height}),
        TAG_TILE: NUMBER.build(header.tile),
        TAG_PARAMETERS: header.parameters_digest,
        TAG_SYNTHESIS: header.synthesis_digest,
    }
    for tag, (name, default) in OPTIONAL.items():
        if getattr(header, name) != default:
            fields[tag] = NUMBER.build(getattr(header, name))
    if header.model_name:
        # A hint only: a name that is too long is cut, at a character's border.
        fields[TAG_NAME] = header.model_name.encode()[:NAME_BYTES].decode(errors="ignore").encode()
    listed = [{"tag": tag, "value": fields[tag]} for tag in sorted(fields)]
    return bytes(HEADER.build({"major": MAJOR, "minor": MINOR, "fields": listed}))


def parse_header(payload: Buffer) -> Header:
    """Read a HEADER payload.

    Raises:
        UnsupportedVersion: a newer major version, or a critical field this release does not know.
        DamagedStream: the bytes break the rules of section 5 though their CRC holds.
    """
    if payload and payload[0] != MAJOR:
        advice = ": use a newer robuststream" if payload[0] > MAJOR else ""
        raise UnsupportedVersion(
            f"the stream's format is version {payload[0]}, this release reads version {MAJOR}{advice}"
        )
    try:
        parsed = HEADER.parse(payload)
        return _interpret(parsed.major, parsed.minor, [(field.tag, field.value) for field in parsed.fields])
    except (c.ConstructError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DamagedStream(
            f"the HEADER packet breaks the format's rules ({reason}); its writer is at fault"
        ) from error


def _interpret(major: int, minor: int, listed: list[tuple[int, bytes]]) -> Header:
    tags = [tag for tag, _ in listed]
    if tags != sorted(set(tags)):
        raise ValueError("fields out of order or repeated")
    for tag in tags:
        if tag & 1 and tag not in (*REQUIRED, *OPTIONAL):
            raise UnsupportedVersion(
                f"the stream (format {major}.{minor}) needs header field {tag}, which this release does not know: "
                "use a newer robuststream"
            )
    fields = dict(listed)
    for tag in REQUIRED:
        if tag not in fields:
            raise ValueError(f"field {tag} is missing")
    size = SIZE.parse(fields[TAG_SIZE])
    numbers = {
        name: NUMBER.parse(fields[tag]) if tag in fields else default for tag, (name, default) in OPTIONAL.items()
    }
    mode, colour, after_z = (numbers.pop(name) for name in ("mode", "colour", "z_checkpoint"))
    if mode not in list(Mode) or colour not in list(Colour):
        raise UnsupportedVersion(f"the stream has mode {mode} and colour {colour}, which this release does not decode")
    header = Header(
        width=size.width,
        height=size.height,
        tile=NUMBER.parse(fields[TAG_TILE]),
        parameters_digest=DIGEST.parse(fields[TAG_PARAMETERS]),
        synthesis_digest=DIGEST.parse(fields[TAG_SYNTHESIS]),
        mode=Mode(mode),
        colour=Colour(colour),
        z_checkpoint=bool(after_z),
        model_name=fields.get(TAG_NAME, b"")[:NAME_BYTES].decode(errors="replace"),
        version=(major, minor),
        **numbers,
    )
    if not (header.width and header.height and 0 < header.tile <= MAX_TILE):
        raise ValueError(f"a size of zero, or a tile of more than {MAX_TILE} pixels")
    if header.parity > 1000 * MAX_PARITY:
        raise ValueError(f"parity of {header.parity} in a thousand")
    if header.checkpoints > MAX_CHECKPOINTS:
        raise ValueError(f"{header.checkpoints} checkpoints in y")
    if after_z > 1:
        raise UnsupportedVersion(f"{after_z} checkpoints after z; this release reads at most one")
    return header


def stream_id(header_payload: Buffer, tiles: Iterable[Tile]) -> bytes:
    """First 4 bytes of SHA-256 over the HEADER payload, then each tile's byte count (u32) and rANS string, in order."""
    digest = hashlib.sha256(header_payload)
    for tile in tiles:
        digest.update(struct.pack("<I", len(tile.words)))
        digest.update(tile.words)
    return digest.digest()[:4]


# --- Section 7: INDEX ----------------------------------------------------------------------------------------------

#: Distances in bytes: from the end of the INDEX packet to tile 0, then from each tile packet's start to the next's.
INDEX = c.FocusedSeq("distances", "distances" / c.GreedyRange(VarInt), c.Terminated)

# --- Section 8: METADATA -------------------------------------------------------------------------------------------


class MetadataPart(NamedTuple):
    """One part of a block: the block's type, which part it is and of how many, and its bytes."""

    type: int
    part: int
    parts: int
    data: Buffer


def build_metadata(part: MetadataPart) -> bytes:
    """METADATA payload."""
    return b"".join((*map(build_varint, part[:3]), part.data))


def parse_metadata(payload: Buffer) -> MetadataPart | None:
    """Read a METADATA payload whose CRC holds; None where it still breaks section 8."""
    values, at = read_varints(payload, 0, 3)
    if len(values) < 3:
        return None
    kind, part, parts = values
    return MetadataPart(kind, part, parts, payload[at:]) if part < parts else None


#: Writers split larger blocks, so that damage stays small and a HEADER is never far.
METADATA_PART = 1 << 14
