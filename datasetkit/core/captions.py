"""Captions: how the text of a `.txt` becomes tags and back, and when two spellings are one tag."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

# Faces whose underscores belong to them: SmilingWolf's own list (wd-tagger app), Apache-2.0.
_FACES = "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"
KAOMOJI = frozenset(_FACES.split())
_KAOMOJI_FOLDED = frozenset(k.casefold() for k in KAOMOJI)
_WHITESPACE = re.compile(r"\s+")
_ESCAPED_BRACKET = re.compile(r"\\+([()])")
# A caption that a side-car tool wrote one tag a line has several lines and no comma at all.
SEPARATOR = ","


@dataclass(frozen=True, slots=True)
class Caption:
    """The tags of one picture, in order."""

    tags: tuple[str, ...]

    def text(self) -> str:
        """Return the caption as one line without its newline: tags joined by a comma and a space."""
        return ", ".join(self.tags)


def spell(name: str) -> str:
    """Spell a label of the vocabulary as captions spell it: spaces for underscores, but for the kaomoji."""
    return name if name in KAOMOJI else name.replace("_", " ")


@lru_cache(maxsize=1 << 16)
def normal_form(tag: str) -> str:
    r"""Return what two spellings of one tag have in common: NFC, one case, `_` = space, `\(` = `(`.

    Kaomoji keep their underscore, so `^_^` is not `^ ^`.
    """
    plain = unicodedata.normalize("NFC", tag).strip().casefold()
    plain = _ESCAPED_BRACKET.sub(r"\1", plain)
    if plain in _KAOMOJI_FOLDED:
        return plain
    return _WHITESPACE.sub(" ", plain.replace("_", " ")).strip()


def parse(text: str) -> Caption:
    """Read a caption from text: commas part the tags; lines do too, so one-tag-a-line files read well.

    Byte-order marks (joined files have them inside), CRLF, doubled separators and blank lines are forgiven.
    """
    pieces = (piece for line in text.replace("\ufeff", "").splitlines() for piece in line.split(SEPARATOR))
    cleaned = (_WHITESPACE.sub(" ", piece).strip() for piece in pieces)
    return Caption(tuple(tag for tag in cleaned if tag))


def file_text(caption: Caption) -> str:
    """Return what stands in the file: UTF-8, one line, final newline. An empty caption is refused by the writers."""
    return caption.text() + "\n"


def dedupe(tags: Iterable[str]) -> tuple[str, ...]:
    """Keep the first of each tag; two tags are one when their normal forms are."""
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(normal_form(tag), tag)
    return tuple(first.values())
