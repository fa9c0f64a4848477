"""`dsk history`: what was done in a project."""

from __future__ import annotations

from pathlib import Path

from datasetkit.project.journal import Journal, JournalEntry
from datasetkit.project.store import Store
from datasetkit.verbs.shared.project_history import require_history


def history(folder: Path) -> list[JournalEntry]:
    """Return every command that changed something in the folder's project, newest first."""
    root = require_history(folder)
    with Store.open_copy(root) as store:
        return Journal(store).history()
