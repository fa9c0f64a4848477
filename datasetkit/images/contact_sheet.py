"""Contact sheets: many images in one, each with its name, the reasons and boxes around
detections.
"""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from datasetkit.core.files import display
from datasetkit.core.records import Failed
from datasetkit.executors import local
from datasetkit.images import near_duplicates, pixels

# The most images of a contact sheet: nobody looks through more.
MOST: Final = 200
# Pixels.
_CELL, _GAP, _EDGE, _ACROSS = 248, 16, 20, 5
_NAME, _SMALL, _TITLE = 13, 12, 18
_LINE, _HEAD = 16, 44
_REASON_LINES = 5
_INK, _FAINT, _WARN, _EMPTY = "#22262b", "#6b7280", "#9a3412", "#eef0f3"
_COLOURS: Final = {"text": "#dc2626", "faces": "#2563eb"}


@dataclass(frozen=True, slots=True)
class SheetBox:
    """A box within an image, in fractions of its width and height. kind: gives the colour."""

    kind: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class SheetCell:
    """One image of a contact sheet. name: printed below it; reasons: one line or more each."""

    path: Path
    name: str
    reasons: tuple[str, ...] = ()
    boxes: tuple[SheetBox, ...] = ()


def draw(
    entries: Sequence[SheetCell], title: str = "", *, max_pixels: int = pixels.DEFAULT_MAX_PIXELS
) -> bytes:
    """Draw the first `MOST` images as a PNG. An image that cannot be read is an empty cell with its
    reasons.
    """
    shown = entries[:MOST]
    more = f", the first {MOST} of {len(entries)}" if len(entries) > len(shown) else ""
    heading = f"{title or _counted(len(entries))}{more}"
    drawn = local.each(partial(_thumbnail, max_pixels=max_pixels), shown, name="drawing")
    thumbnails = [None if isinstance(image, Failed) else image for image in drawn]
    notes = [_notes(entry) for entry in shown]
    across = min(_ACROSS, max(1, len(shown)))
    bands = [
        range(start, min(start + across, len(shown))) for start in range(0, len(shown), across)
    ]
    tall = [
        max(_height(thumbnails[i]) for i in band)
        + _LINE * (1 + max(len(notes[i]) for i in band))
        + 2 * _GAP
        for band in bands
    ]
    width = (
        max(across * (_CELL + _GAP) - _GAP, math.ceil(_font(_TITLE).getlength(heading))) + 2 * _EDGE
    )
    sheet = Image.new("RGB", (width, _HEAD + sum(tall) + _EDGE), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_EDGE, _EDGE - 6), heading, fill=_INK, font=_font(_TITLE))
    top = _HEAD
    for band, height in zip(bands, tall, strict=True):
        thumbs_end = top + max(_height(thumbnails[i]) for i in band)
        for column, i in enumerate(band):
            left = _EDGE + column * (_CELL + _GAP)
            _place(sheet, thumbnails[i], left, thumbs_end)
            pen.text(
                (left, thumbs_end + 4),
                _fitted(shown[i].name, _font(_NAME)),
                fill=_INK,
                font=_font(_NAME),
            )
            for row, line in enumerate(notes[i], 1):
                pen.text((left, thumbs_end + 4 + row * _LINE), line, fill=_WARN, font=_font(_SMALL))
        top += height
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _counted(n: int) -> str:
    return f"{n} flagged image" + ("" if n == 1 else "s")


def _thumbnail(entry: SheetCell, *, max_pixels: int) -> Image.Image:
    """Shrink an image to a cell, and draw its boxes. Raises InputError."""
    thumbnail = near_duplicates.small(entry.path, _CELL, max_pixels=max_pixels).copy()
    pen = ImageDraw.Draw(thumbnail)
    width, height = thumbnail.size
    for box in entry.boxes:
        corners = [box.left * width, box.top * height, box.right * width, box.bottom * height]
        outer = [max(0.0, corners[0] - 2), max(0.0, corners[1] - 2), min(width - 1, corners[2] + 2)]
        outer.append(min(height - 1, corners[3] + 2))
        if outer[0] < outer[2] and outer[1] < outer[3]:
            pen.rectangle(outer, outline=_COLOURS.get(box.kind, _INK), width=2)
    return thumbnail


def _height(thumbnail: Image.Image | None) -> int:
    return thumbnail.height if thumbnail is not None else _CELL // 2


def _place(sheet: Image.Image, thumbnail: Image.Image | None, left: int, bottom: int) -> None:
    """Paste a thumbnail with its bottom on the line above its name."""
    if thumbnail is None:
        ImageDraw.Draw(sheet).rectangle(
            (left, bottom - _CELL // 2, left + _CELL - 1, bottom), fill=_EMPTY
        )
        return
    sheet.paste(thumbnail, (left, bottom - thumbnail.height))
    frame = (left, bottom - thumbnail.height, left + thumbnail.width - 1, bottom - 1)
    ImageDraw.Draw(sheet).rectangle(frame, outline=_EMPTY)


def _notes(entry: SheetCell) -> list[str]:
    """Break the reasons into lines of a cell's width; of many the first ones."""
    font = _font(_SMALL)
    lines: list[str] = []
    for reason in entry.reasons:
        lines += _wrapped(reason, font)
    if len(lines) > _REASON_LINES:
        return [*lines[: _REASON_LINES - 1], "..."]
    return lines


def _wrapped(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in _legible(text).split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > _CELL:
            lines.append(line)
            line = word
        else:
            line = longer
    return [_fitted(one, font) for one in (*lines, line) if one]


def _fitted(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Cut the middle out of a text that is wider than a cell: names differ at their ends."""
    text = _legible(text)
    if font.getlength(text) <= _CELL:
        return text
    kept = len(text)
    while kept > 2 and font.getlength(_shortened(text, kept)) > _CELL:
        kept -= 1
    return _shortened(text, kept)


def _shortened(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def _legible(text: str) -> str:
    """Spell out what the font cannot draw."""
    known = _characters()
    plain = unicodedata.normalize("NFC", display(text))
    return "".join(
        c if ord(c) in known else c.encode("unicode_escape").decode("ascii") for c in plain
    )


@cache
def _font_file() -> Path:
    """Return DejaVu Sans as it comes with matplotlib: Latin, Greek, Cyrillic and many symbols."""
    import matplotlib as mpl

    return Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_file()), size)


@cache
def _characters() -> frozenset[int]:
    """Return the code points that the font can draw."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_font_file())).get_charmap())
