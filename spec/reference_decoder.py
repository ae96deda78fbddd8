"""A decoder of robuststream 1.0, written from format.md and model.md to be read beside them.

    python spec/reference_decoder.py MODEL.safetensors STREAM.robs OUT.npy|OUT.ppm

OUT.npy gets the latents, int32 (M, rows, columns) in units of 2^-12, equal on every machine; OUT.ppm the picture. Only
NumPy and the standard library are used. § is a section of format.md, "model §" one of model.md. Left out is what a
decoder may leave out: bit correction (§10.1), INDEX, PARITY (§19), native mode (§16, refused), findings (§11) that do
not bear on what a tile is worth, most of model §5: it is no guard against hostile models. Clarity goes before speed.
Exit code: 0 every tile exact, 1 some tiles are not, 2 refused.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import struct
import sys
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np


class Refusal(Exception):  # noqa: N818
    """No picture can be made (§1: refuse)."""


class Broken(Exception):  # noqa: N818
    """Bytes break a rule of the format. What holds them is not used; the rest may be."""


def need(condition: bool, message: str, error: type[Exception] = Broken) -> None:
    if not condition:
        raise error(message)


# --- §1, §2: saturation, integers -----------------------------------------------------------------------------------

LIMIT, ONE = 1 << 24, 1 << 12  # latents, means, scales and thresholds are in units of 2^-12 (§14)


def sat(x: np.ndarray) -> np.ndarray:
    """§1: sat(x) = min(max(x, -2^24), 2^24)."""
    return np.clip(x, -LIMIT, LIMIT)


class Cursor:
    """Bytes, read from the front; `Broken` at their end."""

    def __init__(self, data: bytes | memoryview, place: int = 0):
        self.data, self.place = bytes(data), place

    def take(self, size: int) -> bytes:
        need(self.place + size <= len(self.data), "a field is cut off")
        self.place += size
        return self.data[self.place - size : self.place]

    def integer(self, size: int) -> int:
        """§2: u8, u16 or u32."""
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        """§2: unsigned LEB128, at most 5 bytes, below 2^32, shortest form only."""
        value = 0
        for place in range(5):
            byte = self.integer(1)
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                need(byte != 0 or place == 0, "a varint is longer than needed")
                need(value < 1 << 32, "a varint is 2^32 or more")
                return value
        raise Broken("a varint of more than 5 bytes")

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.place)


# --- §3: checksums --------------------------------------------------------------------------------------------------

CRC32C = 0x82F63B78  # reflected: bit 31 is x^0
TABLE = list(range(256))
for _ in range(8):
    TABLE = [value >> 1 ^ (CRC32C if value & 1 else 0) for value in TABLE]


def crc32c(data: bytes, before: int = 0) -> int:
    """§3. With the CRC of what comes before, that of the joined bytes."""
    value = before ^ 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


def crc16(data: bytes) -> int:
    """§3: CRC-16/IBM-3740, whose polynomial and bit order `crc_hqx` has."""
    return binascii.crc_hqx(data, 0xFFFF)


def product(a: int, b: int) -> int:
    """Of two polynomials modulo the CRC-32C's, all reflected."""
    total = 0
    for place in range(31, -1, -1):
        total ^= a if b >> place & 1 else 0
        a = a >> 1 ^ (CRC32C if a & 1 else 0)
    return total


POWERS = [1 << 23]  # x^8, which is one byte of zeros; then each the square of the one before
while len(POWERS) < 21:
    POWERS.append(product(POWERS[-1], POWERS[-1]))


def behind_zeros(register: int, size: int) -> int:
    """The CRC-32C's register after `size` more bytes of zeros: times x^(8 size)."""
    for place, power in enumerate(POWERS):
        register = product(register, power) if size >> place & 1 else register
    return register


# --- §4: packets ----------------------------------------------------------------------------------------------------

SYNC = b"\xb7RS"
HEADER, TILE, INDEX, METADATA, PARITY, UNIT = b"HTimpU"
LONGEST, MOST_PIXELS = 1 << 20, 1 << 28  # payload; picture (§10)


@dataclass(frozen=True)
class Packet:
    """A packet header whose CRC-16 holds. `intact`: the CRC-32C holds too; otherwise it is a damaged packet."""

    kind: int
    stream_id: bytes
    number: int
    payload: memoryview  # of a damaged packet: as far as it is there
    length: int
    intact: bool


def scan(data: bytes) -> list[Packet]:
    """§10, steps 1 to 5.

    In linear time, since no byte is summed again, whatever the lengths say: with R(n) the register after the file's
    first n bytes, from 0, the register after bytes a … b - 1, from r, is R(b) xor behind_zeros(R(a) xor r, b - a).
    """
    packets, p, prefix = [], 0, [0]
    for byte in data:
        prefix.append(prefix[-1] >> 8 ^ TABLE[(prefix[-1] ^ byte) & 255])
    while (q := data.find(SYNC, p)) >= 0:
        p = q + 1
        cursor = Cursor(data, q + 3)
        try:
            kind, stream_id, number, length = cursor.integer(1), cursor.take(4), cursor.varint(), cursor.varint()
            fields = data[q + 3 : cursor.place]
            # §4: a length must not be used before the CRC-16 holds.
            if cursor.integer(2) != crc16(fields) or length > LONGEST:
                continue
        except Broken:
            continue
        body, last = cursor.place, cursor.place + length
        register = crc32c(fields) ^ 0xFFFFFFFF ^ prefix[body]
        stored = int.from_bytes(data[last : last + 4], "little")
        intact = last + 4 <= len(data) and prefix[last] ^ behind_zeros(register, length) ^ 0xFFFFFFFF == stored
        packets.append(Packet(kind, stream_id, number, memoryview(data)[body:last], length, intact))
        p = last + 4 if intact else p
    return packets


