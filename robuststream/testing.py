"""Hypothesis strategies for tests of readers: small valid streams, and damage of every kind of `robuststream.faults`.

    from hypothesis import given
    from robuststream import testing

    @given(testing.streams(), testing.damage())
    def test_my_reader(stream: bytes, damage: testing.Damage) -> None:
        my_reader(damage(stream))

Streams are valid at the level of the container: packets, checksums and the stream id hold, but no model has their
digests, and their rANS words are random. Needs hypothesis: `pip install 'robuststream[testing]'`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("robuststream.testing needs hypothesis: pip install 'robuststream[testing]'") from error

from robuststream import faults
from robuststream.container.layout import NAME_BYTES
from robuststream.container.packets import MAX_CHECKPOINTS, MAX_TILE, Colour, Header, Metadata, Mode, Tile
from robuststream.container.tiles import MAX_EARLIER_DIGESTS, STATE_WORDS, WORD
from robuststream.container.writer import write_stream

#: Of a datagram or a run, in bytes: any intact stream is three such datagrams or more.
LONGEST_PIECE = 60

U32 = st.integers(0, (1 << 32) - 1)
Strategy = st.SearchStrategy

# --- Valid streams -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Content:
    """What a stream is written from. `read_stream(content.data)` gives the same back.

    Attributes:
        header: as for `write_stream`, which sets `metadata_packets` in the stream.
        tiles: all tiles, in raster order.
        metadata: blocks of any bytes, also empty ones.
    """

    header: Header
    tiles: tuple[Tile, ...]
    metadata: Metadata

    @property
    def data(self) -> bytes:
        """The stream."""
        return write_stream(self.header, self.tiles, self.metadata)


@st.composite
def contents(draw: st.DrawFn, max_side: int = 3, max_words: int = 20) -> Content:
    """Contents of streams: any header fields and digests, in exact and native mode, with and without checkpoints.

    Args:
        max_side: most tiles in a row and in a column.
        max_words: most rANS words of 4 bytes in a tile, 2 or more.
    """
    side = draw(st.integers(1, MAX_TILE))
    header = Header(
        width=draw(_lengths(side, max_side)),
        height=draw(_lengths(side, max_side)),
        tile=side,
        parameters_digest=draw(st.binary(min_size=16, max_size=16)),
        synthesis_digest=draw(st.binary(min_size=16, max_size=16)),
        mode=draw(st.sampled_from(Mode)),
        colour=draw(st.sampled_from(Colour)),
        z_checkpoint=draw(st.booleans()),
        quality=draw(st.one_of(st.integers(0, 10), U32)),
        checkpoints=draw(st.integers(0, MAX_CHECKPOINTS)),
        # A character takes at most 4 bytes in UTF-8, and the header has room for so many.
        model_name=draw(st.text(max_size=NAME_BYTES // 4)),
    )
    tiles = tuple(draw(_tiles(header, index, max_words)) for index in range(header.tiles))
    blocks = st.none() | st.binary(max_size=40)
    # One kind may be so long that it takes several packets, with copies of the header between them.
    long = blocks | st.binary(min_size=1, max_size=40).map(lambda block: block * 1000)
    return Content(header, tiles, Metadata(icc=draw(blocks), exif=draw(blocks), xmp=draw(long)))


def streams(max_side: int = 3, max_words: int = 20) -> Strategy[bytes]:
    """Small valid streams, of some 170 bytes to some 50 kB. The arguments are those of `contents`."""
    return contents(max_side, max_words).map(lambda content: content.data)


def _lengths(side: int, most: int) -> Strategy[int]:
    """Pixels that 1 to `most` tiles of `side` cover, the last one perhaps in part."""
    return st.integers(1, most).flatmap(lambda count: st.integers((count - 1) * side + 1, count * side))


@st.composite
def _tiles(draw: st.DrawFn, header: Header, index: int, most: int) -> Tile:
    words = draw(st.integers(STATE_WORDS, most))
    return Tile(
        index,
        words=draw(st.binary(min_size=words * WORD, max_size=words * WORD)),
        digest=draw(U32),
        z_words=draw(st.integers(STATE_WORDS, words)) if header.z_checkpoint else None,
        earlier=tuple(draw(st.lists(U32, max_size=MAX_EARLIER_DIGESTS))) if header.mode == Mode.NATIVE else (),
    )


# --- Damage --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One injector of `robuststream.faults`, by name, and its arguments but for the data."""

    name: str
    arguments: dict[str, Any]

    def __call__(self, data: bytes) -> bytes:
        """Raises ValueError where the data does not allow it."""
        injector: Callable[..., bytes] = getattr(faults, self.name)
        return injector(data, **self.arguments)


