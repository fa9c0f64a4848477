"""The page of a grid, index.html: one file beside the images that works offline.

Everything that came from a file or a person is escaped, and the policy in the page lets it load
only images beside it: no script and no style but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from datasetkit.core.files import display
from trainer.grid import score_page
from trainer.grid.axes import FILE_AXES, AxisValue
from trainer.grid.cells import Cell, Grid
from trainer.grid.score_page import escaped
from trainer.grid.scores import GridScores
from trainer.grid.sheets import axis_values

# Pixels of a cell at first: of few columns more.
_WIDTH, _WIDEST_CELL, _LEAST_CELL = 1280, 320, 112
_SMALL: Final = 256  # pixels; smaller images are enlarged without blurring
_SHORT: Final = 28  # characters of a label that is printed bold


def html(
    grid: Grid, title: str, subtitle: str, program: str, scores: GridScores | None = None
) -> str:
    """Return the page. title, subtitle: what the grid is of, and what its cells share."""
    css, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src 'self' file:; style-src '{_hash(css)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    marked = suggested(grid, scores)
    tables = "\n".join(_table(grid, z, program, marked) for z in range(len(axis_values(grid, 2))))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{escaped(program)}">
<title>{escaped(title)}</title>
<style>{css}</style>
</head>
<body>
<header>
<h1>{escaped(title)}</h1>
<p class="facts">{escaped(subtitle)}</p>
<div class="bar" id="controls" hidden>
{_tabs(grid)}<label>Size <input id="size" type="range" min="64" max="1024" step="16"></label>
<span class="keys">Click an image to open it, then <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd>
<kbd>↓</kbd> move through the grid</span>
</div>
</header>
{score_page.suggestion(scores) if scores else ""}<main>
{tables}
</main>
{score_page.table(scores) if scores else ""}
{_viewer(grid)}
<script type="application/json" id="grid">{_data(grid, program)}</script>
<script>{script}</script>
</body>
</html>
"""


@cache
def _asset(name: str) -> str:
    return files("trainer.grid").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return how a policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def _url(file: str) -> str:
    return quote(file)


def _tabs(grid: Grid) -> str:
    values = axis_values(grid, 2)
    if len(values) < 2:
        return ""
    buttons = "".join(
        f'<button type="button" title="{escaped(value.label)}">{escaped(value.label)}</button>'
        for value in values
    )
    return (
        f'<div class="tabs" role="group" aria-label="{escaped(grid.axes[2].name)}">{buttons}</div>'
    )


def _table(grid: Grid, z: int, program: str, marked: Mapping[str, int] | None) -> str:
    columns, rows = axis_values(grid, 0), axis_values(grid, 1)
    places = {"base": base_place(grid), "best": marked}
    heads = "".join(
        f'<th scope="col"{_class(places, 0, x)}>{_label(value)}</th>'
        for x, value in enumerate(columns)
    )
    lines = []
    for y, row in enumerate(rows):
        cells = "".join(
            f"<td{_class(places, 0, x) or _class(places, 1, y)}>"
            f"{_cell(grid.cells[z, y, x], (x, y, z), program)}</td>"
            for x in range(len(columns))
        )
        lines.append(f'<tr><th scope="row"{_class(places, 1, y)}>{_label(row)}</th>{cells}</tr>')
    label = axis_values(grid, 2)[z].label
    title = f' aria-label="{escaped(label)}"' if label else ""
    body = "\n".join(lines)
    return (
        f'<section data-z="{z}"{title} tabindex="-1"><table class="cells">\n'
        f"<thead><tr><th></th>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></section>"
    )


def _class(places: Mapping[str, Mapping[str, int] | None], axis: int, number: int) -> str:
    """Return the class of a column or a row: the base alone, or what the scores suggest."""
    for name, place in places.items():
        if place is not None and (place["axis"], place["value"]) == (axis, number):
            return f' class="{name}"'
    return ""


