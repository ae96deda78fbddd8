"""Where frozen models are found: bundled with the package, in the user's model folder, in CompressAI's zoo.

What there is stands in the files' headers; torch is imported when a model is loaded, and not before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import platformdirs

from robuststream.errors import ModelNotFound, RobustStreamError, UnsupportedModel, first_line
from robuststream.files.writing import write_file
from robuststream.model.file import FORMAT, METADATA_KEY, read_model_file
from robuststream.model.filekinds import HEAD, foreign

if TYPE_CHECKING:
    import torch

    from robuststream.model.frozen import Model

BUNDLED = Path(__file__).parents[1] / "models"
DEFAULT = "mbt2018-mean-64-96"
SUFFIX = ".safetensors"
FOLDER_VARIABLE = "ROBUSTSTREAM_MODELS"
#: Of a digest, where a few of its digits are to name a model.
MIN_PREFIX = 6
#: Of a long list of models, as many stand in a message.
NAMED = 8
#: So many of the models that were loaded last are kept, for the next call.
KEPT = 4

log = logging.getLogger(__name__)


def load_model(
    path: str | os.PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    *,
    quality: int | None = None,
    metric: str = "mse",
) -> Model:
    """The bundled default model, the one in the file `path`, or a pretrained one of CompressAI's zoo.

    Args:
        path: a model file made by `Model.save` or `robuststream freeze`; or, together with `quality`, CompressAI's
            name of an architecture, such as "mbt2018-mean". Such a model is downloaded and frozen once, into the
            model folder, and read from there ever after, without compressai or a network.
        device: where the analysis and synthesis transforms run.
        quality, metric: of a model of the zoo: 1 to 6 or 8, and "mse" or "ms-ssim".

    Raises:
        ModelNotFound: the file cannot be read, the zoo has no such model, or it cannot be downloaded.
        UnsupportedModel: it is not valid, this machine is not exact, or compressai is not installed.
        DeviceNotFound: the device is not there.
        RobustStreamError: a model of the zoo cannot be written to the model folder.
    """
    if quality is not None:
        if path is None:
            raise ModelNotFound("quality goes with a name in CompressAI's zoo: load_model('mbt2018-mean', quality=3)")
        return _load(install_pretrained(os.fspath(path), quality, metric)[0], str(device))
    return _load(Path(path) if path is not None else BUNDLED / (DEFAULT + SUFFIX), str(device))


def model_folder() -> Path | None:
    """The user's model folder: `ROBUSTSTREAM_MODELS`, or the platform's place for application data.

    None for a user who has no home, as in many containers: bundled models need none.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    try:
        folder = Path(platformdirs.user_data_dir("robuststream"), "models")
    except (RuntimeError, KeyError, OSError):
        return None
    # Some releases of platformdirs leave the `~` as it is.
    return folder if folder.is_absolute() else None


# --- What there is -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredModel:
    """What a model file's header says; believed only as far as which file to load, which checks it.

    Attributes:
        path, size: of the file; in bytes.
        name, prior: as in the model.
        parameters_digest, synthesis_digest: 32 hexadecimal digits each.
        problem: why the file is no model; all of the above but path and size are empty then.
    """

    path: Path
    size: int
    name: str = ""
    prior: str = ""
    parameters_digest: str = ""
    synthesis_digest: str = ""
    problem: str = ""

    @property
    def digests(self) -> tuple[str, str]:
        return self.parameters_digest, self.synthesis_digest

    @property
    def bundled(self) -> bool:
        return self.path.parent == BUNDLED


def stored_models() -> Iterator[StoredModel]:
    """The bundled models, then those in the model folder; files that are no models too, saying so."""
    yield from map(_stored, _files(BUNDLED))
    yield from map(_stored, _files(model_folder()))


def _files(folder: Path | None) -> list[Path]:
    try:
        names = [] if folder is None else os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("%s: the model folder cannot be read (%s)", folder, error.strerror)
        return []
    return sorted(Path(str(folder), name) for name in names if name.endswith(SUFFIX))


def find_model(parameters_digest: bytes, synthesis_digest: bytes, device: torch.device | str = "cpu") -> Model:
    """The model that coded a stream, by the digests in its header; as `find_stored`, the first that can be loaded."""
    return first_sound((stored.path for stored in find_stored(parameters_digest, synthesis_digest)), device)[1]


