"""What a stream consists of, as frozen values (spec/format.md, sections 4 to 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

#: Bytes, or a view of bytes held elsewhere, so that a large file is not held twice.
Buffer = bytes | memoryview

MAJOR = 1
MINOR = 0
#: A decoder refuses more declared pixels unless told otherwise; about the limit where Pillow warns, tripled.
MAX_PIXELS = 1 << 28
#: A tile is decoded as a whole, so the memory of a decode grows with its side: it is limited.
MAX_TILE = 4096
#: What an encoder takes unless told otherwise: a tile's side in pixels, and checkpoints inside y of each tile (6 bytes,
#: for 2 dB in a tile that is hit, against one of 2 bytes).
DEFAULT_TILE, DEFAULT_CHECKPOINTS = 256, 3
#: Inside y of each tile.
MAX_CHECKPOINTS = 15
#: Repair symbols for each source symbol.
MAX_PARITY = 4
#: Stands before EXIF in JPEG, and in Pillow's `info`, but not in a stream (section 8).
EXIF_PREFIX = b"Exif\0\0"


#: Of packets: kind and number.
Key = tuple[int, int]


class Kind(IntEnum):
    """Packet kinds. As in PNG a lower-case letter (bit 5 set) marks a kind that a decoder may skip."""

    HEADER = ord("H")
    TILE = ord("T")
    INDEX = ord("i")
    METADATA = ord("m")
    PARITY = ord("p")
    UNIT = ord("U")  # no part of a stream: spec/packed.md


def is_critical(kind: int) -> bool:
    return not kind & 0x20


def kind_name(kind: int) -> str:
    try:
        return Kind(kind).name
    except ValueError:
        return f"kind {kind:#04x}"


class Mode(IntEnum):
    """How the entropy parameters were computed."""

    EXACT = 0
    NATIVE = 1

    @property
    def proof(self) -> str:
        """What a tile is called that is proven to decode to the encoder's symbols."""
        return "exact" if self == Mode.EXACT else "verified"


class Colour(IntEnum):
    """What the three decoded channels mean."""

    RGB = 0
    GREY = 1


class MetadataType(IntEnum):
    ICC = 1
    EXIF = 2
    XMP = 3


@dataclass(frozen=True)
class TileLayout:
    """How a picture of width x height pixels is cut into square tiles of `tile` pixels (spec/format.md, section 17)."""

    width: int
    height: int
    tile: int

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile)

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile)

    @property
    def tiles(self) -> int:
        """Number of tiles; tile i lies in row i // columns, column i % columns."""
        return self.columns * self.rows


@dataclass(frozen=True)
class Header(TileLayout):
    """Everything a decoder must know but the tiles themselves.

    Attributes:
        width, height: of the picture, in pixels.
        tile: side of a square tile, in pixels.
        parameters_digest: 16 bytes; names the entropy networks and CDF tables (spec/model.md, section 6).
        synthesis_digest: 16 bytes; names the synthesis transform.
        quality: index of the gain, in models of variable rate.
        z_checkpoint: each tile carries a checkpoint after z; not with factorized priors, which have no z.
        checkpoints: how many each tile carries inside y.
        metadata_packets: how many METADATA packets belong to the stream.
        parity: repair symbols for each thousand source symbols; 0 for a stream without PARITY packets.
        model_name: an untrusted hint for messages, at most 64 bytes in UTF-8.
        version: (major, minor) as read; writers write (MAJOR, MINOR).
    """

    parameters_digest: bytes
    synthesis_digest: bytes
    mode: Mode = Mode.EXACT
    colour: Colour = Colour.RGB
    z_checkpoint: bool = True
    quality: int = 0
    checkpoints: int = 0
    metadata_packets: int = 0
    parity: int = 0
    model_name: str = ""
    version: tuple[int, int] = (MAJOR, MINOR)


@dataclass(frozen=True)
class Tile:
    """One tile as coded.

    Attributes:
        index: position in raster order.
        words: the rANS string: 32-bit little-endian words, the state's two first.
        digest: CRC-32C over the entropy parameters the encoder used.
        z_words: words of `words` that end at the seam between z and y, or None for priors without z.
        earlier: in native mode, the digests after the groups of steps before the last.
    """

    index: int
    words: Buffer
    digest: int
    z_words: int | None = None
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet whose two checksums hold. `offset` and `size` place the whole packet in the file, in bytes."""

    kind: int
    stream_id: bytes
    number: int
    payload: Buffer = field(repr=False)
    offset: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class DamagedPacket:
    """A packet header whose CRC-16 holds or is put right, before a payload whose CRC-32C does not hold, or that the
    file's end cuts off.

    `payload_start` and `payload_end` are file positions; the end may lie behind the end of the file.
    """

    kind: int
    stream_id: bytes
    number: int
    offset: int
    payload_start: int
    payload_end: int


@dataclass(frozen=True, slots=True)
class Gap:
    """File positions [start, end) that belong to no intact packet."""

    start: int
    end: int


Event = Packet | Gap


@dataclass(frozen=True)
class Salvage:
    """What is left of a damaged tile: the first words of its string, proven by its checkpoints.

    `words` end at the seam, or behind `pieces` pieces of y. The digests are those stored; only where there are pieces
    are they proven as well. `z_words` as in Tile.
    """

    index: int
    words: bytes
    digest: int
    z_words: int | None
    earlier: tuple[int, ...]
    pieces: int


@dataclass(frozen=True)
class Candidate:
    """A damaged tile as it would be with one or two bits put right: a guess that a decode may prove.

    `flips` are the bits' positions in the file, 8 * byte + bit. A candidate without flips is the tile as it stands. It
    is never taken, only compared: where that decodes as well, a decode does not prove the pair of bits.
    """

    tile: Tile
    flips: tuple[int, ...]


@dataclass(frozen=True)
class Metadata:
    """Colour profile and descriptive blocks, byte for byte as they stood in the source picture."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    def items(self) -> Mapping[MetadataType, bytes]:
        given = {MetadataType.ICC: self.icc, MetadataType.EXIF: self.exif, MetadataType.XMP: self.xmp}
        return {kind: value for kind, value in given.items() if value is not None}

    def info(self) -> dict[str, bytes]:
        """The blocks as Pillow's own readers give them in an image's `info`."""
        exif = None if self.exif is None else EXIF_PREFIX + self.exif
        given = {"icc_profile": self.icc, "exif": exif, "xmp": self.xmp}
        return {name: value for name, value in given.items() if value is not None}
