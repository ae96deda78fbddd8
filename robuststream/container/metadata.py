"""Colour profile and descriptive blocks: to METADATA payloads and back (spec/format.md, section 8)."""

from __future__ import annotations

from collections.abc import Iterable

from robuststream.container.layout import METADATA_PART, MetadataPart, build_metadata, parse_metadata
from robuststream.container.packets import Buffer, Metadata, MetadataType, Packet


def split_metadata(metadata: Metadata) -> list[bytes]:
    """The payloads of its packets, in their order."""
    payloads = []
    for kind, block in metadata.items().items():
        pieces = [block[start : start + METADATA_PART] for start in range(0, len(block), METADATA_PART)] or [b""]
        payloads += [build_metadata(MetadataPart(kind, part, len(pieces), piece)) for part, piece in enumerate(pieces)]
    return payloads


def join_metadata(notes: Iterable[Packet]) -> tuple[Metadata, list[tuple[Packet | None, str]]]:
    """The blocks that are whole, and what is wrong with the others, with the packet where there is one."""
    blocks: dict[int, dict[int, Buffer]] = {}
    wanted: dict[int, int] = {}
    faults: list[tuple[Packet | None, str]] = []
    for packet in notes:
        fields = parse_metadata(packet.payload)
        if fields is None:
            faults.append((packet, "the payload breaks the format's rules"))
        elif fields.part in blocks.get(fields.type, {}) or wanted.get(fields.type, fields.parts) != fields.parts:
            faults.append((packet, "contradicts an earlier part of the same block, which counts"))
        else:
            blocks.setdefault(fields.type, {})[fields.part] = fields.data
            wanted[fields.type] = fields.parts
    whole = {
        kind: b"".join(parts[part] for part in sorted(parts))
        for kind, parts in blocks.items()
        if len(parts) == wanted[kind]
    }
    broken = sorted(blocks.keys() - whole.keys())
    faults += [(None, f"the block of type {kind} is not whole: it is left out") for kind in broken]
    icc, exif, xmp = (whole.get(kind) for kind in (MetadataType.ICC, MetadataType.EXIF, MetadataType.XMP))
    return Metadata(icc=icc, exif=exif, xmp=xmp), faults
