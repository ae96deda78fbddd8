"""Regions: what a whole decode has there, from the bytes that they need. The whole decode is the oracle."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import robuststream as rs
from robuststream import faults
from robuststream.container.access import read_front, read_tiles
from robuststream.container.layout import INDEX, build_packet
from robuststream.container.packets import Kind, Packet
from robuststream.container.report import Outcome, Rule
from robuststream.container.scanner import scan
from robuststream.picture.concealment import Mask
from robuststream.picture.grid import Grid
from tests.helpers import varint, without_headers
from tests.small import model, picture

HEIGHT, WIDTH, TILE = 330, 390, 64


class Counting(io.BytesIO):
    """A file that notes which of its bytes were asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked: set[int] = set()

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.asked.update(range(start, start + len(data)))
        return data


def stream(architecture: str = "mbt2018-mean", **options: object) -> bytes:
    return rs.encode(picture(HEIGHT, WIDTH), model(architecture), tile=TILE, **options)  # type: ignore[arg-type]


DATA = stream()


def packets(data: bytes, kind: Kind) -> list[Packet]:
    return [event for event in scan(data) if isinstance(event, Packet) and event.kind == kind]


def reindexed(distances: list[int], data: bytes = DATA) -> bytes:
    """The stream with another INDEX whose CRCs are right."""
    (index,) = packets(data, Kind.INDEX)
    payload = b"".join(map(varint, distances))
    return (
        data[: index.offset] + build_packet(Kind.INDEX, index.stream_id, 0, payload) + data[index.offset + index.size :]
    )


