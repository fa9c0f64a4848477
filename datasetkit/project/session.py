"""How a command works in a project: `open_project` takes the lock, opens the store, completes what
a killed run left, and gives a `Project`, whose `apply` is the one way from a plan to the disk.

A dry run takes no lock, reads a copy of the store, and changes nothing.
"""

from __future__ import annotations

import codecs
import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.cluster import Cluster
from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import DskError, HalfDone, InputError, Locked, PlanConflict
from datasetkit.core.files import CAPTION_SUFFIX, PROJECT, display, find_root, writing
from datasetkit.core.path_list import folders_of
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.project import jobs
from datasetkit.project.disk_space import require_space
from datasetkit.project.file_ops import check
from datasetkit.project.journal import Journal, RecoveredEntry
from datasetkit.project.locks import is_locked, lock, locked
from datasetkit.project.plans import Move, Plan, WriteBytes, WriteText
from datasetkit.project.store import STORE, Output, Store, has_store

# A table that people write, and the review page adds lines to.
_SHARED_TABLE = "translations.csv"
# Files beside an image that hold its caption.
_CAPTIONS = (CAPTION_SUFFIX, ".caption")


@dataclass(frozen=True, slots=True)
class RunContext:
    """How a command runs: the switches that all commands share, and where progress is reported.

    wait: wait for the locks of the project and of a GPU instead of raising Locked. cluster: where
    the work on images runs; None for threads of this process. now: use a GPU also while another run
    does.
    """

    dry_run: bool = False
    wait: bool = False
    reporter: Reporter = SILENT
    cluster: Cluster | None = None
    now: bool = False


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
        generated: Iterable[str] = (),
        outputs: Sequence[Output] = (),
        triggers: Mapping[Path, Sequence[str]] | None = None,
        edited: Collection[Path] = (),
    ) -> int | None:
        """Apply a plan and return its number in the history; in a dry run, only check it.

        edited: files of the user that the command was asked to edit.

        See Journal.apply. Raises InputError for a path that a link in the project leads out of it,
        PlanConflict for an output in the place of a file that dsk did not write, StorageError where
        the disk has no room for copies.
        """
        self._require_allowed(plan, edited)
        require_space(plan)
        if self.context.dry_run:
            self.journal.check(plan)
            return None
        return self.journal.apply(
            plan,
            verb,
            title,
            generated=generated,
            outputs=outputs,
            triggers=triggers,
            reporter=self.context.reporter,
        )

    def _require_allowed(self, plan: Plan, edited: Collection[Path]) -> None:
        """Raise what `_require_inside` and `require_own` raise, in one pass over the plan: of a
        million operations each takes seconds.
        """
        foreign: list[Path] = []

        def changed_paths() -> Iterator[Path]:
            for op in plan.ops:
                if isinstance(op, WriteText | WriteBytes):
                    yield op.path
                    if self._is_foreign(op, edited):
                        foreign.append(op.path)
                else:
                    yield op.dst
                    if isinstance(op, Move):
                        yield op.src

        self._require_inside(folders_of(changed_paths()))
        if foreign:
            _refuse_foreign(plan, foreign)

    def _require_inside(self, folders: Iterable[Path]) -> None:
        """Raise InputError where a folder that a plan writes to lies in the project, and is a link
        or lies behind one: the link may have come with the folder, and lead anywhere.
        """
        for folder in dict.fromkeys(path.absolute() for path in folders):
            if folder.resolve().is_relative_to(self.root):
                continue
            behind = [folder, *folder.parents]
            at = next((n for n, path in enumerate(behind) if path.resolve() == self.root), None)
            if at is not None and (links := [path for path in behind[:at] if path.is_symlink()]):
                raise InputError(
                    f"{display(links[-1])} is a symbolic link that leads out of the project, and "
                    "dsk does not write through it",
                    hint="name the folder that it points to, or remove it",
                )

    def require_own(self, plan: Plan, edited: Collection[Path] = ()) -> None:
        """Raise PlanConflict where a table, chart or export of a plan would replace a file that dsk
        did not write. Captions are not meant: each verb decides about those that a person edited.
        """
        writes = (op for op in plan.ops if isinstance(op, WriteText | WriteBytes))
        if foreign := [op.path for op in writes if self._is_foreign(op, edited)]:
            _refuse_foreign(plan, foreign)

    def _is_foreign(self, op: WriteText | WriteBytes, edited: Collection[Path]) -> bool:
        return (
            op.path.suffix.lower() not in _CAPTIONS
            and op.path not in edited
            and op.path.is_file()
            and op.over == op.path.read_bytes()  # else FileChanged says more
            and not self._is_own(op)
        )

    def _is_own(self, op: WriteText | WriteBytes) -> bool:
        """Tell whether dsk wrote the file that an operation replaces, from this project, from that
        of the file's folder, or as a table with the same columns.
        """
        if self.journal.wrote(op.path):
            return True
        new = op.data if isinstance(op, WriteBytes) else op.text.encode("utf-8", "surrogatepass")
        old = op.path.read_bytes()
        if old == new or op.path.name == _SHARED_TABLE:
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


