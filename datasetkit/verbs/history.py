"""`dsk history` and `dsk undo`: what was done in a project, and taking it back."""

from __future__ import annotations

from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.files import PROJECT, display, find_root
from datasetkit.images.scan import require_folder
from datasetkit.project.journal import Journal, JournalEntry, UndoResult
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.project.store import Store


def history(folder: Path) -> list[JournalEntry]:
    """Return every command that changed something in the folder's project, newest first."""
    root = _require_history(folder)
    with Store.open_copy(root) as store:
        return Journal(store).history()


def undo(
    folder: Path,
    entry: int | None = None,
    *,
    partial: bool = False,
    context: RunContext = DEFAULT_CONTEXT,
) -> UndoResult:
    """Take back the newest command of the folder's project, or all down to and including `entry`.

    An undo that was killed is completed instead, and nothing else is taken back by the same call.
    Raises PlanConflict, with nothing changed, for files that were changed since (unless `partial`).
    """
    _require_history(folder)
    with open_project(folder, context) as project:
        completed = {one.undoes for one in project.recovered if one.undoes is not None}
        if completed and entry is None:
            return UndoResult(tuple(e for e in project.journal.history() if e.id in completed), ())
        return project.journal.undo(entry, partial=partial, dry_run=context.dry_run)


def _require_history(folder: Path) -> Path:
    root = find_root(require_folder(folder, hint="name a folder of the project"))
    if not (root / PROJECT / "store.sqlite").is_file():
        below = sorted(p.parent.name for p in root.glob(f"*/{PROJECT}") if p.is_dir())
        near = (
            f"these folders have one: {', '.join(map(display, below[:5]))}"
            if below
            else "nothing was done here yet"
        )
        raise InputError(f"{display(root)} has no history", hint=near)
    return root
