"""A tile's payload: its words, and what proves them, as a whole or in part (spec/format.md, section 6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from robuststream.checksum import crc16, crc32c
from robuststream.container.layout import build_varint, read_varint
from robuststream.container.packets import MAX_CHECKPOINTS, Buffer, Header, Salvage, Tile

#: The fields before the words: the checkpoint after z (seam and CRC), in native mode the earlier digests and how many
#: there are, the context digest, and the sums of y's pieces.
MAX_TILE_FIELDS = (5 + 4) + (1 + 255 * 4) + 4 + 2 * MAX_CHECKPOINTS
#: Native mode stores at most one more.
MAX_EARLIER_DIGESTS = 11
#: Two words of rANS state, then z's words, then y's.
STATE_WORDS = 2
WORD = 4


def build_tile(header: Header, identity: bytes, tile: Tile) -> bytes:
    """TILE payload."""
    parts = []
    if tile.z_words is not None:
        crc = checkpoint_crc(header, identity, tile.index, tile.words[: tile.z_words * WORD])
        parts += [build_varint(tile.z_words), struct.pack("<I", crc)]
    if header.mode:
        parts.append(struct.pack(f"<B{len(tile.earlier)}I", len(tile.earlier), *tile.earlier))
    digests = (*tile.earlier, tile.digest)
    sums = [
        piece_sum(header, identity, tile.index, number, digests, tile.words[start:end])
        for number, (start, end) in enumerate(pieces(header, len(tile.words), tile.z_words))
    ]
    return b"".join([*parts, struct.pack(f"<I{len(sums)}H", tile.digest, *sums), tile.words])


class TileFields(NamedTuple):
    """What stands before a tile's words: the seam and the CRC-32C of the checkpoint after z (None and 0 without it),
    the digests, the sums of y's pieces, and how many bytes that takes."""

    z_words: int | None
    crc: int
    earlier: tuple[int, ...]
    digest: int
    sums: tuple[int, ...]
    size: int


def split_tile(header: Header, payload: Buffer) -> tuple[TileFields, Buffer] | None:
    """A TILE payload's fields and its words, which are not copied; None where it is too short."""
    raw = bytes(payload[:MAX_TILE_FIELDS])
    z_words, crc, count, at = None, 0, 0, 0
    if header.z_checkpoint:
        seam = read_varint(raw, 0)
        if seam is None:
            return None
        z_words, at = seam
        crc, at = int.from_bytes(raw[at : at + 4], "little"), at + 4
    if header.mode:
        count, at = int.from_bytes(raw[at : at + 1], "little"), at + 1
    behind = at + 4 * (count + 1)
    size = behind + 2 * header.checkpoints
    if size > len(raw):
        return None
    *earlier, digest = struct.unpack_from(f"<{count + 1}I", raw, at)
    sums = struct.unpack_from(f"<{header.checkpoints}H", raw, behind)
    return TileFields(z_words, crc, tuple(earlier), digest, sums, size), payload[size:]


def _z_holds(header: Header, identity: bytes, index: int, fields: TileFields, words: Buffer) -> bool:
    """Whether the checkpoint after z, where there is one, proves the words up to the seam."""
    if fields.z_words is None:
        return True
    inside = STATE_WORDS <= fields.z_words <= len(words) // WORD
    return inside and checkpoint_crc(header, identity, index, words[: fields.z_words * WORD]) == fields.crc


def parse_tile(header: Header, identity: bytes, index: int, payload: Buffer) -> Tile | None:
    """Read a TILE payload whose CRC holds; None where it still breaks section 6 (its writer is at fault)."""
    split = split_tile(header, payload)
    if split is None or index >= header.tiles:
        return None
    fields, words = split
    if len(words) % WORD or len(words) < STATE_WORDS * WORD or len(fields.earlier) > MAX_EARLIER_DIGESTS:
        return None
    if not _z_holds(header, identity, index, fields, words):
        return None
    return Tile(index, words, fields.digest, fields.z_words, fields.earlier)


def parse_tiles(header: Header, identity: bytes, payloads: Mapping[int, Buffer]) -> dict[int, Tile]:
    """By index, in its order, the tiles that section 6 allows."""
    parsed = (parse_tile(header, identity, index, payload) for index, payload in sorted(payloads.items()))
    return {tile.index: tile for tile in parsed if tile is not None}


def salvage_tile(
    header: Header, identity: bytes, index: int, payload: Buffer, length: int | None = None
) -> Salvage | None:
    """What a damaged TILE payload, of which not all of the `length` bytes may be there, proves of its rANS string.

    The words up to the seam by the checkpoint, then piece after piece of y by its sum, up to the first that fails. None
    where not even z is proven, or without z not one piece.
    """
    split = split_tile(header, payload)
    if split is None or index >= header.tiles:
        return None
    fields, words = split
    if not _z_holds(header, identity, index, fields, words):
        return None
    z_words = fields.z_words
    proven = (z_words or 0) * WORD
    kept = 0
    digests = (*fields.earlier, fields.digest)
    missing = 0 if length is None else length - len(payload)
    for number, (start, end) in enumerate(pieces(header, len(words) + missing, z_words)):
        right = piece_sum(header, identity, index, number, digests, words[start:end])
        if end > len(words) or right != fields.sums[number]:
            break
        kept, proven = kept + 1, end
    if z_words is None and not kept:
        return None
    return Salvage(index, bytes(words[:proven]), fields.digest, z_words, digests[:-1], kept)


def pieces(header: Header, size: int, z_words: int | None) -> list[tuple[int, int]]:
    """Where the pieces of a rANS string of `size` bytes lie that have a sum: equal ones but for rounding, from the seam
    on (without z from the start); what follows them is covered by the packet's CRC-32C alone."""
    first = (z_words or 0) * WORD
    words = max(0, (size - first) // WORD)
    step = -(-words // (header.checkpoints + 1)) * WORD
    bounds = [min(first + number * step, first + words * WORD) for number in range(header.checkpoints + 1)]
    return list(pairwise(bounds))


def piece_sum(header: Header, identity: bytes, index: int, number: int, digests: Iterable[int], piece: Buffer) -> int:
    """CRC-16 over the digests' seed, stream id, tile index (u32), piece number (u32), the digests (u32 each, as
    they stand) and the piece's words."""
    place = struct.pack("<II", index, number)
    stored = b"".join(struct.pack("<I", digest) for digest in digests)
    return crc16(digest_seed(header.parameters_digest, header.quality) + identity + place + stored + piece)


def digest_seed(parameters_digest: bytes, quality: int) -> bytes:
    """What checkpoint and context digest start from: the parameters digest, and the quality index (u32) unless 0."""
    return parameters_digest + (struct.pack("<I", quality) if quality else b"")


def checkpoint_crc(header: Header, identity: bytes, index: int, prefix: Buffer) -> int:
    """CRC-32C over the digests' seed, stream id, tile index (u32) and the words up to the seam.

    With the digest in it, a tile decoded by means of another stream's header proves its model before a symbol is read.
    """
    return crc32c(
        prefix, crc32c(digest_seed(header.parameters_digest, header.quality) + identity + struct.pack("<I", index))
    )
