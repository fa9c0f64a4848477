"""Counts in words, for messages, and the characters that separate words of a list."""

from __future__ import annotations

from typing import Final

# Commas of other scripts, full-width, half-width, small and Arabic. They are part of a tag.
WIDE_COMMAS: Final = "，、､﹐﹑،"


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return a count in words: `1 step`, `2,000 steps`. plural: where it is not the noun with s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
