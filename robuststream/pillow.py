"""Streams as pictures for Pillow; importing this, and opening a picture, imports no torch.

    import robuststream.pillow
    from PIL import Image

    robuststream.pillow.register()
    image = Image.open("photo.robs")

Size, mode and metadata are there at once; pixels are decoded when they are first needed. Pillow knows files by their
first bytes: a stream whose first packet is damaged at its very start is left to `robuststream.decode`.
"""

from __future__ import annotations

import operator
import sys
from contextlib import suppress
from inspect import signature
from typing import IO, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from robuststream import inspect
from robuststream.container.layout import SYNC
from robuststream.container.packets import MAX_PIXELS
from robuststream.errors import NotARobustStream, RobustStreamError
from robuststream.region import open as open_stream

FORMAT = "ROBS"
EXTENSION = ".robs"
#: Not registered with IANA.
MEDIA_TYPE = "image/vnd.robuststream"


def register() -> None:
    """Have Pillow open and save streams. Calling it again changes nothing.

    `Image.open("x.robs")` finds the model by the digest in the stream. A damaged stream gives a picture and a
    DamageWarning, when it is loaded. What cannot be opened at all raises PIL.UnidentifiedImageError, what cannot be
    decoded OSError; both say why.

    `verify()`, on an image just opened, holds every checksum of the stream against its bytes and raises OSError where
    it is not intact; it decodes nothing and needs no model.

    `image.save("x.robs")` encodes with the bundled model. It takes what `robuststream.encode` takes (`model`, `tile`,
    `parity`, ...), and `icc_profile`, `exif`, `xmp` and `dpi` as Pillow's own formats do; without these the image's own
    are kept. Options of other formats are ignored. `quality` is the index of the rate that the model has; what it has
    not, such as the 95 that fits JPEG, is taken for its best, with a PictureWarning, and None or -1 for its middle. It
    raises OSError for images that cannot be coded, and ValueError for other options that are not possible.
    """
    Image.register_open(FORMAT, RobustStreamImage, lambda prefix: prefix.startswith(SYNC))
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, EXTENSION)
    Image.register_mime(FORMAT, MEDIA_TYPE)


class RobustStreamImage(ImageFile.ImageFile):
    """What `PIL.Image.open` makes of a stream."""

    format = FORMAT
    format_description = "robuststream"

    def _open(self) -> None:
        assert self.fp is not None
        try:
            self._stream = open_stream(self.fp, max_pixels=_max_pixels())
        except NotARobustStream as error:
            raise SyntaxError(str(error)) from error  # Pillow then tries other formats
        except RobustStreamError as error:
            raise UnidentifiedImageError(str(error)) from error
        self._size = self._stream.size
        self._mode = self._stream.mode
        self.info.update(self._stream.metadata.info())
        # Nothing of this is Pillow's to decode: it says that `load` has something to do.
        self.tile = [ImageFile._Tile("robuststream", (0, 0, *self.size), 0, self.mode)]

    def load(self) -> Any:
        """Decode, once."""
        if self.tile:
            if self.fp is None:
                raise ValueError("the image is closed: open it again")
            try:
                self.im = self._stream.decode().image.im
            except RobustStreamError as error:
                raise OSError(str(error)) from error
            self.tile = []
            if self._exclusive_fp and self.fp is not None:
                self.fp.close()
            self.fp = None
        return super().load()

    def verify(self) -> None:
        """Raise OSError unless every byte is there and right; afterwards, as all of Pillow's images, it is closed."""
        if self.fp is None:
            raise RuntimeError("verify must be called directly after open")
        self.fp.seek(0)
        try:
            report = inspect(self.fp.read())
        except RobustStreamError as error:
            raise OSError(str(error)) from error
        finally:
            super().verify()
        if not report.intact:
            raise OSError(f"the stream is damaged: {report.findings[0]}")

    def load_seek(self, position: int) -> None:
        """Tells Pillow's incremental parser to wait for the whole file."""


def _max_pixels() -> int:
    """Pillow holds the size against its own limit as well; who raised or dropped that meant it."""
    limit = Image.MAX_IMAGE_PIXELS
    return sys.maxsize if limit is None else max(MAX_PIXELS, 2 * limit)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    from robuststream.codec import encode
    from robuststream.model.store import load_model

    given: dict[str, Any] = image.encoderinfo
    known = set(signature(encode).parameters) - {"image"}
    options = {name: value for name, value in given.items() if name in known}
    options.setdefault("max_pixels", _max_pixels())
    if "quality" in options:
        options["model"] = options.get("model") or load_model()
        options["quality"] = _quality(options["quality"], options["model"].qualities)
    metadata = {name: given[name] for name in ("icc_profile", "exif", "xmp", "dpi") if name in given}
    if metadata:
        image = image.copy()
        if isinstance(metadata.get("exif"), Image.Exif):
            metadata["exif"] = metadata["exif"].tobytes()
        image.info.update(metadata)
    try:
        file.write(encode(image, **options))
    except RobustStreamError as error:
        raise OSError(str(error)) from error


def _quality(wanted: Any, qualities: int) -> int | None:
    """An index of the model's; Pillow's users give numbers and names that JPEG has."""
    from robuststream.picture.said import tell

    if wanted is None or wanted == -1:
        return None
    with suppress(TypeError):
        if 0 <= operator.index(wanted) < qualities:
            return operator.index(wanted)
    tell(f"quality {wanted!r} is not one of the model's, 0 to {qualities - 1}: its best is taken")
    return qualities - 1
