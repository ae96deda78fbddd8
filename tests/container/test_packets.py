"""The values a stream consists of, where they say something of their own."""

from __future__ import annotations

from robuststream.container import found
from robuststream.container.packets import DamagedPacket, Kind, Metadata, Mode


def test_proven_tiles_are_exact_only_in_exact_mode():
    assert (Mode.EXACT.proof, Mode.NATIVE.proof) == ("exact", "verified")


def test_metadata_as_pillow_names_it():
    """Pillow's EXIF has the prefix that the stream's has not."""
    whole = Metadata(icc=b"profile", exif=b"MM", xmp=b"<x/>")
    assert whole.info() == {"icc_profile": b"profile", "exif": b"Exif\0\0MM", "xmp": b"<x/>"}
    assert Metadata().info() == {}
    assert Metadata(xmp=b"").info() == {"xmp": b""}


def test_the_stream_of_most_damaged_packets_is_not_forgotten(monkeypatch):
    """However many ids stand between its packets, few of them are kept."""
    monkeypatch.setattr(found, "MAX_IDS", 8)
    damage = found.Damage()
    for n in range(400):
        identity = b"main" if n % 4 == 0 else n.to_bytes(4, "big")
        damage.add(DamagedPacket(Kind.TILE, identity, n, 12 * n, 12 * n + 12, 12 * n + 12))
    counts = damage.counts()
    assert counts.most_common(1) == [(b"main", 100)]
    assert len(counts) <= 16