def find_stored(parameters_digest: bytes, synthesis_digest: bytes) -> Iterator[StoredModel]:
    """The files of the model that coded a stream, by the digests in its header: one at least, looked for as they are
    asked for.

    Where only the synthesis transform differs, those files are given: the caller says so.

    Raises:
        ModelNotFound: none fits.
    """
    exact, near = 0, []
    for stored in stored_models():
        if stored.problem:
            log.warning("%s is passed over: %s", stored.path, stored.problem)
        elif stored.digests == (parameters_digest.hex(), synthesis_digest.hex()):
            exact += 1
            yield stored
        elif stored.parameters_digest == parameters_digest.hex():
            near.append(stored)
    if exact:
        return
    yield from near
    if not near:
        folder = model_folder()
        place = f"put its file into {folder}" if folder else f"set {FOLDER_VARIABLE} to the folder its file is in"
        raise ModelNotFound(
            f"no installed model has the digest {parameters_digest.hex()}: "
            f"pass the model that encoded the stream, or {place}"
        )


def first_sound(paths: Iterable[Path], device: torch.device | str = "cpu") -> tuple[Path, Model]:
    """Of several copies of a model (one at least) the first that can be loaded, and where it is.

    Raises:
        ModelNotFound, UnsupportedModel: what is wrong with the first, where none can be.
    """
    failures: list[RobustStreamError] = []
    for path in paths:
        try:
            model = _load(path, str(device))
        except (ModelNotFound, UnsupportedModel) as error:
            failures.append(error)
            continue
        for failure in failures:
            log.warning("a copy of the model is passed over: %s", failure)
        return path, model
    raise failures[0]


def pick_models(text: str) -> list[Path]:
    """The files of the model of this name, or with a digest that begins so: one, or several copies. Else `text` is a
    path itself.

    Raises:
        ModelNotFound: several models fit, or none and there is no such file.
    """
    models = [stored for stored in stored_models() if not stored.problem]
    fitting = [stored for stored in models if stored.name == text]
    if not fitting and re.fullmatch(f"[0-9a-f]{{{MIN_PREFIX},32}}", text.lower()):
        fitting = [stored for stored in models if any(digest.startswith(text.lower()) for digest in stored.digests)]
    # Copies of one model in several files are one model.
    if len({stored.digests for stored in fitting}) > 1:
        raise ModelNotFound(f"{text} fits several models: {_listed(fitting)}: give more of a digest, or the file")
    if fitting:
        return [stored.path for stored in fitting]
    if os.path.lexists(text):
        return [Path(text)]
    raise ModelNotFound(
        f"{text} is no model's name, digest ({MIN_PREFIX} digits of it or more) or file: there are {_listed(models)}"
    )


def _listed(models: list[StoredModel]) -> str:
    entries = [f"{stored.name} ({' / '.join(digest[:12] for digest in stored.digests)})" for stored in models[:NAMED]]
    more = [f"{len(models) - NAMED} more (robuststream models list)"] if len(models) > NAMED else []
    return ", ".join(entries + more) or "none"


def _stored(path: Path) -> StoredModel:
    from safetensors import SafetensorError, safe_open

    size = 0
    try:
        if not path.is_file():
            raise ValueError("no regular file")
        size = path.stat().st_size
        with open(path, "rb") as opened:
            what = foreign(opened.read(HEAD))
        if what:
            raise ValueError(what)
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
        if text is None:
            raise ValueError("without a robuststream model's description")
        return StoredModel(path, size, *_described(json.loads(text)))
    except (SafetensorError, OSError, ValueError) as error:
        problem = (isinstance(error, OSError) and error.strerror) or str(error)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"its description is not valid ({type(error).__name__}: {error})"
    return StoredModel(path, size, problem=problem)


def _described(description: Any) -> Iterable[str]:
    """Name, prior and digests. Raises ValueError, KeyError, TypeError, AttributeError."""
    if description["format"] != FORMAT:
        raise ValueError(f"model format {description['format']}, this release reads {FORMAT}")
    digests = [description[key] for key in ("parameters_digest", "synthesis_digest")]
    texts = [description["texts"].get("name", ""), description["prior"]]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("name and prior are no texts")
    if not all(re.fullmatch("[0-9a-f]{32}", digest) for digest in digests):
        raise ValueError("its digests are none")
    return [*texts, *digests]


# --- What is added -------------------------------------------------------------------------------------------------