def _refuse_foreign(plan: Plan, foreign: Sequence[Path]) -> None:
    """Raise PlanConflict for files that dsk did not write and that a plan does not move away."""
    moved_away = {op.src for op in plan.ops if isinstance(op, Move)}
    if names := ", ".join(display(path) for path in foreign if path not in moved_away):
        raise PlanConflict(
            f"dsk did not write {names}, and does not replace it",
            hint="name another place, or move that file away",
        )


def _columns(table: bytes) -> bytes:
    return table.removeprefix(codecs.BOM_UTF8).splitlines()[0] if table else b""


def recover_projects(
    folders: Iterable[Path], context: RunContext, *, recursive: bool = False
) -> None:
    """Complete what killed runs left half done in the projects of folders, before they are read.

    Until then images may have temporary names, captions may lie beside other images, and folders
    may hold a part of a dataset. recursive: also the projects below the folders.

    Raises HalfDone where `context` may not write, Locked where a running command is at work,
    UnsignedEntry where the half-done command is not this user's.
    """
    for root in dict.fromkeys(_roots(folders, recursive=recursive)):
        if has_store(root) and Store.has_open_entry(root):
            if context.dry_run or not os.access(root / PROJECT, os.W_OK):
                raise _not_recovered(root)
            with open_project(root, context):
                pass


def _roots(folders: Iterable[Path], *, recursive: bool) -> Iterator[Path]:
    for folder in folders:
        yield find_root(folder)
        for path, names, _ in os.walk(folder.resolve()) if recursive else ():
            if PROJECT in names:
                yield Path(path)
            names[:] = [name for name in names if not name.startswith(".")]


def _not_recovered(root: Path) -> DskError:
    """Return why a command that may not write cannot read a project: half done, or at work."""
    if is_locked(root):
        return locked(root)
    return HalfDone(
        f"a command was interrupted in {display(root)}, and what it changes is half done",
        hint=f"dsk history --recover {shlex.quote(display(root))} completes it, --forget drops it",
    )


@contextmanager
def open_project(
    folder: Path, context: RunContext, *, create_folder: bool = False
) -> Iterator[Project]:
    """Lock and open the project of `folder`, and complete what a killed run left.

    create_folder: of an output, which may not exist yet. Otherwise DatasetError is raised without
    the folder: somebody renamed it, and a new one in its place would hold nothing but `.dsk/`.

    A dry run opens a copy of the store, without the lock. Raises Locked, StorageError, HalfDone in
    a dry run, UnsignedEntry.
    """
    root = find_root(folder)
    if context.dry_run:
        recover_projects([root], context)
        with open_unrecovered(root, context) as project:
            yield project
        return
    if create_folder:
        with writing(root), suppress(FileExistsError):  # a file: opening the project says so
            make_folders(root)
    with open_unrecovered(root, context) as project:
        recovered = tuple(project.journal.recover())
        for entry in recovered:
            context.reporter.warn(entry.line)
        yield replace(project, recovered=recovered)


@contextmanager
def open_unrecovered(folder: Path, context: RunContext) -> Iterator[Project]:
    """Lock and open the project of `folder`, and leave an interrupted plan as it is."""
    root = find_root(folder)
    if context.dry_run:
        with Store.open_copy(root) as store:
            yield Project(root, store, Journal(store, context.reporter), context)
        return
    with _locked(root, context), Store.open(root) as store:
        yield Project(root, store, Journal(store, context.reporter), context)


@contextmanager
def _locked(root: Path, context: RunContext) -> Iterator[None]:
    """Hold the project's lock. A job of the queue waits for it, as for its turn: nobody is there to
    start it again.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(root))
        except Locked:
            if not (context.wait or jobs.is_from_queue()):
                raise
            context.reporter.phase("waiting for another dsk run in this project")
            stack.enter_context(lock(root, wait=True))
        yield
