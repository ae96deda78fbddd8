"""Text from files that are not ours, made fit for one line of a terminal."""

from __future__ import annotations


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, which names in hostile files may hold."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """`text` with a question mark for each character that a terminal would obey and not show."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
