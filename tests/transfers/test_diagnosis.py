"""Each kind of transfer is named on streams it went over, what can be had back is, and nothing else is ever named."""

from __future__ import annotations

import base64
import gzip
import io
import lzma
import struct
import sys
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import robuststream as rs
from robuststream import faults
from robuststream.container.layout import GUARD, build_header
from robuststream.container.packets import Kind as PacketKind
from robuststream.container.packets import Metadata
from robuststream.container.report import Outcome, Rule
from robuststream.container.scanner import scan
from robuststream.container.tiles import build_tile
from robuststream.container.writer import write_stream
from robuststream.errors import DamagedStream, NotARobustStream, UnsupportedVersion
from robuststream.testing import damage, streams
from robuststream.transfers import diagnosis, wrappings
from robuststream.transfers.diagnosis import Transfer, TransferKind, diagnose, undo, undone
from robuststream.transfers.reading import read_restored, read_stream, restore
from tests.helpers import memory_below, packet, random_tiles, sample_header, sample_stream
from tests.small import model, picture

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from campaigns.transfers import NOTHING, TRANSFERS, WHOLLY, as_text

DATA = sample_stream()[2]
#: Quoted-printable of text has one kind of line end: it makes every LF a CRLF where the first one is.
CHANGES_ENDS = ("UTF-8 with ends to LF", "quoted-printable")
EXACT = [name for name, (kind, _) in TRANSFERS.items() if kind in WHOLLY and name not in CHANGES_ENDS]
TO_CRLF = TRANSFERS["LF to CRLF"][1]


# --- Names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFERS)
@pytest.mark.parametrize("words", [2, 9, 60, 700])
def test_each_kind_is_named_and_undone_as_far_as_it_says(name, words):
    kind, hurt = TRANSFERS[name]
    for seed in range(3):
        data = sample_stream(words=words, seed=seed)[2]
        found = undone(hurt(data))
        assert found is not None
        made, told = found
        assert told.kind == kind
        assert told.undoable == (kind not in NOTHING)
        assert "\n" not in told.message
        if words < 60 and told.undoable:
            assert made == data
        elif not told.undoable:
            assert made == hurt(data)


@settings(max_examples=150)
@given(streams(), st.sampled_from(EXACT))
def test_what_takes_nothing_away_is_undone_to_the_byte(data, name):
    kind, hurt = TRANSFERS[name]
    made, told = undone(hurt(data))
    assert (made, told.kind, told.undoable, told.guessed) == (data, kind, True, False)


@settings(max_examples=150)
@given(streams(max_side=2), st.sampled_from([name for name in TRANSFERS if name not in EXACT]))
def test_all_others_are_named_and_no_tile_is_wrong(data, name):
    kind, hurt = TRANSFERS[name]
    told = undone(hurt(data))[1]
    assert told.kind == kind
    right = read_stream(data)
    try:
        stream = read_stream(hurt(data))
    except (NotARobustStream, DamagedStream) as error:
        said = str(error)
        assert told.message in said
        return
    assert stream.header == right.header
    assert stream.tiles.items() <= right.tiles.items()
    assert not stream.report.intact


def test_every_kind_is_tried():
    others = {TransferKind.ZSTANDARD, TransferKind.SEVEN_ZIP, TransferKind.HTML, TransferKind.LFS_POINTER}
    assert {kind for kind, _ in TRANSFERS.values()} | others == set(TransferKind)


def test_the_guard_tells_every_change_of_line_ends_apart():
    made = {kind: ends.guard for kind, ends in diagnosis._LINE_ENDS.items()}
    assert len(set(made.values())) == len(made)
    for kind, hurt in TRANSFERS.values():
        if kind in made:
            assert hurt(b"\1\2" + GUARD + b"\1")[2:-1] == made[kind]


# --- Never without reason -------------------------------------------------------------------------------------------


@given(streams())
def test_a_stream_is_not_named(data):
    assert diagnose(data) is None
    assert undone(data) is None


@settings(max_examples=200)
@given(streams(max_side=2, max_words=6), st.integers(0, 1 << 32), st.integers(1, 60))
def test_flipped_bits_are_not_named(data, seed, count):
    """Up to one in some 60: of far more, chance makes another guard now and then."""
    assert diagnose(faults.flip_bits(data, count=min(count, 8 * len(data)), seed=seed)) is None


