"""Contact sheets with a labelled row and column for each image: preview images, and grids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

from datasetkit.figure_style import EMPTY, FAINT, INK, TextFont, font
from datasetkit.images.contact_sheet import fit_text, wrap_text

# Pixels.
LEAST_CELL: Final = 128
_GAP, _LEFT, _WIDEST_LEFT, _EDGE = 8, 104, 232, 14
_LINE, _HEAD = 17, 48
_HEADING_LINES, _FACT_LINES = 3, 6
LARGEST: Final = 36_000_000  # of a whole contact sheet


@dataclass(frozen=True, slots=True)
class SheetHeading:
    """The label of a row or a column. note: a fainter line below it; facts: further small lines."""

    label: str
    note: str = ""
    facts: tuple[str, ...] = ()


def fits(columns: int, rows: int) -> bool:
    """Tell whether a contact sheet of so many images has room for the smallest cells."""
    return columns * rows * (LEAST_CELL + _GAP) ** 2 <= LARGEST


def most_rows(columns: int) -> int:
    """Return how many rows of the smallest cells a contact sheet has room for."""
    return LARGEST // (LEAST_CELL + _GAP) ** 2 // max(1, columns)


def cell_box(largest: tuple[int, int], columns: int, rows: int, *, widest: int) -> tuple[int, int]:
    """Return the width and height of a cell for images of at most `largest`. widest: of its longer
    side.
    """
    room = math.isqrt(LARGEST // max(1, columns * rows)) - _GAP
    longer = max(LEAST_CELL, min(max(largest), room, widest))
    scale = longer / max(largest)
    width, height = (max(1, round(side * scale)) for side in largest)
    return max(LEAST_CELL, width), height


def draw(
    title: str,
    facts: str,
    columns: Sequence[SheetHeading],
    rows: Sequence[SheetHeading],
    cells: Mapping[tuple[int, int], Image.Image],
    box: tuple[int, int],
) -> Image.Image:
    """Draw a contact sheet. cells: (row, column) -> image, at most of the size of `box`, in pixels;
    an image without a place is left out, an empty cell is grey.
    """
    big, bold, plain = font(18, bold=True), font(14, bold=True), font(12)
    width, height = box
    short = all(bold.getlength(each.label) <= width for each in columns)
    head = bold if short else plain
    labels = [wrap_text(each.label, head, width, most=_HEADING_LINES) for each in columns]
    label_lines = max(map(len, labels), default=1)
    fact_lines = [_lines_below(each, plain, width) for each in columns]
    below = max(map(len, fact_lines), default=0)
    longest = max((bold.getlength(each.label) for each in rows), default=0)
    longest = max([longest, *(plain.getlength(line) for r in rows for line in (r.note, *r.facts))])
    left = min(_WIDEST_LEFT, max(_LEFT, math.ceil(longest) + 2 * _GAP))
    top = _EDGE + _HEAD + (label_lines + below) * _LINE + _GAP
    size = (
        _EDGE + left + (width + _GAP) * len(columns) - _GAP + _EDGE,
        top + (height + _GAP) * len(rows) - _GAP + _EDGE,
    )
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    big.draw(pen, (_EDGE, _EDGE - 2), fit_text(title, big, size[0] - 2 * _EDGE), INK)
    plain.draw(pen, (_EDGE, _EDGE + 22), fit_text(facts, plain, size[0] - 2 * _EDGE), FAINT)
    for n in range(len(columns)):
        x = _EDGE + left + n * (width + _GAP)
        y = _EDGE + _HEAD + (label_lines - len(labels[n])) * _LINE
        for line in labels[n]:
            head.draw(pen, (x, y), line, INK)
            y += _LINE
        for line in fact_lines[n]:
            plain.draw(pen, (x, y + 1), line, FAINT)
            y += _LINE
    row_width = left - 2 * _GAP
    row_face = bold if all(bold.getlength(row.label) <= row_width for row in rows) else plain
    for n, row in enumerate(rows):
        y = top + n * (height + _GAP)
        _label_row(pen, row, (_EDGE, y), (row_width, height), row_face)
        for column in range(len(columns)):
            at = (_EDGE + left + column * (width + _GAP), y)
            _place(sheet, pen, cells.get((n, column)), at, box)
    return sheet


def _lines_below(heading: SheetHeading, face: TextFont, width: int) -> list[str]:
    lines = [heading.note] if heading.note else []
    return [fit_text(line, face, width) for line in [*lines, *heading.facts[:_FACT_LINES]]]


def _label_row(
    pen: ImageDraw.ImageDraw,
    row: SheetHeading,
    at: tuple[int, int],
    box: tuple[int, int],
    face: TextFont,
) -> None:
    """Write the label of a row to the left of its images, as many lines as the row has room for."""
    plain = font(12)
    x, y = at
    width, height = box
    below = _lines_below(row, plain, width)
    room = max(1, height // _LINE - len(below))
    for line in wrap_text(row.label, face, width, most=room):
        face.draw(pen, (x, y), line, INK)
        y += _LINE
    for line in below[: max(0, (at[1] + height - y) // _LINE)]:
        plain.draw(pen, (x, y + 2), line, FAINT)
        y += _LINE


def _place(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    image: Image.Image | None,
    at: tuple[int, int],
    box: tuple[int, int],
) -> None:
    """Centre an image in its cell, enlarging a small one by a whole factor; an empty cell is
    grey.
    """
    if image is None:
        pen.rectangle((*at, at[0] + box[0] - 1, at[1] + box[1] - 1), fill=EMPTY)
        return
    times = max(1, min(box[0] // image.width, box[1] // image.height))
    fitting = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    fitting.thumbnail(box, Image.Resampling.LANCZOS)
    if fitting.size != box:
        pen.rectangle((*at, at[0] + box[0] - 1, at[1] + box[1] - 1), fill=EMPTY)
    sheet.paste(
        fitting, (at[0] + (box[0] - fitting.width) // 2, at[1] + (box[1] - fitting.height) // 2)
    )
