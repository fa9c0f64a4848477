"""A heat map of a LoRA: kinds of layers by blocks, coloured by the norm of their change. Several
files share one scale.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from datasetkit.core.words import counted
from datasetkit.figure_style import FAINT, GRID, INK, heading, legible, png, write
from trainer.lora_files.layer_names import KINDS, LayerName
from trainer.lora_files.measure import LayerMeasure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches of a cell, and of what is beside the cells.
_CELL: Final = (0.38, 0.23)
_LABELS: Final = 1.25
_TITLE: Final = 0.55
_EDGE: Final = 0.15
_HEAD: Final = 0.75
_DPI: Final = 110
_PARTS: Final[Mapping[str, str]] = {
    "text_encoder": "text encoder, by layer",
    "text_encoder_2": "second text encoder, by layer",
    "unet": "UNet, by block",
    "transformer": "transformer, by block",
    "": "other layers, by block",
}
_COLOURS: Final = "YlGnBu"
# From this share of the scale on, cells are so dark that digits are white.
_DARK: Final = 0.6
_LONGEST: Final = 22


@dataclass(frozen=True, slots=True)
class _Panel:
    """The cells of a part of a file. norms: (kind, block) -> norm, 0 where all layers are dead."""

    part: str
    kinds: tuple[str, ...]
    blocks: tuple[str, ...]
    norms: Mapping[tuple[str, str], float]

    @property
    def size(self) -> tuple[float, float]:
        """Return width and height in inches, without labels."""
        return len(self.blocks) * _CELL[0], len(self.kinds) * _CELL[1]


def draw(files: Sequence[tuple[str, Sequence[LayerMeasure]]]) -> bytes:
    """Draw a column of panels for each file, as PNG. files: title and layers."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    columns = [_panels(measures) for _, measures in files]
    parts = [part for part in _PARTS if any(part in column for column in columns)]
    norms = [n for column in columns for p in column.values() for n in p.norms.values() if n > 0]
    low, high = (min(norms), max(norms)) if norms else (0.1, 1.0)
    scale = LogNorm(low, high if high > low else low * 10)
    widths = [max(p.size[0] for p in column.values()) + _LABELS for column in columns]
    heights = [max(c[part].size[1] for c in columns if part in c) + _TITLE for part in parts]
    width, height = sum(widths) + 2 * _EDGE, sum(heights) + _HEAD + _EDGE
    width = max(width, 7.0)
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    layers = counted(len(files[0][1]), "layer") if len(files) == 1 else counted(len(files), "file")
    facts = f"{layers}; norm of the change, {low:.2g} to {high:.2g}, on a logarithmic scale"
    heading(figure, "What each layer changes", f"{facts}; grey: not trained, hatched: no effect")
    figure.set_layout_engine("none")
    left = _EDGE
    for (title, _), column, wide in zip(files, columns, widths, strict=True):
        write(
            figure, left / width, 1 - (_HEAD - 0.12) / height, legible(title), size=9, weight="bold"
        )  # fmt: skip
        top = height - _HEAD
        for part, tall in zip(parts, heights, strict=True):
            if part in column:
                panel = column[part]
                w, h = panel.size
                box = (left + _LABELS, top - _TITLE - h, w, h)
                axes = figure.add_axes(
                    (box[0] / width, box[1] / height, box[2] / width, box[3] / height)
                )
                _draw(axes, panel, scale)
            top -= tall
        left += wide
    return png(figure)


def _panels(measures: Sequence[LayerMeasure]) -> dict[str, _Panel]:
    by_part: defaultdict[str, list[LayerMeasure]] = defaultdict(list)
    for m in measures:
        by_part[m.name.part].append(m)
    return {part: _panel(part, members) for part, members in by_part.items()}


def _panel(part: str, measures: Sequence[LayerMeasure]) -> _Panel:
    squares: defaultdict[tuple[str, str], float] = defaultdict(float)
    for m in measures:
        cell = (m.name.kind, _block(m.name))
        squares[cell] += m.norm**2 if np.isfinite(m.norm) else 0.0
    kinds = {kind for kind, _ in squares}
    ordered = [kind for kind in KINDS if kind in kinds] + sorted(kinds - set(KINDS))
    blocks = sorted({block for _, block in squares}, key=_flow)
    norms = {cell: float(np.sqrt(square)) for cell, square in squares.items()}
    return _Panel(part, tuple(ordered), tuple(blocks), norms)


def _block(name: LayerName) -> str:
    if name.is_known:
        return name.block
    number = re.search(r"\d+", name.path)
    return f"{int(number[0]):02d}" if number and len(number[0]) < 5 else "-"


def _flow(block: str) -> tuple[int, str]:
    """Return the place of a block in the order of the data."""
    return ({"I": 0, "M": 1, "O": 2, "B": 3}.get(block[0], 0), block)


def _draw(axes: Axes, panel: _Panel, scale: Any) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colours = colormaps[_COLOURS]
    axes.set_xlim(0, len(panel.blocks))
    axes.set_ylim(len(panel.kinds), 0)
    axes.set_axis_off()
    write(axes, 0, -1.55, _PARTS[panel.part], size=8.5, color=INK, weight="bold")
    for x, block in enumerate(panel.blocks):
        write(axes, x + 0.5, -0.55, block, size=6.5, color=FAINT, ha="center")
    for y, kind in enumerate(panel.kinds):
        shown = legible(kind if len(kind) <= _LONGEST else f"…{kind[1 - _LONGEST :]}")
        write(axes, -0.2, y + 0.5, shown, size=7.5, ha="right")
        for x, block in enumerate(panel.blocks):
            norm = panel.norms.get((kind, block))
            look: dict[str, Any] = {"facecolor": GRID, "edgecolor": "white", "linewidth": 0.8}
            if norm == 0:
                look |= {
                    "facecolor": "white",
                    "edgecolor": FAINT,
                    "hatch": "////",
                    "linewidth": 0.4,
                }
            elif norm is not None:
                look["facecolor"] = colours(float(scale(norm)))
            axes.add_patch(Rectangle((x, y), 1, 1, **look))
            if norm:
                ink = "white" if scale(norm) > _DARK else INK
                write(axes, x + 0.5, y + 0.52, _number(norm), size=6, color=ink, ha="center")


def _number(norm: float) -> str:
    text = f"{norm:.2g}"
    return text.replace("0.", ".", 1) if text.startswith("0.") else text
