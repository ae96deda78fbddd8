"""Where frozen models are found: bundled with the package, or in the user's model folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import platformdirs
import torch

from robuststream.errors import ModelNotFound
from robuststream.model import Model, read_description

BUNDLED = Path(__file__).parent / "models"
DEFAULT = "mbt2018-mean-64-96"
SUFFIX = ".safetensors"
FOLDER_VARIABLE = "ROBUSTSTREAM_MODELS"
MAX_HEADER_BYTES = 16 << 20

log = logging.getLogger(__name__)


def load_model(path: str | os.PathLike[str] | None = None, device: torch.device | str = "cpu") -> Model:
    """The bundled default model, or the one in the file `path`.

    Args:
        path: a model file made by `Model.save` or `robuststream freeze`.
        device: where the analysis and synthesis transforms run.

    Raises:
        ModelNotFound: the file cannot be read. UnsupportedModel: it is not valid, or this machine is not exact.
    """
    return _load(Path(path) if path is not None else BUNDLED / (DEFAULT + SUFFIX), str(device))


def model_folder() -> Path:
    """The user's model folder: `ROBUSTSTREAM_MODELS`, or the platform's place for application data."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_data_dir("robuststream")) / "models"


def find_model(parameters_digest: bytes, synthesis_digest: bytes, device: torch.device | str = "cpu") -> Model:
    """The model that coded a stream, by the digests in its header.

    Where only the synthesis transform differs, that model is returned: the caller says so.

    Raises:
        ModelNotFound: none fits.
    """
    fallback: Path | None = None
    for path in _candidates():
        digests = _digests(path)
        if digests == (parameters_digest.hex(), synthesis_digest.hex()):
            return _load(path, str(device))
        if digests is not None and digests[0] == parameters_digest.hex():
            fallback = path
    if fallback is not None:
        return _load(fallback, str(device))
    raise ModelNotFound(
        f"no installed model has the digest {parameters_digest.hex()}: pass the model that encoded the stream, "
        f"or put its file into {model_folder()}"
    )


def _candidates() -> Iterator[Path]:
    for folder in (BUNDLED, model_folder()):
        if folder.is_dir():
            yield from sorted(folder.glob("*" + SUFFIX))


def _digests(path: Path) -> tuple[str, str] | None:
    """What a model file says of itself; believed only as far as which file to load, which checks it."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > MAX_HEADER_BYTES:
                return None
            file.seek(0)
            description = read_description(file.read(8 + size))
        return str(description["parameters_digest"]), str(description["synthesis_digest"])
    except (OSError, ValueError, KeyError) as error:
        log.warning("%s is passed over: %s", path, error)
        return None


def _load(path: Path, device: str) -> Model:
    try:
        stat = path.stat()
    except OSError as error:
        raise ModelNotFound(f"{path}: the model file cannot be read ({error.strerror})") from error
    return _load_once(path, stat.st_mtime_ns, device)


@lru_cache(maxsize=4)
def _load_once(path: Path, modified: int, device: str) -> Model:
    return Model.load(path, device)
