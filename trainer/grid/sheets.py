"""The contact sheets of a grid: one for each value of the z axis."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.words import counted
from datasetkit.images import labelled_sheet, pixels
from datasetkit.images.labelled_sheet import SheetHeading
from trainer.grid.axes import Axis, AxisValue
from trainer.grid.cells import Grid

_WIDEST: Final = 512  # pixels of a cell
_NONE: Final = AxisValue(None, "")


def axis_values(grid: Grid, number: int) -> tuple[AxisValue, ...]:
    """Return the values of the axis x (0), y (1) or z (2); one without a label where the grid does
    not have it.
    """
    return grid.axes[number].values if number < len(grid.axes) else (_NONE,)


def file_names(grid: Grid) -> list[str]:
    """Return the name of each contact sheet: grid.png, or one for each value of the z axis."""
    values = axis_values(grid, 2)
    if len(grid.axes) < 3:
        return ["grid.png"]
    slugs = [re.sub(r"[^A-Za-z0-9]+", "-", value.label).strip("-")[:40] for value in values]
    return [f"grid-{n:02d}{f'-{s}' if s else ''}.png" for n, s in enumerate(slugs, 1)]


def require_room(axes: Sequence[Axis]) -> None:
    """Raise ConfigError where a contact sheet would be too large to be opened."""
    columns, rows = (len(axes[n].values) if n < len(axes) else 1 for n in (0, 1))
    if not labelled_sheet.fits(columns, rows):
        raise ConfigError(
            f"a contact sheet of {counted(columns, 'column')} and {counted(rows, 'row')} would be "
            f"larger than {labelled_sheet.LARGEST // 10**6} megapixels",
            hint="give fewer values, or make one of the axes --z",
        )


def headings(values: Sequence[AxisValue], facts: Mapping[int, Sequence[str]]) -> list[SheetHeading]:
    """Return the headings of an axis. facts: further lines, by the number of the value."""
    return [
        SheetHeading(value.label, value.note, tuple(facts.get(n, ())))
        for n, value in enumerate(values)
    ]


def draw(
    grid: Grid,
    z: int,
    folder: Path,
    title: str,
    subtitle: str,
    facts: Mapping[int, Mapping[int, Sequence[str]]],
) -> Image.Image:
    """Draw the contact sheet of one value of the z axis from the files in the grid's folder.

    facts: number of the axis -> further lines of its values. A cell without a readable image is
    empty.
    """
    columns, rows = axis_values(grid, 0), axis_values(grid, 1)
    prompts = [cell.request.prompt for at, cell in grid.cells.items() if at[0] == z]
    largest = max(p.width for p in prompts), max(p.height for p in prompts)
    box = labelled_sheet.cell_box(largest, len(columns), len(rows), widest=_WIDEST)
    cells: dict[tuple[int, int], Image.Image] = {}
    for (at, y, x), cell in grid.cells.items():
        if at != z:
            continue
        try:
            image = pixels.load(folder / cell.file)
        except InputError:
            continue
        image.thumbnail(box, Image.Resampling.LANCZOS)
        cells[y, x] = image
    value = axis_values(grid, 2)[z]
    if value.label:
        title = f"{title}: {value.label}"
    return labelled_sheet.draw(
        title, subtitle, headings(columns, facts.get(0, {})), headings(rows, facts.get(1, {})),
        cells, box,
    )  # fmt: skip