# --- §5: HEADER -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Header:
    width: int
    height: int
    tile: int
    parameters_digest: bytes
    synthesis_digest: bytes
    metadata_packets: int = 0
    native: int = 0
    grey: int = 0
    z_checkpoint: int = 1
    quality: int = 0
    parity: int = 0
    checkpoints: int = 0

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile)  # §17: ceil(W / T)

    @property
    def tiles(self) -> int:
        return self.columns * -(-self.height // self.tile)

    @property
    def seed(self) -> bytes:
        """§16: the parameters digest, and where the quality index is not 0, that as u32."""
        return self.parameters_digest + (struct.pack("<I", self.quality) if self.quality else b"")


def parse_header(payload: memoryview) -> Header:
    """`Broken` or `Refusal` where a reader must refuse the stream."""
    cursor, values, last = Cursor(payload), dict[str, Any](), -1
    major, minor = cursor.integer(1), cursor.integer(1)
    need(major == 1, f"this is version {major}.{minor}; version 1 is read (§5, §18)", Refusal)
    need(cursor.take(5) == b"\r\n\x1a\n\r", "the header's guard is other bytes (§5)")
    while cursor.place < len(payload):
        tag, size = cursor.varint(), cursor.varint()
        value = Cursor(cursor.take(size))
        need(tag > last, "header tags do not rise (§5)")
        last = tag
        if tag == 1:
            values |= {"width": value.varint(), "height": value.varint()}
        elif tag in (5, 7):
            values["parameters_digest" if tag == 5 else "synthesis_digest"] = value.take(16)
        elif tag in NUMBERS:
            name, least, most = NUMBERS[tag]
            values[name] = value.varint()
            need(least <= values[name] <= most, f"{name} is {values[name]}, not {least} to {most} (§5)", Refusal)
        else:
            need(tag % 2 == 0, f"the header has the unknown critical tag {tag} (§5)", Refusal)
            value.rest()
        need(value.place == size, f"bytes are left over in header tag {tag} (§5)")
    for name, tag in (("width", 1), ("tile", 3), ("parameters_digest", 5), ("synthesis_digest", 7)):
        need(name in values, f"the header has no tag {tag} (§5)")
    header = Header(**values)
    need(header.width * header.height > 0, "the picture has no pixels (§5)")
    need(header.width * header.height <= MOST_PIXELS, "the picture is too large (§10, declared sizes)", Refusal)
    return header


#: Tags whose value is one varint: name, least and largest value.
NUMBERS = {
    3: ("tile", 1, 4096), 4: ("metadata_packets", 0, 1 << 32), 8: ("parity", 0, 4000), 9: ("native", 0, 1),
    11: ("grey", 0, 1), 13: ("z_checkpoint", 0, 1), 15: ("quality", 0, 1 << 32), 23: ("checkpoints", 0, 15),
}  # fmt: skip


# --- §6: TILE -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """`words` are all, or of a salvaged tile those that its checkpoints prove."""

    seam: int  # -1 without a checkpoint
    digest: int
    words: bytes
    salvaged: bool


def parse_tile(packet: Packet, header: Header, stream_id: bytes) -> Tile:
    """§6; `Broken` where the tile must not be decoded, or where nothing of a damaged one is proven."""
    index, cursor, seam, crc, earlier = packet.number, Cursor(packet.payload), -1, 0, 0
    place = header.seed + stream_id + struct.pack("<I", index)
    need(index < header.tiles, "no such tile")
    if header.z_checkpoint:
        seam, crc = cursor.varint(), cursor.integer(4)
        need(seam >= 2, "the seam is below 2")
    if header.native:
        earlier = cursor.integer(1)
        need(earlier <= 11, "more than 11 earlier digests")
    digests = cursor.take(4 * earlier + 4)
    sums = [cursor.integer(2) for _ in range(header.checkpoints)]
    declared = packet.length - cursor.place
    words, proven = cursor.rest(), 4 * max(seam, 0)
    need(proven <= len(words), "the seam is above the number of words")
    if header.z_checkpoint:
        need(crc32c(place + words[:proven]) == crc, "the checkpoint's CRC fails")
    if packet.intact:
        need(len(words) % 4 == 0 and len(words) >= 8, "no whole number of words, or fewer than 2")
    else:
        # Checkpoints in y: piece after piece, up to the first that is not whole.
        step = 4 * -(-max(0, (declared - proven) // 4) // (len(sums) + 1))
        last = proven + max(0, declared - proven) // 4 * 4
        for k, right in enumerate(sums):
            end = min(proven + step, last)
            if end > len(words) or crc16(place + struct.pack("<I", k) + digests + words[proven:end]) != right:
                break
            proven = end
        need(proven > 0, "nothing is proven")
        words = words[:proven]
    return Tile(seam, int.from_bytes(digests[-4:], "little"), words, not packet.intact)


# --- §8: METADATA ---------------------------------------------------------------------------------------------------


def join_metadata(payloads: list[memoryview]) -> dict[int, bytes]:
    """Whole blocks by type: 1 ICC, 2 EXIF, 3 XMP. A type of which a part is missing is left out."""
    parts: dict[int, dict[int, bytes]] = {}
    counts: dict[int, int] = {}
    for payload in payloads:
        cursor = Cursor(payload)
        try:
            kind, part, count = (cursor.varint() for _ in range(3))
        except Broken:
            continue
        # §11: where parts contradict each other, the first counts.
        if kind in (1, 2, 3) and part < count == counts.setdefault(kind, count):
            parts.setdefault(kind, {}).setdefault(part, cursor.rest())
    whole = {kind: found for kind, found in parts.items() if len(found) == counts[kind]}
    return {kind: b"".join(found[part] for part in sorted(found)) for kind, found in sorted(whole.items())}


# --- §10, §11: the stream -------------------------------------------------------------------------------------------


@dataclass
class Stream:
    """What the container holds. A finding is a rule id of §11 and the tile it is about, or None."""

    header: Header
    stream_id: bytes
    tiles: dict[int, Tile] = field(default_factory=dict)
    salvaged: dict[int, Tile] = field(default_factory=dict)
    metadata: dict[int, bytes] = field(default_factory=dict)
    findings: set[tuple[str, int | None]] = field(default_factory=set)
    unproven: set[int] = field(default_factory=set)
    outcomes: dict[int, str] = field(default_factory=dict)  # of a decode; tiles that are not in it are missing


def read_stream(data: bytes) -> Stream:
    """`Refusal` where §4, §5 or §10 ask for it."""
    packets = scan(data)
    intact = [packet for packet in packets if packet.intact]
    headers = [packet for packet in intact if packet.kind == HEADER]
    need(bool(intact), "this is not a robuststream: it has no intact packet (§10)", Refusal)
    need(bool(headers) or intact[0].kind != UNIT, "this is a packed unit, no stream (packed.md, section 1)", Refusal)
    need(bool(headers), "the stream is damaged: no HEADER is intact (§10)", Refusal)
    # The stream is that of the intact HEADER with the lowest offset; other ids are foreign.
    payload, stream_id = headers[0].payload, headers[0].stream_id
    try:
        stream = Stream(parse_header(payload), stream_id)
    except Broken as broken:
        raise Refusal(f"the HEADER breaks the rules of §5: {broken}") from None
    ours = [packet for packet in packets if packet.stream_id == stream_id]
    metadata: dict[int, memoryview] = {}
    for packet in [packet for packet in ours if packet.intact]:
        # §4: a kind with bit 5 clear is critical.
        if not packet.kind & 0x20 and packet.kind not in (HEADER, TILE):
            raise Refusal(f"the stream has a packet of the unknown critical kind 0x{packet.kind:02x} (§4)")
        if packet.kind == METADATA:
            metadata.setdefault(packet.number, packet.payload)
        if packet.kind == HEADER and packet.payload != payload:
            stream.findings.add(("ROBS-HEADER-CONFLICT", None))
    stream.metadata = join_metadata(list(metadata.values()))
    _read_tiles(stream, [packet for packet in ours if packet.kind == TILE])
    _doubt(stream, payload)
    return stream


def _read_tiles(stream: Stream, packets: list[Packet]) -> None:
    header, first = stream.header, dict[int, memoryview]()
    for packet in (packet for packet in packets if packet.intact):
        index = packet.number
        if first.setdefault(index, packet.payload) != packet.payload:  # §10: the first intact one counts
            stream.findings.add(("ROBS-TILE-CONFLICT", index))
        elif index not in stream.tiles:
            try:
                stream.tiles[index] = parse_tile(packet, header, stream.stream_id)
            except Broken:
                stream.findings.add(("ROBS-TILE-FORMAT", index))
    for packet in packets:
        index, finding = packet.number, ("ROBS-TILE-CRC", packet.number)
        # §6: only the first damaged packet of an index needs to be tried.
        if packet.intact or index >= header.tiles or index in stream.tiles or finding in stream.findings:
            continue
        stream.findings.add(finding)
        with suppress(Broken):
            stream.salvaged[index] = parse_tile(packet, header, stream.stream_id)


def _doubt(stream: Stream, payload: memoryview) -> None:
    """§11: which tiles are unproven."""
    if len(stream.tiles) == stream.header.tiles:
        # §5: the stream id is a hash of the header's payload and of all tiles.
        hashed = hashlib.sha256(payload)
        for _, tile in sorted(stream.tiles.items()):
            hashed.update(struct.pack("<I", len(tile.words)) + tile.words)
        if hashed.digest()[:4] != stream.stream_id:
            stream.findings.add(("ROBS-STREAM-ID", None))
            stream.unproven = set(stream.tiles)
    elif ("ROBS-HEADER-CONFLICT", None) in stream.findings:
        stream.unproven = set(stream.tiles)
    else:
        stream.unproven = {tile for tile in stream.tiles if ("ROBS-TILE-CONFLICT", tile) in stream.findings}


# --- §12: CDF tables ------------------------------------------------------------------------------------------------


class Tables:
    """Rows of cumulative frequencies in 2^16; the last index of a row is its escape."""

    def __init__(self, cdf: np.ndarray, lengths: np.ndarray, offsets: np.ndarray):
        need(1 <= len(lengths) <= 1 << 16 and len(offsets) == len(lengths), "tables: 1 to 2^16 rows (§12)")
        need(int(lengths.min()) >= 3 and int(lengths.astype(np.int64).sum()) == len(cdf), "tables: lengths (§12)")
        need(int(np.abs(offsets.astype(np.int64)).max()) <= 1 << 13, "tables: an offset is beyond 2^13 (§12)")
        self.rows, self.offsets, end = [], offsets.tolist(), 0
        for n in lengths.tolist():
            self.rows.append(cdf[end : end + n].tolist())
            end += n
            right = self.rows[-1][0] == 0 and self.rows[-1][-1] == 1 << 16 and (np.diff(self.rows[-1]) > 0).all()
            need(right, "tables: a row does not rise from 0 to 65536 (§12)")


# --- §13: rANS ------------------------------------------------------------------------------------------------------


class Rans:
    """The decoder of one tile's string."""

    def __init__(self, words: bytes, tables: Tables):
        self.words, self.tables = [word for (word,) in struct.iter_unpack("<I", words)], tables
        self.x, self.place = self.words[0] | self.words[1] << 32, 2
        need(self.x >= 1 << 31, "the rANS state is below 2^31")

    def refill(self) -> None:
        if self.x < 1 << 31:
            need(self.place < len(self.words), "the rANS words end early")
            self.x = self.x << 32 | self.words[self.place]
            self.place += 1

    def digit(self) -> int:
        digit = self.x & 15
        self.x >>= 4
        self.refill()
        return digit

    def symbol(self, row: int) -> int:
        cdf, offset = self.tables.rows[row], self.tables.offsets[row]
        slot = self.x & 0xFFFF
        k = bisect_right(cdf, slot) - 1
        self.x = (cdf[k + 1] - cdf[k]) * (self.x >> 16) + slot - cdf[k]
        self.refill()
        escape = len(cdf) - 2
        if k < escape:
            value = k + offset
        else:
            count = self.digit()
            need(count <= 7, "an escape of more than 7 digits")
            raw = sum(self.digit() << 4 * place for place in range(count))
            value = offset - (raw + 1) // 2 if raw & 1 else offset + escape + raw // 2
        need(abs(value) <= 1 << 13, "a symbol beyond 2^13")
        return value

    def end(self) -> None:
        need(self.place == len(self.words) and self.x == 1 << 31, "the rANS string does not end in its end state")


# --- §14: exact arithmetic, and (model §3) the float operations of g_s ----------------------------------------------


@dataclass(frozen=True)
class Format:
    """§14: units of 2^-fraction, saturated at +-limit."""

    fraction: int
    limit: int

    def of(self, x: np.ndarray, fraction: int) -> np.ndarray:
        """Integers in units of 2^-fraction in this format: §14, round."""
        bits = fraction - self.fraction
        return self.sat(rounded(x, bits) if bits > 0 else x << -bits)

    def sat(self, x: np.ndarray) -> np.ndarray:
        return x.clip(-self.limit, self.limit)


OUTSIDE = Format(12, LIMIT)
LIMITS = {16: 32639, 24: 8355711}


@dataclass(frozen=True)
class Layer:
    """A layer of model §3. `inputs`: how many layers back each input was computed. In exact networks `known` are the
    formats of its inputs, `format` that of its output."""

    operation: str
    attributes: dict[str, Any]
    inputs: list[int]
    tensors: dict[str, np.ndarray]
    known: list[Format]
    format: Format


def _sums(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sum over inputs i of weight[o, i] x[i, r, c]. In int64 all partial sums are below 2^53, by the bound."""
    flat = x.reshape(len(x), -1)
    total = np.einsum("oi,ip->op", weight, flat) if x.dtype == np.int64 else np.dot(weight, flat)
    return total.reshape(-1, *x.shape[1:])


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, t: int, p: int) -> np.ndarray:
    """S[o, r, c] = bias[o] + sum of w[o, i, a, b] * x[i, t*r + a - p, t*c + b - p]."""
    high, wide = weight.shape[2:]
    x = np.pad(x, ((0, 0), (p, p), (p, p)))
    rows, columns = (x.shape[1] - high) // t + 1, (x.shape[2] - wide) // t + 1
    total = np.zeros((len(weight), rows, columns), weight.dtype) + bias[:, None, None]
    for a in range(high):
        for b in range(wide):
            total += _sums(weight[:, :, a, b], x[:, a : a + t * rows : t, b : b + t * columns : t][:, :rows, :columns])
    return total


def conv_transpose2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, t: int, p: int, e: int) -> np.ndarray:
    """S[o, r, c] = bias[o] + sum of w[i, o, a, b] * x[i, u, v], t*u + a - p = r, t*v + b - p = c."""
    _, outputs, high, wide = weight.shape
    _, rows, columns = x.shape
    total = np.zeros((outputs, (rows - 1) * t + high + e, (columns - 1) * t + wide + e), weight.dtype)
    for a in range(high):
        for b in range(wide):
            reached = total[:, a : a + t * (rows - 1) + 1 : t, b : b + t * (columns - 1) + 1 : t]
            reached += _sums(weight[:, :, a, b].T, x)
    return total[:, p : total.shape[1] - p, p : total.shape[2] - p] + bias[:, None, None]


def depthwise_conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, t: int, p: int) -> np.ndarray:
    """Channel by channel a conv2d."""
    return np.concatenate([conv2d(x[c : c + 1], weight[c : c + 1], bias[c : c + 1], t, p) for c in range(len(x))])


def rounded(total: np.ndarray, bits: int | np.ndarray) -> np.ndarray:
    """floor(total * 2^-bits + 1/2), bits >= 1."""
    return (total + (1 << bits - 1)) >> bits


SUMS = {"conv2d": conv2d, "conv_transpose2d": conv_transpose2d, "depthwise_conv2d": depthwise_conv2d}


def shifts(layer: Layer) -> np.ndarray:
    """Of each output channel, (channels, 1, 1)."""
    return layer.tensors["shift"].astype(np.int64)[:, None, None]


def apply(layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    """One layer: of an exact network where the inputs are int64, else of a float one."""
    x, attributes, tensors = inputs[0], layer.attributes, layer.tensors
    exact = x.dtype == np.int64
    match layer.operation:
        case "conv2d" | "conv_transpose2d" | "depthwise_conv2d":
            weight, bias = tensors["weight"].astype(x.dtype), tensors["bias"].astype(x.dtype)
            sizes = (attributes[key] for key in ("stride", "padding", "output_padding") if key in attributes)
            total = SUMS[layer.operation](x, weight, bias, *sizes)
            return layer.format.sat(rounded(total, shifts(layer))) if exact else total
        case "round":
            return layer.format.of(x, layer.known[0].fraction)
        case "relu":
            return np.maximum(x, 0)
        case "leaky_relu":
            slope = float(attributes["slope"])
            return np.where(x >= 0, x, rounded(x * int(slope * 65536 + 0.5), 16) if exact else x * slope)
        case "add":
            if not exact:
                return x + inputs[1]
            fraction = max(format.fraction for format in layer.known)
            aligned = [value << fraction - format.fraction for value, format in zip(inputs, layer.known, strict=True)]
            return layer.format.of(aligned[0] + aligned[1], fraction)
        case "mul":
            return x * inputs[1]
        case "sigmoid":
            return 1 / (1 + np.exp(-x))
        case "gdn":
            norm = _sums(tensors["gamma"].astype(x.dtype), x * x) + tensors["beta"][:, None, None]
            return x * np.sqrt(norm) if attributes["inverse"] else x / np.sqrt(norm)
        case "pixel_shuffle":
            t = attributes["factor"]
            channels, rows, columns = x.shape
            x = x.reshape(channels // t**2, t, t, rows, columns)
            return x.transpose(0, 3, 1, 4, 2).reshape(channels // t**2, t * rows, t * columns)
        case "pixel_unshuffle":
            t = attributes["factor"]
            channels, rows, columns = x.shape
            x = x.reshape(channels, rows // t, t, columns // t, t)
            return x.transpose(0, 2, 4, 1, 3).reshape(channels * t**2, rows // t, columns // t)
        case "slice":
            return x[attributes["first"] : attributes["first"] + attributes["channels"]]
        case _:  # cat
            pairs = zip(inputs, layer.known, strict=True)
            return np.concatenate([layer.format.of(value, f.fraction) if exact else value for value, f in pairs])


def run(network: list[Layer], x: np.ndarray) -> np.ndarray:
    """A network of (channels, rows, columns)."""
    exact = x.dtype == np.int64
    values = [OUTSIDE.sat(x) if exact else x]  # §14: every element of a network's input is saturated
    for layer in network:
        values.append(apply(layer, [values[-back] for back in layer.inputs]))
    return OUTSIDE.of(values[-1], network[-1].format.fraction) if exact else values[-1]


# --- model.md: frozen models ----------------------------------------------------------------------------------------

TYPES = {"F32": np.dtype("<f4"), "I16": np.dtype("<i2"), "I32": np.dtype("<i4"), "I64": np.dtype("<i8")}
TENSORS = {"gdn": ["beta", "gamma"], **{operation: ["bias", "weight"] for operation in SUMS}}  # model §3
GROUP_KEYS = ("channels", "chunks", "context", "takes")


def read_safetensors(data: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """model §2: the metadata, and all tensors of types that are used."""
    need(8 <= len(data) <= 1 << 32, "no safetensors file (model §2)")
    size = struct.unpack("<Q", data[:8])[0]
    need(size <= len(data) - 8, "the safetensors header is cut off (model §2)")
    entries = json.loads(data[8 : 8 + size])
    metadata, tensors = entries.pop("__metadata__"), {}
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        need(0 <= begin <= end <= len(data) - 8 - size, f"tensor {name} is not in the file (model §2)")
        if entry["dtype"] in TYPES:
            dtype, shape = TYPES[entry["dtype"]], entry["shape"]
            need(prod(shape) * dtype.itemsize == end - begin, f"tensor {name}: size and shape differ (model §2)")
            tensors[name] = np.frombuffer(data, dtype, prod(shape), 8 + size + begin).reshape(shape)
    return metadata, tensors


class Model:
    """A model file: `networks`, `tables`, `medians`, `thresholds`, and how y is coded.

    `groups` are those of model §4, a hyperprior without context being one group (§15.2); `stride` and `q` as in §15.
    """

    def __init__(self, data: bytes):
        metadata, self.tensors = read_safetensors(data)
        description = json.loads(metadata["robuststream.model"])
        need(description["format"] == 1, "the model file is not of format 1 (model §2)")
        self.prior, self.gains = description["prior"], description.get("gains")
        self.networks = {name: self._network(name, listed) for name, listed in description["networks"].items()}
        self.exact = sorted(name for name in self.networks if name not in ("g_a", "g_s", "h_a"))  # model §1
        self.tables = Tables(*(self.tensors[f"tables.{name}"] for name in ("cdf", "lengths", "offsets")))
        self.medians, self.thresholds = (self.tensors[name].astype(np.int64) for name in ("medians", "thresholds"))
        self.channels, self.stride, self.q = inputs(self.networks["g_s"]), scale(self.networks["g_s"]), 1
        self.hyper = self.prior != "factorized"
        self.qualities = 1 if self.gains is None else len(self.tensors["gains"])
        if self.hyper:
            self.q = scale(self.networks["h_s"])
            chunks = ["scales"] if self.prior == "scale-hyperprior" else ["scales", "means"]
            alone = {"channels": self.channels, "chunks": chunks, "context": "none", "takes": []}
            self.groups = description["groups"] if self.prior == "context-model" else [alone]
        head: dict[str, Any] = {"latent_stride": self.stride, "prior": self.prior}
        tensors = ["tables.cdf", "tables.lengths", "tables.offsets", "medians", "thresholds"]
        if self.prior == "context-model":
            head["groups"] = [{key: group[key] for key in GROUP_KEYS} for group in self.groups]
        if self.gains is not None:
            head["gains"] = {"z_tables": self.gains["z_tables"]}
            tensors += ["gains", "inverse_gains", "z_steps", "context_bias", "offsets"]
        self.parameters_digest = self._digest(self.exact, head, tensors)
        self.synthesis_digest = self._digest(["g_s"], {}, [])
        stated = [bytes.fromhex(description[f"{name}_digest"]) for name in ("parameters", "synthesis")]
        need(stated == [self.parameters_digest, self.synthesis_digest], "the digests are others (model §6)")
        need(
            bytes.fromhex(description["known_answer"]) == self._known_answer(),
            "this machine fails the known-answer test (model §7)",
        )

    def _network(self, name: str, listed: list[dict[str, Any]]) -> list[Layer]:
        """model §3. A layer's tensors are NETWORK.NUMBER.TENSOR in the file."""
        layers: list[Layer] = []
        exact = name not in ("g_a", "g_s", "h_a")
        formats = [OUTSIDE]
        for number, entry in enumerate(listed):
            operation, attributes, inputs = entry["operation"], entry["attributes"], entry.get("inputs", [1])
            names = TENSORS.get(operation, []) + (["shift"] if exact and operation in SUMS else [])
            tensors = {tensor: self.tensors[f"{name}.{number}.{tensor}"] for tensor in names}
            known = [formats[-back] for back in inputs]
            format = known[0]
            if "fraction" in attributes:
                format = Format(attributes["fraction"], LIMITS[attributes["bits"]])
            layers.append(Layer(operation, attributes, inputs, tensors, known, format))
            formats.append(format)
            if "shift" in tensors:
                self._check_bounds(layers[-1], f"{name}.{number}")
        return layers

    def _check_bounds(self, layer: Layer, where: str) -> None:
        """§14, bounds."""
        limit = layer.known[0].limit
        need(limit in LIMITS.values(), f"{where} takes values that were not rounded (§14)")
        weight = layer.tensors["weight"].astype(np.int64)
        axes = (0, 2, 3) if layer.operation == "conv_transpose2d" else (1, 2, 3)
        need(np.abs(weight).max() <= 8127, f"{where} has weights beyond 8127 (§14)")
        for total, bias in zip(np.abs(weight).sum(axis=axes).tolist(), layer.tensors["bias"].tolist(), strict=True):
            need(limit * total + abs(bias) < 1 << 52, f"{where} breaks the bound of §14")
        need(weight.size // len(layer.tensors["bias"]) <= 1 << 17, f"{where} has sums of too many terms (§14)")
        need(1 <= shifts(layer).min() <= shifts(layer).max() <= 62, f"{where} has shifts not from 1 to 62 (§14)")

    def _digest(self, names: list[str], head: dict[str, Any], others: list[str]) -> bytes:
        """model §6: SHA-256 over the head as canonical JSON, then the tensors, sorted by name."""
        tensors, networks = {name: self.tensors[name] for name in others}, dict[str, Any]()
        for name in names:
            networks[name] = []
            for number, layer in enumerate(self.networks[name]):
                tensors |= {f"{name}.{number}.{tensor}": value for tensor, value in layer.tensors.items()}
                entry = {"attributes": layer.attributes, "operation": layer.operation, "tensors": sorted(layer.tensors)}
                networks[name].append(entry if layer.inputs == [1] else {**entry, "inputs": layer.inputs})
        text = json.dumps({"format": 1, "networks": networks, **head}, sort_keys=True, separators=(",", ":"))
        hashed = hashlib.sha256(text.encode("ascii"))
        for name, value in sorted(tensors.items()):
            shape = "x".join(map(str, value.shape))
            hashed.update(f"\n{name} {value.dtype.str} {shape}\n".encode() + value.tobytes())
        return hashed.digest()[:16]

    def _known_answer(self) -> bytes:
        """model §7: the exact networks, run on a fixed input."""
        hashed = hashlib.sha256()
        for name in self.exact:
            k = np.arange(16 * inputs(self.networks[name]), dtype=np.int64)
            x = ONE * (((k * 1103515245 + 12345) >> 16) % 17 - 8)
            hashed.update(run(self.networks[name], x.reshape(-1, 4, 4)).astype("<i4").tobytes())
        return hashed.digest()[:16]


def load_model(data: bytes) -> Model:
    """`Refusal` where the file is none of model.md."""
    try:
        return Model(data)
    except Broken as broken:
        raise Refusal(f"the model file breaks the rules: {broken}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Refusal(f"this is no model file of model.md, section 2: {type(error).__name__}: {error}") from None


def inputs(layers: list[Layer]) -> int:
    """model §3: the network's input has as many channels as its first layer with tensors takes, but for shuffles."""
    value = next(number for number, layer in enumerate(layers) if layer.tensors)
    matrix = layers[value].tensors["gamma" if layers[value].operation == "gdn" else "weight"]
    channels = matrix.shape[0 if layers[value].operation in ("conv_transpose2d", "depthwise_conv2d") else 1]
    while (value := value - layers[value].inputs[0]) >= 0:
        layer = layers[value]
        if layer.operation == "pixel_unshuffle":
            channels //= layer.attributes["factor"] ** 2
        elif layer.operation == "pixel_shuffle":
            channels *= layer.attributes["factor"] ** 2
    return channels


def scale(layers: list[Layer]) -> int:
    """model §3: the height of the output over that of the input; whole for g_s and h_s."""
    values = [Fraction(1)]
    for layer in layers:
        by = Fraction(layer.attributes.get("stride", layer.attributes.get("factor", 1)))
        down = layer.operation in ("conv2d", "depthwise_conv2d", "pixel_unshuffle")
        values.append(values[-layer.inputs[0]] * (1 / by if down else by))
    need(values[-1].denominator == 1, "g_s or h_s does not scale up (model §4)")
    return values[-1].numerator


# --- §15: coding order; §16: context digest -------------------------------------------------------------------------


class Symbols:
    """Gives a walk its symbols, and takes the digest of what they were decoded with (§16)."""

    def __init__(self, tile: Tile, model: Model, seed: bytes, z_only: bool):
        self.rans, self.tile, self.z_only = Rans(tile.words, model.tables), tile, z_only
        self.digest, self.zeros = crc32c(seed), False

    def take(self, rows: np.ndarray, means: np.ndarray, by_row: bool = False) -> np.ndarray:
        """The symbols of one step, in the shape of its rows and means: C order is element order."""
        symbols, flat = np.zeros(rows.size, np.int64), rows.ravel()
        self.digest = crc32c(rows.astype("<u2").tobytes() + means.astype("<i4").tobytes(), self.digest)
        # §15: coding order of y, the highest row first; a stable sort keeps equal ones in element order.
        order = np.argsort(-flat, kind="stable") if by_row else np.arange(flat.size)
        try:
            for place in [] if self.zeros else order.tolist():
                symbols[place] = self.rans.symbol(int(flat[place]))
        except Broken:  # §11: of a salvaged tile, a symbol that needs a missing word is 0, and so are all that follow
            if not self.tile.salvaged or self.rans.x >= 1 << 31:
                raise
            self.zeros = True
        return symbols.reshape(rows.shape)

    def seam(self) -> None:
        """§13: after the last symbol of z exactly the words up to the seam must have been read."""
        need(self.rans.place == self.tile.seam and not self.zeros, "z does not end at the seam")
        self.zeros = self.z_only  # §11: where y cannot be trusted every symbol of it is taken as 0


def walk(model: Model, quality: int, high: int, wide: int, symbols: Symbols) -> np.ndarray:
    """The latents of one tile, int64 (M, high, wide)."""
    if not model.hyper:
        return _z_step(model, 0, ONE, (high, wide), symbols)  # §15.1
    # §15.2
    first, step = len(model.thresholds) + 1, ONE
    if model.gains is not None:  # §15.5
        first += quality * len(model.medians) * model.gains["z_tables"]
        step = int(model.tensors["z_steps"][quality])
    z_hat = _z_step(model, first, step, (high // model.q, wide // model.q), symbols)
    symbols.seam()
    side = run(model.networks["h_s"], z_hat)
    y: list[np.ndarray] = []
    for k, group in enumerate(model.groups):
        known = side
        if group["takes"]:  # §15.4: the channel context, then the side parameters
            taken = np.concatenate([y[j] for j in group["takes"]])
            known = np.concatenate([run(model.networks[f"y{k}.channel_context"], taken), side])
        y.append(_code_group(model, quality, k, known, symbols))
    return np.concatenate(y)


def _z_step(model: Model, first: int, step: int, size: tuple[int, int], symbols: Symbols) -> np.ndarray:
    """Channel c has row first + c and mean medians[c]; a symbol is in units of `step`."""
    shape = (len(model.medians), *size)
    rows = np.broadcast_to(np.arange(first, first + len(model.medians))[:, None, None], shape)
    means = np.broadcast_to(model.medians[:, None, None], shape)
    return sat(symbols.take(rows, means) * step + means)


def _code_group(model: Model, quality: int, k: int, known: np.ndarray, symbols: Symbols) -> np.ndarray:
    """y_hat of group k. What is computed at n places is (channels, 1, n): the networks are pointwise there."""
    group, network = model.groups[k], model.networks.get(f"y{k}.entropy_parameters")
    y_hat = np.zeros((group["channels"], *known.shape[1:]), np.int64)
    if group["context"] == "none":
        values = run(network, known) if network else known
        return _code(model, quality, group, values, symbols)
    _, prediction = model.networks[f"y{k}.context_prediction"]  # behind a `round`, which `_context_at` sees to
    for number, places in enumerate(
        _steps(group["context"], len(prediction.tensors["weight"][0, 0]) // 2, *known.shape[1:])
    ):
        if not len(places):
            continue  # §15.3: a step without places is left out
        rows, columns = places.T
        if group["context"] != "raster-scan" and number == 0:
            context = np.zeros((len(prediction.tensors["weight"]), 1, len(places)), np.int64)
        else:
            context = _context_at(model, quality, prediction, y_hat, places)
        here = known[:, None, rows, columns]
        values = np.concatenate([here, context] if group["context"] == "raster-scan" else [context, here])
        values = run(network, values) if network else values
        y_hat[:, rows, columns] = _code(model, quality, group, values, symbols)[:, 0]
    return y_hat


def _steps(context: str, r: int, high: int, wide: int) -> list[np.ndarray]:
    """§15.3: the places (row, column) of each step, in element order."""
    row, column = np.mgrid[:high, :wide]
    if context == "raster-scan":
        t = column + (r + 1) * row
        return [np.argwhere(t == step) for step in range(int(t.max()) + 1)]
    anchors = (row + column) % 2 == (context == "checkerboard-odd")
    return [np.argwhere(anchors), np.argwhere(~anchors)]


def _context_at(model: Model, quality: int, layer: Layer, y_hat: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`context_prediction` of the group's y_hat, only at some places: (channels, 1, places)."""
    weight, (rows, columns) = layer.tensors["weight"].astype(np.int64), places.T
    side = weight.shape[2]
    padded = np.pad(layer.known[0].of(y_hat, 12), ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    total = np.zeros((len(weight), 1, len(rows)), np.int64) + layer.tensors["bias"][:, None, None]
    for a in range(side):
        for b in range(side):
            if weight[:, :, a, b].any():  # most are hidden by the mask
                total += _sums(weight[:, :, a, b], padded[:, None, rows + a, columns + b])
    context = OUTSIDE.of(layer.format.sat(rounded(total, shifts(layer))), layer.format.fraction)
    if model.gains is not None and model.tensors["context_bias"].size:  # §15.5
        context = sat(context + model.tensors["context_bias"][quality].astype(np.int64)[:, None, None])
    return context


def _code(model: Model, quality: int, group: dict[str, Any], values: np.ndarray, symbols: Symbols) -> np.ndarray:
    """§15.2, entropy parameters, and the latents of one step of y."""
    chunks = dict(zip(group["chunks"], np.split(values, len(group["chunks"])), strict=True))
    scales = chunks["scales"]
    means = chunks.get("means", np.zeros_like(scales))
    if model.gains is None:
        rows = np.searchsorted(model.thresholds, scales, side="left")  # thresholds less than the scale, not equal
        return sat(symbols.take(rows, means, by_row=True) * ONE + means)
    # §15.5
    gain, inverse = (int(model.tensors[name][quality]) for name in ("gains", "inverse_gains"))
    scales = sat(rounded(scales * gain, 16))
    rows = np.searchsorted(model.thresholds, scales, side="left")
    s = symbols.take(rows, means, by_row=True)
    offsets = model.tensors["offsets"][quality].astype(np.int64)[rows]
    return sat(sat(rounded((s * ONE + np.sign(s) * offsets) * inverse, 16)) + means)


# --- §11: outcomes; §17: pictures -----------------------------------------------------------------------------------


def decode(data: bytes, model: Model) -> tuple[Stream, np.ndarray]:
    """The stream with the outcomes of its tiles, and its latents, int32 (M, rows, columns), 0 in missing tiles."""
    stream = read_stream(data)
    header = stream.header
    need(header.parameters_digest == model.parameters_digest, "the stream is of another model (§5, tag 5)", Refusal)
    need(header.synthesis_digest == model.synthesis_digest, "the model has another synthesis (§5, tag 7)", Refusal)
    need(not header.native, "native mode, which this decoder does not compute (§16)", Refusal)
    factor = model.stride * model.q
    need(header.tile % factor == 0, f"the tile side is no multiple of the model's {factor} (§5)", Refusal)
    need(header.z_checkpoint == model.hyper, "a checkpoint after z does not go with the prior (§5)", Refusal)
    need(header.quality < model.qualities, f"the model has no quality index {header.quality} (§5)", Refusal)
    need(bool(stream.tiles or stream.salvaged), "neither a tile nor a z is left of the stream (§10)", Refusal)
    high, wide = (-(-size // factor) * factor for size in (header.height, header.width))  # §17, padding
    need(high * wide <= MOST_PIXELS, "the padded picture is too large (§10)", Refusal)
    latents = np.zeros((model.channels, high // model.stride, wide // model.stride), np.int32)
    side = header.tile // model.stride
    for index in sorted(stream.tiles | stream.salvaged):
        row, column = divmod(index, header.columns)  # §17, grid
        place = latents[:, side * row : side * (row + 1), side * column : side * (column + 1)]
        stream.outcomes[index], place[...] = _decode_tile(stream, model, index, *place.shape[1:])
    return stream, latents


def _decode_tile(stream: Stream, model: Model, index: int, high: int, wide: int) -> tuple[str, np.ndarray | int]:
    """§11: a tile is exact only where the string ends right and the digests are equal; else z may be left."""
    header = stream.header
    if (tile := stream.tiles.get(index)) is not None:
        try:
            symbols = Symbols(tile, model, header.seed, z_only=False)
            y = walk(model, header.quality, high, wide, symbols)
            fault = "" if symbols.digest == tile.digest else "ROBS-CONTEXT-DESYNC"
            if not fault:
                symbols.rans.end()
                return "unproven" if index in stream.unproven else "exact", y
        except Broken:
            fault = "ROBS-ENTROPY"
        stream.findings.add((fault, index))
    tile = tile or stream.salvaged[index]
    z_alone = Tile(tile.seam, 0, tile.words[: 4 * tile.seam], True)
    for kept in ([tile] if tile.salvaged else []) + ([z_alone] if tile.seam >= 0 else []):
        with suppress(Broken):
            return "concealed", walk(
                model, header.quality, high, wide, Symbols(kept, model, header.seed, kept is z_alone)
            )
    return "missing", 0


def picture(header: Header, latents: np.ndarray, model: Model) -> np.ndarray:
    """§17: uint8, (H, W, 3), or (H, W) of a grey picture. float64, far within the 1/255 that is asked for."""
    values = run(model.networks["g_s"], latents / ONE)[:, : header.height, : header.width]
    pixels = np.floor(255 * np.clip(values, 0, 1) + 0.5).astype(np.uint8)
    if header.grey:
        return ((pixels.astype(int).sum(axis=0) + 1) // 3).astype(np.uint8)
    return pixels.transpose(1, 2, 0)


def main(arguments: list[str]) -> int:
    if len(arguments) != 3 or not arguments[2].endswith((".npy", ".ppm")):
        print("usage: reference_decoder.py MODEL.safetensors STREAM.robs OUT.npy|OUT.ppm", file=sys.stderr)
        return 2
    model_path, stream_path, out = arguments
    try:
        with open(model_path, "rb") as model_file, open(stream_path, "rb") as stream_file:
            model = load_model(model_file.read())
            stream, latents = decode(stream_file.read(), model)
        with open(out, "wb") as file:
            if out.endswith(".npy"):
                np.save(file, latents)
            else:
                pixels = picture(stream.header, latents, model)
                pixels = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)
                file.write(b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes())
    except (Refusal, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for rule, tile in sorted(stream.findings, key=str):
        print(rule + ("" if tile is None else f", tile {tile}"))
    outcomes = list(stream.outcomes.values())
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("exact", "unproven", "concealed"))
    print(f"{counts} of {stream.header.tiles} tiles")
    return 0 if outcomes.count("exact") == stream.header.tiles else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
