"""The values a stream consists of, where they say something of their own."""

from __future__ import annotations

from robuststream.container.packets import Metadata, Mode


def test_proven_tiles_are_exact_only_in_exact_mode():
    assert (Mode.EXACT.proof, Mode.NATIVE.proof) == ("exact", "verified")


def test_metadata_as_pillow_names_it():
    """Pillow's EXIF has the prefix that the stream's has not."""
    whole = Metadata(icc=b"profile", exif=b"MM", xmp=b"<x/>")
    assert whole.info() == {"icc_profile": b"profile", "exif": b"Exif\0\0MM", "xmp": b"<x/>"}
    assert Metadata().info() == {}
    assert Metadata(xmp=b"").info() == {"xmp": b""}