@settings(max_examples=200)
@given(streams(max_side=2, max_words=6), damage())
def test_no_other_damage_is_named_but_an_end_at_the_first_ctrl_z(data, hurt):
    found = diagnose(hurt(data))
    assert found is None or found.kind == TransferKind.CTRL_Z_CUT


@given(st.binary(max_size=300))
def test_any_bytes(data):
    diagnose(data)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"hello\r\nworld", b"0123456789abcdef", b"\x89PNG\r\n\x1a\n", b"\xb7RS" * 9, bytes(500)]
)
def test_other_files_are_not_named(data):
    assert diagnose(data) is None


def test_a_guard_as_it_was_says_nothing_where_there_are_zeros():
    assert 0 in DATA
    damaged = DATA.replace(b"toy", b"TOY").replace(build_header(sample_header())[-4:], b"abcd")
    assert diagnose(damaged) is None


TEXTS = ("UTF-8 of CP437", "UTF-16 with a mark", "quoted-printable", "percent-encoded", "uuencoded", "base64 in a mail",
         "UTF-8, others replaced")  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_stream_carries_along_is_not_taken_for_it(name):
    """Metadata may hold anything, another stream that went over a transfer too."""
    data = sample_stream(metadata=Metadata(xmp=b"\n" + TRANSFERS[name][1](DATA)))[2]
    assert diagnose(data) is None
    assert diagnose(TRANSFERS["lone LF to CRLF"][1](data)).kind == TransferKind.LONE_LF_TO_CRLF


@pytest.mark.parametrize("name", ["UTF-8, others ignored", "question marks", "7 bits"])
def test_half_of_the_signs_are_none(name):
    hurt = TRANSFERS[name][1](DATA)
    assert diagnose(hurt[:10]) is None
    assert diagnose(hurt + b"\xff" * 9) is None


# --- Other files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind", "word"),
    [
        (b"\n <!DOCTYPE html><html><body>Log in</body></html>", TransferKind.HTML, "login"),
        (b"\xef\xbb\xbf<HTML></HTML>", TransferKind.HTML, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", TransferKind.LFS_POINTER, "git lfs pull"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), TransferKind.ZSTANDARD, "unzstd"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(20), TransferKind.SEVEN_ZIP, "7z x"),
        (gzip.compress(b"no stream", mtime=0), TransferKind.GZIP, "no stream"),
        (zlib.compress(DATA)[:2] + b"broken", None, "no robuststream packet"),
        (lzma.compress(b""), TransferKind.XZ, "no stream"),
        (b"PK\3\4 broken", TransferKind.ZIP, "not of a single stream"),
    ],
)
def test_another_file_in_its_place(data, kind, word):
    found = diagnose(data)
    assert (found and found.kind) == kind
    assert found is None or (word in found.message and not found.undoable)
    with pytest.raises(NotARobustStream, match=word):
        read_stream(data)


