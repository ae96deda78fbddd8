"""What a reader or decoder says about a stream: facts, findings with stable rule ids, a state for each tile."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from robuststream.container.packets import Header

#: Version of the JSON form, `spec/report.schema.json`.
SCHEMA_VERSION = 1
#: Findings beyond this many are counted, not kept, so that a hostile file cannot fill the memory; but of each rule the
#: first is kept, whatever came before.
MAX_FINDINGS = 1000


class Rule(str, Enum):
    """Stable ids of findings. `spec/format.md`, section 11, gives each a sentence."""

    GAP = "ROBS-GAP"
    PACKET_CRC = "ROBS-PACKET-CRC"
    TILE_CRC = "ROBS-TILE-CRC"
    TILE_MISSING = "ROBS-TILE-MISSING"
    TILE_FORMAT = "ROBS-TILE-FORMAT"
    TILE_CONFLICT = "ROBS-TILE-CONFLICT"
    DUPLICATE = "ROBS-DUPLICATE"
    FOREIGN = "ROBS-FOREIGN"
    HEADER_CONFLICT = "ROBS-HEADER-CONFLICT"
    HEADER_BORROWED = "ROBS-HEADER-BORROWED"
    ORDER = "ROBS-ORDER"
    INDEX = "ROBS-INDEX"
    METADATA = "ROBS-METADATA"
    PARITY = "ROBS-PARITY"
    STREAM_ID = "ROBS-STREAM-ID"
    DESYNC = "ROBS-CONTEXT-DESYNC"
    ENTROPY = "ROBS-ENTROPY"
    CORRECTED = "ROBS-CORRECTED"
    TRANSFER = "ROBS-TRANSFER"


#: Found by decoding. The bytes are those that were written, but the decoder cannot follow them.
DECODING_RULES = (Rule.DESYNC, Rule.ENTROPY)


class TileState(str, Enum):
    """What the container holds of a tile."""

    INTACT = "intact"
    DAMAGED = "damaged"
    MISSING = "missing"


class Outcome(str, Enum):
    """What became of a tile's latents in a decode."""

    EXACT = "exact"
    VERIFIED = "verified"  # native mode: all digests hold, so all symbols are the encoder's
    REPAIRED = "repaired"  # proven after parity gave bytes back, or flipped bits or native parameters were put right
    UNPROVEN = "unproven"  # decoded, but header and tiles contradict each other, or nothing confirms the header
    CONCEALED = "concealed"
    MISSING = "missing"


#: Outcomes whose symbols are proven to be the encoder's.
PROVEN = (Outcome.EXACT, Outcome.VERIFIED, Outcome.REPAIRED)


@dataclass(frozen=True)
class Finding:
    """One fault. `start` and `end` are file positions in bytes, where it has a place."""

    rule: Rule
    message: str
    start: int | None = None
    end: int | None = None
    tile: int | None = None

    def __str__(self) -> str:
        tile = "" if self.tile is None else f", tile {self.tile}"
        place = "" if self.start is None or self.end is None else f", bytes {self.start}-{self.end - 1}"
        return f"{self.rule.value}{tile}{place}: {self.message}"


@dataclass(frozen=True)
class TileReport:
    """One tile. `offset` and `size` are of its packet, in bytes; None where no packet header was found.

    Of a damaged tile `z_salvaged` says that the checkpoint proves the hyperprior's part, `y_salvaged` how many of the
    header's `checkpoints` prove the first parts of y, `correctable` that one or two flipped bits would explain the
    damage, which only a decode can prove.
    `outcome` is None until a decode.
    """

    index: int
    state: TileState
    offset: int | None = None
    size: int | None = None
    z_salvaged: bool = False
    y_salvaged: int = 0
    correctable: bool = False
    outcome: Outcome | None = None


