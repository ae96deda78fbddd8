"""Picture files opened with Pillow's readers, under our own limit of pixels, or refused in one clear line."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile, UnidentifiedImageError

from robuststream.errors import ImageError, RobustStreamError, first_line


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Whatever Pillow raises of a file's bytes becomes an ImageError."""
    try:
        yield
    except (RobustStreamError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        reason = first_line(error) or "PNG, JPEG, WebP, TIFF, ..."
        raise ImageError(f"{name}: not a picture in a format that can be read ({reason})") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: more pixels in a part than in the picture ({first_line(error)})") from error
    except Exception as error:  # a format's reader raises whatever its parsing raises
        raise ImageError(f"{name}: the picture is damaged or cut short ({first_line(error)})") from error


def opened(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """As `PIL.Image.open`, but for the limit of pixels: Pillow's is one number for the whole process, and not ours.

    Raises UnidentifiedImageError.
    """
    try:
        return _identified(data)
    except Image.DecompressionBombError:
        # Some readers, WebP's for one, hold their size against Pillow's limit by themselves.
        with pillows_limit_at(max_pixels):
            return _identified(data)


def _identified(data: bytes) -> ImageFile.ImageFile:
    reasons: list[str] = []
    tried: set[str] = set()
    for find_readers in (Image.preinit, Image.init):
        find_readers()
        for kind in [kind for kind in Image.ID if kind not in tried]:
            tried.add(kind)
            factory, accept = Image.OPEN[kind]
            try:
                fits = not accept or accept(data[:16])
                if isinstance(fits, str):
                    reasons.append(fits)
                elif fits:
                    return factory(io.BytesIO(data), "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    raise UnidentifiedImageError("; ".join(reasons) or "PNG, JPEG, WebP, TIFF, ...")


_lock = threading.Lock()
_asked: list[int] = []
_before: list[int | None] = []


@contextmanager
def pillows_limit_at(pixels: int) -> Iterator[None]:
    """Pillow's own limit allows so many pixels inside; the last one out, in any thread, puts it back.

    Only for pictures that it would refuse or warn of, since it counts for other threads as well.
    """
    with _lock:
        if not _asked:
            _before[:] = [Image.MAX_IMAGE_PIXELS]
        _asked.append(pixels)
        _set_limit()
    try:
        yield
    finally:
        with _lock:
            _asked.remove(pixels)
            _set_limit()


def _set_limit() -> None:
    limit = _before[0]
    Image.MAX_IMAGE_PIXELS = limit if limit is None else max(limit, *_asked, 0)


def exceeds_pillows_limit(size: tuple[int, int]) -> bool:
    limit = Image.MAX_IMAGE_PIXELS
    return limit is not None and size[0] * size[1] > limit


# --- Kinds that cannot be coded -------------------------------------------------------------------------------------

GREY_MODES = ("1", "L")
COLOUR_MODES = ("P", "RGB", "RGBX", "YCbCr")
#: Whose further frames are previews, gain maps or layers of the first.
_ONE_PICTURE = ("MPO", "PSD")
#: Their numbers are measurements, not brightness up to 65535.
_MEASURED = ("FITS", "MCIDAS")
#: Whose readers give 16 bits in mode I.
_SCALED = ("PPM", "PNG")


def refuse_kind(image: Image.Image, name: str) -> None:
    """Raises ImageError for what has no place in a stream: alpha, several frames, colours other than RGB and grey."""
    mode = image.mode
    if isinstance(image, ImageFile.StubImageFile):
        raise ImageError(f"{name}: {image.format} files are recognised and cannot be read: convert it, such as to PNG")
    refuse_empty(*image.size, name)
    frames = 1 if image.format in _ONE_PICTURE else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(
            f"{name}: {frames} frames or pages, and one is needed: take it first, such as image.seek(0); image.copy()"
        )
    if image.has_transparency_data:
        raise ImageError(
            f"{name}: transparency ({mode}) is not coded: flatten it first, such as "
            'Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")'
        )
    if mode == "F":
        raise ImageError(
            f"{name}: floating point (F), and 8 bits a channel are coded: bring it there first, where 1.0 is white "
            "such as Image.fromarray((numpy.asarray(image) * 255).round().clip(0, 255).astype(numpy.uint8))"
        )
    unknown = image.format in _MEASURED if mode.startswith("I;16") else mode == "I" and image.format not in _SCALED
    if unknown:
        raise ImageError(
            f"{name}: whole numbers ({mode}), and 8 bits a channel are coded: bring it there first, where 65535 is "
            "white such as Image.fromarray((numpy.asarray(image) / 257).round().clip(0, 255).astype(numpy.uint8))"
        )
    if mode not in GREY_MODES + COLOUR_MODES and not mode.startswith("I"):
        raise ImageError(
            f"{name}: colour mode {mode} is not coded: convert it to RGB first, by its profile with "
            'PIL.ImageCms.profileToProfile, or plainly with image.convert("RGB")'
        )


def refuse_empty(width: int, height: int, name: str) -> None:
    if not (width and height):
        raise ImageError(f"{name}: {width} x {height} pixels are no picture")
