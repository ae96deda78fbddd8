"""spec/robuststream.magic and .xml: the desktop's own programs, where installed, know what the writer writes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from robuststream.container.packets import Kind, Metadata
from robuststream.container.scanner import scan
from robuststream.pillow import EXTENSION, MEDIA_TYPE
from tests.helpers import packet, sample_stream

MAGIC, XML = Path("spec/robuststream.magic"), Path("spec/robuststream.xml")
DATA = sample_stream(metadata=Metadata(icc=b"profile"))[2]


def told(data: bytes, tmp_path: Path, *options: str) -> str:
    if shutil.which("file") is None:
        pytest.skip("file(1) is not installed")
    path = tmp_path / "x"
    path.write_bytes(data)
    command = ["file", "--brief", "--magic-file", str(MAGIC.resolve()), *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


# The second header is so long that its length takes two bytes.
@pytest.mark.parametrize("data", [DATA, packet(Kind.HEADER, b"1234", 0, b"\1\0" + bytes(200))])
def test_file_knows_a_stream(data: bytes, tmp_path: Path) -> None:
    assert told(data, tmp_path) == f"robuststream image, format 1.0, stream id {data[4:8].hex()}"
    assert told(data, tmp_path, "--mime-type") == MEDIA_TYPE
    assert told(data, tmp_path, "--extension") == EXTENSION.removeprefix(".")


def test_file_knows_a_stream_without_its_beginning(tmp_path: Path) -> None:
    for event in scan(DATA):
        said = told(DATA[event.offset :], tmp_path)
        assert said.startswith("robuststream image, ")
        assert ("without its first HEADER" in said) == (event.kind != Kind.HEADER)
        assert told(DATA[event.offset :], tmp_path, "--mime-type") == MEDIA_TYPE


def test_file_knows_a_unit_and_nothing_else(tmp_path: Path) -> None:
    assert told(packet(Kind.UNIT, b"1234", 0, b"abc"), tmp_path) == "robuststream packed CompressAI unit"
    assert told(b"\xb7RT" + DATA[3:], tmp_path) == "data"


def test_the_shared_mime_description(tmp_path: Path) -> None:
    space = {"": "http://www.freedesktop.org/standards/shared-mime-info"}
    (entry,) = ElementTree.parse(XML).getroot().findall("mime-type", space)
    assert entry.get("type") == MEDIA_TYPE
    assert [glob.get("pattern") for glob in entry.findall("glob", space)] == [f"*{EXTENSION}"]
    (match,) = entry.findall("magic/match", space)
    value = re.sub(r"\\x(..)", lambda code: chr(int(code[1], 16)), match.get("value", "")).encode("latin-1")
    assert DATA[int(match.get("offset", "")) :].startswith(value)


def test_a_desktop_takes_the_description(tmp_path: Path) -> None:
    if shutil.which("update-mime-database") is None:
        pytest.skip("update-mime-database (shared-mime-info) is not installed")
    (tmp_path / "packages").mkdir()
    shutil.copy(XML, tmp_path / "packages")
    subprocess.run(["update-mime-database", str(tmp_path)], check=True)
    assert f"50:{MEDIA_TYPE}:*{EXTENSION}\n" in (tmp_path / "globs2").read_text()
    assert DATA[:4] in (tmp_path / "magic").read_bytes()
