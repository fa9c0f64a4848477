"""The project that a folder belongs to, where it has a history; else the projects below it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import DskError, InputError
from datasetkit.core.files import PROJECT, display, find_root
from datasetkit.images.scan import require_folder
from datasetkit.project.journal import Journal, JournalEntry
from datasetkit.project.store import Store, has_store

_LEVELS = 2
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ProjectHistory:
    """The history of one of several projects, newest first. problem: why it cannot be read."""

    root: Path
    entries: tuple[JournalEntry, ...]
    problem: str = ""

    @property
    def newest(self) -> JournalEntry | None:
        """The newest command that can be undone, None without any."""
        return next((e for e in self.entries if e.state == "done" and e.verb != "undo"), None)


def require_history(folder: Path) -> Path:
    """Return the root of the folder's project. Raises InputError if it has no history."""
    root = _root(folder)
    if not has_store(root):
        if (root / PROJECT).is_dir() and not os.access(root / PROJECT, os.R_OK | os.X_OK):
            raise InputError(
                f"{display(root / PROJECT)} cannot be read", hint="it belongs to another user"
            )
        below = [display(path.relative_to(root)) for path in _stores_below(root, _LEVELS)]
        hint = (
            f"these folders have one: {', '.join(below[:_SHOWN])}"
            if below
            else "no command has changed anything here yet"
        )
        raise InputError(f"{display(root)} has no history", hint=hint)
    return root


def projects_below(folder: Path) -> tuple[ProjectHistory, ...]:
    """Return the histories of the projects in the folders below, two levels deep, the one that was
    used last first; nothing where the folder's own project has a history.
    """
    root = _root(folder)
    if has_store(root):
        return ()
    histories = [_history(path) for path in _stores_below(root, _LEVELS)]
    return tuple(sorted(histories, key=lambda h: -max((e.started for e in h.entries), default=0)))


def _root(folder: Path) -> Path:
    return find_root(require_folder(folder, hint="name a folder of the project"))


def _history(root: Path) -> ProjectHistory:
    try:
        with Store.open_copy(root) as store:
            return ProjectHistory(root, tuple(Journal(store).history()))
    except DskError as error:  # one damaged store does not hide the others
        return ProjectHistory(root, (), error.message)


def _stores_below(folder: Path, levels: int) -> Iterator[Path]:
    """Yield the folders with a store, without hidden folders and links."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            path = Path(entry.path)
            if not (path / PROJECT).is_symlink() and has_store(path):
                yield path
            if levels > 1:
                yield from _stores_below(path, levels - 1)
