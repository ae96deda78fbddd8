"""Put a damaged stream, or several damaged copies of it, together again (spec/format.md, section 19).

What is intact in any copy is taken, and what parity gives back. Flipped bits are put right where the stream id proves
them. Where that is not the whole stream, the best copy is written with what is proven put in, and all else as it was
found: a repaired file is never worse than its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

from robuststream.container import layout, parity
from robuststream.container.borrowing import lend
from robuststream.container.choosing import corrected_headers, refusal, refuse_unknown
from robuststream.container.collect import Collected, Found, likely
from robuststream.container.copies import Copy, remains_of
from robuststream.container.leftovers import sort_out
from robuststream.container.packets import Buffer, Header, Kind, Tile, kind_name
from robuststream.container.patching import best_of, patched
from robuststream.container.restoring import Restoration
from robuststream.container.stream import Stream
from robuststream.container.tiles import build_tile, parse_tile
from robuststream.container.writer import assemble
from robuststream.errors import DamagedStream, UnsupportedVersion

#: Damage may be explained by flipped bits in several ways. At most this many are tried: the stream id has 32 bits, so
#: among many wrong ways one would hash to it by chance.
MAX_TRIED = 64


@dataclass(frozen=True)
class Restored:
    """A stream put together.

    Attributes:
        data: the stream, in canonical order where it is whole; else the best copy, with what is proven put in.
        whole: nothing is missing, and header and tiles hash to the stream id: `data` is what was written.
        missing: which packets are not there, in words, or have no place that is known.
        needed: how many more repair symbols it would have taken, over all blocks.
        restored: tiles that parity gave back.
        corrected: tiles whose flipped bits were put right.
        left_out: ids of other streams with a header that stand in the copies, and not in `data`.
    """

    data: bytes
    whole: bool
    missing: tuple[str, ...]
    needed: int
    restored: tuple[int, ...]
    corrected: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()


def put_together(files: Sequence[Collected], lender: Stream | None = None) -> Restored:
    """Restore the stream that damaged copies hold.

    Args:
        files: the copies, one or more; the first HEADER among them says which stream it is.
        lender: another stream of the same series; where no HEADER is left, its header is tried.

    Raises:
        NotARobustStream: no packet is in them.
        DamagedStream: no HEADER is left, and parity does not give it back; or the lender's is not proven to be the one
            that was lost.
        UnsupportedVersion: a newer format.
        ImportError: parity is there and needed, and the package `raptorq` is not.
    """
    files, identity = _of_one_stream(files)
    for file in files:
        refuse_unknown(file.found)
    merged = _merged(files)
    every = [Copy(file, remains_of(file)) for file in files]
    restoration = Restoration(identity, every)
    restoration.solve()
    # Where a copy has another than the one that parity is over, the stream id decides, and else the copy's counts.
    headers = [raw for raw in (restoration.header, restoration.known.get((Kind.HEADER, 0))) if raw is not None]
    if headers:
        payloads = list(dict.fromkeys(bytes(layout.payload_of(raw)) for raw in headers))
        readable = [payload for payload in payloads if _is_readable(payload)]
        repairs = [_Repair(files, every, merged, restoration, payload) for payload in readable or payloads]
        return next((repair for repair in repairs if repair.prove()), repairs[-1]).result()
    guessed = [item.packet.payload for file in files for item in corrected_headers(file, identity)]
    loan = None if guessed or lender is None else lend(lender, identity, merged)
    if loan is not None:
        guessed = [loan.payload]
    repairs = [_Repair(files, every, merged, restoration, payload) for payload in dict.fromkeys(map(bytes, guessed))]
    for repair in repairs:
        if repair.prove():
            return repair.result()
    if loan is not None:
        raise DamagedStream(
            f"no HEADER packet survived, and nothing proves that of stream {loan.lender.hex()} to be the one that was "
            "lost: no stream is made with it; decode with it instead"
        )
    if guessed:
        # Bits put right in a HEADER are a guess still: all stays as it was found.
        return repairs[0].result()
    more = f": {restoration.needed} more repair symbols are needed" if restoration.needed else ""
    raise DamagedStream(f"no HEADER packet survived, and parity does not give it back{more}")


def _of_one_stream(files: Sequence[Collected]) -> tuple[list[Collected], bytes]:
    """The files, each collected for the same stream: that of the first HEADER, else the likeliest."""
    identity = next((file.identity for file in files if file.identity is not None), None)
    if identity is None:
        ids = likely(*files)
        # One of which a HEADER can be put right is read before the others.
        ids.sort(key=lambda other: not any(corrected_headers(file, other) for file in files))
        if not ids:
            raise refusal(files[0])
        identity = ids[0]
    chosen = []
    for file in files:
        if file.identity is None:
            file.choose(identity)
        chosen.append(file if file.identity == identity else Collected(file.data, identity))
    return chosen, identity


def _is_readable(payload: bytes) -> bool:
    try:
        layout.parse_header(payload)
    except (DamagedStream, UnsupportedVersion):
        return False
    return True


def _merged(files: Sequence[Collected]) -> Found:
    """Of all files together, the first packet of each kind and number."""
    merged = Found()
    for file in files:
        for packet in file.found.order:
            merged.add(packet)
    return merged


class _Repair:
    """Puts a stream together, given its header.

    Args:
        files, copies: as given, and what is left of damaged packets in them.
        merged: what is intact in any of them.
        restoration: what parity gives back.
        payload: of the HEADER, proven or to be proven.
    """

    def __init__(
        self,
        files: Sequence[Collected],
        copies: Sequence[Copy],
        merged: Found,
        restoration: Restoration,
        payload: Buffer,
    ) -> None:
        self._files = files
        self._copies = copies
        self._merged = merged
        self._needed = restoration.needed
        self._identity = restoration.identity
        self._known = dict(restoration.known)
        self._restored = {number for kind, number in restoration.solved if kind == Kind.TILE}
        self._corrected: tuple[int, ...] = ()
        self._payload = payload
        self._header = layout.parse_header(payload)
        self._proven = False

    # --- Proof ------------------------------------------------------------------------------------------------------

    def prove(self) -> bool:
        """Take what the stream id proves: the header, and tiles with flipped bits put right."""
        header = self._header
        options = dict(self._tiles(header))
        if len(options) < header.tiles:
            return False
        for tiles in islice(product(*(options[index] for index in range(header.tiles))), MAX_TRIED):
            if layout.stream_id(self._payload, tiles) == self._identity:
                self._take(tiles)
                return True
        return False

    def _tiles(self, header: Header) -> Iterator[tuple[int, list[Tile]]]:
        """What each tile may be: what is known, or else what flipped bits may have made of it."""
        guessed: dict[int, list[Tile]] = {}
        for file, copy in zip(self._files, self._copies, strict=True):
            left = sort_out(file.data, self._merged, header, self._identity, copy.remains)
            for index, candidates in left.candidates.items():
                guessed.setdefault(index, []).extend(item.tile for item in candidates if item.flips)
        yield from guessed.items()
        for (kind, number), raw in self._known.items():
            if kind == Kind.TILE and number < header.tiles:
                tile = parse_tile(header, self._identity, number, layout.payload_of(raw))
                if tile is not None:
                    yield number, [tile]

    def _take(self, tiles: Sequence[Tile]) -> None:
        self._proven = True
        own = self._known.get((Kind.HEADER, 0))
        if own is None or layout.payload_of(own) != self._payload:
            own = layout.build_packet(Kind.HEADER, self._identity, 0, bytes(self._payload))
            self._known[Kind.HEADER, 0] = own
        self._corrected = tuple(tile.index for tile in tiles if (Kind.TILE, tile.index) not in self._known)
        for index in self._corrected:
            body = build_tile(self._header, self._identity, tiles[index])
            self._known[Kind.TILE, index] = layout.build_packet(Kind.TILE, self._identity, index, body)

    # --- Result -----------------------------------------------------------------------------------------------------

    def result(self) -> Restored:
        missing = self._missing()
        whole = self._proven and not missing
        return Restored(
            data=self._whole() if whole else patched(self._files, self._copies, self._known),
            whole=whole,
            missing=missing,
            needed=self._needed,
            restored=tuple(sorted(self._restored)),
            corrected=self._corrected,
            left_out=self._left_out(whole),
        )

    def _left_out(self, whole: bool) -> tuple[str, ...]:
        kept = set() if whole else set(self._files[best_of(self._files)].streams())
        others = dict.fromkeys(identity for file in self._files for identity in file.streams())
        return tuple(identity.hex() for identity in others if identity not in {self._identity, *kept})

    def _missing(self) -> tuple[str, ...]:
        """The packets that are missing, in words. INDEX and PARITY are not asked for: they follow from the others."""
        header = self._header
        count = header.tiles + header.metadata_packets + 2
        # No more are listed than there are bytes.
        if count > sum(len(file.data) for file in self._files):
            return (f"{count - len(self._known)} of {count} packets",)
        keys = (parity.packet_key(ordinal, header.metadata_packets) for ordinal in range(count))
        gone = [key for key in keys if key not in self._known and key[0] != Kind.INDEX]
        # Of a newer format: this release cannot say what was written.
        kinds = sorted({kind for file in self._files for kind in file.found.unknown})
        strange = [f"where packets of {kind_name(kind)} belong" for kind in kinds]
        return (*(f"{kind_name(kind)} {number}" for kind, number in gone), *strange)

    def _whole(self) -> bytes:
        """What was written: INDEX and PARITY are made anew."""
        header = self._header
        ordinals = range(header.tiles + header.metadata_packets + 2)
        keys = (parity.packet_key(ordinal, header.metadata_packets) for ordinal in ordinals)
        packets = {key: self._known[key] for key in keys if key[0] != Kind.INDEX}
        return assemble(packets, self._identity, header.parity, self._known)
