"""One root, one class per fault. Every message says what is wrong, where, and what to do."""

from __future__ import annotations

import sys
import warnings


class RobustStreamError(Exception):
    """Root of all errors this package raises on purpose.

    `exit_code` is what the command line ends with, as lzip does: 1 usage or environment, 2 the stream is damaged or
    does not match.
    """

    exit_code = 1


class NotARobustStream(RobustStreamError):  # noqa: N818 - the names are public, and say what is the case
    """The bytes hold no packet of a robuststream at all."""

    exit_code = 2


class UnsupportedVersion(RobustStreamError):  # noqa: N818
    """The stream was written by a newer format than this release reads."""

    exit_code = 2


class DamagedStream(RobustStreamError):  # noqa: N818
    """Too much is lost for a picture, or anything is lost and `strict` was asked for."""

    exit_code = 2


class StreamNotFound(RobustStreamError):  # noqa: N818
    """The file holds fewer streams than the one that was asked for by its number."""


class ModelMismatch(RobustStreamError):  # noqa: N818
    """The model at hand is not the one that coded the stream."""

    exit_code = 2


class ContextDesync(RobustStreamError):  # noqa: N818
    """The decoder computed other entropy parameters than the encoder stored a digest of."""

    exit_code = 2


class ModelNotFound(RobustStreamError):  # noqa: N818
    """No installed model has the digest that the stream names."""


class DeviceNotFound(RobustStreamError):  # noqa: N818
    """The device that a model was to run on is not there."""


class UnsupportedModel(RobustStreamError):  # noqa: N818
    """A network cannot be frozen, or a model file is not valid."""


class StreamChanged(RobustStreamError):  # noqa: N818
    """An open file no longer holds the stream that was opened: somebody wrote to it."""

    exit_code = 2


class ImageError(RobustStreamError):
    """A picture cannot be read, written, or coded."""


class DamageWarning(UserWarning):
    """Emitted by a decode whose result is not exact, for callers that never look at the report."""


class PictureWarning(UserWarning):
    """Emitted where a stream, or the file a picture is written to, does not carry all that the picture says."""


def warn_of_damage(message: str) -> None:
    """Emit a DamageWarning that names the line outside this package which asked for the decode."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("robuststream."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DamageWarning, stacklevel=level)


def first_line(error: object) -> str:
    """What another library's error says, in one line; its type's name where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
