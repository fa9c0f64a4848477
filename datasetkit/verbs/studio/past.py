"""The history of a project, for the page."""

from __future__ import annotations

from typing import Any, Final

from datasetkit.core.files import PROJECT, display
from datasetkit.project.journal import Journal
from datasetkit.project.session import RunContext
from datasetkit.project.store import Store
from datasetkit.verbs.history import history
from datasetkit.verbs.studio.errors import NotFound
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.verbs.undo import undo

Json = dict[str, Any]
_MOST_CHANGES: Final = 500
# States of an entry whose command changed nothing that is still there.
_GONE: Final = ("undone", "aborted", "forgotten")


def entries(session: StudioSession) -> Json:
    """Return the commands that changed something, newest first."""
    if not (session.root / PROJECT).is_dir():
        return {"entries": []}
    return {
        "entries": [
            {
                "id": entry.id,
                "verb": entry.verb,
                "title": display(entry.title),
                "time": entry.started,
                "undone": entry.state in _GONE,
                "open": entry.state in ("open", "running"),
                "operations": entry.operations,
            }
            for entry in history(session.root)
        ]
    }


def changes(session: StudioSession, entry: int) -> Json:
    """Return what an entry changed, a line for each file. Raises NotFound."""
    if (session.root / PROJECT).is_dir():
        with Store.open_copy(session.root) as store:
            journal = Journal(store)
            if any(each.id == entry for each in journal.history()):
                lines = journal.describe(entry)
                return {"changes": lines[:_MOST_CHANGES], "total": len(lines)}
    raise NotFound(f"the history has no entry {entry}")


def take_back(session: StudioSession, entry: int | None, *, partial: bool, dry_run: bool) -> Json:
    """Undo the newest command, or all back to an entry. Raises PlanConflict for files that have
    changed since, Locked.
    """
    result = undo(session.root, entry, partial=partial, context=RunContext(dry_run=dry_run))
    return {
        "entries": [
            {"id": e.id, "verb": e.verb, "title": display(e.title)} for e in result.entries
        ],
        "refused": [display(line) for line in result.refused],
    }
