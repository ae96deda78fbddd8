"""What flipped bits put right may be taken for (spec/format.md, section 10.1): little, before it is proven."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence

from robuststream.container import layout
from robuststream.container.correction import Corrected, Corrector, describe
from robuststream.container.found import Damage, Found
from robuststream.container.packets import Candidate, DamagedPacket, Gap, Header, Kind, Packet, kind_name
from robuststream.container.report import Findings, Rule
from robuststream.errors import DamagedStream

#: Without an intact HEADER, in how many streams one is looked for that can be corrected.
LIKELY_STREAMS = 4


class Mender:
    """Corrects the packets of one file that nothing intact stands in for.

    Attributes:
        taken: where packets begin that were put right; each has a finding.
        header_confirmed: the header that counts is intact, or two corrected copies agree.
    """

    def __init__(self, data: bytes, gaps: Sequence[Gap], findings: Findings) -> None:
        self._data = data
        self._corrector = Corrector(data, gaps)
        self._findings = findings
        self.taken: set[int] = set()
        self.header_confirmed = True

    def header(self, streams: dict[bytes, Found], damage: Damage) -> bytes | None:
        """Give one of the streams, none of which has a HEADER, those that can be corrected; its id.

        The stream of most packets, damaged ones too, comes first, and its HEADER packets of fewest flips.
        """
        size = Counter({identity: len(found.order) for identity, found in streams.items()})
        size.update(damage.counts())
        for identity, _ in size.most_common(LIKELY_STREAMS):
            copies = []
            for explanations in self._corrector.packets(identity, lambda kind, number: kind == Kind.HEADER):
                with contextlib.suppress(DamagedStream):
                    layout.parse_header(explanations[0].packet.payload)
                    copies += explanations if len(explanations) == 1 else []
            if copies:
                copies.sort(key=lambda copy: len(copy.flips))
                for copy in copies:
                    self._take(copy)
                streams.setdefault(identity, Found()).headers += [copy.packet for copy in copies]
                self.header_confirmed = any(copy.packet.payload == copies[0].packet.payload for copy in copies[1:])
                return identity
        return None

    def others(self, header: Header, identity: bytes, found: Found) -> dict[int, tuple[Candidate, ...]]:
        """Candidates for the tiles that are missing, which a decoder has to prove; and METADATA and INDEX put right.

        Nothing but the CRCs can prove those, so only single bits are put right there.
        """
        candidates: dict[int, tuple[Candidate, ...]] = {}

        def wanted(kind: int, number: int) -> bool:
            if kind == Kind.TILE:
                return number < header.tiles and number not in found.tiles and number not in candidates
            return (kind == Kind.METADATA and number not in found.notes) or (kind == Kind.INDEX and not found.index)

        for explanations in self._corrector.packets(identity, wanted):
            packet = explanations[0].packet
            if len({(other.packet.kind, other.packet.number) for other in explanations}) > 1:
                continue
            if packet.kind == Kind.TILE:
                tiles = self._parsed(header, identity, explanations)
                if tiles:
                    candidates[packet.number] = tiles
                    found.damaged.setdefault((Kind.TILE, packet.number), _damaged(packet))
            elif len(explanations) == len(explanations[0].flips) == 1:
                self._take(explanations[0])
                if packet.kind == Kind.METADATA:
                    found.notes[packet.number] = packet
                else:
                    found.index = packet
        return candidates

    def _parsed(self, header: Header, identity: bytes, explanations: Iterable[Corrected]) -> tuple[Candidate, ...]:
        """Those that section 6 allows (a checkpoint holds); beside pairs, the tile as it stands, if it is another."""
        candidates = []
        for item in explanations:
            number, payload = item.packet.number, item.packet.payload
            tile = layout.parse_tile(header, identity, number, payload)
            if tile is not None:
                candidates.append(Candidate(tile, item.flips))
            end = item.packet.offset + item.packet.size - layout.PAYLOAD_CRC_BYTES
            before = layout.parse_tile(header, identity, number, self._data[end - len(payload) : end])
            if before is not None and before != tile and len(item.flips) > 1:
                candidates.append(Candidate(before, ()))
        # The pairs of one packet header share what stands.
        return tuple(dict.fromkeys(candidates)) if any(candidate.flips for candidate in candidates) else ()

    def _take(self, corrected: Corrected) -> None:
        packet = corrected.packet
        self.taken.add(packet.offset)
        what = f"a damaged {kind_name(packet.kind)} packet is whole with {describe(corrected.flips)} put right"
        self._findings.add(Rule.CORRECTED, what, packet.offset, packet.offset + packet.size)


def _damaged(packet: Packet) -> DamagedPacket:
    """A packet that was found by putting bits right, as the scanner would have told of it with its header whole."""
    end = packet.offset + packet.size - layout.PAYLOAD_CRC_BYTES
    start = end - len(packet.payload)
    return DamagedPacket(packet.kind, packet.stream_id, packet.number, packet.offset, start, end)
