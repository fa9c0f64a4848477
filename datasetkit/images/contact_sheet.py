"""Contact sheets: many images in one, each with its name, notes and boxes; and text that fits a
width, for the contact sheet of the trainer too.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

from datasetkit.core.records import Failed
from datasetkit.executors import local
from datasetkit.figure_style import (
    BOXES,
    EMPTY,
    FAINT,
    INK,
    WARN,
    TextFont,
    font,
    legible,
)
from datasetkit.images import near_duplicates, pixels

# The most images of a contact sheet: nobody looks through more.
MOST: Final = 200
# Pixels.
_CELL, _GAP, _EDGE, _ACROSS = 248, 16, 20, 5
_NAME, _SMALL, _TITLE = 13, 12, 18
_LINE, _HEAD = 16, 64
_REASON_LINES = 5
# A character of a script without spaces, with the marks that must not begin a line; or a run of
# others.
_WIDE: Final = "\u2e80-\ua4cf\uf900-\ufaff\uff00-\uffef"
_CLOSING: Final = "、。〉》」』】〕！），：；？”’…"
_BREAKABLE: Final = re.compile(f"[{_WIDE}][{_CLOSING}]*|[^{_WIDE}]+")


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
    entries: Sequence[SheetCell],
    title: str,
    facts: str,
    *,
    max_pixels: int = pixels.DEFAULT_MAX_PIXELS,
) -> bytes:
    """Draw the first `MOST` images as a PNG. An image that cannot be read is an empty cell with its
    reasons.

    title: of which folder or concept they are; facts: the counts below it. Names are written
    without the folder that all of them share.
    """
    shown = entries[:MOST]
    more = f"; the first {MOST} of {len(entries)}" if len(entries) > len(shown) else ""
    title, facts = legible(title), legible(f"{facts}{more}")
    names = without_shared_folder([entry.name for entry in shown])
    drawn = local.each(partial(_thumbnail, max_pixels=max_pixels), shown, name="drawing")
    thumbnails = [None if isinstance(image, Failed) else image for image in drawn]
    notes = [_notes(entry) for entry in shown]
    across = min(_ACROSS, max(1, len(shown)))
    rows = [range(n, min(n + across, len(shown))) for n in range(0, len(shown), across)]
    # Of each row: the space for the images, and for the lines below them.
    heights = [max(_height(thumbnails[i]) for i in row) for row in rows]
    texts = [_LINE * (1 + max(len(notes[i]) for i in row)) + 2 * _GAP for row in rows]
    heading, small = font(_TITLE, bold=True), font(_NAME)
    text_width = math.ceil(max(heading.getlength(title), small.getlength(facts)))
    width = max(across * (_CELL + _GAP) - _GAP, text_width) + 2 * _EDGE
    sheet = Image.new("RGB", (width, _HEAD + sum(heights) + sum(texts) + _EDGE), "white")
    pen = ImageDraw.Draw(sheet)
    heading.draw(pen, (_EDGE, _EDGE - 8), title, INK)
    small.draw(pen, (_EDGE, _EDGE + 16), facts, FAINT)
    top = _HEAD
    for row, height, text in zip(rows, heights, texts, strict=True):
        for column, i in enumerate(row):
            left, bottom = _EDGE + column * (_CELL + _GAP), top + height
            _paste(sheet, thumbnails[i], left, bottom)
            name = fit_text(names[i], small, _CELL, keep_end=True)
            small.draw(pen, (left, bottom + 4), name, INK)
            for n, line in enumerate(notes[i], 1):
                font(_SMALL).draw(pen, (left, bottom + 4 + n * _LINE), line, WARN)
        top += height + text
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def without_shared_folder(names: Sequence[str]) -> list[str]:
    """Return paths without the folders that all of them begin with."""
    folders = [name.split("/")[:-1] for name in names]
    shared = 0
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return ["/".join(name.split("/")[shared:]) for name in names]


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
            pen.rectangle(outer, outline=BOXES.get(box.kind, INK), width=2)
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
    face: TextFont,
    width: int,
    *,
    most: int | None = None,
    keep_end: bool = False,
) -> list[str]:
    """Break a text into lines of at most `width` pixels: between words, and between characters of
    scripts that have no spaces.

    most: how many lines there may be; the last one is cut. A word that is wider than a line is cut
    too, see `fit_text`.
    """
    lines: list[str] = []
    for glue, piece in _pieces(legible(text)):
        longer = f"{lines[-1]}{glue}{piece}" if lines else piece
        if lines and (face.getlength(longer) <= width or len(lines) == most):
            lines[-1] = longer
        else:
            lines.append(piece)
    return [fit_text(line, face, width, keep_end=keep_end) for line in lines]


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces between which a line may break, each with what is before it in a line."""
    for word in text.split():
        for n, piece in enumerate(_BREAKABLE.findall(word)):
            yield ("" if n else " "), piece


def fit_text(text: str, face: TextFont, width: int, *, keep_end: bool = False) -> str:
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
