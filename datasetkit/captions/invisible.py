"""Invisible characters: zero-width and control characters, which make another word of a tag."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Line breaks, spaces and byte-order marks are not here: `captions/grammar.py` knows them. A flag of
# emoji tags (England's) is matched as a whole, so that it is kept.
_INVISIBLE: Final = re.compile(
    "\U0001f3f4[\U000e0020-\U000e007f]+|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\uffa0\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
_FLAG: Final = "\U0001f3f4"
_JOINER: Final = "\u200d"
# Characters that scripts need between their letters: they say how these join (Persian, Hindi,
# Mongolian), or where a word ends (Thai, Khmer).
_JOINERS: Final = frozenset("\u180e\u200b\u200c\u200d")
_JOINING_SCRIPTS: Final = re.compile(
    "[\u0600-\u109f\u1780-\u18af\u1900-\u1aaf\u1b00-\u1c4f\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00011fff\U0001e900-\U0001e95f]"
)
# What may follow an emoji and belongs to it: its presentation, its skin tone, a keycap.
_OF_EMOJI: Final = "\ufe0e\ufe0f\u20e3\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"


def without_invisible(text: str) -> str:
    """Return a text without its invisible characters; those that emoji and scripts need stay."""
    if _INVISIBLE.search(text) is None:
        return text
    return _INVISIBLE.sub(lambda match: match[0] if _is_needed(text, match) else "", text)


def invisible(text: str) -> tuple[str, ...]:
    """Return the invisible characters of a text, each once, as `U+200B ZERO WIDTH SPACE`."""
    matches = (m[0] for m in _INVISIBLE.finditer(text) if not _is_needed(text, m))
    return tuple(dict.fromkeys(map(_name, matches)))


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'control character')}"


def _is_needed(text: str, match: re.Match[str]) -> bool:
    """Tell whether a match is part of a flag, joins two emoji, or stands between letters of a
    script that needs it.
    """
    if match[0].startswith(_FLAG):
        return True
    before, after = text[: match.start()], text[match.end() :]
    if match[0] == _JOINER and _is_emoji(before.rstrip(_OF_EMOJI)[-1:]) and _is_emoji(after[:1]):
        return True
    return (
        match[0] in _JOINERS
        and _JOINING_SCRIPTS.match(before[-1:]) is not None
        and _JOINING_SCRIPTS.match(after[:1]) is not None
    )


def _is_emoji(character: str) -> bool:
    return bool(character) and unicodedata.category(character) in ("So", "Sm")
