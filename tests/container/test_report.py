"""What a report says of itself, and its plain form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from robuststream.container.packets import Colour
from robuststream.container.report import MAX_FINDINGS, Finding, Findings, Outcome, Rule, TileReport, TileState
from robuststream.transfers.reading import read_stream
from tests.helpers import sample_header, sample_stream


def report_of(data: bytes):
    return read_stream(data).report


def test_json_form_is_plain_and_complete():
    header, tiles, data = sample_stream(sample_header(40, 40, 32, colour=Colour.GREY, model_name="käse"))
    document = json.loads(json.dumps(report_of(data).to_json()))
    assert document["header"] == {
        "width": 40,
        "height": 40,
        "tile": 32,
        "parameters_digest": header.parameters_digest.hex(),
        "synthesis_digest": header.synthesis_digest.hex(),
        "mode": "exact",
        "colour": "grey",
        "z_checkpoint": True,
        "quality": 0,
        "checkpoints": 0,
        "metadata_packets": 0,
        "parity": 0,
        "model_name": "käse",
        "version": "1.0",
    }
    assert (document["schema"], document["file_bytes"], document["intact"], document["exact"]) == (
        1,
        len(data),
        True,
        None,
    )
    assert document["packets"] == {"HEADER": 4, "INDEX": 1, "TILE": 4}
    assert document["entropy_bytes"] == sum(len(tile.words) for tile in tiles)
    assert (document["findings"], document["findings_left_out"], document["other_streams"]) == ([], 0, [])
    first = document["tiles"][0]
    assert first.keys() == {"index", "state", "offset", "size", "z_salvaged", "y_salvaged", "correctable", "outcome"}
    left = first["z_salvaged"], first["y_salvaged"], first["correctable"]
    assert (first["state"], *left, first["outcome"]) == ("intact", False, 0, False, None)


def test_json_form_of_a_damaged_decode():
    data = bytearray(sample_stream()[2])
    data[-30] ^= 1
    report = report_of(bytes(data)).decoded(dict.fromkeys(range(6), Outcome.EXACT), ())
    document = json.loads(json.dumps(report.to_json()))
    assert (document["intact"], document["exact"]) == (False, True)
    assert document["findings"][0].keys() == {"rule", "message", "start", "end", "tile"}
    assert document["findings"][0]["rule"].startswith("ROBS-")
    assert {tile["outcome"] for tile in document["tiles"]} == {"exact"}


def test_exact_needs_every_tile():
    report = report_of(sample_stream()[2])
    outcomes = dict.fromkeys(range(6), Outcome.EXACT)
    assert report.exact is None
    assert report.decoded(outcomes, ()).exact is True
    assert report.decoded({**outcomes, 3: Outcome.CONCEALED}, ()).exact is False
    assert report.decoded({**outcomes, 3: Outcome.MISSING}, ()).exact is False
    assert report.decoded({**outcomes, 3: Outcome.REPAIRED}, ()).exact is False
    assert report.decoded({**outcomes, 3: Outcome.REPAIRED}, ()).verified is True
    assert replace(report, tiles=report.decoded(outcomes, ()).tiles[1:]).exact is False


def test_outcomes_are_of_the_tiles_that_were_decoded():
    report = report_of(sample_stream()[2])
    assert report.outcomes() == {}
    outcomes = {1: Outcome.EXACT, 4: Outcome.CONCEALED}
    assert report.decoded(outcomes, ()).outcomes() == outcomes


def test_a_repaired_tile_is_verified_and_not_exact():
    report = report_of(sample_stream()[2])
    outcomes = {**dict.fromkeys(range(6), Outcome.EXACT), 3: Outcome.REPAIRED}
    assert (report.decoded(outcomes, ()).exact, report.decoded(outcomes, ()).verified) == (False, True)
    assert report.decoded({**outcomes, 4: Outcome.UNPROVEN}, ()).verified is False


def test_findings_of_a_decode_are_added():
    report = report_of(sample_stream()[2])
    desync = Finding(Rule.DESYNC, "differs", tile=2)
    after = report.decoded(dict.fromkeys(range(6), Outcome.EXACT), (desync,))
    # No byte is wrong: what the bytes say is not trusted.
    assert (report.intact, after.intact, after.findings) == (True, True, (desync,))


def test_finding_as_text_says_rule_tile_and_inclusive_place():
    assert (
        str(Finding(Rule.TILE_CRC, "the CRC fails", 10, 20, 3)) == "ROBS-TILE-CRC, tile 3, bytes 10-19: the CRC fails"
    )
    assert str(Finding(Rule.INDEX, "is missing")) == "ROBS-INDEX: is missing"


def test_findings_come_in_file_order_and_those_without_a_place_last():
    findings = Findings()
    for start in (30, None, 10, 20):
        findings.add(Rule.GAP, "x", start, start and start + 1)
    assert [finding.start for finding in findings.in_file_order()] == [10, 20, 30, None]


def test_findings_beyond_the_limit_are_counted():
    findings = Findings()
    for start in range(MAX_FINDINGS + 7):
        findings.add(Rule.GAP, "x", start, start + 1)
    assert (len(findings.kept), findings.left_out) == (MAX_FINDINGS, 7)


def test_the_schema_lists_every_rule():
    schema = json.loads((Path(__file__).parents[2] / "spec" / "report.schema.json").read_text())
    assert set(schema["$defs"]["finding"]["properties"]["rule"]["enum"]) == {rule.value for rule in Rule}


def test_ids_are_stable_text():
    assert all(rule.value.startswith("ROBS-") for rule in Rule)
    assert (Rule.GAP.value, Rule.TILE_CRC.value) == ("ROBS-GAP", "ROBS-TILE-CRC")
    assert json.dumps([TileState.DAMAGED, Outcome.CONCEALED]) == '["damaged", "concealed"]'
    assert TileReport(1, TileState.MISSING).offset is None
