"""Texts that are not UTF-8: UTF-16 and UTF-32 by their byte-order mark, others by a given name."""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path
from typing import Final

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

DAMAGED: Final = "it is damaged: save it again as UTF-8"


def decode_utf8(data: bytes) -> str | None:
    """Decode UTF-8, with or without a byte-order mark; None for anything else.

    A text with many null characters is UTF-16 or UTF-32 without a mark.
    """
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _is_wide(data) else text


def decode_other(data: bytes, encoding: str = "") -> str | None:
    """Decode a text that is not UTF-8: by its byte-order mark, else as `encoding`; None if it has
    no mark, no encoding is given, or it is in another one.
    """
    name = marked_encoding(data) or encoding
    if not name:
        return None
    try:
        text = data.decode(name)
    except (UnicodeError, ValueError):
        return None
    return None if _is_wide(text.encode("utf-8", "replace")) else text.removeprefix("\ufeff")


def _is_wide(data: bytes) -> bool:
    return data.count(0) > len(data) // 4


def marked_encoding(data: bytes) -> str:
    """Return the encoding that the byte-order mark of a text tells; "" without one."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), "")


def is_damaged(data: bytes) -> bool:
    """Tell whether a text has a byte-order mark of an encoding, but is cut off or damaged."""
    return bool(marked_encoding(data)) and decode_other(data) is None


def fix_command(folder: Path, data: bytes) -> str:
    """Return the command that converts the captions of a folder to UTF-8, or what to do with a text
    that is cut off or damaged.
    """
    if is_damaged(data):
        return DAMAGED
    other = "" if marked_encoding(data) else " --encoding NAME"
    return f"dsk check {shlex.quote(display(folder))} --fix{other} converts it to UTF-8"


def require_text_encoding(name: str) -> None:
    """Raise ConfigError for a name that is not an encoding of texts."""
    try:
        known = not name or codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        known = False
    if not known:
        raise ConfigError(
            f"encoding = {display(name)}: Python has no such text encoding",
            hint="e.g. cp1252, gbk, shift_jis, cp1251, utf-16-le",
        )
