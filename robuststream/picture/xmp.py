"""XMP in JPEG (XMP specification, part 3, section 1.1.3): a packet of 64 KiB, and what it names as its extension."""

from __future__ import annotations

import hashlib
import re
from xml.etree import ElementTree

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}RDF"
# Bounded and anchored, so that no packet, padding and all, takes more than linear time.
_STUB_ATTRIBUTE = re.compile(rb"""\s[\w.-]{1,64}:HasExtendedXMP\s{0,8}=\s{0,8}(?:"(\w{0,64})"|'(\w{0,64})')""")
_STUB_ELEMENT = re.compile(rb"<([\w.-]{1,64}:HasExtendedXMP)>\s{0,64}(\w{0,64})\s{0,64}</\1>")
_RDF_START = re.compile(rb"<([\w.-]+):RDF(?:\s[^<>]*)?>")
_NAMESPACE = re.compile(rb"""\s(xmlns(?::[\w.-]+)?)\s*=\s*("[^"]*"|'[^']*')""")
_PADDING = b"\0 \r\n\t"
_EMPTY = re.compile(
    rb"""<[\w.-]+:Description(?:\s+(?:xmlns:[\w.-]+|[\w.-]+:about)\s*=\s*(?:"[^"]*"|'[^']*'))*\s*"""
    rb"""(?:/>|>\s*</[\w.-]+:Description\s*>)"""
)


def extension_named(packet: bytes) -> bytes | None:
    """The GUID, 32 hexadecimal digits, of the extension that a packet names."""
    found = _STUB_ATTRIBUTE.search(packet)
    if found:
        return found[1] or found[2] or b""
    found = _STUB_ELEMENT.search(packet)
    return found[2] if found else None


def without_name(packet: bytes) -> bytes:
    """The packet without the name of an extension that is not there."""
    return _STUB_ELEMENT.sub(b"", _STUB_ATTRIBUTE.sub(b"", packet))


def merged(packet: bytes, extension: bytes) -> bytes:
    """One packet that says what both say.

    Raises:
        ValueError: either cannot be read, or they cannot be put together so that all of it is kept.
    """
    plain = without_name(packet)
    start, end = _inside(plain)
    if not _EMPTY.sub(b"", plain[start:end]).strip():
        _properties(extension)
        return extension
    first, last = _inside(extension)
    declared = dict(_NAMESPACE.findall(extension[:first]))
    known = dict(_NAMESPACE.findall(plain[:start]))
    new = b"".join(b" " + name + b"=" + value for name, value in declared.items() if name not in known)
    whole = plain[: start - 1] + new + plain[start - 1 : end] + extension[first:last] + plain[end:]
    if _properties(whole) != _properties(plain) + _properties(extension):
        raise ValueError("the two parts of the XMP do not fit together")
    return whole


def split(packet: bytes) -> tuple[bytes, bytes, bytes]:
    """A short packet that names an extension, its GUID, and the extension: all of what was given.

    Raises ValueError where it is no XMP: what it is could not be told from an extension.
    """
    extension = _unwrapped(packet)
    _properties(extension)
    guid = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper().encode()
    short = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        b'xmpNote:HasExtendedXMP="' + guid + b'"/></rdf:RDF></x:xmpmeta>'
    )
    return short, guid, extension


def _inside(packet: bytes) -> tuple[int, int]:
    """Where the content of rdf:RDF begins and ends."""
    found = _RDF_START.search(packet)
    end = packet.rfind(b"</" + found[1] + b":RDF") if found else -1
    if found is None or end < found.end():
        raise ValueError("no rdf:RDF in the XMP")
    return found.end(), end


def _properties(packet: bytes) -> list[str]:
    """The children of rdf:RDF, each in one way of writing it."""
    packet = _unwrapped(packet)
    if b"<!DOCTYPE" in packet or b"\0" in packet:
        raise ValueError("the XMP is not well formed")
    try:
        root = ElementTree.fromstring(packet)
        rdf = root if root.tag == _RDF else root.find(f".//{_RDF}")
        if rdf is None:
            raise ValueError("no rdf:RDF in the XMP")
        return [ElementTree.canonicalize(ElementTree.tostring(child), strip_text=True) for child in rdf]
    except (ElementTree.ParseError, RecursionError) as error:
        raise ValueError(f"the XMP is not well formed ({error})") from error


def _unwrapped(packet: bytes) -> bytes:
    """Without the processing instructions <?xpacket ...?> around it, and the padding before the second."""
    packet = packet.removeprefix(b"\xef\xbb\xbf").strip(_PADDING)
    if packet.startswith(b"<?xpacket"):
        packet = packet.partition(b"?>")[2]
    if packet.endswith(b"?>"):
        head, mark, _ = packet.rpartition(b"<?xpacket")
        packet = head if mark else packet
    return packet.strip(_PADDING)
