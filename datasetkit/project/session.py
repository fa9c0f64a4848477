"""How a verb works in a project: the lock, the store, the journal, and nothing of them in a dry
run.
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
    """How any verb is run: what the command line's common switches say."""

    dry_run: bool = False
    wait: bool = False
    reporter: Reporter = SILENT


DEFAULT_CONTEXT = RunContext()


@dataclass(frozen=True, slots=True)
class Project:
    """An open project; `apply` is the one way from a plan to the disk. recovered: what a killed run
    had left to do.
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
        """Apply a plan and return its number in the history; in a dry run only check it. See
        Journal.apply.
        """
        if self.context.dry_run:
            self.journal.check(plan)
            return None
        return self.journal.apply(
            plan, verb, title, generated=generated, outputs=outputs, reporter=self.context.reporter
        )

    def changed(self, plan: Plan) -> tuple[Path, ...]:
        """Return the files that a plan would change; what holds its wanted bytes already is not
        among them.
        """
        return tuple(step.dst for step in check(plan))


def finish_interrupted(folder: Path, context: RunContext) -> None:
    """Finish a plan that a killed run left half done in the project of a folder that is about to be
    read.

    Until then images may stand under temporary names, and captions beside other images than
    their own.
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
    """Open the project of `folder`: lock it and finish what a killed run left, unless this is a dry
    run.
    """
    root = find_root(folder)
    if context.dry_run:
        with Store.open_copy(root) as store:
            yield Project(root, store, Journal(store), context)
        return
    with lock(root, wait=context.wait), Store.open(root) as store:
        journal = Journal(store)
        recovered = tuple(journal.recover())
        for one in recovered:
            context.reporter.warn(one.line)
        yield Project(root, store, journal, context, recovered)
