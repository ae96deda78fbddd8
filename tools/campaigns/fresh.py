"""Streams of every layout, as they are written: `inspect` calls each of them intact.

Where packets and copies of the HEADER stand depends on sizes alone, so words are random and no model is needed. Sizes
that end close to where a copy of the HEADER is due are drawn more often than chance would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

import robuststream as rs
from campaigns.common import Draw, Random
from robuststream.container.packets import MAX_CHECKPOINTS, MAX_TILE, Colour, Header, Metadata, Mode, Tile
from robuststream.container.writer import write_stream

#: Bytes of the words of all tiles, at most: of nine streams in ten, and of the tenth.
SMALL, LARGE = 200_000, 3_600_000
MOST_TILES = 2000
#: Bytes of one tile's words: a packet holds 2^20, with what stands before them.
LARGEST_TILE = (1 << 20) - 2048
#: Without a copy of the HEADER no more bytes pass (spec/format.md, section 9).
INTERVAL = 32 * 1024
#: METADATA is cut into parts of so many bytes.
PART = 1 << 14
LARGEST_BLOCK = 300_000
MOST_EARLIER = 11
STATE_WORDS = 2


class Fresh:
    """A stream a trial."""

    def trial(self, number: int, random: Random, counts: Counter[str]) -> tuple[str, list[str]]:
        header = _header(random)
        sizes = _sizes(random, header.tiles)
        tiles = [_tile(header, index, int(size), random) for index, size in enumerate(sizes)]
        metadata = Metadata(*(_block(random) for _ in range(3)))
        notes = [len(block) for block in metadata.items().values()]
        did = (
            f"{header.tiles} tiles of {min(sizes)} to {max(sizes)} words, {header.mode.name.lower()} mode, "
            f"{'z' if header.z_checkpoint else 'no z'}, {header.checkpoints} checkpoints in y, parity "
            f"{header.parity / 1000}, metadata blocks of {notes or 'no'} bytes"
        )
        return did, list(self._wrong(header, tiles, metadata, counts))

    def _wrong(self, header: Header, tiles: list[Tile], metadata: Metadata, counts: Counter[str]) -> Iterator[str]:
        try:
            data = write_stream(header, tiles, metadata)
        except Exception as error:
            yield f"not written, {type(error).__name__}: {error}"
            return
        size = next(limit for limit in (10_000, INTERVAL, 10 * INTERVAL, 10**6, 10**8) if len(data) <= limit)
        counts[f"streams of up to {size} bytes"] += 1
        counts["streams with parity"] += bool(header.parity)
        try:
            report = rs.inspect(data)
        except Exception as error:
            yield f"not read, {type(error).__name__}: {error}"
            return
        if not report.intact:
            counts[f"trials with: called damaged as written, {report.findings[0].rule.value}"] += 1
            yield f"called damaged as written: {len(data)} bytes, {report.findings[0]}"
        elif (report.header.tiles, report.missing_tiles) != (len(tiles), 0):
            yield f"{report.header.tiles} tiles, {report.missing_tiles} of them missing, of {len(tiles)} written"


def _header(random: Random) -> Header:
    draw = Draw(random)
    count = draw.number(MOST_TILES)
    columns = draw.number(count)
    side = draw.number(MAX_TILE)
    z_checkpoint = bool(random.integers(2))
    return Header(
        width=columns * side - int(random.integers(side)),
        height=count // columns * side - int(random.integers(side)),
        tile=side,
        parameters_digest=random.bytes(16),
        synthesis_digest=random.bytes(16),
        mode=Mode(int(random.integers(2))),
        colour=Colour(int(random.integers(2))),
        z_checkpoint=z_checkpoint,
        quality=draw.one_of([0, draw.number(1 << 30)]),
        checkpoints=draw.one_of([0, int(random.integers(MAX_CHECKPOINTS + 1))]),
        parity=draw.one_of([0, 0, draw.number(1000)]),
        model_name="n" * int(random.integers(65)),
    )


def _sizes(random: Random, tiles: int) -> list[int]:
    """Words of each tile."""
    draw = Draw(random)
    mean = max(STATE_WORDS, draw.number((LARGE if random.random() < 0.1 else SMALL) / 4) // tiles)
    way = draw.one_of(["even", "any", "one large", "close to the next HEADER"])
    if way == "even":
        sizes = random.integers(mean, mean + 1 + draw.number(8), tiles)
    elif way == "any":
        sizes = np.exp(random.uniform(np.log(STATE_WORDS), np.log(2 * mean + 1), tiles)).astype(int)
    elif way == "one large":
        sizes = random.integers(STATE_WORDS, 20, tiles)
        sizes[random.integers(tiles)] = mean * tiles
    else:
        # So many tiles fill the interval but for some bytes, or are more than it by some.
        together = min(draw.number(max(1, INTERVAL // (4 * mean))) + 1, INTERVAL // 40)
        words = (INTERVAL // together - int(random.integers(120))) // 4
        sizes = np.full(tiles, max(STATE_WORDS, words)) + random.integers(2, size=tiles)
        sizes = sizes[np.cumsum(sizes) <= LARGE / 4]
        sizes = np.concatenate([sizes, random.integers(STATE_WORDS, 20, tiles - len(sizes))])
    return [int(size) for size in np.clip(sizes, STATE_WORDS, LARGEST_TILE // 4)]


def _tile(header: Header, index: int, words: int, random: Random) -> Tile:
    z_words = int(random.integers(STATE_WORDS, words + 1)) if header.z_checkpoint else None
    digest, *earlier = (
        int(value) for value in random.integers(1 << 32, size=1 + int(random.integers(MOST_EARLIER + 1)))
    )
    return Tile(index, random.bytes(4 * words), digest, z_words, tuple(earlier) if header.mode == Mode.NATIVE else ())


def _block(random: Random) -> bytes | None:
    """A block of metadata: none, of any size, or of about as many parts as fill packets."""
    draw = Draw(random)
    if random.random() < 0.7:
        return None
    parts = PART * draw.number(LARGEST_BLOCK // PART) - int(random.integers(-40, 40))
    return random.bytes(int(draw.one_of([0, draw.number(100), draw.number(PART), parts, draw.number(LARGEST_BLOCK)])))
