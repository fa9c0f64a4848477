"""`dsk history`: what was done in a project, and what to do about an interrupted command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.files import display
from datasetkit.project.journal import Journal, JournalEntry
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_unrecovered
from datasetkit.project.store import Store
from datasetkit.verbs.shared.project_history import projects_below as projects_below
from datasetkit.verbs.shared.project_history import require_history


@dataclass(frozen=True, slots=True)
class InterruptedCommand:
    """A command whose plan is half done.

    operations: what each one does, for people. signed: this user made the entry in this folder.
    outside: its paths outside of the project.
    """

    entry: JournalEntry
    operations: tuple[str, ...]
    signed: bool
    outside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecoverResult:
    """What was done about interrupted commands, a line each. leftovers: files that a forgotten
    command left under temporary names.
    """

    lines: tuple[str, ...]
    leftovers: tuple[Path, ...] = ()


def history(folder: Path) -> list[JournalEntry]:
    """Return every command that changed something in the folder's project, newest first.

    An interrupted command is listed as `open`; nothing is completed.
    """
    root = require_history(folder)
    with Store.open_copy(root) as store:
        return Journal(store).history()


def interrupted(folder: Path) -> tuple[InterruptedCommand, ...]:
    """Return the commands whose plan is half done, oldest first; complete nothing."""
    root = require_history(folder)
    with Store.open_copy(root) as store:
        journal = Journal(store)
        return tuple(
            InterruptedCommand(
                entry,
                tuple(journal.describe(entry.id)),
                journal.is_signed(entry.id),
                tuple(journal.outside(entry.id)),
            )
            for entry in journal.open_entries()
        )


def recover(
    folder: Path, entries: Sequence[int], context: RunContext = DEFAULT_CONTEXT
) -> RecoverResult:
    """Complete the interrupted commands of the folder's project.

    entries: those to complete although they are not signed. Raises UnsignedEntry for others, and
    for one that leads out of the project, with nothing changed.
    """
    require_history(folder)
    with open_unrecovered(folder, context) as project:
        return RecoverResult(tuple(e.line for e in project.journal.recover(entries)))


def forget(
    folder: Path, entries: Sequence[int], context: RunContext = DEFAULT_CONTEXT
) -> RecoverResult:
    """Drop interrupted commands from the history, without completing them.

    Files keep the names that they have now; other temporary files are removed.
    """
    require_history(folder)
    with open_unrecovered(folder, context) as project:
        commands = [e for e in project.journal.open_entries() if e.id in entries]
        leftovers = project.journal.forget(command.id for command in commands)
        lines = [f"forgot the interrupted `dsk {c.verb}` (history {c.id})" for c in commands]
        return RecoverResult(tuple(map(display, lines)), tuple(leftovers))
