"""Counts in words, for messages."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return a count in words: `1 step`, `2,000 steps`. plural: where it is not the noun with s."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
