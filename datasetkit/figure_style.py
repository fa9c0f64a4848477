"""How every image that dsk draws looks: colours, fonts, a heading with counts. For charts of
matplotlib and contact sheets of Pillow alike.

Text is drawn in DejaVu Sans, which comes with matplotlib. Characters that it does not have, such as
Chinese ones, are drawn in a font of the system; where no font has them they are spelled out.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from datasetkit.core.files import display

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import ImageDraw, ImageFont

INK: Final = "#22262b"
FAINT: Final = "#6b7280"
GRID: Final = "#dfe3e8"
SAVED: Final = "#b6bec9"
EMPTY: Final = "#eef0f3"
WARN: Final = "#9a3412"
BLUE: Final = "#4c78a8"
ORANGE: Final = "#e8833a"
DARK: Final = "#2f4b6e"
GREEN: Final = "#54a24b"
RED: Final = "#dc2626"
# In the order in which lines of a plot take them.
LINES: Final = (BLUE, ORANGE, GREEN, "#b279a2", "#9d755d")
# What is found in an image: the colour of its box.
BOXES: Final = {"text": RED, "faces": "#2563eb", "crop": ORANGE}

# Points of matplotlib, pixels of Pillow.
TITLE_SIZE: Final = 12
FACTS_SIZE: Final = 8.5
_HEADING: Final = 0.62  # inches

_FONT: Final = "DejaVu Sans"
# Parts of the file names of fonts with many scripts, in the order in which they are tried.
_PREFERRED: Final = (
    "notosanscjk", "notosanssc", "notosansjp", "notosanskr", "sourcehansans", "pingfang",
    "hiraginosans", "hiragino", "stheiti", "yugoth", "meiryo", "msyh", "msjh", "dengxian",
    "msgothic", "wqy-zenhei", "wqy-microhei", "wenquanyi", "droidsansfallback", "ipaexg", "ipag",
    "simhei", "simsun", "malgun",
    "applesdgothic", "nanumgothic", "notosans", "arialuni", "arial unicode",
)  # fmt: skip
_OTHER_CUTS: Final = ("bold", "black", "light", "thin", "medium", "italic", "oblique", "serif")
_MOST_FONTS: Final = 300  # nobody waits for more to be searched


# ---- fonts
# ----------------------------------------------------------------------------------------------


@cache
def own_font(*, bold: bool = False) -> Path:
    """Return the file of DejaVu Sans, the same on every system."""
    import matplotlib as mpl

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(mpl.get_data_path(), "fonts", "ttf", name)


@cache
def system_fonts() -> tuple[Path, ...]:
    """Return the font files of this system, those first that have the most characters."""
    from matplotlib.font_manager import findSystemFonts

    def rank(path: Path) -> tuple[int, int, str]:
        name = path.name.lower()
        place = next((n for n, part in enumerate(_PREFERRED) if part in name), len(_PREFERRED))
        return place, sum(cut in name for cut in _OTHER_CUTS), str(path)

    return tuple(sorted(map(Path, findSystemFonts()), key=rank)[:_MOST_FONTS])


@cache
def _characters(path: Path) -> frozenset[int]:
    """Return the code points that a font can draw; none for a file that is not a font."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache
def font_of(character: str) -> Path | None:
    """Return the font that draws a character; None where no font has it."""
    code = ord(character)
    candidates = (path for path in (own_font(), *system_fonts()) if code in _characters(path))
    return own_font() if code < 128 else next(candidates, None)


def legible(text: str) -> str:
    """Spell out the characters that are unsafe, or that no font can draw."""
    plain = unicodedata.normalize("NFC", display(text))
    return "".join(
        c if font_of(c) is not None else c.encode("unicode_escape").decode("ascii") for c in plain
    )


class TextFont:
    """A size of text for Pillow: each run of characters in the font that has them."""

    def __init__(self, size: int, *, bold: bool = False) -> None:
        self._size = size
        self._own = _truetype(own_font(bold=bold), size)
        self._ascent = self._own.getmetrics()[0]

    def getlength(self, text: str) -> float:
        """Return the width of a text in pixels."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def draw(self, pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, ink: str) -> None:
        """Draw a text with its upper left corner at a point."""
        left, top = at
        for font, run in self._runs(text):
            pen.text((left, top + self._ascent), run, fill=ink, font=font, anchor="ls")
            left += font.getlength(run)

    def _runs(self, text: str) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
        for path, run in groupby(text, font_of):
            own = path is None or path == own_font()
            yield self._own if own else _truetype(path, self._size), "".join(run)


@cache
def _truetype(path: Path, size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size)


@cache
def font(size: int, *, bold: bool = False) -> TextFont:
    """Return the font of a size, in pixels."""
    return TextFont(size, bold=bold)


# ---- charts
# ----------------------------------------------------------------------------------------------


def families(text: str) -> list[str]:
    """Return the font families by which matplotlib draws a text."""
    paths = dict.fromkeys(path for path in map(font_of, text) if path is not None)
    return list(dict.fromkeys((_FONT, *map(_family, paths))))


@cache
def _family(path: Path) -> str:
    """Make a font known to matplotlib, whose own list may be older; return its family."""
    from matplotlib.font_manager import fontManager

    if path == own_font():
        return _FONT
    # It would warn that a font has no bold cut.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    fontManager.addfont(str(path))
    return next(font.name for font in fontManager.ttflist if font.fname == str(path))


def write(place: Axes | Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Write literal text on axes or a figure: `$` does not start a formula."""
    place.text(
        x, y, text, family=families(text), parse_math=False,
        **{"color": INK, "clip_on": False, "va": "center", **style},
    )  # fmt: skip


def heading(figure: Figure, title: str, facts: str) -> None:
    """Write what a figure shows above its axes: a bold title, and its counts in a line below."""
    height = figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - _HEADING / height))
    left = 0.1 / figure.get_figwidth()
    for text, inches, style in (
        (title, 0.12, {"size": TITLE_SIZE, "weight": "bold"}),
        (facts, 0.36, {"size": FACTS_SIZE, "color": FAINT}),
    ):
        write(figure, left, 1 - inches / height, legible(text), va="top", **style)


def png(figure: Figure, **metadata: str) -> bytes:
    """Return a figure as a PNG. Without matplotlib's version and the date its bytes depend on the
    numbers alone.
    """
    data = BytesIO()
    figure.savefig(data, format="png", dpi=figure.dpi, metadata={"Software": None, **metadata})
    return data.getvalue()


def plain_axes(axes: Axes, grid: Literal["both", "y"] = "both") -> None:
    """Give axes the look of all charts: a faint grid, no box, small numbers."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=FAINT, labelsize=8, length=0)
    axes.yaxis.label.set(color=INK, fontsize=9)
    axes.xaxis.label.set(color=INK, fontsize=9)


def legend(axes: Axes, **where: Any) -> None:
    """Name the lines of axes, without a box."""
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, **where)
