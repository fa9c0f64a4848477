"""What the commands' outputs have in common: failures, operations, changed captions, the history
hint.

show_prepare, show_images, show_dataset, show_check, show_train and show_project have one function
for each command.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from datasetkit.cli.console import counted, images, listed, table, warn
from datasetkit.core.files import display, find_root
from datasetkit.core.records import Failed

if TYPE_CHECKING:
    from datasetkit.verbs.shared.result_types import CaptionChange, Plan, RuleHits

MOST = 20


def problems(failed: Sequence[Failed]) -> None:
    """List the items that failed, one line each, on stderr."""
    for item in failed[:MOST]:
        hint = f" ({item.hint})" if item.hint else ""
        warn(f"{display(item.path.name)}: {_without_path(item.error, item.path)}{hint}")
    if len(failed) > MOST:
        warn(f"and {len(failed) - MOST:,} more (--json lists all)")


def _without_path(error: str, path: Path) -> str:
    """Remove the path from an error that is shown after the image's name."""
    shown = display(path)
    return (
        error.removeprefix(f"cannot read {shown}: ")
        .removeprefix(f"{shown}: ")
        .removeprefix(f"{shown} ")
    )


def operations(plan: Plan, root: Path) -> None:
    """List the operations of a plan."""
    top = root.absolute()

    def name(path: Path) -> str:
        absolute = path.absolute()
        return (
            display(absolute.relative_to(top))
            if absolute.is_relative_to(top)
            else from_here(absolute)
        )

    listed([op.describe(name) for op in plan.ops])


def changes(captions: Sequence[CaptionChange]) -> None:
    """Print captions as differences: added green with +, removed red with -."""
    lines = []
    for change in captions:
        line = Text(f"{display(change.path.name)}: ")
        if change.before is None:
            line.append(display(change.after.text()), "green")
        else:
            pieces = [(f"-{display(t)}", "red") for t in change.removed] + [
                (f"+{display(t)}", "green") for t in change.added
            ]
            pieces += [("(order)", "yellow")] if change.reordered else []
            for n, (piece, style) in enumerate(pieces):
                line.append(" " * (n > 0)).append(piece, style)
        lines.append(line)
    listed(lines)


def hits(rules: Sequence[RuleHits]) -> None:
    """Print how many captions each rule changed."""
    if rules:
        rows = [(hit.rule, hit.captions) for hit in rules]
        table("", ["rule", "captions"], rows, right=["captions"])


def excluded(number: int) -> str:
    """Return how many images do not pass the filter, "" for none."""
    return f" ({images(number)} excluded by the filter)" if number else ""


def from_here(path: Path) -> str:
    """Return a path relative to the current folder if it is inside it, else as given."""
    return display(typed_path(path))


def typed_path(path: Path) -> str:
    """Return the same as an argument of a command: unusual characters are left to the shell's
    quotes.
    """
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def size_of(count: float) -> str:
    """Return bytes in GB of 10^9, small ones in MB or kB."""
    if count >= 0.95e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 0.95e6 else f"{count / 1e3:.0f} kB"


def history_hint(entry: int | None, near: Path, later: int | None = None) -> str:
    """Return a command's number in the history, and how to undo it from the current folder.

    near: a file or folder that the command changed; it tells the project. later: a second entry of
    the same command, which is undone with it.
    """
    if entry is None:
        return ""
    root = find_root(near)
    inside = find_root(Path()) == root
    undo = "dsk undo" if inside else f"dsk undo {shlex.quote(from_here(root))}"
    to = f" --to {entry}" if later is not None and later > entry else ""
    return f"  (history {entry}; to undo: {undo}{to})"


def first(names: Sequence[str], most: int = 3) -> str:
    """Join the first of many names."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def names(paths: Sequence[Path]) -> str:
    """Join the names of files; of more than 20 the first ones and a count."""
    more = f" and {len(paths) - MOST:,} more" if len(paths) > MOST else ""
    return ", ".join(display(path.name) for path in paths[:MOST]) + more


def wrote(dry_run: bool, number: int, what: str) -> str:
    """Return `wrote 3 captions`, or for a dry run `would write 3 captions`."""
    return f"{'would write' if dry_run else 'wrote'} {counted(number, what)}"
