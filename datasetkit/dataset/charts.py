"""Charts: a frequency table drawn as bars."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from datasetkit.core.errors import InputError
from datasetkit.core.words import counted
from datasetkit.figure_style import (
    BLUE,
    DARK,
    FACTS_SIZE,
    FAINT,
    GRID,
    INK,
    ORANGE,
    TITLE_SIZE,
    legible,
    png,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

# The values of a frequency table that the chart treats specially.
TOTAL: Final = "(total)"
TRIGGER: Final = "trigger"
IN_ALL: Final = "in all images"

TOP: Final = 30
# The most concepts that are drawn: more would exceed the size limit of PNG.
MAX_PANELS: Final = 24

# Inches.
_BARS, _ROW, _HEAD, _FOOT, _EDGE = 4.4, 0.24, 0.62, 0.42, 0.25
_LETTER, _NAMES_LEAST = 0.075, 1.4
_DPI: Final = 120
# Hides the grid behind a text.
_BACKED: Final = {"facecolor": "white", "linewidth": 0, "pad": 1.0}
# The most letters of a name, wide ones counted twice.
_NAME_WIDTH: Final = 36


def tag_chart(frame: DataFrame) -> bytes:
    """Draw a frequency table as a PNG: for each concept bars of its most frequent tags, with counts
    and percentages.

    Triggers are orange; tags in all images are dark and labelled. There are two concepts in a row,
    the total first; a single concept is drawn without the total. Raises InputError for a table
    without rows.
    """
    from matplotlib.figure import Figure

    panels = _panels(frame)
    if not panels:
        raise InputError("there are no tags to draw", hint="run dsk tag FOLDER first")
    across = 1 if len(panels) == 1 else 2
    bands = [panels[i : i + across] for i in range(0, len(panels), across)]
    heights = [
        _HEAD + _FOOT + _ROW * max(min(len(rows), TOP) for _, rows in band) for band in bands
    ]
    names = _names_width(panels)
    width, height = across * (names + _BARS) + 2 * _EDGE, sum(heights) + 2 * _EDGE
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    top = height - _EDGE
    for band, tall in zip(bands, heights, strict=True):
        for column, (concept, rows) in enumerate(band):
            left = _EDGE + column * (names + _BARS) + names
            box = (left, top - tall + _FOOT, _BARS - 0.3, tall - _HEAD - _FOOT)
            axes = figure.add_axes(
                (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
            )
            _draw(axes, concept, rows, slots=round((tall - _HEAD - _FOOT) / _ROW))
        top -= tall
    return png(figure)


def _panels(frame: DataFrame) -> list[tuple[str, DataFrame]]:
    """Return the tables to draw: the total, then the concepts with the most images by name."""
    tables = {str(concept): rows for concept, rows in frame.groupby("concept", sort=True)}
    total = tables.pop(TOTAL, None)
    largest = sorted(tables, key=lambda name: (-int(tables[name]["of_images"].iloc[0]), name))[
        : MAX_PANELS - 1
    ]
    if total is None or len(tables) == 1:
        return [(name, tables[name]) for name in sorted(largest)]
    return [(TOTAL, total), *((name, tables[name]) for name in sorted(largest))]


def _names_width(panels: list[tuple[str, DataFrame]]) -> float:
    """Return the width of the longest name, in inches."""
    drawn = [_legible(str(tag), _NAME_WIDTH) for _, rows in panels for tag in rows["tag"].head(TOP)]
    return max(_NAMES_LEAST, 0.2 + _LETTER * max(_width(name) for name in drawn))


def _draw(axes: Axes, concept: str, rows: DataFrame, *, slots: int) -> None:
    """Draw one concept: a bar per tag in percent of its images, the name left, the count right."""
    head = rows.head(TOP)
    of_images = int(head["of_images"].iloc[0])
    axes.set_xlim(0, 100)
    axes.set_ylim(slots - 0.5, -0.5)
    axes.set_axis_off()
    for percent in (0, 25, 50, 75, 100):
        axes.plot([percent, percent], [-0.5, len(head) - 0.5], color=GRID, linewidth=0.8, zorder=0)
        write(
            axes,
            percent,
            len(head) - 0.35,
            f"{percent} %",
            color=FAINT,
            size=7.5,
            ha="center",
            va="top",
        )
    name = "All concepts" if concept == TOTAL else _legible(concept, 44)
    shown = f", the first {TOP} of" if len(rows) > TOP else ","
    write(axes, 0, -1.65, name, color=INK, size=TITLE_SIZE, weight="bold", va="bottom")
    write(
        axes,
        0,
        -1.45,
        f"{counted(of_images, 'image')}{shown} {counted(len(rows), 'tag')}",
        color=FAINT,
        size=FACTS_SIZE,
        va="top",
    )
    for row, (tag, category, images, percent, flags) in enumerate(
        zip(
            head["tag"],
            head["category"],
            head["images"],
            head["percent"],
            head["flags"],
            strict=True,
        )
    ):
        everywhere = IN_ALL in str(flags).split("; ")
        colour = ORANGE if category == TRIGGER else DARK if everywhere else BLUE
        note = "trigger" if category == TRIGGER else IN_ALL if everywhere else ""
        axes.barh(row, percent, height=0.72, color=colour, linewidth=0, zorder=2)
        weight = "bold" if note else "normal"
        write(
            axes,
            -1.5,
            row,
            _legible(str(tag), _NAME_WIDTH),
            color=INK,
            size=9,
            weight=weight,
            ha="right",
        )
        _label(axes, row, float(percent), f"{images}  ·  {_share(float(percent))}", note)


def _label(axes: Axes, row: int, percent: float, text: str, note: str) -> None:
    """Write the count inside the end of a long bar, else right of it, and a note at its start."""
    if note and percent <= 50:
        text, note = f"{text}  ·  {note}", ""
    write(axes, 1.5, row, note, color="white", size=8)
    if percent > 80:
        write(axes, percent - 1.2, row, text, color="white", size=8, ha="right")
    else:
        write(axes, percent + 1.2, row, text, color=FAINT, size=8, bbox=_BACKED)


def _share(percent: float) -> str:
    """Format a percentage; only exactly 100 is shown as 100 %."""
    return f"{percent if percent == 100 else min(percent, 99.9):.1f}".removesuffix(".0") + " %"


def _legible(name: str, width: int) -> str:
    """Return a name that can be drawn in `width` letters: escaped where no font has a letter, and
    truncated.
    """
    pieces = [legible(c) for c in name]
    sizes = [_width(piece) for piece in pieces]
    if sum(sizes) <= width:
        return "".join(pieces)
    kept, used = [], 1
    for piece, size in zip(pieces, sizes, strict=True):
        if used + size > width:
            break
        kept.append(piece)
        used += size
    return "".join(kept).rstrip() + "…"


def _width(text: str) -> int:
    """Return the width of a text in letters; wide East Asian characters count twice."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