def archive(*files: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as target:
        for name, content in files:
            target.writestr(name, content)
    return made.getvalue()


def test_archives():
    # Also where the stream stands in it as it is.
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        packed = archive(("folder/", b""), ("folder/a.robs", DATA), compression=compression)
        assert undone(packed)[0] == DATA
        assert [finding.rule for finding in read_stream(packed).report.findings] == [Rule.TRANSFER]
    two = archive(("a.robs", DATA), ("b.robs", DATA), compression=zipfile.ZIP_DEFLATED)
    assert not undone(two)[1].undoable
    assert not undone(archive(("a.robs", DATA), compression=zipfile.ZIP_LZMA))[1].undoable


def test_a_zip_archive_whose_file_is_beyond_all_places_is_refused():
    """Its directory says so in the 64 bits that ZIP64 has."""
    whole = archive(("a.robs", DATA))
    place, end = whole.index(b"PK\1\2"), whole.index(b"PK\5\6")
    extra = struct.pack("<HHQ", 1, 8, 1 << 63)
    entry, last = bytearray(whole[place:end]), bytearray(whole[end:])
    struct.pack_into("<H", entry, 30, len(extra))
    struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
    struct.pack_into("<I", last, 12, len(entry) + len(extra))
    data = whole[:place] + entry + extra + last
    assert wrappings.unzip(data) is None
    assert read_stream(data).tiles == read_stream(DATA).tiles


@pytest.mark.parametrize(
    "pack", [gzip.compress, zlib.compress, lzma.compress, lambda d: archive(("a", d), compression=8)]
)
def test_what_swells_is_not_unpacked(pack):
    bomb = pack(bytes(1 << 26))
    with memory_below(1 << 24):
        assert diagnose(bomb) is None or not diagnose(bomb).undoable


def test_parts_and_what_is_left_of_compressed_files():
    half = len(DATA) // 2
    assert undone(gzip.compress(DATA[:half]) + gzip.compress(DATA[half:]))[0] == DATA
    assert undone(gzip.compress(DATA) + b"trailing")[0] == DATA
    assert DATA.startswith(undone(gzip.compress(DATA)[:-300])[0])
    assert undone(gzip.compress(b"") * 2000 + gzip.compress(DATA))[1].undoable is False
    long = sample_stream(words=9000)[2]
    packed = bytearray(gzip.compress(long))
    packed[-4] ^= 1
    assert long.startswith(undone(bytes(packed))[0][:1000])


# --- Chains ---------------------------------------------------------------------------------------------------------


def test_several_transfers_one_after_the_other():
    made, told = undone(base64.encodebytes(gzip.compress(TO_CRLF(DATA))))
    assert made == DATA
    assert told.kind == TransferKind.BASE64
    assert told.message.count("; and before that ") == 2
    # No more than a few.
    deep = DATA
    for _ in range(diagnosis.MAX_TRANSFERS):
        deep = gzip.compress(deep)
    assert undone(deep)[0] == DATA
    with pytest.raises(NotARobustStream, match="gunzip"):
        read_stream(gzip.compress(deep))


def test_what_can_only_be_named_ends_a_chain():
    told = undone(base64.b64encode(TRANSFERS["7 bits"][1](DATA)))[1]
    assert (told.kind, told.undoable) == (TransferKind.BASE64, False)
    assert "7 bits" in told.message


def test_text_of_a_code_that_leaves_bytes_out():
    for code in wrappings.CODES:
        data = sample_stream(words=300)[2]
        made, told = undone(as_text(data, code).encode())
        assert made == data
        assert told.code == code or {told.code, code} <= {"cp1252", "iso8859_15", "iso8859_2", "cp1250"}


def test_damage_on_top():
    """Some bytes changed behind the transfer cost no more than themselves."""
    data = sample_stream(words=700)[2]
    for name in ("UTF-8 of ISO 8859-1", "base64 in lines", "hex", "uuencoded", "LF to CRLF", "quoted-printable", "xxd"):
        hurt = bytearray(TRANSFERS[name][1](data))
        middle = len(hurt) // 2
        hurt[middle] = 0x7F
        stream = read_stream(bytes(hurt))
        assert len(stream.tiles) >= 4, name


def test_undo_of_what_is_not_so_gives_the_bytes_back():
    assert undo(b"abc", Transfer(TransferKind.GZIP, "", True)) == b"abc"
    assert undo(b"abc", Transfer(TransferKind.HTML, "", False)) == b"abc"


# --- In the reader --------------------------------------------------------------------------------------------------


def test_a_stream_undone_is_read_as_it_was_but_not_intact():
    whole, stream = read_stream(DATA), read_stream(TO_CRLF(DATA))
    assert stream.tiles == whole.tiles
    assert not stream.unproven
    assert not stream.restored
    assert stream.report.file_bytes == len(TO_CRLF(DATA))
    assert not stream.report.intact
    (finding,) = stream.report.findings
    assert finding.rule == Rule.TRANSFER
    assert (finding.start, finding.end) == (0, len(TO_CRLF(DATA)))
    assert "every LF into CRLF" in finding.message


def test_tiles_that_a_crc_gave_back_are_restored_and_whole_ones_are_not():
    data = sample_stream(words=60)[2]
    hurt = TRANSFERS["CR dropped"][1](data)
    stream = read_stream(hurt)
    assert not stream.unproven
    whole = {p.number for p in scan(hurt) if getattr(p, "payload", None) is not None and p.kind == PacketKind.TILE}
    assert set(stream.restored) == stream.tiles.keys() - whole
    assert stream.restored


def test_a_tile_that_a_crc_gave_back_is_restored_beside_another_of_its_number():
    """Of the file as it came the second packet is intact, and the first counts where the transfer is undone."""
    header, tiles, data = sample_stream(words=60)
    drop = TRANSFERS["CR dropped"][1]
    items = [p for p in scan(data) if getattr(p, "kind", None) == PacketKind.TILE]
    index = next(p.number for p in items if b"\r" in data[p.offset : p.offset + p.size])
    identity = read_stream(data).stream_id
    second = replace(tiles[index], words=bytes(240))
    other = packet(PacketKind.TILE, identity, index, build_tile(header, identity, second))
    assert drop(other) == other
    stream = read_stream(drop(data + other))
    assert stream.tiles[index] == tiles[index]
    assert index in stream.restored


def test_a_mark_before_a_stream():
    for mark in wrappings.BOMS:
        stream = read_stream(mark + DATA)
        assert [finding.rule for finding in stream.report.findings] == [Rule.TRANSFER]
    # Other bytes before it are a gap.
    assert [finding.rule for finding in read_stream(b"junk" + DATA).report.findings] == [Rule.GAP]


def test_errors_say_what_happened():
    with pytest.raises(NotARobustStream, match=r"7 bits a byte.*no robuststream packet"):
        read_stream(TRANSFERS["7 bits"][1](DATA))
    # Packets without line ends stand as they were.
    header = sample_header(32, 32)
    data = packet(PacketKind.HEADER, b"abcd", 0, build_header(header)) + packet(PacketKind.PARITY, b"abcd", 0, b"x")
    with pytest.raises(DamagedStream, match=r"dropped every LF and CR.*no HEADER"):
        read_stream(TRANSFERS["all ends dropped"][1](data))
    newer = packet(PacketKind.HEADER, b"abcd", 0, b"\2" + build_header(header)[1:])
    with pytest.raises(UnsupportedVersion, match=r"base64.*version 2"):
        read_stream(base64.b64encode(newer))


def test_a_lender_helps_what_is_undone():
    header, _, data = sample_stream()
    lender = read_stream(data)
    # A HEADER of which too much is missing.
    hidden = replace(header, model_name="\r" * 40)
    stream = read_stream(TRANSFERS["CR dropped"][1](sample_stream(hidden)[2]), lender)
    assert Rule.HEADER_BORROWED in {finding.rule for finding in stream.report.findings}
    assert len(stream.tiles) == 6


# --- Whole decodes --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::robuststream.errors.DamageWarning")
def test_pictures():
    small = model()
    data = rs.encode(picture(100, 170), small, tile=64)
    right = rs.decode(data, small)
    for name in ("LF to CRLF", "UTF-8 of ISO 8859-1", "base64", "swapped pairs", "byte order mark"):
        out = rs.decode(TRANSFERS[name][1](data), small)
        assert out.report.exact
        assert not out.report.intact
        assert (out.mask == 0).all()
        assert (out.tensor == right.tensor).all()
    out = rs.decode(TRANSFERS["CRLF to LF"][1](data), small)
    assert out.report.verified
    assert (out.latents == right.latents).all()
    # A tile that stands whole is exact; one that was computed, repaired.
    out = rs.decode(TRANSFERS["lone LF to CRLF"][1](data), small)
    assert {tile.outcome for tile in out.report.tiles} <= {Outcome.EXACT, Outcome.REPAIRED}
    assert (out.latents == right.latents).all()


@pytest.mark.filterwarnings("ignore::robuststream.errors.DamageWarning")
def test_parity_gives_back_what_crcs_cannot():
    pytest.importorskip("raptorq")
    header = sample_header(parity=1500)
    data = write_stream(header, random_tiles(header, words=150))
    hurt = TRANSFERS["CR dropped"][1](data)
    assert len(read_stream(hurt).tiles) < 6
    stream = read_restored(hurt)
    assert len(stream.tiles) == 6
    assert not stream.unproven
    assert restore([hurt]).data == data
    assert restore([TO_CRLF(data)]).data == data
