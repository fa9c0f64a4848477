"""`dsk undo`: undo the newest commands of a project."""

from __future__ import annotations

from pathlib import Path

from datasetkit.project.journal import UndoResult
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.verbs.shared.project_history import require_history


def undo(
    folder: Path,
    entry: int | None = None,
    *,
    partial: bool = False,
    context: RunContext = DEFAULT_CONTEXT,
) -> UndoResult:
    """Undo the newest command of the folder's project, or all commands back to `entry`.

    If an undo was killed, it is completed, and nothing else is undone by the same call. Raises
    PlanConflict, with nothing changed, for files that have changed since (unless `partial`).
    """
    require_history(folder)
    with open_project(folder, context) as project:
        completed = {recovered.undoes for recovered in project.recovered if recovered.undoes}
        if completed and entry is None:
            return UndoResult(tuple(e for e in project.journal.history() if e.id in completed), ())
        return project.journal.undo(
            entry, partial=partial, dry_run=context.dry_run, reporter=context.reporter
        )
