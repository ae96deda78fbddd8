"""Checkpoints as people have them: a state dict out of a file, under CompressAI's names of today."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from robuststream.errors import ModelNotFound, UnsupportedModel, first_line
from robuststream.model.file import METADATA_KEY
from robuststream.model.filekinds import HEAD, foreign, is_safetensors

State = dict[str, Tensor]

#: Where programs put state dicts among other things, the likelier place first.
PLACES = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "params", "weights")
DEPTH = 4
#: What DataParallel and torch.compile put before the names inside them.
WRAPPERS = ("module", "_orig_mod")
#: A key of every image model; what stands before it is the name of an attribute that held the model.
_ANALYSIS = re.compile(r"^(|.*\.)g_a\.")
#: Entropy bottlenecks had lists of parameters at first, and have them again; in between, single ones. Every release
#: of CompressAI reads the latter.
_LISTED = re.compile(r"(?:_?(matri)ces|_?(bias)es|_?(factor)s)\.([0-9]+)")
_FOREIGN_CODE = re.compile(r"GLOBAL ([\w.]+)")
#: Keys in a message.
NAMED = 4


def read_state(path: str | Path) -> State:
    """The state dict in a checkpoint: names as a CompressAI module has them. Nothing in the file is run.

    Raises:
        ModelNotFound: the file cannot be read. UnsupportedModel: there is no state dict of an image model in it; the
            message says what it is instead.
    """
    loaded = _load(Path(path))
    found = list(_states(loaded, DEPTH))
    if not found:
        raise UnsupportedModel(f"{path}: {_otherwise(loaded)}: net.state_dict() is what is needed, saved by torch.save")
    try:
        state = plain_names(found[0])
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{path}: {error}") from error
    for key, value in state.items():
        if value.is_complex():
            raise UnsupportedModel(f"{path}: {key} is {value.dtype}, where floating-point numbers are needed")
    return state


def plain_names(state: Mapping[str, Any]) -> State:
    """The tensors of one image model, without what wrappers and holders put before their names, and renamed where an
    older CompressAI called them otherwise.

    Raises:
        UnsupportedModel: there are several models, or two tensors of one name.
    """
    prefixes = sorted({match[1] for key in state if (match := _ANALYSIS.match(key))})
    if len(prefixes) > 1 and prefixes[0]:
        names = ", ".join(f"{prefix}g_a" for prefix in prefixes[:NAMED])
        raise UnsupportedModel(f"holds several models ({names}): save the state dict of one of them alone")
    prefix = prefixes[0] if prefixes else ""
    own = [
        (_without_wrappers(key.removeprefix(prefix)), value)
        for key, value in state.items()
        if key.startswith(prefix) and isinstance(value, Tensor)
    ]
    keys = {key for key, _ in own}
    renamed = [(_present_name(key, keys), value) for key, value in own]
    plain = dict(renamed)
    if len(plain) < len(renamed):
        raise UnsupportedModel("holds two tensors of one name, with and without what torch.compile puts into it")
    return plain


def fitted(state: State, net: nn.Module, path: str | Path) -> State:
    """The state dict, where its numbers are of the kinds that the module has them in: loading would convert them.

    Raises:
        UnsupportedModel: naming the tensor.
    """
    for key, own in net.state_dict().items():
        given = state.get(key)
        if given is None:
            continue
        if own.is_floating_point() != given.is_floating_point():
            needed = "floating-point" if own.is_floating_point() else "whole"
            raise UnsupportedModel(f"{path}: {key} is {given.dtype}, where {needed} numbers are needed")
        limits = None if own.is_floating_point() or own.dtype == torch.bool else torch.iinfo(own.dtype)
        if limits and given.numel() and not limits.min <= int(given.min()) <= int(given.max()) <= limits.max:
            raise UnsupportedModel(f"{path}: {key} holds numbers beyond {limits.bits} bits")
    return state


# --- Names ---------------------------------------------------------------------------------------------------------


def _without_wrappers(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def _present_name(key: str, keys: set[str]) -> str:
    parent, _, name = key.rpartition(".")
    bottleneck, _, kind = parent.rpartition(".")
    listed = _LISTED.fullmatch(f"{kind}.{name}")
    if listed and f"{bottleneck}.quantiles" in keys:
        return f"{bottleneck}._{'matrix' if listed[1] else listed[2] or listed[3]}{listed[4]}"
    # The shortcut of cheng2020's residual blocks.
    return key.replace(".downsample.", ".skip.")


# --- Files ---------------------------------------------------------------------------------------------------------


def _load(path: Path) -> Any:
    if path.is_dir():
        raise ModelNotFound(f"{path}: a folder: name the checkpoint file in it")
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            what = foreign(head) or _strange_archive(head, file)
            if what:
                raise UnsupportedModel(f"{path}: not a checkpoint but {what}")
            file.seek(0)
            return _tensors_alone(path, file) if is_safetensors(head) else _unpickled(path, file)
    except OSError as error:
        raise ModelNotFound(f"{path}: the checkpoint cannot be read ({error.strerror or error})") from error


def _strange_archive(head: bytes, file: IO[bytes]) -> str | None:
    """What a zip archive is that torch.save did not write, or did not write whole; None where it did."""
    if not head.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, EOFError):
        return "the beginning of one: the file is cut off or damaged, get a whole copy of it"
    if not any(name.endswith("/data.pkl") for name in names):
        return "a zip archive of other files: unpack it first"
    if any("/code/" in name for name in names):
        return "a TorchScript module, which is code: net.state_dict() is needed, saved by torch.save"
    return None


def _tensors_alone(path: Path, file: IO[bytes]) -> Any:
    data = file.read()
    size = int.from_bytes(data[:8], "little")
    if METADATA_KEY.encode() in data[8 : 8 + size]:
        raise UnsupportedModel(f"{path}: a frozen model already: use it as it is")
    try:
        with torch.device("cpu"):
            return safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UnsupportedModel(f"{path}: a damaged safetensors file ({first_line(error)})") from error


def _unpickled(path: Path, file: IO[bytes]) -> Any:
    try:
        with torch.device("cpu"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises whatever unpickling a damaged file raises, and advises to run its code
        code = _FOREIGN_CODE.search(str(error))
        if code:
            raise UnsupportedModel(
                f"{path}: code would have to run to load it ({code[1]}), and none is: where it was made, save "
                "net.state_dict() alone, with torch.save"
            ) from error
        raise UnsupportedModel(
            f"{path}: not a checkpoint that torch.save wrote, or damaged: get a whole copy of it"
        ) from error


def _states(loaded: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """Dicts with an image model's tensors, the likeliest first."""
    if not isinstance(loaded, Mapping) or not depth:
        return
    texts = {key: value for key, value in loaded.items() if isinstance(key, str)}
    if any(_ANALYSIS.match(key) and isinstance(value, Tensor) for key, value in texts.items()):
        yield texts
        return
    for key in sorted(texts, key=lambda key: PLACES.index(key) if key in PLACES else len(PLACES)):
        yield from _states(texts[key], depth - 1)


def _otherwise(loaded: Any) -> str:
    """What there is where no state dict is."""
    if not isinstance(loaded, Mapping):
        return f"holds {'nothing (None)' if loaded is None else f'a {type(loaded).__name__}'}"
    keys = ", ".join(str(key) for key in list(loaded)[:NAMED]) + (", ..." if len(loaded) > NAMED else "")
    return f"holds no weights of an image model, such as g_a.0.weight, but {keys or 'an empty dict'}"
