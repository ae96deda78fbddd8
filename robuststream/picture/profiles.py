"""ICC profiles (ICC.1:2022) written for pictures that say by other means what their colours are.

PNG has gAMA and cHRM, and like AVIF the code points of H.273; a stream has ICC alone. So the pixels stay as they are,
and a profile of a matrix and a curve says what was said of them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: x and y of white, red, green and blue.
Chromaticities = tuple[float, float, float, float, float, float, float, float]

_D65, _C, _E = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3)
#: H.273, table 2.
PRIMARIES: dict[int, Chromaticities] = {
    1: (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (*_E, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
SRGB_PRIMARIES = PRIMARIES[1]

#: Parameters g, a, b, c, d of ICC's parametric curve 3: (a v + b)^g from d on, c v below.
_SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT709 = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_SMPTE240 = (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912)
#: H.273, table 3: a gamma, a parametric curve, or a name.
_TRANSFERS: dict[int, float | tuple[float, ...] | str] = {
    **dict.fromkeys((1, 6, 11, 12, 14, 15), _BT709),
    4: 2.2,
    5: 2.8,
    7: _SMPTE240,
    8: 1.0,
    13: _SRGB,
    16: "PQ",
    17: 2.6,
    18: "HLG",
}
SRGB = 13
UNSPECIFIED = 2


@dataclass(frozen=True)
class Encoding:
    """What the numbers of a picture mean.

    Attributes:
        chromaticities: of white and the primaries.
        transfer: the exponent that makes light of a channel's value, or a code point of H.273.
        code_points: primaries and transfer of H.273, where these are known.
    """

    chromaticities: Chromaticities = SRGB_PRIMARIES
    transfer: float | str | tuple[float, ...] = _SRGB
    code_points: tuple[int, int] | None = None

    @property
    def high_dynamic_range(self) -> bool:
        return isinstance(self.transfer, str)


def by_code_points(primaries: int, transfer: int) -> Encoding | None:
    """What two code points of H.273 say; None where it is sRGB, or nothing. Raises ValueError for unknown ones."""
    primaries = 1 if primaries == UNSPECIFIED else primaries
    transfer = SRGB if transfer == UNSPECIFIED else transfer
    if (primaries, transfer) == (1, SRGB):
        return None
    if primaries not in PRIMARIES or transfer not in _TRANSFERS:
        raise ValueError(f"colour primaries {primaries} and transfer {transfer} of H.273")
    return Encoding(PRIMARIES[primaries], _TRANSFERS[transfer], (primaries, transfer))


def by_gamma(gamma: float | None, chromaticities: Sequence[float] | None) -> Encoding | None:
    """What PNG's gAMA (1 / 2.2 for a usual screen) and cHRM say; None where that is nearly sRGB, or senseless."""
    points = SRGB_PRIMARIES if chromaticities is None else _points(chromaticities)
    usual = max(abs(mine - theirs) for mine, theirs in zip(points, SRGB_PRIMARIES, strict=True)) < 0.002
    if usual:
        points = SRGB_PRIMARIES
    if not gamma or not 0.01 < gamma < 100 or abs(gamma - 1 / 2.2) < 0.005:
        return None if usual else Encoding(points)
    return Encoding(points, 1 / gamma)


def _points(chromaticities: Sequence[float]) -> Chromaticities:
    """They must span something, else a profile of them would be senseless."""
    points = tuple(float(value) for value in chromaticities)
    if len(points) != 8 or min(points[1::2]) < 0 or points[1] == 0 or max(points) > 1:
        return SRGB_PRIMARIES
    try:
        _matrix(points)
    except (ValueError, np.linalg.LinAlgError):
        return SRGB_PRIMARIES
    return points


def colour_space(profile: bytes) -> str | None:
    """What a profile is for, such as "RGB", "GRAY" or "CMYK"; None where it is no profile."""
    if len(profile) < 128 or profile[36:40] != b"acsp":
        return None
    return profile[16:20].decode("latin-1").strip()


# --- Writing a profile ----------------------------------------------------------------------------------------------


