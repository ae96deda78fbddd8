"""A file from its first byte to its last: intact packets, damaged ones, and bytes of neither."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from robuststream.container.layout import PAYLOAD_CRC_BYTES
from robuststream.container.packets import DamagedPacket, Gap, Kind, Packet, kind_name
from robuststream.container.remains import damaged_packets
from robuststream.container.report import Finding
from robuststream.container.scanner import scan

#: More are counted, not listed: a hostile file holds one in each 12 bytes. A picture of 2^28 pixels has 4096 tiles.
MAX_PARTS = 1 << 15


@dataclass(frozen=True)
class Part:
    """File positions [start, end), in bytes. Parts do not overlap; where none is left out, together they are the file.

    Attributes:
        kind: byte of the packet's kind; None for a gap, as all below it.
        state: "intact", "damaged" (spec/format.md, section 4) or "gap".
        payload: file positions of the payload as the packet header has it. A damaged part ends before it does where the
            file ends or another packet begins.
    """

    state: str
    start: int
    end: int
    kind: int | None = None
    stream_id: bytes = b""
    number: int = 0
    payload: tuple[int, int] = (0, 0)

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def name(self) -> str:
        return "gap" if self.kind is None else kind_name(self.kind)

    @property
    def title(self) -> str:
        """The name, and for kinds that count, the number."""
        counts = self.kind is not None and self.kind not in (Kind.HEADER, Kind.INDEX)
        return f"{self.name} {self.number}" if counts else self.name

    @property
    def declared(self) -> int:
        """Size of the whole packet, in bytes, by its header."""
        return self.payload[1] + PAYLOAD_CRC_BYTES - self.start


def list_parts(data: bytes) -> tuple[list[Part], int]:
    """The first parts of a file, in file order, and how many packets more there are."""
    listed: list[Part] = []
    left_out = 0
    for event in scan(data):
        room = max(0, MAX_PARTS - len(listed))
        if isinstance(event, Gap):
            damaged = damaged_packets(data, event)
            shown = list(islice(damaged, room))
            if shown or room:
                listed += _of_gap(event, shown)
            left_out += sum(1 for _ in damaged)
        elif room:
            listed.append(_intact(event))
        else:
            left_out += 1
    return listed, left_out


def by_part(parts: Sequence[Part], findings: Iterable[Finding]) -> dict[int, list[Finding]]:
    """The findings that begin in each part, by its position in `parts`."""
    starts = [part.start for part in parts]
    found: dict[int, list[Finding]] = {}
    for finding in findings:
        if finding.start is not None:
            found.setdefault(max(0, bisect_right(starts, finding.start) - 1), []).append(finding)
    return found


def _intact(packet: Packet) -> Part:
    end = packet.offset + packet.size
    stop = end - PAYLOAD_CRC_BYTES
    payload = (stop - len(packet.payload), stop)
    return Part("intact", packet.offset, end, packet.kind, packet.stream_id, packet.number, payload)


def _of_gap(gap: Gap, damaged: Sequence[DamagedPacket]) -> Iterator[Part]:
    """A damaged packet reaches as far as its header says, but not past the next one: bytes may have been cut out."""
    at = gap.start
    bounds = [*(packet.offset for packet in damaged), gap.end]
    for packet, (start, limit) in zip(damaged, pairwise(bounds), strict=True):
        if at < start:
            yield Part("gap", at, start)
        at = min(packet.payload_end + PAYLOAD_CRC_BYTES, limit)
        payload = (packet.payload_start, packet.payload_end)
        yield Part("damaged", start, at, packet.kind, packet.stream_id, packet.number, payload)
    if at < gap.end:
        yield Part("gap", at, gap.end)
