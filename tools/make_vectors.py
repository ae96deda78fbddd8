"""Write the test vectors: spec/vectors/*.robs, what is expected of each, the models, and the table of them all.

    python tools/make_vectors.py [FOLDER]

A file that is not made here stays, and stands in the table as its .json says. Needs the `parity` extra.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from vectors.models import MODELS
from vectors.streams import Vector, all_vectors, model

import robuststream as rs
from robuststream.model.frozen import Model
from robuststream.picture.grid import Grid
from robuststream.transfers.reading import read_stream

FOLDER = Path(__file__).resolve().parents[1] / "spec" / "vectors"
TEXT = """# Test vectors

Streams that a reader of robuststream can be tried on, and what it must say of them. `models/` holds the models they
need, which are tiny and untrained. `make vectors` writes all of it; the tests prove that it gives the same bytes, and
that the package and [the reference decoder](../reference_decoder.py) say what is expected.

Beside each stream is a JSON file:

| key | value |
|---|---|
| `what` | a sentence |
| `model` | of `models/`, to decode with |
| `refuse` | where no picture may be made: the class of the package's error, and a word that a message should have |
| `findings` | pairs of a rule (format.md, section 11) and a tile or null, each once |
| `tiles` | for each tile its outcome and the hash of its latents, i32 in (M, rows, columns); null where it is missing |
| `metadata` | for each type that is there the hash of the block |

A hash is the first 16 digits of SHA-256; numbers are little-endian, in C order. `ROBS-CORRECTED` and `repaired` are a
decoder's choice: one that puts no bits right says `concealed` or `missing` there. To add a stream, put NAME.robs and
NAME.json here and run `make vectors`: it leaves files that are not its own, and lists them.

`models/bad-wrapping-table.safetensors` is a model that a loader must refuse: a CDF row falls by more than 2^31, which
is a rise in 32 bits.

| stream | what it is | what a reader must say |
|---|---|---|
"""


def short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def expectation(data: bytes, frozen: Model) -> dict[str, Any]:
    """What the package says of a stream: the keys of a vector's JSON from `refuse` on."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rs.DamageWarning)
            decoded = rs.decode(data, frozen)
    except rs.RobustStreamError as error:
        return {"refuse": [type(error).__name__, ""]}
    report, latents = decoded.report, decoded.latents.numpy().astype("<i4")
    assert report.header is not None
    grid = Grid.of(report.header, frozen.latent_stride, frozen.factor)
    tiles: list[list[str | None]] = []
    for tile in report.tiles:
        assert tile.outcome is not None
        own = np.ascontiguousarray(latents[(slice(None), *grid.latent_box(tile.index).slices())])
        tiles.append([tile.outcome.value, None if tile.outcome == "missing" else short_hash(own.tobytes())])
    findings = {(finding.rule.value, finding.tile) for finding in report.findings}
    metadata = read_stream(data).metadata.items()
    return {
        "findings": [list(finding) for finding in sorted(findings, key=str)],
        "tiles": tiles,
        "metadata": {str(int(kind)): short_hash(block) for kind, block in metadata.items()},
    }


def described(vector: Vector) -> dict[str, Any]:
    """The JSON of a vector; AssertionError where the package says another thing than the vector states."""
    said = expectation(vector.data, model(vector.model))
    if vector.refuse:
        assert said.get("refuse", [""])[0] == vector.refuse[0], (vector.name, said)
        said = {"refuse": list(vector.refuse)}
    else:
        stated = {f"ROBS-{rule}" for rule in vector.rules}
        assert {rule for rule, _ in said.get("findings", [])} == stated, (vector.name, said)
    return {"what": vector.what, "model": vector.model, **said}


def summary(expected: dict[str, Any]) -> str:
    """The last column of the table."""
    if "refuse" in expected:
        name, word = expected["refuse"]
        return f"refuse: {name}" + (f', naming "{word}"' if word else "")
    outcomes = [outcome for outcome, _ in expected["tiles"]]
    said = [f"`{rule}`" + ("" if tile is None else f" (tile {tile})") for rule, tile in expected["findings"]]
    common = max(set(outcomes), key=outcomes.count)
    others = [f"tile {number} {outcome}" for number, outcome in enumerate(outcomes) if outcome != common]
    return "; ".join([*said, *others, f"all {'others ' if others else ''}{common}"])


def text_of(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def table(folder: Path) -> str:
    rows = []
    for path in sorted(folder.glob("*.json")):
        expected = json.loads(path.read_text())
        rows.append(f"| {path.stem} | {expected['what']} | {summary(expected)} |\n")
    return TEXT + "".join(rows)


def write(folder: Path) -> None:
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        (folder / "models" / f"{name}.safetensors").write_bytes(model(name).to_bytes())
    for vector in all_vectors():
        (folder / f"{vector.name}.robs").write_bytes(vector.data)
        (folder / f"{vector.name}.json").write_text(text_of(described(vector)))
    (folder / "README.md").write_text(table(folder))


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # of each damaged stream that it is damaged
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