def suggested(grid: Grid, scores: GridScores | None) -> dict[str, int] | None:
    """Return the axis and the value of it that the scores suggest; None without any."""
    name = scores.suggestion.lora if scores is not None else ""
    for n, axis in enumerate(grid.axes):
        for number, value in enumerate(axis.values):
            is_file = axis.name in FILE_AXES and value.value is not None
            if name and is_file and value.value.name == name:
                return {"axis": n, "value": number}
    return None


def _label(value: AxisValue) -> str:
    if not value.label:
        return ""
    kind = "" if len(value.label) <= _SHORT else ' class="long"'
    title = "" if len(value.label) <= _SHORT else f' title="{escaped(value.label)}"'
    note = f'<span class="note">{escaped(value.note)}</span>' if value.note else ""
    return f"<span{kind}{title}>{escaped(value.label)}</span>{note}"


def _cell(cell: Cell, at: Sequence[int], program: str) -> str:
    prompt = cell.request.prompt
    small = ' class="small"' if max(prompt.width, prompt.height) <= _SMALL else ""
    name = cell.parameters(program).split("\n", 1)[0]
    return (
        f'<a class="cell" href="{_url(cell.file)}" data-at="{",".join(map(str, at))}">'
        f'<img loading="lazy" decoding="async" src="{_url(cell.file)}" width="{prompt.width}" '
        f'height="{prompt.height}" alt="{escaped(name)}"{small}></a>'
    )


def _viewer(grid: Grid) -> str:
    base = "<p>hold <kbd>b</kbd>: without the LoRA</p>" if base_place(grid) else ""
    third = grid.axes[2].name if len(grid.axes) > 2 else ""
    more = f"<p><kbd>PgUp</kbd> <kbd>PgDn</kbd> next {escaped(third)}</p>" if third else ""
    return f"""<dialog id="viewer" aria-label="image">
<div class="stage" id="stage"><img id="image" alt=""></div>
<aside>
<div class="top"><span class="count" id="count"></span>
<button type="button" id="close">Close</button></div>
<dl id="labels"></dl>
<div class="top"><span class="count">parameters</span>
<button type="button" id="copy">Copy</button></div>
<pre id="parameters"></pre>
<a id="file" target="_blank" rel="noopener"></a>
<div class="keys"><p><kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> next image</p>{more}{base}
<p><kbd>z</kbd> or click: actual pixels</p><p><kbd>Esc</kbd> close</p></div>
</aside>
</dialog>"""


def base_place(grid: Grid) -> dict[str, int] | None:
    """Return the axis and the value of it that is the base model alone; None without one."""
    for n, axis in enumerate(grid.axes):
        for number, value in enumerate(axis.values):
            if value.value is None:
                return {"axis": n, "value": number}
    return None


def _data(grid: Grid, program: str) -> str:
    """Return the grid as JSON for the script. `<` is escaped, so that it cannot end its element."""
    unique = grid.unique
    number = {file: n for n, file in enumerate(unique)}
    counts = [len(axis_values(grid, n)) for n in range(3)]
    data: dict[str, Any] = {
        "axes": [
            {
                "name": axis.name,
                "values": [
                    {"label": display(v.label), "note": display(v.note)} for v in axis.values
                ],
            }
            for axis in grid.axes
        ],
        "cells": [
            [[number[grid.cells[z, y, x].file] for x in range(counts[0])] for y in range(counts[1])]
            for z in range(counts[2])
        ],
        "files": [
            {
                "name": display(file.rpartition("/")[2]),
                "url": _url(file),
                "parameters": cell.parameters(program),
                "width": cell.request.prompt.width,
                "height": cell.request.prompt.height,
            }
            for file, cell in unique.items()
        ],
        "base": base_place(grid),
        "cell": max(_LEAST_CELL, min(_WIDEST_CELL, _WIDTH // (counts[0] + 1) // 16 * 16)),
    }
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
