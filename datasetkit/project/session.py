"""How a command works in a project: `open_project` takes the lock, opens the store, completes what
a killed run left, and gives a `Project`, whose `apply` is the one way from a plan to the disk.

A dry run takes no lock, reads a copy of the store, and changes nothing.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import PlanConflict
from datasetkit.core.files import CAPTION_SUFFIX, PROJECT, display, find_root
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.project.file_ops import check
from datasetkit.project.journal import Journal, RecoveredEntry
from datasetkit.project.locks import lock
from datasetkit.project.plans import Move, Plan, WriteBytes, WriteText
from datasetkit.project.store import STORE, Output, Store

# Files beside an image that hold its caption.
_CAPTIONS = (CAPTION_SUFFIX, ".caption")


@dataclass(frozen=True, slots=True)
class RunContext:
    """How a command runs: the switches that all commands share, and where progress is reported.

    wait: wait for the project lock instead of raising Locked.
    """

    dry_run: bool = False
    wait: bool = False
    reporter: Reporter = SILENT


DEFAULT_CONTEXT = RunContext()


@dataclass(frozen=True, slots=True)
class Project:
    """An open project. recovered: the plans of killed runs that were completed when it was
    opened.
    """

    root: Path
    store: Store
    journal: Journal
    context: RunContext
    recovered: tuple[RecoveredEntry, ...] = ()

    def apply(
        self,
        plan: Plan,
        verb: str,
        title: str = "",
        *,
        generated: Sequence[str] = (),
        outputs: Sequence[Output] = (),
    ) -> int | None:
        """Apply a plan and return its number in the history; in a dry run, only check it.

        See Journal.apply. Raises PlanConflict for an output in the place of a file that dsk did
        not write.
        """
        self.require_own(plan)
        if self.context.dry_run:
            self.journal.check(plan)
            return None
        return self.journal.apply(
            plan, verb, title, generated=generated, outputs=outputs, reporter=self.context.reporter
        )

    def require_own(self, plan: Plan) -> None:
        """Raise PlanConflict where a table, chart or export of a plan would replace a file that dsk
        did not write. Captions are not meant: each verb decides about those that a person edited.
        """
        moved_away = {op.src for op in plan.ops if isinstance(op, Move)}
        foreign = [
            op.path
            for op in plan.ops
            if isinstance(op, WriteText | WriteBytes)
            and op.path.suffix.lower() not in _CAPTIONS
            and op.path not in moved_away
            and op.path.is_file()
            and not self._is_own(op)
        ]
        if foreign:
            names = ", ".join(map(display, foreign))
            raise PlanConflict(
                f"dsk did not write {names}, and does not replace it",
                hint="name another place, or move that file away",
            )

    def _is_own(self, op: WriteText | WriteBytes) -> bool:
        """Tell whether dsk wrote the file that an operation replaces, from this project, from that
        of the file's folder, or as a table with the same columns.
        """
        if self.journal.wrote(op.path):
            return True
        new = op.data if isinstance(op, WriteBytes) else op.text.encode("utf-8", "surrogatepass")
        old = op.path.read_bytes()
        if old == new:
            return True
        if op.path.suffix.lower() == ".csv":
            return _columns(old) == _columns(new)
        root = find_root(op.path.parent)
        if root == self.root or not (root / STORE).is_file():
            return False
        with Store.open_copy(root) as store:
            return Journal(store).wrote(op.path)

    def changed(self, plan: Plan) -> tuple[Path, ...]:
        """Return the files that a plan would change, without those that hold its bytes already."""
        return tuple(op.dst for op in check(plan))


def _columns(table: bytes) -> bytes:
    return table.removeprefix(codecs.BOM_UTF8).splitlines()[0] if table else b""


def finish_interrupted(folder: Path, context: RunContext) -> None:
    """Complete a plan that a killed run left half done, before a command reads `folder`.

    Until then images may have temporary names, and captions may lie beside other images.
    """
    root = find_root(folder)
    if (
        context.dry_run
        or not (root / PROJECT / "store.sqlite").is_file()
        or not os.access(root / PROJECT, os.W_OK)
    ):
        return
    with Store.open(root) as store:
        half_done = Journal(store).has_open_plan()
    if half_done:
        with open_project(folder, context):
            pass


@contextmanager
def open_project(folder: Path, context: RunContext) -> Iterator[Project]:
    """Lock and open the project of `folder`, and complete what a killed run left.

    A dry run opens a copy of the store, without the lock. Raises Locked, StorageError.
    """
    root = find_root(folder)
    if context.dry_run:
        with Store.open_copy(root) as store:
            yield Project(root, store, Journal(store), context)
        return
    with lock(root, wait=context.wait), Store.open(root) as store:
        journal = Journal(store)
        recovered = tuple(journal.recover())
        for entry in recovered:
            context.reporter.warn(entry.line)
        yield Project(root, store, journal, context, recovered)
