"""Write over files only as they were read: what somebody saves meanwhile is kept and named."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from datasetkit.core.errors import FileChanged
from datasetkit.core.records import Failed
from datasetkit.project.session import Project

T = TypeVar("T")


# Decides, plans and applies, without some files (its first argument), and with others decided from
# their new text (its second).
Attempt = Callable[[Collection[Path], Collection[Path]], T]


def keep_edits(project: Project, attempt: Attempt[T], *, again: bool) -> tuple[T, tuple[Path, ...]]:
    """Attempt to apply a plan until no file was saved since it was read; return the result, and the
    files that were saved meanwhile and are kept.

    again: a changed file is decided once more from its new text before it is left out; False where
    the decision does not depend on that text, and would only replace it.
    """
    changed: set[Path] = set()
    kept: set[Path] = set()
    while True:
        try:
            result = attempt(kept, changed - kept)
        except FileChanged as error:
            paths = set(error.paths)
            if paths <= kept:  # they are not left out: it would never end
                raise
            kept |= paths & changed if again else paths
            changed |= paths
        else:
            return result, tuple(sorted({*kept, *project.journal.edited}))


def kept_edit(path: Path) -> Failed:
    """Return the failure of a file that was saved while a command was about to write it."""
    return Failed(
        path, "was saved while dsk worked: it is kept", "look at it, then run the command again"
    )
