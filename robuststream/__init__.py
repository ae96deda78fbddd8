"""Learned image compression that decodes to the same latents on every machine, and survives damage.

    import robuststream as rs

    model = rs.load_model()
    data = rs.encode("photo.png", model)
    out = rs.decode(data, model)

Names are loaded when first used: `inspect` and the errors need no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from robuststream.errors import (
    ContextDesync,
    DamagedStream,
    DamageWarning,
    DeviceNotFound,
    ImageError,
    ModelMismatch,
    ModelNotFound,
    NotARobustStream,
    PictureWarning,
    RobustStreamError,
    StreamChanged,
    StreamNotFound,
    UnsupportedModel,
    UnsupportedVersion,
)

if TYPE_CHECKING:
    from robuststream import compressai
    from robuststream.codec import Decoded, decode, decode_batch, encode, encode_batch, repair, verify
    from robuststream.container.repair import Restored
    from robuststream.container.report import StreamReport
    from robuststream.files.sources import Source
    from robuststream.model.freeze import freeze, freeze_checkpoint
    from robuststream.model.frozen import Model
    from robuststream.model.store import load_model
    from robuststream.region import DecodedRegion, RegionReport, StreamFile, open

__version__ = "0.1.0"

_LAZY = {
    "Decoded": "robuststream.codec",
    "decode": "robuststream.codec",
    "decode_batch": "robuststream.codec",
    "encode": "robuststream.codec",
    "encode_batch": "robuststream.codec",
    "repair": "robuststream.codec",
    "verify": "robuststream.codec",
    "Restored": "robuststream.container.repair",
    "StreamReport": "robuststream.container.report",
    "freeze": "robuststream.model.freeze",
    "freeze_checkpoint": "robuststream.model.freeze",
    "Model": "robuststream.model.frozen",
    "load_model": "robuststream.model.store",
    "DecodedRegion": "robuststream.region",
    "RegionReport": "robuststream.region",
    "StreamFile": "robuststream.region",
    "open": "robuststream.region",
}


def inspect(data: Source, *, stream: int = 0) -> StreamReport:
    """What a stream holds and what is wrong with it, from its container alone; imports no torch.

    Args:
        data: the stream, as `decode` takes it.
        stream: which one, where `data` holds several.

    Raises:
        OSError: the path or file cannot be read. TypeError: `data` is no source.
        NotARobustStream, DamagedStream, UnsupportedVersion: no header can be read.
        StreamNotFound: there are not so many streams.
    """
    from robuststream.coding.arguments import whole_number
    from robuststream.files.sources import read_source
    from robuststream.transfers.reading import read_stream

    return read_stream(read_source(data), number=whole_number("stream", stream)).report


def read_streams(data: Source) -> Iterator[StreamReport]:
    """What `inspect` says of each of several streams in one file, those that have an intact header, in their order.

    The first is what every function takes when it is not told otherwise, the others are `stream=1` and so on. Each is
    read when it is asked for. Arguments and errors as for `inspect`.
    """
    from robuststream.files.sources import read_source
    from robuststream.transfers import reading

    return (stream.report for stream in reading.read_streams(read_source(data)))


def __getattr__(name: str) -> Any:
    if name == "compressai":
        return importlib.import_module("robuststream.compressai")
    if name not in _LAZY:
        raise AttributeError(f"module 'robuststream' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "ContextDesync",
    "DamageWarning",
    "DamagedStream",
    "Decoded",
    "DecodedRegion",
    "DeviceNotFound",
    "ImageError",
    "Model",
    "ModelMismatch",
    "ModelNotFound",
    "NotARobustStream",
    "PictureWarning",
    "RegionReport",
    "Restored",
    "RobustStreamError",
    "StreamChanged",
    "StreamFile",
    "StreamNotFound",
    "StreamReport",
    "UnsupportedModel",
    "UnsupportedVersion",
    "compressai",
    "decode",
    "decode_batch",
    "encode",
    "encode_batch",
    "freeze",
    "freeze_checkpoint",
    "inspect",
    "load_model",
    "open",
    "read_streams",
    "repair",
    "verify",
]