def profile(encoding: Encoding, grey: bool = False) -> bytes:
    """An ICC profile of version 4: a matrix and one curve, or the curve alone for a grey picture.

    The same encoding always gives the same bytes.
    """
    curve = _curve(encoding.transfer)
    points = encoding.chromaticities
    tags: dict[bytes, bytes] = {
        b"desc": _text(_name(encoding)),
        b"cprt": _text("CC0"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32" + bytes(4) + _fixed(_adaptation(points[:2]).ravel()),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        columns = (_adaptation(points[:2]) @ _matrix(points)).T
        tags |= {name + b"XYZ": _xyz(column) for name, column in zip((b"r", b"g", b"b"), columns, strict=True)}
        tags |= {name + b"TRC": curve for name in (b"r", b"g", b"b")}
        if encoding.code_points:
            tags[b"cicp"] = b"cicp" + bytes(4) + bytes((*encoding.code_points, 0, 1))
    return _file(tags, b"GRAY" if grey else b"RGB ")


_D50 = np.array((0.9642, 1.0, 0.8249))
_BRADFORD = np.array(((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)))


def _light(x: float, y: float) -> npt.NDArray[np.float64]:
    """X, Y, Z of a chromaticity at Y = 1; of one without luminance its direction."""
    return np.array((x / y, 1.0, (1 - x - y) / y)) if y else np.array((x, 0.0, 1 - x))


def _matrix(points: Sequence[float]) -> npt.NDArray[np.float64]:
    """From linear RGB to X, Y, Z."""
    primaries = np.stack([_light(*points[at : at + 2]) for at in (2, 4, 6)], axis=1)
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise ValueError("the primaries lie on a line")
    return np.asarray(primaries * np.linalg.solve(primaries, _light(*points[:2])))


def _adaptation(white: Sequence[float]) -> npt.NDArray[np.float64]:
    """Bradford's, to the white of all profiles."""
    before, after = _BRADFORD @ _light(*white), _BRADFORD @ _D50
    return np.asarray(np.linalg.solve(_BRADFORD, np.diag(after / before) @ _BRADFORD))


def _curve(transfer: float | str | tuple[float, ...]) -> bytes:
    if isinstance(transfer, str):
        samples: bytes = np.rint(_TABLES[transfer](np.linspace(0, 1, 1024)) * 65535).astype(">u2").tobytes()
        return b"curv" + bytes(4) + struct.pack(">I", len(samples) // 2) + samples
    if isinstance(transfer, tuple):
        return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(transfer)
    return b"para" + bytes(4) + struct.pack(">HH", 0, 0) + _fixed((transfer,))


def _pq(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """SMPTE ST 2084; 1 is 10,000 candela a square metre."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = values ** (1 / m2)
    return np.asarray((np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1))


def _hlg(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ARIB STD-B67: light of the scene."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12).clip(0, 1)


_TABLES = {"PQ": _pq, "HLG": _hlg}


def _name(encoding: Encoding) -> str:
    if encoding.code_points:
        return "H.273 {}, {}".format(*encoding.code_points)
    if isinstance(encoding.transfer, float):
        return f"gamma {encoding.transfer:.5g}"
    return "sRGB curve, other primaries"


def _fixed(values: Sequence[float] | npt.NDArray[np.float64]) -> bytes:
    """Signed numbers with 16 binary places."""
    limit = (1 << 31) - 1
    return b"".join(struct.pack(">i", max(-limit, min(limit, round(float(value) * 65536)))) for value in values)


def _xyz(values: npt.NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data


def _file(tags: dict[bytes, bytes], space: bytes) -> bytes:
    start = 132 + 12 * len(tags)
    places: dict[bytes, int] = {}
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        if data not in places:
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", places[data], len(data))
    header = struct.pack(
        ">I4sI4s4s4s6H4s4sI4s4sQI3i4s16s28s",
        start + len(body),
        bytes(4),
        0x04400000,
        b"mntr",
        space,
        b"XYZ ",
        *(2000, 1, 1, 0, 0, 0),
        b"acsp",
        bytes(4),
        0,
        bytes(4),
        bytes(4),
        0,
        1,  # relative colorimetric
        *(round(value * 65536) for value in (0.9642, 1.0, 0.8249)),
        bytes(4),
        bytes(16),
        bytes(28),
    )
    return header + table + body
