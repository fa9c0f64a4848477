"""How a command works in a project: `open_project` takes the lock, opens the store, completes what
a killed run left, and gives a `Project`, whose `apply` is the one way from a plan to the disk.

A dry run takes no lock, reads a copy of the store, and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.files import PROJECT, find_root
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.project.file_ops import check
from datasetkit.project.journal import Journal, RecoveredEntry
from datasetkit.project.locks import lock
from datasetkit.project.plans import Plan
from datasetkit.project.store import Output, Store


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

        See Journal.apply.
        """
        if self.context.dry_run:
            self.journal.check(plan)
            return None
        return self.journal.apply(
            plan, verb, title, generated=generated, outputs=outputs, reporter=self.context.reporter
        )

    def changed(self, plan: Plan) -> tuple[Path, ...]:
        """Return the files that a plan would change, without those that hold its bytes already."""
        return tuple(op.dst for op in check(plan))


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