def file_name(model: Model) -> str:
    """What a model's file is called in the model folder: its name made safe, and the beginnings of its digests."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.name)[:64].strip("-.") or "model"
    return f"{name}-{model.parameters_digest.hex()[:8]}-{model.synthesis_digest.hex()[:8]}{SUFFIX}"


def install(model: Model, data: bytes, force: bool = False) -> tuple[Path, bool]:
    """Write a model's file, `data`, into the model folder, all or nothing.

    Returns:
        Its path, and whether it was written: where the same bytes stand already, nothing is.

    Raises:
        RobustStreamError: other bytes stand there and `force` is not given, or it cannot be written.
    """
    path = _folder_to_write() / file_name(model)
    try:
        if path.exists():
            if path.read_bytes() == data:
                return path, False
            if not force:
                raise RobustStreamError(f"{path}: exists already, with other bytes: use --force to overwrite it")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data)
    except OSError as error:
        raise RobustStreamError(
            f"{path}: the model cannot be written there ({error.strerror}): "
            f"set {FOLDER_VARIABLE} to a folder that can be written"
        ) from error
    return path, True


def _folder_to_write() -> Path:
    """Raises RobustStreamError where there is none."""
    folder = model_folder()
    if folder is None:
        raise RobustStreamError(
            f"this user has no home, so there is no model folder: set {FOLDER_VARIABLE} to one that can be written"
        )
    return folder


def install_pretrained(architecture: str, quality: int, metric: str, force: bool = False) -> tuple[Path, bool]:
    """As `install`, for a model of CompressAI's zoo; fetched and frozen unless it is there and `force` is not given.

    Raises:
        ModelNotFound, UnsupportedModel, RobustStreamError: as `load_model`.
    """
    name = f"{architecture}-{metric}-q{quality}"
    kept = [stored.path for stored in stored_models() if stored.name == name]
    if kept and not force:
        return first_sound(kept)[0], False
    _folder_to_write()
    net = _fetch(architecture, quality, metric)
    from robuststream.model.freeze import freeze

    model = freeze(net, name=name, attribution="CompressAI's model zoo")
    return install(model, model.to_bytes(), force)


def _fetch(architecture: str, quality: int, metric: str) -> Any:
    """A pretrained CompressAI model. Raises ModelNotFound, UnsupportedModel."""
    try:
        from compressai.zoo import image_models
    except ImportError as error:
        raise UnsupportedModel("CompressAI's zoo needs compressai: pip install 'robuststream[compressai]'") from error
    from robuststream.model.anatomy import ARCHITECTURES, dissect

    known = [name for name in image_models if name in ARCHITECTURES]
    if architecture not in known:
        raise ModelNotFound(f"{architecture} is no model of CompressAI's zoo that can be frozen: {', '.join(known)}")
    what = f"{architecture}, quality {quality}, {metric}"
    if not _torch_has_a_folder():
        raise ModelNotFound(f"{what}: there is no folder to download to, since this user has no home: set TORCH_HOME")
    progress = sys.stderr is not None and sys.stderr.isatty()
    try:
        net = image_models[architecture](quality=quality, metric=metric, pretrained=True, progress=progress)
    except MemoryError:
        raise
    except OSError as error:
        reason = first_line(getattr(error, "reason", None) or error)
        raise ModelNotFound(f"{what}: cannot be downloaded ({reason}): a network is needed, this once") from error
    except Exception as error:  # the zoo raises whatever its checks, the server's answer or unpickling raise
        raise ModelNotFound(f"{what}: not to be had from CompressAI's zoo ({first_line(error)})") from error
    found = dissect(net).name
    if found != architecture:
        raise ModelNotFound(f"{what}: CompressAI's zoo gives a {found} under this name: ask for that one")
    return net


def _torch_has_a_folder() -> bool:
    """Without a home torch would make a folder called `~` wherever the program runs."""
    import torch

    return os.path.isabs(os.path.expanduser(torch.hub.get_dir()))


# --- Loading -------------------------------------------------------------------------------------------------------

#: By what is in the file and the device: a file's path and times say nothing of that.
_loaded: OrderedDict[tuple[bytes, str], Model] = OrderedDict()
_lock = Lock()


def _load(path: Path, device: str) -> Model:
    from robuststream.model.frozen import Model

    try:
        data = read_model_file(path)
    except ModelNotFound as error:
        raise ModelNotFound(f"{error}{_zoo_hint(path)}") from error
    key = hashlib.sha256(data).digest(), device
    with _lock:
        model = _loaded.pop(key, None)
    if model is None:
        model = Model.from_bytes(data, device, str(path))
    with _lock:
        _loaded[key] = model
        while len(_loaded) > KEPT:
            _loaded.popitem(last=False)
    return model


def _zoo_hint(path: Path) -> str:
    from robuststream.model.anatomy import ARCHITECTURES

    return ": a name in CompressAI's zoo goes with quality=..." if str(path) in ARCHITECTURES else ""