@dataclass(frozen=True)
class StreamReport:
    """All that is known of a stream.

    Attributes:
        file_bytes: size of the input.
        stream_id: 8 hexadecimal digits.
        header: the header that counted.
        packets: number of intact packets of this stream, by kind.
        entropy_bytes: bytes of rANS words in intact tiles; the rest is parity, metadata, framing and damage.
        parity_bytes: bytes of PARITY packets.
        metadata_bytes: bytes of METADATA packets.
        tiles: a state for each tile; those never seen are left out where the header declares more tiles than the file
            has bytes, and `missing_tiles` counts them all the same.
        other_streams: ids of streams whose packets stand in the same file.
        findings: faults, in file order; `findings_left_out` more were counted only.
    """

    file_bytes: int
    stream_id: str
    header: Header
    packets: dict[str, int]
    entropy_bytes: int
    parity_bytes: int
    metadata_bytes: int
    tiles: tuple[TileReport, ...]
    missing_tiles: int
    other_streams: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    findings_left_out: int = 0

    @property
    def intact(self) -> bool:
        """No byte of the file is wrong, missing or too many, and nothing in it contradicts itself."""
        return all(finding.rule in DECODING_RULES for finding in self.findings)

    @property
    def exact(self) -> bool | None:
        """Every tile was decoded from the bytes that were written, to the encoder's latents; None before a decode.

        Not where a tile is repaired: then the decode is `verified`. Never where header and tiles contradict each other
        or the stream id: then none is proven the encoder's.
        """
        if not self.tiles or any(tile.outcome is None for tile in self.tiles):
            return None
        return self._proven() and all(tile.outcome == Outcome.EXACT for tile in self.tiles)

    @property
    def verified(self) -> bool | None:
        """Every tile's symbols are proven to be the encoder's: it is exact, repaired, or in native mode verified; None
        before a decode. In exact mode the latents are the encoder's as well."""
        if self.exact is None:
            return None
        return self._proven()

    def _proven(self) -> bool:
        return len(self.tiles) == self.header.tiles and all(tile.outcome in PROVEN for tile in self.tiles)

    def decoded(self, outcomes: dict[int, Outcome], findings: tuple[Finding, ...]) -> StreamReport:
        """This report with what a decode found added: an outcome for every tile of the picture."""
        listed = {tile.index: tile for tile in self.tiles}
        tiles = tuple(
            replace(listed.get(index) or TileReport(index, TileState.MISSING), outcome=outcome)
            for index, outcome in sorted(outcomes.items())
        )
        return replace(self, tiles=tiles, findings=self.findings + findings)

    def outcomes(self) -> dict[int, Outcome]:
        """What became of the tiles that a decode looked at, by index."""
        return {tile.index: tile.outcome for tile in self.tiles if tile.outcome is not None}

    def to_json(self) -> dict[str, Any]:
        """Plain values as `spec/report.schema.json` describes them."""
        header = asdict(self.header)
        for name in ("parameters_digest", "synthesis_digest"):
            header[name] = header[name].hex()
        header |= {"mode": self.header.mode.name.lower(), "colour": self.header.colour.name.lower()}
        header["version"] = ".".join(map(str, self.header.version))
        return {
            "schema": SCHEMA_VERSION,
            "file_bytes": self.file_bytes,
            "stream_id": self.stream_id,
            "intact": self.intact,
            "exact": self.exact,
            "verified": self.verified,
            "header": header,
            "packets": self.packets,
            "entropy_bytes": self.entropy_bytes,
            "parity_bytes": self.parity_bytes,
            "metadata_bytes": self.metadata_bytes,
            "missing_tiles": self.missing_tiles,
            "tiles": [_plain(tile) for tile in self.tiles],
            "other_streams": list(self.other_streams),
            "findings": [_plain(finding) for finding in self.findings],
            "findings_left_out": self.findings_left_out,
        }


@dataclass
class Findings:
    """Collects findings up to a limit."""

    kept: list[Finding] = field(default_factory=list)
    left_out: int = 0
    _rules: set[Rule] = field(default_factory=set)

    def add(
        self, rule: Rule, message: str, start: int | None = None, end: int | None = None, tile: int | None = None
    ) -> None:
        if len(self.kept) < MAX_FINDINGS or rule not in self._rules:
            self._rules.add(rule)
            self.kept.append(Finding(rule, message, start, end, tile))
        else:
            self.left_out += 1

    def in_file_order(self) -> tuple[Finding, ...]:
        return tuple(sorted(self.kept, key=lambda finding: (finding.start is None, finding.start or 0)))


def _plain(value: TileReport | Finding) -> dict[str, Any]:
    return {key: item.value if isinstance(item, Enum) else item for key, item in asdict(value).items()}
