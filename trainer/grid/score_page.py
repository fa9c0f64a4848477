"""The scores of a grid as text: beside the labels of the contact sheets, and on the page."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Final

from datasetkit.core.files import display
from trainer.grid.axes import LORA_AXES
from trainer.grid.cells import Grid
from trainer.grid.scores import GridScores, VariantScore
from trainer.paired import PairedMean

NOTHING: Final = "–"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number, or a dash for what was not measured."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def change(value: PairedMean | None) -> str:
    """Return a change with its standard error."""
    return NOTHING if value is None else value.words()


def distance(value: PairedMean | None) -> str:
    """Return a distance with its standard error."""
    if value is None:
        return NOTHING
    error = "" if value.error is None else f" ± {value.error:.3f}"
    return f"{value.mean:.3f}{error}"


def share(value: float | None) -> str:
    """Return a share in percent."""
    return NOTHING if value is None else f"{value:.0%}"


# Title of a column -> what it shows of a variant.
COLUMNS: Final[dict[str, Callable[[VariantScore], str]]] = {
    "held-out loss": lambda row: number(row.held_out_loss),
    "change": lambda row: change(row.change),
    "training change": lambda row: change(row.trained_change),
    "tags": lambda row: share(row.recall),
    "distance to held-out": lambda row: distance(row.to_held_out),
    "to training": lambda row: distance(row.to_trained),
    "drift": lambda row: distance(row.drift),
    "diversity": lambda row: distance(row.diversity),
}


def columns(scores: GridScores) -> dict[str, Callable[[VariantScore], str]]:
    """Return the columns of a table: all, but for the diversity of a grid with one seed."""
    has_seeds = any(row.diversity is not None for row in scores.rows)
    return {title: show for title, show in COLUMNS.items() if has_seeds or title != "diversity"}


def facts(grid: Grid, scores: GridScores | None) -> dict[int, dict[int, list[str]]]:
    """Return lines for the labels of the axis of the LoRA, where one axis alone changes it: number
    of the axis -> number of the value -> lines.
    """
    if scores is None:
        return {}
    lora_axes = [n for n, axis in enumerate(grid.axes) if axis.name in LORA_AXES]
    if len(lora_axes) != 1 or any(axis.name == "base" for axis in grid.axes):
        return {}
    lora_axis = lora_axes[0]
    rows = {(row.lora, row.unet_weight, row.text_weight): row for row in scores.rows}
    lines: dict[int, list[str]] = {}
    for n in range(len(grid.axes[lora_axis].values)):
        x, y, z = (n if axis == lora_axis else 0 for axis in range(3))
        cell = grid.cells[z, y, x]
        row = rows.get(("" if cell.lora is None else cell.lora.name, *cell.variant[2:]))
        if row is not None:
            lines[n] = _lines(row)
    return {lora_axis: lines}


def _lines(row: VariantScore) -> list[str]:
    lines = [
        "" if row.held_out_loss is None else f"loss {row.held_out_loss:.4f}",
        "" if row.to_held_out is None else f"distance {row.to_held_out.mean:.3f}",
        "" if row.recall is None else f"tags {row.recall:.0%}",
        "" if row.drift is None else f"drift {row.drift.mean:.3f}",
    ]
    return [line for line in lines if line]


def suggestion(scores: GridScores) -> str:
    """Return the suggestion with its reasons, as HTML."""
    made = scores.suggestion
    title = f"Suggestion: {made.label}" if made.label else "No suggestion"
    items = "".join(f"<li>{escaped(text)}</li>" for text in (*made.reasons, *made.remarks))
    more = '<a href="#scores">all measures</a>'
    return f'<div class="suggestion"><b>{escaped(title)}</b><ul>{items}</ul>{more}</div>\n'


def table(scores: GridScores) -> str:
    """Return the table of the measures, and how each was made, as HTML."""
    heads = "".join(f'<th scope="col">{escaped(name)}</th>' for name in columns(scores))
    lines = []
    for row in scores.rows:
        best = ' class="best"' if row.label == scores.suggestion.label and row.lora else ""
        cells = "".join(f"<td>{escaped(show(row))}</td>" for show in columns(scores).values())
        lines.append(f'<tr{best}><th scope="row">{escaped(row.label)}</th>{cells}</tr>')
    notes = "".join(f"<li>{escaped(note)}</li>" for note in scores.notes)
    body = "\n".join(lines)
    return f"""<div class="scores" id="scores">
<h2>Measures</h2>
<div class="wide"><table class="numbers">
<thead><tr><th></th>{heads}</tr></thead>
<tbody>
{body}
</tbody></table></div>
<ul class="how">{notes}</ul>
</div>
"""


def escaped(text: str) -> str:
    """Return a text for HTML, also in an attribute."""
    return escape(display(text), quote=True)
