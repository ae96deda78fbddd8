"""What an archive demands of its streams: `robuststream inspect --policy FILE`.

# policy.toml: each key is a demand; those that are not there are none
intact = true
mode = "exact"                # or a list of those that are allowed, as for all texts and whole numbers
min_parity = 0.10
parameters_digest = "1f0e..."
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robuststream.container.packets import Colour, Mode
from robuststream.container.report import StreamReport
from robuststream.errors import RobustStreamError
from robuststream.views.text import one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class PolicyError(RobustStreamError):
    """The policy itself cannot be used."""


@dataclass(frozen=True)
class Violation:
    """A demand that a stream does not meet. The rule is the key's name: POLICY-MIN-PARITY."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True)
class Policy:
    """Demands, by key."""

    demands: dict[str, Any]

    def violations(self, report: StreamReport) -> list[Violation]:
        """What the stream does not meet, in the policy's order."""
        found = []
        for key, wanted in self.demands.items():
            value = _VALUES[key](report)
            _, _, meets = _KINDS[_KEYS[key]]
            if not meets(value, wanted):
                text = " or ".join(map(_text, wanted)) if isinstance(wanted, list) else _text(wanted)
                rule = "POLICY-" + key.upper().replace("_", "-")
                found.append(Violation(rule, f"{_text(value)}, and the policy has {key} = {text}"))
        return found


def read_policy(text: bytes) -> Policy:
    """A policy of its TOML text.

    Raises:
        PolicyError: no TOML, an unknown key, or a value of the wrong kind.
    """
    try:
        demands = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"no TOML ({error})") from error
    for key, wanted in demands.items():
        if key not in _KEYS:
            raise PolicyError(f"{one_line(key)!r} is no demand this release knows: {', '.join(_KEYS)}")
        kind, fits, _ = _KINDS[_KEYS[key]]
        if not fits(wanted):
            raise PolicyError(f"{key} has to be {kind}")
        allowed = _WORDS.get(key)
        listed = wanted if isinstance(wanted, list) else [wanted]
        if allowed and not set(listed) <= set(allowed):
            raise PolicyError(f"{key} has to be of {', '.join(allowed)}")
        if key.endswith("_digest") and not all(_DIGEST.fullmatch(item) for item in listed):
            raise PolicyError(f"{key} has to be of 32 hexadecimal digits, a to f in lower case")
    return Policy(demands)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _one_of(kind: type) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        items = value if isinstance(value, list) else [value]
        return bool(items) and all(type(item) is kind for item in items)

    return fits


def _among(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list) else bool(value == wanted)


#: For each kind of demand: in words, what fits it, and whether a stream's value meets it.
_KINDS: dict[str, tuple[str, Callable[[Any], bool], Callable[[Any, Any], bool]]] = {
    "true": ("true", lambda wanted: wanted is True, lambda value, wanted: value is True),
    "least": ("a number", _number, lambda value, wanted: bool(value >= wanted)),
    "most": ("a number", _number, lambda value, wanted: bool(value <= wanted)),
    "text": ("a text, or a list of texts", _one_of(str), _among),
    "whole": ("a whole number, or a list of them", _one_of(int), _among),
}
_KEYS = {
    "intact": "true",
    "mode": "text",
    "colour": "text",
    "quality": "whole",
    "parameters_digest": "text",
    "synthesis_digest": "text",
    "min_parity": "least",
    "min_checkpoints": "least",
    "max_tile": "most",
    "max_pixels": "most",
    "max_bits_per_pixel": "most",
}
_DIGEST = re.compile("[0-9a-f]{32}")
_WORDS = {
    "mode": [mode.name.lower() for mode in Mode],
    "colour": [colour.name.lower() for colour in Colour],
}
_VALUES: dict[str, Callable[[StreamReport], Any]] = {
    "intact": lambda report: report.intact,
    "mode": lambda report: report.header.mode.name.lower(),
    "colour": lambda report: report.header.colour.name.lower(),
    "quality": lambda report: report.header.quality,
    "parameters_digest": lambda report: report.header.parameters_digest.hex(),
    "synthesis_digest": lambda report: report.header.synthesis_digest.hex(),
    # What the header says counts only where such packets are there.
    "min_parity": lambda report: report.header.parity / 1000 if report.packets.get("PARITY") else 0.0,
    "min_checkpoints": lambda report: report.header.checkpoints,
    "max_tile": lambda report: report.header.tile,
    "max_pixels": lambda report: report.header.width * report.header.height,
    "max_bits_per_pixel": lambda report: 8 * report.file_bytes / (report.header.width * report.header.height),
}
