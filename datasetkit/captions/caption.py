"""Captions: how the text of a `.txt` becomes tags and back, and when two spellings are one tag."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.files import MAX_CAPTION_BYTES, caption_path, display, read_regular
from datasetkit.core.records import Caption

# Faces whose underscores belong to them: SmilingWolf's own list (wd-tagger app), Apache-2.0.
_FACES = "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"
KAOMOJI = frozenset(_FACES.split())
_KAOMOJI_FOLDED = frozenset(k.casefold() for k in KAOMOJI)
_WHITESPACE = re.compile(r"\s+")
_ESCAPED_BRACKET = re.compile(r"\\+([()])")
# A caption that a side-car tool wrote one tag a line has several lines and no comma at all.
SEPARATOR = ","


def spell(name: str) -> str:
    """Spell a label of the vocabulary as captions spell it: spaces for underscores, but for the
    kaomoji.
    """
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
    """Read a caption from text: commas part the tags; lines do too, so one-tag-a-line files read
    well.

    Byte-order marks (joined files have them inside), CRLF, doubled separators and blank lines are
    forgiven.
    """
    pieces = (
        piece for line in text.replace("\ufeff", "").splitlines() for piece in line.split(SEPARATOR)
    )
    cleaned = (_WHITESPACE.sub(" ", piece).strip() for piece in pieces)
    return Caption(tuple(tag for tag in cleaned if tag))


def file_text(caption: Caption) -> str:
    """Return what stands in the file: UTF-8, one line, final newline. An empty caption is refused
    by the writers.
    """
    return caption.text() + "\n"


def dedupe(tags: Iterable[str]) -> tuple[str, ...]:
    """Keep the first of each tag; two tags are one when their normal forms are."""
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(normal_form(tag), tag)
    return tuple(first.values())


def read_caption(image: Path) -> Caption | None:
    """Read the caption beside an image; None where there is none.

    Raises InputError for text that is not UTF-8, is a link, or is too large to be a caption.
    """
    path = caption_path(image)
    return decode_caption(path, read_regular(path, limit=MAX_CAPTION_BYTES))


def decode_caption(path: Path, data: bytes | None) -> Caption | None:
    """Read a caption from the bytes of its file; None where there is none. Raises InputError."""
    if data is None:
        return None
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(
            f"the caption {display(path.name)} is not UTF-8 text", hint="save it as UTF-8"
        ) from None
