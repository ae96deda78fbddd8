"""Streams as pictures for Pillow; importing this, and opening a picture, imports no torch.

    import robuststream.pillow
    from PIL import Image

    robuststream.pillow.register()
    image = Image.open("photo.robs")

Size, mode and metadata are there at once; pixels are decoded when they are first needed. Pillow knows files by their
first bytes: a stream whose first packet is damaged at its very start is left to `robuststream.decode`.
"""

from __future__ import annotations

import sys
from typing import IO, Any

from PIL import Image, ImageFile, UnidentifiedImageError

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

    `image.save("x.robs")` encodes with the bundled model. It takes what `robuststream.encode` takes (`model`, `tile`,
    `parity`, ...), and `icc_profile`, `exif` and `xmp` as Pillow's own formats do; without these the image's own are
    kept. It raises OSError for images that cannot be coded.
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
            try:
                self.im = self._stream.decode().image.im
            except RobustStreamError as error:
                raise OSError(str(error)) from error
            self.tile = []
            if self._exclusive_fp and self.fp is not None:
                self.fp.close()
            self.fp = None
        return super().load()

    def load_seek(self, position: int) -> None:
        """Tells Pillow's incremental parser to wait for the whole file."""


def _max_pixels() -> int:
    """Pillow holds the size against its own limit as well; who raised or dropped that meant it."""
    limit = Image.MAX_IMAGE_PIXELS
    return sys.maxsize if limit is None else max(MAX_PIXELS, 2 * limit)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    from robuststream.codec import encode

    options: dict[str, Any] = dict(image.encoderinfo)
    metadata = {name: options.pop(name) for name in ("icc_profile", "exif", "xmp") if name in options}
    if metadata:
        image = image.copy()
        if isinstance(metadata.get("exif"), Image.Exif):
            metadata["exif"] = metadata["exif"].tobytes()
        image.info.update(metadata)
    try:
        file.write(encode(image, max_pixels=_max_pixels(), **options))
    except RobustStreamError as error:
        raise OSError(str(error)) from error