def same_as_whole(data: bytes, region: tuple[int, int, int, int], small: rs.Model) -> rs.DecodedRegion:
    """Decode a region and hold it against the whole decode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.DamageWarning)
        whole = rs.decode(data, small)
        with rs.open(data, small) as opened:
            out = opened.decode(region)
            again = opened.decode(region)
    left, top, right, bottom = region
    s = small.latent_stride
    assert torch.equal(out.latents, whole.latents[:, top // s : -(-bottom // s), left // s : -(-right // s)])
    cut = np.asarray(whole.image.crop(region)).astype(int)
    assert np.abs(np.asarray(out.image).astype(int) - cut).max() <= 1
    assert torch.allclose(out.tensor, whole.tensor[:, top:bottom, left:right], atol=1e-3)
    np.testing.assert_array_equal(out.mask, whole.mask[top:bottom, left:right])
    outcomes = whole.report.outcomes()
    assert out.report.tiles
    for tile in out.report.tiles:
        assert tile == whole.report.tiles[tile.index]
        assert tile.outcome == outcomes[tile.index]
    own = {tile.index for tile in out.report.tiles}
    found = {item for item in whole.report.findings if item.tile in own}
    assert found <= set(out.report.findings) <= set(whole.report.findings)
    assert torch.equal(again.latents, out.latents)
    assert again.report == out.report
    assert out.image.info == whole.image.info
    return out


@st.composite
def regions(draw: st.DrawFn) -> tuple[int, int, int, int]:
    left, top = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    right, bottom = draw(st.integers(left + 1, WIDTH)), draw(st.integers(top + 1, HEIGHT))
    return left, top, right, bottom


@settings(max_examples=15)
@given(regions())
def test_a_region_is_what_the_whole_has_there(region: tuple[int, int, int, int]) -> None:
    out = same_as_whole(DATA, region, model())
    assert out.report.exact
    assert out.report.verified
    assert not out.report.findings
    assert not out.mask.any()


@pytest.mark.parametrize("architecture", ["bmshj2018-factorized", "mbt2018", "elic2022-official"])
@pytest.mark.parametrize("mode", ["exact", "native"])
def test_every_kind_of_prior(architecture: str, mode: str) -> None:
    out = same_as_whole(stream(architecture, mode=mode), (70, 130, 120, 150), model(architecture))
    assert out.report.verified
    assert out.report.exact == (mode == "exact")


DAMAGE: dict[str, Callable[[bytes, int], bytes]] = {
    "one bit": lambda data, seed: faults.flip_bits(data, seed=seed, count=1),
    "some bits": lambda data, seed: faults.flip_bits(data, seed=seed, count=12),
    "bursts": lambda data, seed: faults.burst(data, seed=seed, length=40, count=3),
    "bytes deleted": lambda data, seed: faults.delete(data, seed=seed, length=9),
    "bytes put in": lambda data, seed: faults.insert(data, seed=seed, length=9),
    "front cut off": lambda data, seed: faults.cut_start(data, length=50 * seed),
    "end cut off": lambda data, seed: faults.truncate(data, len(data) * seed // 8),
    "tiles dropped": lambda data, seed: faults.drop_tiles(data, seed=seed, count=4),
    "packets moved": lambda data, seed: faults.reorder(data, seed=seed),
    "packets doubled": lambda data, seed: faults.duplicate(data, seed=seed),
}


@settings(max_examples=3)
@given(regions(), st.integers(1, 7))
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_region_is_what_the_whole_has_there(
    damage: str, region: tuple[int, int, int, int], seed: int
) -> None:
    same_as_whole(DAMAGE[damage](DATA, seed), region, model())


def test_only_the_tiles_of_the_region_are_read() -> None:
    tiles = packets(DATA, Kind.TILE)
    grid = Grid(WIDTH, HEIGHT, TILE, model().latent_stride, model().factor)
    box = grid.pixel_box(grid.columns + 1)
    file = Counting(DATA)
    with rs.open(file, model()) as opened:
        assert len(file.asked) <= tiles[0].offset
        out = opened.decode((box.left, box.top, box.right, box.bottom))
    # The tile and its eight neighbours, the whole packet of each, and not a byte of another's.
    wanted = [row * grid.columns + column for row in range(3) for column in range(3)]
    assert [tile.index for tile in out.report.tiles] == wanted
    asked = {place for place in file.asked if place >= tiles[0].offset}
    assert asked == {p for index in wanted for p in range(tiles[index].offset, tiles[index].offset + tiles[index].size)}
    assert out.report.container is None


def test_inside_a_tile_its_neighbours_are_not_read() -> None:
    with rs.open(rs.encode(picture(256, 256), model(), tile=128), model()) as opened:
        out = opened.decode((160, 160, 190, 190))
    assert [tile.index for tile in out.report.tiles] == [3]


def test_damage_elsewhere_is_not_looked_for() -> None:
    last = packets(DATA, Kind.TILE)[-1]
    hurt = DATA[: last.offset] + bytes(40) + DATA[last.offset + 40 :]
    file = Counting(hurt)
    with warnings.catch_warnings(), rs.open(file, model()) as opened:
        warnings.simplefilter("error")
        out = opened.decode((0, 0, 60, 60))
    assert out.report.exact
    assert out.report.findings == ()
    assert not any(last.offset <= place < last.offset + last.size for place in file.asked)
    assert not rs.inspect(hurt).intact


def test_a_lost_tile_is_concealed_and_told() -> None:
    hurt = faults.drop_tiles(DATA, tiles=[0])
    with rs.open(hurt, model()) as opened:
        with pytest.warns(
            rs.DamageWarning, match="1 of the 4 tiles of the region are not exact .*TILE-MISSING"
        ) as told:
            out = opened.decode((0, 0, 70, 70))
        assert told[0].filename == __file__
        same_as_whole(hurt, (0, 0, 70, 70), model())
        assert set(np.unique(out.mask)) == {Mask.MISSING, Mask.TOUCHED}
        assert not out.report.verified
        assert out.report.container is not None
        assert out.report.container.missing_tiles == 1
        # Tiles that do not reach as far are exact all the same.
        assert opened.decode((200, 200, 210, 210)).report.exact


@pytest.mark.parametrize("kind", [Kind.HEADER, Kind.INDEX, Kind.METADATA])
def test_a_damaged_front_has_the_file_scanned(kind: Kind) -> None:
    image = Image.fromarray(picture(200, 200))
    image.info["xmp"] = b"<x/>"
    data = rs.encode(image, model(), tile=TILE)
    first = packets(data, kind)[0]
    hurt = data[: first.offset + 3] + bytes(15) + data[first.offset + 18 :]
    out = same_as_whole(hurt, (0, 0, 60, 60), model())
    assert out.report.exact
    assert out.report.container is not None
    assert not out.report.container.intact
    assert out.image.info == ({} if kind == Kind.METADATA else {"xmp": b"<x/>"})


def true_distances() -> list[int]:
    (index,) = packets(DATA, Kind.INDEX)
    return list(INDEX.parse(index.payload))


@pytest.mark.parametrize(
    "lie",
    [
        lambda right: [],
        lambda right: right[:-1],
        lambda right: [*right, 5],
        lambda right: [right[0] + 1, *right[1:]],
        lambda right: [right[0] + right[1], *right[2:], right[1]],
        lambda right: [0] * len(right),
        lambda right: [right[0]] + [0] * (len(right) - 1),
        lambda right: [(1 << 32) - 1] * len(right),
    ],
)
def test_an_index_that_lies_is_found_out(lie: Callable[[list[int]], list[int]]) -> None:
    out = same_as_whole(reindexed(lie(true_distances())), (0, 0, 130, 130), model())
    assert out.report.exact
    assert any(finding.rule == Rule.INDEX for finding in out.report.findings)


def test_tiles_inside_tiles_are_not_read_again_and_again() -> None:
    """A hostile INDEX leads to tiles of which each holds all that follow."""
    tiles = packets(DATA, Kind.TILE)
    nested, distances = bytes(20_000), []
    for tile in reversed(tiles):
        size = len(nested)
        nested = build_packet(Kind.TILE, tile.stream_id, tile.number, nested)
        distances.insert(0, len(nested) - size - 4)
    hostile = reindexed([0, *distances[:-1]], DATA[: tiles[0].offset] + nested)
    total = 0

    def read(start: int, size: int) -> bytes:
        nonlocal total
        total += size
        return hostile[start : start + size]

    front = read_front(read)
    assert front is not None
    assert read_tiles(front, read, range(len(tiles))) is None
    assert total <= 2 * len(hostile)


def test_parity_gives_tiles_back() -> None:
    pytest.importorskip("raptorq")
    data = stream(parity=0.5)
    out = same_as_whole(data, (70, 70, 80, 80), model())
    assert out.report.exact
    assert out.report.container is None
    hurt = faults.drop_tiles(data, tiles=[8])
    out = same_as_whole(hurt, (70, 70, 80, 80), model())
    assert [tile.outcome for tile in out.report.tiles if tile.index == 8] == [Outcome.REPAIRED]


def test_a_borrowed_header() -> None:
    data, other = stream(), rs.encode(picture(HEIGHT, WIDTH, 1), model(), tile=TILE)
    bare = without_headers(data)
    region = (70, 70, 120, 100)
    with rs.open(data, model()) as opened, rs.open(bare, model(), header_from=io.BytesIO(other)) as borrowing:
        assert borrowing.header == opened.header
        for place in (region, None):
            one, two = opened.decode(place), borrowing.decode(place)
            assert torch.equal(one.latents, two.latents)
            assert torch.equal(one.tensor, two.tensor)
        # All tiles are there: the stream id proves the header.
        assert borrowing.decode(region, strict=True).report.verified
    with pytest.raises(rs.DamagedStream, match="no HEADER"):
        rs.open(bare, model())
    with pytest.raises(rs.NotARobustStream, match="there is no header to borrow"):
        rs.open(bare, model(), header_from=b"nothing")


def test_strict_is_about_the_region() -> None:
    grid = Grid(WIDTH, HEIGHT, TILE, model().latent_stride, model().factor)
    hurt = faults.drop_tiles(DATA, tiles=[grid.tiles - 1])
    with rs.open(hurt, model()) as opened:
        assert opened.decode((0, 0, 20, 20), strict=True).report.exact
        for place in ((WIDTH - 20, HEIGHT - 20, WIDTH, HEIGHT), None):
            with pytest.raises(rs.DamagedStream, match=f"tile {grid.tiles - 1}"):
                opened.decode(place, strict=True)


def test_whole_pictures() -> None:
    with rs.open(DATA, model()) as opened:
        whole = opened.decode()
        assert isinstance(whole, rs.Decoded)
        assert whole.report.exact
    out = same_as_whole(DATA, (0, 0, WIDTH, HEIGHT), model())
    assert out.report.container is not None
    assert out.report.container.intact


def test_what_the_header_says_needs_no_decode() -> None:
    grey = Image.fromarray(picture(40, 60)[:, :, 0])
    grey.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
    data = rs.encode(grey, model(), tile=TILE)
    with rs.open(data) as opened:
        assert opened.size == (60, 40)
        assert opened.mode == "L"
        assert opened.header.tile == TILE
        assert opened.stream_id == rs.inspect(data).stream_id
        assert opened.metadata.exif == grey.info["exif"][6:]
        assert repr(opened) == f"<StreamFile {opened.stream_id}, 60 x 40, L>"
    out = same_as_whole(data, (3, 4, 30, 31), model())
    assert out.image.mode == "L"


def test_opening_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "a.robs").write_bytes(DATA)
    code = "import sys, robuststream as rs; print(rs.open(sys.argv[1]).size, 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "a.robs")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"({WIDTH}, {HEIGHT}) False\n"


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *where: int) -> int:
        raise io.UnsupportedOperation("seek")

    tell = seek  # type: ignore[assignment]


def test_paths_and_files(tmp_path: Path) -> None:
    path = tmp_path / "a.robs"
    path.write_bytes(DATA)
    region = (0, 0, 60, 60)
    with rs.open(path, model()) as opened:
        expected = opened.decode(region).latents
    with pytest.raises(ValueError, match="closed"):
        opened.decode(region)
    behind = io.BytesIO(b"something" + DATA)
    behind.seek(9)
    for source in (str(path), behind, Pipe(DATA), bytearray(DATA), memoryview(DATA)):
        with rs.open(source, model()) as opened:
            assert torch.equal(opened.decode(region).latents, expected)
    assert not behind.closed
    with pytest.raises(FileNotFoundError):
        rs.open(tmp_path / "none.robs")


def test_refusals() -> None:
    with rs.open(DATA, model()) as opened:
        for region in [(0, 0, 0, 5), (5, 5, 4, 6), (-1, 0, 5, 5), (0, 0, WIDTH + 1, 5), (0, 0, 5, HEIGHT + 1)]:
            with pytest.raises(ValueError, match=f"not inside {WIDTH} x {HEIGHT} pixels"):
                opened.decode(region)
    with rs.open(DATA) as opened, pytest.raises(rs.ModelNotFound):
        opened.decode((0, 0, 5, 5))
    with rs.open(DATA, model("mbt2018")) as opened, pytest.raises(rs.ModelMismatch):
        opened.decode((0, 0, 5, 5))
    with pytest.raises(rs.ImageError, match="more than the limit"):
        rs.open(DATA, max_pixels=WIDTH * HEIGHT - 1)
    with pytest.raises(rs.NotARobustStream):
        rs.open(b"nothing")
    tile = packets(DATA, Kind.TILE)[0]
    with pytest.raises(rs.DamagedStream, match="no HEADER"):
        rs.open(DATA[tile.offset : tile.offset + tile.size])
    with rs.open(DATA[: tile.offset], model()) as opened, pytest.raises(rs.DamagedStream, match="none of the"):
        opened.decode((0, 0, 5, 5))
