"""`dsk history`: the commands that changed a project."""

from __future__ import annotations

from pathlib import Path

from datasetkit.project.journal import Journal, JournalEntry
from datasetkit.project.store import Store
from datasetkit.verbs.shared.project_history import require_history


def history(folder: Path) -> list[JournalEntry]:
    """Return the commands that changed the folder's project, newest first."""
    root = require_history(folder)
    with Store.open_copy(root) as store:
        return Journal(store).history()
