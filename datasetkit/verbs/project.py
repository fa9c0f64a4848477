"""How a verb works in a project: the lock, the store, the journal, and nothing of them in a dry run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.events import SILENT, Reporter
from datasetkit.core.files import find_root
from datasetkit.core.journal import Journal
from datasetkit.core.locks import lock
from datasetkit.core.plans import Plan
from datasetkit.core.store import Store


@dataclass(frozen=True, slots=True)
class How:
    """How any verb is run: what the command line's common switches say."""

    dry_run: bool = False
    wait: bool = False
    reporter: Reporter = SILENT


JUST_DO_IT = How()


@dataclass(frozen=True, slots=True)
class Project:
    """An open project; `apply` is the one way from a plan to the disk."""

    root: Path
    store: Store
    journal: Journal
    how: How

    def apply(self, plan: Plan, verb: str, title: str = "", *, generated: Sequence[str] = ()) -> int | None:
        """Apply a plan and return its number in the history; in a dry run only check it."""
        if self.how.dry_run:
            self.journal.check(plan)
            return None
        return self.journal.apply(plan, verb, title, generated=generated, reporter=self.how.reporter)


@contextmanager
def open_project(folder: Path, how: How) -> Iterator[Project]:
    """Open the project of `folder`: lock it and finish what a killed run left, unless this is a dry run."""
    root = find_root(folder)
    if how.dry_run:
        with Store.open_copy(root) as store:
            yield Project(root, store, Journal(store), how)
        return
    with lock(root, wait=how.wait), Store.open(root) as store:
        journal = Journal(store)
        for line in journal.recover():
            how.reporter.warn(line)
        yield Project(root, store, journal, how)
