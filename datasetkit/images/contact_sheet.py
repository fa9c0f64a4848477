"""Contact sheets: many images in one, each with its name, notes and boxes; and text that fits a
width, for the contact sheet of the trainer too.
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
INK, FAINT, EMPTY, _WARN = "#22262b", "#6b7280", "#eef0f3", "#9a3412"
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
    """One image of a contact sheet. name, reasons: the text below it."""

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
    rows = [range(n, min(n + across, len(shown))) for n in range(0, len(shown), across)]
    # Of each row: the space for the images, and for the lines below them.
    heights = [max(_height(thumbnails[i]) for i in row) for row in rows]
    texts = [_LINE * (1 + max(len(notes[i]) for i in row)) + 2 * _GAP for row in rows]
    title_width = math.ceil(font(_TITLE).getlength(heading))
    width = max(across * (_CELL + _GAP) - _GAP, title_width) + 2 * _EDGE
    sheet = Image.new("RGB", (width, _HEAD + sum(heights) + sum(texts) + _EDGE), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_EDGE, _EDGE - 6), heading, fill=INK, font=font(_TITLE))
    top = _HEAD
    for row, height, text in zip(rows, heights, texts, strict=True):
        for column, i in enumerate(row):
            left, bottom = _EDGE + column * (_CELL + _GAP), top + height
            _paste(sheet, thumbnails[i], left, bottom)
            name = fit_text(shown[i].name, font(_NAME), _CELL, keep_end=True)
            pen.text((left, bottom + 4), name, fill=INK, font=font(_NAME))
            for n, line in enumerate(notes[i], 1):
                pen.text((left, bottom + 4 + n * _LINE), line, fill=_WARN, font=font(_SMALL))
        top += height + text
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
            pen.rectangle(outer, outline=_COLOURS.get(box.kind, INK), width=2)
    return thumbnail


def _height(thumbnail: Image.Image | None) -> int:
    return thumbnail.height if thumbnail is not None else _CELL // 2


def _paste(sheet: Image.Image, thumbnail: Image.Image | None, left: int, bottom: int) -> None:
    """Paste a thumbnail above the line where its name begins; an empty cell is grey."""
    pen = ImageDraw.Draw(sheet)
    if thumbnail is None:
        pen.rectangle((left, bottom - _CELL // 2, left + _CELL - 1, bottom), fill=EMPTY)
        return
    sheet.paste(thumbnail, (left, bottom - thumbnail.height))
    frame = (left, bottom - thumbnail.height, left + thumbnail.width - 1, bottom - 1)
    pen.rectangle(frame, outline=EMPTY)


def _notes(entry: SheetCell) -> list[str]:
    """Wrap the reasons to the width of a cell; of many lines the first ones."""
    lines = [
        line
        for reason in entry.reasons
        for line in wrap_text(reason, font(_SMALL), _CELL, keep_end=True)
    ]
    if len(lines) > _REASON_LINES:
        return [*lines[: _REASON_LINES - 1], "..."]
    return lines


# ---- text that fits, for every contact sheet
# ----------------------------------------------------------------------------------------------


def wrap_text(
    text: str,
    face: ImageFont.FreeTypeFont,
    width: int,
    *,
    most: int | None = None,
    keep_end: bool = False,
) -> list[str]:
    """Break a text into lines of at most `width` pixels, between words.

    most: how many lines there may be; the last one is cut. A word that is wider than a line is cut
    too, see `fit_text`.
    """
    lines: list[str] = []
    for word in legible(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and (face.getlength(longer) <= width or len(lines) == most):
            lines[-1] = longer
        else:
            lines.append(word)
    return [fit_text(line, face, width, keep_end=keep_end) for line in lines]


def fit_text(text: str, face: ImageFont.FreeTypeFont, width: int, *, keep_end: bool = False) -> str:
    """Cut a text to at most `width` pixels. keep_end: the middle is cut out, since names differ at
    their ends.
    """
    text = legible(text)
    if face.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and face.getlength(_shortened(text, kept, keep_end)) > width:
        kept -= 1
    return _shortened(text, kept, keep_end)


def _shortened(text: str, kept: int, keep_end: bool) -> str:
    if keep_end:
        return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return f"{text[:kept].rstrip()}…"


def legible(text: str) -> str:
    """Spell out the characters that are unsafe, or that the font cannot draw."""
    drawable = _characters()
    plain = unicodedata.normalize("NFC", display(text))
    return "".join(
        c if ord(c) in drawable else c.encode("unicode_escape").decode("ascii") for c in plain
    )


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which comes with matplotlib and is the same on every system: Latin,
    Greek, Cyrillic and many symbols.
    """
    return ImageFont.truetype(str(_font_file("DejaVuSans-Bold" if bold else "DejaVuSans")), size)


def _font_file(name: str) -> Path:
    import matplotlib as mpl

    return Path(mpl.get_data_path(), "fonts", "ttf", f"{name}.ttf")


@cache
def _characters() -> frozenset[int]:
    """Return the code points that the font can draw."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_font_file("DejaVuSans"))).get_charmap())
