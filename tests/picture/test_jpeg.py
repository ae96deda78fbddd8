"""What JPEG says beside its pixels, in one segment or in parts."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image

from robuststream.container.packets import Colour, Metadata
from robuststream.errors import PictureWarning
from robuststream.picture.io import read_picture, to_image, write_picture
from tests.picture.files import jpeg, noise, read, saved, segment
from tests.picture.test_io import EXIF, ICC, facts

GUID = b"0123456789ABCDEF0123456789ABCDEF"
NOTE = b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'


def rdf(inside: bytes, outer: bytes = b"", wrap: bool = False) -> bytes:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"%s><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b"%s</rdf:RDF></x:xmpmeta>" % (outer, inside)
    )
    if not wrap:
        return packet
    padding = (b" " * 99 + b"\n") * 20
    return b'<?xpacket begin="\xef\xbb\xbf" id="W5M0"?>' + packet + padding + b'<?xpacket end="w"?>'


STANDARD = rdf(
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" ' + NOTE + b' dc:format="image/jpeg" '
    b'xmpNote:HasExtendedXMP="' + GUID + b'"/>',
    wrap=True,
)
LONG = b"depth " * 40000
EXTENSION = rdf(
    b'<rdf:Description rdf:about="" GDepth:Data="' + LONG + b'"><other:x xmlns:other="urn:o">\xc3\xa9</other:x>'
    b"</rdf:Description>",
    outer=b' xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"',
)


def xmp(packet: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)


def extension(data: bytes = EXTENSION, guid: bytes = GUID, room: int = 65000) -> list[bytes]:
    head = b"http://ns.adobe.com/xmp/extension/\0" + guid
    return [
        segment(0xE1, head + struct.pack(">II", len(data), at) + data[at : at + room])
        for at in range(0, len(data), room)
    ]


def properties(packet: bytes) -> dict[str, str]:
    start, end = packet.index(b"<x:xmpmeta"), packet.index(b"</x:xmpmeta>") + 12
    found: dict[str, str] = {}
    for element in ElementTree.fromstring(packet[start:end]).iter():
        found |= element.attrib
        if element.text and element.text.strip():
            found[element.tag] = element.text
    return found


class TestExtendedXmp:
    def test_it_is_merged(self) -> None:
        parts = extension()
        assert len(parts) == 4
        picture, said = read(jpeg(xmp(STANDARD), *parts))
        assert said == []
        packet = picture.metadata.xmp
        assert packet is not None
        assert b"HasExtendedXMP" not in packet
        assert packet.startswith(b"<?xpacket")
        assert properties(packet) == {
            "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about": "",
            "{http://purl.org/dc/elements/1.1/}format": "image/jpeg",
            "{http://ns.google.com/photos/1.0/depthmap/}Data": LONG.decode().rstrip() + " ",
            "{urn:o}x": "é",
        }

    def test_parts_stand_in_any_order_among_others(self) -> None:
        parts = [*extension(), *extension(b"<other/>", b"F" * 32), segment(0xE1, b"something else")]
        expected = read_picture(jpeg(xmp(STANDARD), *extension())).metadata.xmp
        for seed in range(4):
            random.Random(seed).shuffle(parts)
            assert read(jpeg(*parts, xmp(STANDARD)))[0].metadata.xmp == expected

    def test_named_by_an_element(self) -> None:
        standard = rdf(
            b'<rdf:Description rdf:about="" '
            + NOTE
            + b"><xmpNote:HasExtendedXMP>"
            + GUID
            + b"</xmpNote:HasExtendedXMP>"
            b'<y:z xmlns:y="urn:y">w</y:z></rdf:Description>'
        )
        packet = read(jpeg(xmp(standard), *extension()))[0].metadata.xmp
        assert packet is not None
        assert b"HasExtendedXMP" not in packet
        assert properties(packet)["{urn:y}z"] == "w"
        assert "{http://ns.google.com/photos/1.0/depthmap/}Data" in properties(packet)

    @pytest.mark.parametrize("missing", [0, 1, 2, 3, None])
    def test_a_part_is_missing(self, missing: int | None) -> None:
        parts = [] if missing is None else [part for at, part in enumerate(extension()) if at != missing]
        picture, (said,) = read(jpeg(xmp(STANDARD), *parts))
        assert "the extended part of the XMP (a part of it is missing)" in said
        packet = picture.metadata.xmp
        assert packet is not None
        assert b"HasExtendedXMP" not in packet
        assert properties(packet)["{http://purl.org/dc/elements/1.1/}format"] == "image/jpeg"

    @pytest.mark.parametrize(
        "other",
        [
            b"no XML at all",
            b"<unfinished",
            b"<x/>",
            b"<!DOCTYPE x>" + EXTENSION,
            b"<a>" * 5000 + b"</a>" * 5000,
            rdf(b"<a>" * 5000 + b"</a>" * 5000),
            EXTENSION.decode().encode("utf-16"),
            # The prefix means something else in the other part.
            rdf(b'<rdf:Description dc:a="b"/>', outer=b' xmlns:dc="urn:another"'),
        ],
    )
    def test_what_cannot_be_merged_is_named(self, other: bytes) -> None:
        standard = STANDARD.replace(b"<rdf:RDF ", b'<rdf:RDF xmlns:dc="urn:first" ')
        picture, (said,) = read(jpeg(xmp(standard), *extension(other)))
        assert "the extended part of the XMP" in said
        assert picture.metadata.xmp is not None
        assert b"HasExtendedXMP" not in picture.metadata.xmp

    def test_an_image_without_its_file(self) -> None:
        image = Image.fromarray(noise(4, 4, 3))
        image.info["xmp"] = STANDARD
        picture, (said,) = read(image)
        assert "the extended part of the XMP" in said
        assert picture.metadata.xmp is not None
        assert b"HasExtendedXMP" not in picture.metadata.xmp

    def test_there_and_back(self, tmp_path: Path) -> None:
        for packet in (EXTENSION, rdf(b'<rdf:Description rdf:about="" a:b="%s" xmlns:a="urn:a"/>' % LONG, wrap=True)):
            write_picture(to_image(noise(8, 8, 3), Colour.RGB, Metadata(ICC, EXIF, packet)), tmp_path / "a.jpg")
            with Image.open(tmp_path / "a.jpg") as image:
                assert len(image.info["xmp"]) < 500
            metadata, said = read(tmp_path / "a.jpg")[0].metadata, read(tmp_path / "a.jpg")[1]
            assert said == []
            assert (metadata.icc, metadata.exif) == (ICC, EXIF)
            assert metadata.xmp is not None
            assert metadata.xmp in packet
            assert properties(metadata.xmp) == properties(packet)

    def test_hostile_padding_takes_no_time(self) -> None:
        from robuststream.picture.xmp import extension_named, merged, without_name

        for filler in (
            b" ",
            b"a",
            b" a",
            b"<a:HasExtendedXMP>",
            b" a:HasExtendedXMP=",
            b"<",
            b"<a:RDF ",
            b"<a:Description ",
        ):
            for packet in (
                filler * (300_000 // len(filler)),
                filler + b" " * 300_000,
                b"<a:RDF" + b" " * 300_000,
            ):
                extension_named(packet)
                without_name(packet)
                with pytest.raises(ValueError, match="XMP"):
                    merged(packet, packet)


class TestProfile:
    def parts(self, *numbers: int, count: int = 3) -> list[bytes]:
        size = -(-len(ICC) // count)
        return [
            segment(0xE2, b"ICC_PROFILE\0" + bytes((number, count)) + ICC[(number - 1) * size : number * size])
            for number in numbers
        ]

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
    def test_in_parts(self, order: tuple[int, ...]) -> None:
        picture, said = read(jpeg(*self.parts(*order)))
        assert (picture.metadata.icc, said) == (ICC, [])

    @pytest.mark.parametrize("numbers", [(1, 2), (1, 3), (1, 1, 2), (1, 2, 2), (1, 2, 3, 3)])
    def test_a_part_is_missing_or_doubled(self, numbers: tuple[int, ...]) -> None:
        picture, (said,) = read(jpeg(*self.parts(*numbers)))
        assert picture.metadata.icc is None
        assert "the ICC profile, of which a part is missing or doubled" in said

    def test_too_short_to_be_one(self) -> None:
        assert read(jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1")))[0].metadata.icc is None


class TestNamed:
    @pytest.mark.parametrize(
        ("part", "name"),
        [
            (segment(0xFE, b"words"), "a comment"),
            (segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\2ab"), "IPTC"),
            (segment(0xEB, b"JP\0\1"), "content credentials"),
            (xmp(rdf(b'<rdf:Description xmlns:hdrgm="urn:h" hdrgm:Version="1.0"/>')), "gain map"),
        ],
    )
    def test_what_a_stream_does_not_carry(self, part: bytes, name: str) -> None:
        _, (said,) = read(jpeg(part))
        assert said.startswith("the picture: the stream does not carry ")
        assert name in said

    def test_pictures_behind_the_first(self) -> None:
        image = Image.fromarray(noise(16, 16, 3))
        _, (said,) = read(saved(image, "MPO", save_all=True, append_images=[image, image]))
        assert "what stands behind its first picture (2 more" in said

    def test_one_warning_and_one_record_at_the_callers_line(self, caplog: pytest.LogCaptureFixture) -> None:
        data = jpeg(segment(0xFE, b"words"), *TestProfile().parts(1))
        with pytest.warns(PictureWarning, match="ICC profile.*a comment") as caught:
            read_picture(data)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert [record.getMessage() for record in caplog.records] == [str(caught[0].message)]


class TestResolution:
    def test_it_becomes_exif(self) -> None:
        metadata = read(saved(Image.fromarray(noise(8, 8, 3)), "JPEG", dpi=(300, 300)))[0].metadata
        exif = Image.Exif()
        exif.load(metadata.exif)
        assert exif[ExifTags.Base.XResolution] == 300

    def test_what_programs_write_that_know_nothing(self) -> None:
        assert read(saved(Image.fromarray(noise(8, 8, 3)), "JPEG", dpi=(72, 72)))[0].metadata == Metadata()
        picture, said = read(saved(Image.fromarray(noise(8, 8, 3)), "JPEG", dpi=(72, 72), exif=b"Exif\0\0" + EXIF))
        assert (picture.metadata.exif, said) == (EXIF, [])


class TestWriting:
    def test_blocks_too_long_for_jpeg_are_left_out_and_said(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = "x" * 70000
        block = exif.tobytes().removeprefix(b"Exif\0\0")
        pixels = noise(8, 8, 3)
        with pytest.warns(PictureWarning) as caught:
            write_picture(to_image(pixels, Colour.RGB, Metadata(ICC, block, bytes(70000))), tmp_path / "a.jpg")
        (said,) = (str(warning.message) for warning in caught)
        assert said.startswith(f"{tmp_path / 'a.jpg'}: written as JPEG without EXIF of 70")
        assert "XMP of 70000 bytes (the XMP is not well formed" in said
        assert caught[0].filename == __file__
        assert read(tmp_path / "a.jpg")[0].metadata == Metadata(ICC)

    @pytest.mark.parametrize("size", [65501, 65502, 65503, 65504, 65505, 70000])
    def test_every_length_of_xmp(self, size: int) -> None:
        around = len(rdf(b'<rdf:Description rdf:about="" xmlns:a="urn:a" a:b=""/>'))
        packet = rdf(b'<rdf:Description rdf:about="" xmlns:a="urn:a" a:b="%s"/>' % (b"x" * (size - around)))
        assert len(packet) == size
        write_picture(to_image(noise(8, 8, 3), Colour.RGB, Metadata(xmp=packet)), file := io.BytesIO(), "jpeg")
        got = read(file.getvalue())[0].metadata.xmp
        assert got == packet

    @pytest.mark.parametrize("size", [65510, 65519, 65520, 65527, 65528, 65533])
    def test_every_length_of_exif(self, size: int) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = "x"
        base = len(exif.tobytes())
        exif[ExifTags.Base.ImageDescription] = "x" * (size - base - 6)
        block = exif.tobytes().removeprefix(b"Exif\0\0")
        image = to_image(noise(8, 8, 3), Colour.RGB, Metadata(exif=block))
        if len(block) > 65527:
            with pytest.warns(PictureWarning, match="without EXIF"):
                write_picture(image, file := io.BytesIO(), "jpeg")
        else:
            write_picture(image, file := io.BytesIO(), "jpeg")
            assert read(file.getvalue())[0].metadata.exif == block

    def test_exif_that_is_kept(self) -> None:
        write_picture(to_image(noise(8, 8, 3), Colour.RGB, Metadata(exif=EXIF)), file := io.BytesIO(), "jpeg")
        block = read(file.getvalue())[0].metadata.exif
        assert block is not None
        assert facts(block) == facts(EXIF)


def test_cmyk_by_its_own_readers_advice() -> None:
    image = Image.fromarray(noise(8, 8, 3)).convert("CMYK")
    data = saved(image, "JPEG")
    plain = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(read(plain)[0].pixels.permute(1, 2, 0).numpy(), np.asarray(plain))