@dataclass(frozen=True)
class Damage:
    """Damage as a function from bytes to bytes, the same whenever it is called; any bytes are allowed.

    Steps happen one after the other. One that the data does not allow (a packet is to be doubled, and none is left) is
    passed over. Printed, it is the calls that it makes, to be pasted from a failing example; where
    one is passed over, the printed call raises that step's ValueError.
    """

    steps: tuple[Step, ...]

    def __call__(self, data: bytes) -> bytes:
        for step in self.steps:
            try:
                data = step(data)
            except ValueError:
                continue
        return data

    def __repr__(self) -> str:
        call = "data"
        for step in self.steps:
            arguments = "".join(f", {name}={value!r}" for name, value in step.arguments.items())
            call = f"faults.{step.name}({call}{arguments})"
        return f"<Damage {call}>"


def damage(max_steps: int = 3) -> Strategy[Damage]:
    """Functions from bytes to bytes: 1 to `max_steps` injectors of `robuststream.faults`, one after the other.

    They need not change anything: a rate of 0 is a rate.
    """
    return st.lists(steps(), min_size=1, max_size=max_steps).map(lambda drawn: Damage(tuple(drawn)))


def damaged_streams() -> Strategy[bytes]:
    """Streams with damage done to them."""
    return st.builds(lambda stream, hurt: hurt(stream), streams(), damage())


def steps() -> Strategy[Step]:
    """Single injectors, all kinds alike; each does its work on any intact stream."""
    # Small numbers as well as any, so that damage between none and all is likely.
    rate = st.one_of(st.floats(0, 0.01), st.floats(0, 1))
    change = st.floats(0.001, 1)
    channel = st.builds(faults.GilbertElliott, to_bad=change, to_good=change, error_good=rate, error_bad=rate)
    length, count, places = st.integers(0, LONGEST_PIECE), st.integers(1, 3), st.integers(0, 1000)
    mtu = st.integers(1, LONGEST_PIECE)
    packets = st.none() | mtu

    def step(name: str, **arguments: Strategy[Any]) -> Strategy[Step]:
        return st.fixed_dictionaries(arguments).map(lambda drawn: Step(name, drawn))

    def seeded(name: str, **arguments: Strategy[Any]) -> Strategy[Step]:
        return step(name, seed=U32, **arguments)

    runs = {"length": length, "count": count}
    return st.one_of(
        seeded("flip_bits", count=count),
        seeded("flip_bits", rate=rate),
        seeded("channel_errors", channel=channel, unit=st.sampled_from(["bits", "bytes"])),
        seeded("burst", **runs),
        seeded("zero_sectors", count=count, size=st.integers(1, LONGEST_PIECE)),
        step("truncate", length=places),
        step("cut_start", length=places),
        seeded("delete", **runs),
        seeded("insert", **runs),
        seeded("lose_datagrams", mtu=mtu, rate=rate, lost=st.sampled_from(["removed", "zeroed"])),
        seeded("lose_datagrams", mtu=mtu, channel=channel, lost=st.sampled_from(["removed", "zeroed"])),
        seeded("duplicate", mtu=packets, count=count),
        seeded("reorder", mtu=packets, count=st.integers(2, 3)),
        seeded("splice", other=streams(), count=count),
        seeded("splice", other=streams(), count=count, length=length),
        seeded("drop_tiles", count=st.just(1)),
        step("drop_tiles", tiles=st.lists(st.integers(0, 9), max_size=3)),
    )
