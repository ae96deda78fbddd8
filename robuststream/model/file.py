"""The file of a frozen model, before its tensors are looked at: its bytes and its description. Imports no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from robuststream.errors import ModelNotFound, UnsupportedModel
from robuststream.model.filekinds import foreign, is_safetensors

#: Where in a safetensors file's header the description stands, and which of its kind this release reads and writes.
METADATA_KEY, FORMAT = "robuststream.model", 1
MAX_FILE_BYTES = 4 << 30


def read_model_file(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes. Raises ModelNotFound; and UnsupportedModel where they are too many for a model."""
    try:
        if Path(path).is_dir():
            raise ModelNotFound(f"{path}: a folder: name the model file in it")
        if Path(path).stat().st_size > MAX_FILE_BYTES:
            raise UnsupportedModel(f"{path}: larger than any model file may be ({MAX_FILE_BYTES} bytes)")
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelNotFound(f"{path}: the model file cannot be read ({error.strerror})") from error
    except ValueError as error:  # a zero byte in the name
        raise ModelNotFound(f"{str(path)!r}: the model file cannot be read ({error})") from error


def not_a_model(head: bytes) -> str | None:
    """What else a file is, by its first bytes, and what to do; None for what may be a model."""
    pickled = head.startswith((b"PK\x03\x04", b"\x80"))
    if pickled and not is_safetensors(head):
        return "what torch.save or another program wrote: `robuststream freeze` makes a model of a checkpoint"
    return foreign(head)


def read_description(data: bytes) -> dict[str, Any]:
    """The description in a model file's safetensors header; `data` may end behind the header.

    Raises:
        ValueError, KeyError: not a model file of this format.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ValueError(f"{len(data)} bytes are too few, or no safetensors file")
    try:
        header = json.loads(data[8 : 8 + size].decode())
        metadata = header.get("__metadata__") if isinstance(header, dict) else None
        text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
        description = json.loads(text) if isinstance(text, str) else None
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(description, dict):
        raise ValueError("without a robuststream model's description: `robuststream freeze` makes one of a checkpoint")
    if description["format"] != FORMAT:
        raise ValueError(f"model format {description['format']}, this release reads {FORMAT}")
    return description
