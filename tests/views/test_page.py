"""The page: what it holds, that it obeys nothing in a stream, and how it behaves in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robuststream as rs
from robuststream import faults
from robuststream.container.packets import Kind
from robuststream.container.report import TileState
from robuststream.transfers.reading import read_stream
from robuststream.views import page as page_module
from robuststream.views.page import write_page
from tests.chromium import CHROMIUM, Page, browser
from tests.helpers import packet, sample_header, sample_stream
from tests.small import model, picture

pytestmark = pytest.mark.filterwarnings("ignore::robuststream.DamageWarning")
HOSTILE = "</script><img src=x onerror=alert(1)><!--{{data}}"


def hurt() -> bytes:
    """Six tiles of 64 pixels: tile 2 damaged, tile 4 gone, and bytes of no packet at the end."""
    data = faults.drop_tiles(rs.encode(picture(100, 170), model(), tile=64), tiles=[4])
    tile = read_stream(data).report.tiles[2]
    at = tile.offset + tile.size - 40
    return data[:at] + bytes(byte ^ 0x5A for byte in data[at : at + 20]) + data[at + 20 :] + b"junk"


def values(page: bytes) -> dict:
    return json.loads(re.findall(rb'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])


def embedded(page: bytes) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(re.findall(rb'src="data:image/jpeg;base64,([^"]*)"', page)[0])))


def test_the_picture_and_the_facts_are_in_it() -> None:
    data = hurt()
    page = write_page(data, read_stream(data), "a.robs", model())
    shown = values(page)
    assert embedded(page).size == (170, 100)
    decoded = np.asarray(rs.decode(data, model()).image, np.float64)
    assert np.abs(np.asarray(embedded(page), np.float64) - decoded).mean() < 4
    assert [tile["look"] for tile in shown["tiles"]] == ["fine", "fine", "concealed", "fine", "missing", "fine"]
    assert sum(part["end"] - part["start"] for part in shown["parts"]) == len(data) == shown["bytes"]
    (tile_finding,) = shown["tiles"][2]["findings"]
    assert shown["findings"][tile_finding]["rule"] == "ROBS-TILE-CRC"
    assert shown["parts"][shown["tiles"][2]["part"]]["tile"] == 2
    assert shown["parts"][-1]["kind"] == "gap"


def test_large_pictures_are_scaled_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "LONGEST", 85)
    data = hurt()
    assert embedded(write_page(data, read_stream(data), "a", model())).size == (85, 50)


def test_without_a_model_the_rest_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROBUSTSTREAM_MODELS", str(tmp_path))
    data = sample_stream()[2]
    page = write_page(data, read_stream(data), "a")
    assert b"<img" not in page
    assert values(page)["note"].startswith("The picture could not be decoded: ")
    assert [tile["look"] for tile in values(page)["tiles"]] == ["fine"] * 6


def test_text_of_a_stream_stays_text() -> None:
    data = sample_stream(sample_header(model_name=HOSTILE[:60]))[2]
    page = write_page(data, read_stream(data), HOSTILE)
    assert page.count(b"<script") == page.count(b"</script>") == 2
    assert b"<img" not in page
    assert b"<!--" not in page
    assert values(page)["name"] == HOSTILE
    assert b"&lt;/script&gt;" in re.findall(rb"<h1>(.*?)</h1>", page)[0]


def test_very_many_parts_are_joined() -> None:
    data = sample_stream(words=2)[2]
    parts = page_module.list_parts((data + b"-") * 700)[0]
    joined, left_out = page_module._joined(parts)
    assert len(joined) <= 2 * page_module.LISTED
    assert len(joined) < len(parts) == sum(count for _, count in joined)
    assert (joined[0][0].start, joined[-1][0].end, left_out) == (0, len(data) * 700 + 700, 0)
    assert all(one.end == other.start for (one, _), (other, _) in pairwise(joined))
    assert sum(part.kind is None for part, _ in joined) == 700
    gaps = page_module.list_parts((packet(Kind.TILE, b"abcd", 0, b"") + b"-") * 5000)[0]
    joined, left_out = page_module._joined(gaps)
    assert (len(joined), left_out) == (2 * page_module.LISTED, len(gaps) - len(joined))


# --- In a browser --------------------------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, bytes]]:
    folder = tmp_path_factory.mktemp("page")
    data = hurt()
    (folder / "a.html").write_bytes(write_page(data, read_stream(data), "a.robs", model()))
    with browser(folder / "profile") as page:
        page.look("light")
        page.open(folder / "a.html")
        yield page, data


@needs_browser
class TestInChromium:
    def test_a_click_on_a_damaged_tile_shows_its_finding(self, opened: tuple[Page, bytes]) -> None:
        page, data = opened
        page.click("[data-tile='2']")
        text = page.text("#details")
        tile = read_stream(data).report.tiles[2]
        assert tile.state == TileState.DAMAGED
        assert "Tile 2" in text
        assert f"byte {tile.offset}" in text
        assert "ROBS-TILE-CRC" in text
        assert page.run("document.querySelector('.finding.chosen').innerText").startswith("ROBS-TILE-CRC")
        assert page.run("document.querySelector('#ribbon .chosen').ariaLabel").startswith("TILE 2, damaged")

    def test_hover_shows_a_tile_and_leaving_it_what_was_chosen(self, opened: tuple[Page, bytes]) -> None:
        page, _ = opened
        page.click("[data-tile='2']")
        page.move("[data-tile='4']")
        assert page.text("#details h2") == "Tile 4"
        assert "ROBS-TILE-MISSING" in page.text("#details")
        page.move("h1")
        assert page.text("#details h2") == "Tile 2"

    def test_findings_and_packets_lead_to_their_tile(self, opened: tuple[Page, bytes]) -> None:
        page, _ = opened
        page.click("#about")
        assert page.text("#details h2") == "File"
        page.click("[data-finding='0']")
        assert page.text("#details h2") == "Tile 2"
        page.click("#ribbon button:last-child")
        assert "bytes of no packet" in page.text("#details")

    def test_keys_move_between_tiles_and_packets(self, opened: tuple[Page, bytes]) -> None:
        page, _ = opened
        page.click("[data-tile='2']")
        page.click("#about")
        page.press("Tab", "Tab")  # past the box that shows and hides the tiles
        assert page.run("document.activeElement.ariaLabel").startswith("Tile 2:")
        page.press("Home", "ArrowRight", "ArrowDown")
        assert page.run("document.activeElement.ariaLabel").startswith("Tile 4: missing")
        assert "ROBS-TILE-MISSING" in page.text("#details")
        page.press("Tab", "Tab", "End", "ArrowLeft")
        assert page.run("document.activeElement.parentNode.id") == "ribbon"
        page.press("End")
        assert page.text("#details h2") == "Gap"

    def test_light_and_dark_can_be_read(self, opened: tuple[Page, bytes]) -> None:
        """Contrasts of 7 to 1 for the title, 4.5 to 1 for smaller things (WCAG 2.2, 1.4.6 and 1.4.3)."""
        page, _ = opened
        for scheme in ("light", "dark"):
            pixels = np.asarray(Image.open(io.BytesIO(page.look(scheme))).convert("RGB"))
            page_colour = pixels[2, 2]
            colours = page.run(
                "['h1', '.verdict', '#details dt'].map(where => getComputedStyle(document.querySelector(where)).color)"
            )
            assert (page_colour.mean() > 128) == (scheme == "light")
            for colour, least in zip(colours, (7, 4.5, 4.5), strict=True):
                assert contrast([int(part) for part in re.findall(r"\d+", colour)[:3]], page_colour) >= least

    def test_no_request_and_no_complaint(self, opened: tuple[Page, bytes]) -> None:
        page, _ = opened
        assert [url.rpartition("/")[2] for url in page.requests()] == ["a.html"]
        assert page.complaints() == []

    def test_a_hostile_name_is_shown_as_it_is(self, tmp_path: Path) -> None:
        data = sample_stream(sample_header(model_name=HOSTILE[:60]))[2]
        (tmp_path / "a.html").write_bytes(write_page(data, read_stream(data), HOSTILE))
        with browser(tmp_path / "profile") as page:
            page.open(tmp_path / "a.html")
            assert page.text("h1") == HOSTILE
            assert HOSTILE[:60] in page.text("#details")
            assert page.run("document.querySelectorAll('img').length") == 0
            assert page.complaints() == []


def contrast(a: object, b: object) -> float:
    """WCAG 2.2: relative luminance of the lighter and the darker colour, each plus 0.05."""
    shares = np.array([a, b], np.float64) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)
