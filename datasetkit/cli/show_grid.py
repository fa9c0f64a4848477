"""What `dsk grid` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasetkit.cli.console import counted, images, say, table, warn
from datasetkit.cli.show import first, from_here, history_hint
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.verbs.grid import GridResult

_SHOWN, _LONGEST = 12, 32  # values of an axis, characters of a label


def grid(result: GridResult, dry_run: bool) -> None:
    rows = [
        (letter, axis.name, len(axis.values), " | ".join(map(_shortened, axis.values[:_SHOWN])))
        for letter, axis in zip("xyz", result.axes, strict=False)
    ]
    table("", ["axis", "is", "values", ""], rows, right=["values"])
    for text in result.warnings:
        warn(text)
    folder = from_here(result.folder)
    kept = f" ({result.kept:,} existing kept)" if result.kept and result.drawn else ""
    if dry_run:
        say(
            f"would draw {images(len(result.drawn))}{kept} in {folder}: "
            f"{counted(result.steps, 'step')} of the sampler"
        )
        return
    if not result.changed:
        say(f"{folder} unchanged: {images(result.images)}")
    elif not result.drawn:
        say(f"all {images(result.images)} exist in {folder}{_hint(result)}")
    else:
        each = "" if result.seconds is None else f", {result.seconds:.1f} s each"
        say(f"drew {images(len(result.drawn))}{each}{kept} in {folder}{_hint(result)}")
    _scores(result)
    say(f"- contact sheets: {first([from_here(path) for path in result.contact_sheets])}")
    say(f"- open {from_here(result.page)} in a browser to look through them")


def _scores(result: GridResult) -> None:
    if result.scores is None:
        return
    from datasetkit.verbs.grid import score_table  # it is loaded by now

    columns, rows = score_table(result.scores)
    table("", ["LoRA", *columns], rows, right=columns)
    suggestion = result.scores.suggestion
    title = f"suggestion: {suggestion.label}" if suggestion.label else "no suggestion"
    say(display(title), "bold")
    for text in (*suggestion.reasons, *suggestion.remarks):
        say(f"- {display(text)}")


def _shortened(label: str) -> str:
    text = display(label)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()}..."


def _hint(result: GridResult) -> str:
    return history_hint(result.first_entry, result.folder, result.entry)
