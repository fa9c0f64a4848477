"""Captions: parse the text of a `.txt` into tags, write it back, and compare tags by spelling."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from datasetkit.captions import encodings
from datasetkit.core.errors import InputError
from datasetkit.core.files import MAX_CAPTION_BYTES, caption_path, display, read_regular
from datasetkit.core.records import Caption

# Emoticons whose underscores are part of them: SmilingWolf's own list (wd-tagger app), Apache-2.0.
_FACES = "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"
KAOMOJI = frozenset(_FACES.split())
_KAOMOJI_FOLDED = frozenset(k.casefold() for k in KAOMOJI)
_WHITESPACE = re.compile(r"\s+")
_ESCAPED_BRACKET = re.compile(r"\\+([()])")
SEPARATOR = ","


def spell(name: str) -> str:
    """Return a vocabulary label as captions spell it: underscores become spaces, except in
    kaomoji.
    """
    return name if name in KAOMOJI else name.replace("_", " ")


@lru_cache(maxsize=1 << 16)
def normal_form(tag: str) -> str:
    r"""Return a tag in normal form: NFC, lower case, `_` as a space, `\(` as `(`.

    Two spellings are one tag when their normal forms are equal. Kaomoji keep their underscore, so
    `^_^` is not `^ ^`.
    """
    plain = unicodedata.normalize("NFC", tag).strip().casefold()
    plain = _ESCAPED_BRACKET.sub(r"\1", plain)
    if plain in _KAOMOJI_FOLDED:
        return plain
    return _WHITESPACE.sub(" ", plain.replace("_", " ")).strip()


def parse(text: str) -> Caption:
    """Parse a caption: tags are separated by commas or line breaks (some tools write one tag per
    line).

    Byte-order marks (also in the middle, as in concatenated files), CRLF, repeated separators and
    blank lines are ignored.
    """
    pieces = (
        piece for line in text.replace("\ufeff", "").splitlines() for piece in line.split(SEPARATOR)
    )
    cleaned = (_WHITESPACE.sub(" ", piece).strip() for piece in pieces)
    return Caption(tuple(tag for tag in cleaned if tag))


def file_text(caption: Caption) -> str:
    """Return the text of a caption file: one line with a final newline.

    Callers never write an empty caption: it would stop trainers.
    """
    return caption.text() + "\n"


def dedupe(tags: Iterable[str]) -> tuple[str, ...]:
    """Drop repeated tags (equal normal forms); the first of each is kept."""
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(normal_form(tag), tag)
    return tuple(first.values())


def read_caption(image: Path) -> Caption | None:
    """Read the caption file of an image; None if there is none.

    Raises InputError for a file that is not UTF-8, is a link, or is too large to be a caption.
    """
    return decode_caption(caption_path(image), read_caption_data(image))


def read_caption_data(image: Path) -> bytes | None:
    """Read the bytes of an image's caption file; None if there is none. Raises InputError for a
    link, and for a file that is too large to be a caption.
    """
    return read_regular(caption_path(image), limit=MAX_CAPTION_BYTES)


def decode_caption(path: Path, data: bytes | None) -> Caption | None:
    """Decode the bytes of a caption file; None stays None. Raises InputError if not UTF-8."""
    if data is None:
        return None
    text = encodings.decode_utf8(data)
    if text is None:
        encoding = encodings.marked_encoding(data).upper()
        what = f"is {encoding} text, not UTF-8" if encoding else "is not UTF-8 text"
        raise InputError(
            f"the caption {display(path.name)} {what}",
            hint=encodings.fix_command(path.parent, data),
        )
    return parse(text)
