"""Damaged streams through the reader: what it gives is what was written, and nothing that stands whole is missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from campaigns.common import Random, Written, describe, draw, headers_survive, surviving_tiles
from robuststream.container.packets import Header, Metadata, Mode, Tile
from robuststream.container.stream import Stream
from robuststream.container.writer import write_stream
from robuststream.errors import RobustStreamError
from robuststream.transfers.reading import read_stream

#: Streams of each kind, which are spliced into each other.
SERIES = 3
NOTES = Metadata(icc=bytes(range(60)), exif=b"MM\0*\0\0\0\x08\0\0", xmp=b"<x/>")


class Original(Written):
    """A stream of random words, and the values it was written from."""

    def __init__(self, header: Header, tiles: list[Tile], metadata: Metadata) -> None:
        super().__init__(write_stream(header, tiles, metadata))
        self.tiles = dict(enumerate(tiles))
        self.metadata = metadata
        self.header = read_stream(self.data).header


def kinds() -> dict[str, list[Original]]:
    """Series of small streams by kind."""

    def series(
        tile: int = 32, words: int = 9, metadata: Metadata = NOTES, mode: Mode = Mode.EXACT, **fields: int
    ) -> list[Original]:
        header = Header(64, 64, tile, bytes(range(16)), bytes(range(16, 32)), mode, **fields)  # type: ignore[arg-type]
        originals = []
        for seed in range(SERIES):
            random = np.random.default_rng(seed)
            tiles = [_tile(header, index, words, random) for index in range(header.tiles)]
            originals.append(Original(header, tiles, metadata))
        return originals

    return {
        "plain": series(metadata=Metadata()),
        "with metadata": series(),
        "factorized": series(z_checkpoint=False),
        "native": series(mode=Mode.NATIVE),
        "longer tiles": series(words=60),
        "16 tiles": series(tile=16, words=4, metadata=Metadata()),
        "parity": series(parity=200, words=5),
        "much parity": series(parity=1000, metadata=Metadata()),
    }


def _tile(header: Header, index: int, words: int, random: Random) -> Tile:
    size = int(random.integers(2, 2 * words))
    z_words = int(random.integers(2, size + 1)) if header.z_checkpoint else None
    digests = tuple(int(value) for value in random.integers(1 << 32, size=1 + int(random.integers(3))))
    earlier = digests[1:] if header.mode == Mode.NATIVE else ()
    return Tile(index, random.bytes(4 * size), digests[0], z_words, earlier)


class Container:
    """One damaged stream a trial; kinds in turn."""

    def __init__(self) -> None:
        self.kinds = kinds()
        self.known = {item.identity: item for series in self.kinds.values() for item in series}

    def trial(self, number: int, random: Random, counts: Counter[str]) -> tuple[str, list[str]]:
        kind = list(self.kinds)[number % len(self.kinds)]
        original, *others = self.kinds[kind]
        damage = draw(random, len(original.data), [other.data for other in others])
        hurt = damage(original.data)
        counts["damaged streams" if hurt != original.data else "streams that the damage left as they were"] += 1
        return f"{kind}: {describe(damage)}", list(self._wrong(hurt, counts))

    def _wrong(self, hurt: bytes, counts: Counter[str]) -> Iterator[str]:
        try:
            stream = read_stream(hurt)
        except RobustStreamError as error:
            counts["refused, no HEADER being left whole"] += 1
            if headers_survive(hurt, self.known):
                yield f"a HEADER packet stands whole, and the file is refused: {error}"
        except Exception as error:
            yield f"foreign exception, {type(error).__name__}: {error}"
        else:
            yield from self._untrue(stream, hurt, counts)

    def _untrue(self, stream: Stream, hurt: bytes, counts: Counter[str]) -> Iterator[str]:
        original = self.known.get(stream.stream_id)
        if original is None or stream.header != original.header:
            # Bits were put right in a HEADER that was hit more heavily: nothing may be called proven.
            counts["header guessed wrongly (all tiles unproven)"] += 1
            if headers_survive(hurt, self.known):
                yield "a header that was not written, though one that was written stands whole"
            if set(stream.tiles) - set(stream.unproven):
                yield "a header that was not written, and tiles not called unproven"
            return
        survivors = surviving_tiles(original, hurt, self.known)
        counts["tiles that stand whole"] += len(survivors)
        counts["tiles accepted"] += len(stream.tiles)
        counts["tiles of which z is salvaged"] += len(stream.salvaged)
        counts["tiles with candidates"] += len(stream.candidates)
        if lost := set(survivors) - set(stream.tiles):
            yield f"tiles {sorted(lost)} stand whole and are not found"
        for index, tile in stream.tiles.items():
            if tile != original.tiles[index]:
                yield f"tile {index} is not what was written"
        for index, salvage in stream.salvaged.items():
            z_words = original.tiles[index].z_words
            if z_words is None or salvage.words != original.tiles[index].words[: 4 * z_words]:
                yield f"the salvaged z of tile {index} is not what was written"
        for kind, block in stream.metadata.items().items():
            if block != original.metadata.items().get(kind):
                yield f"the {kind.name} block is not what was written"
        if stream.report.intact != (hurt == original.data):
            yield f"called {'intact' if stream.report.intact else 'damaged'}"
