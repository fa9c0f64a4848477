"""The journal: the one place that applies plans, finishes what a crash interrupted, and undoes.

A plan goes through three phases, each entered durably in the store:
  prepare   new bytes and links are made under temporary names beside their targets; nothing that a
  person sees changes
  move      files that stand in each other's way (swaps, chains, case-only renames) step aside to
  temporary names, the
            others take their free ones; a name that is freed here is taken only in the next phase
  place     every temporary takes its final name
After a crash the next changing command runs the open plan forward from the phase that it reached:
what stood before is
in the journal, the new bytes are in the journal or on disk, so nothing depends on the killed
process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.errors import PlanConflict, StorageError
from datasetkit.core.files import PROJECT, display, storage_error, sweep, writing
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.project.deferred_delete import folder_for, free_later, keep, left
from datasetkit.project.file_ops import (
    JournalOperation,
    check,
    make_temp,
    move,
    place,
    sign_of,
    sync_folders,
    with_temp,
)
from datasetkit.project.plans import Plan
from datasetkit.project.store import Output, Store
from datasetkit.project.undo import PlannedState, inverse

# One sync of the whole disk is faster than one for each file when there are many (10,000 captions:
# 2 s).
_SYNC_ALL_FROM = 16


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One command in the history. state: open | running | done | undone | aborted."""

    id: int
    verb: str
    title: str
    started: float
    state: str
    operations: int


@dataclass(frozen=True, slots=True)
class UndoResult:
    """What an undo did: the commands that were taken back, and the operations that were left as
    they are.
    """

    entries: tuple[JournalEntry, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecoveredEntry:
    """What was done about a command that had been killed, as a line for people. undoes: what it was
    an undo of.
    """

    line: str
    undoes: int | None


class Journal:
    """The history of one project, over its store. Hold the project's lock while using the methods
    that change.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = store.root

    # ---- applying
    # ---------------------------------------------------------------------------------------------

    def apply(
        self,
        plan: Plan,
        verb: str,
        title: str = "",
        *,
        generated: Sequence[str] = (),
        outputs: Sequence[Output] = (),
        reporter: Reporter = SILENT,
    ) -> int | None:
        """Check a plan, write it to the journal, and do it; return its number in the history, None
        for no work.

        generated: hashes of the captions among it that dsk itself made (see Store.is_generated).
        outputs: files that it puts in place and that are dsk's own from then on, also when it is
        completed only after a crash. Raises PlanConflict before anything changed; StorageError with
        nothing changed, or with the rest of the plan left for the next command to complete.
        """
        steps = check(plan)
        if not steps:
            return None
        steps = [with_temp(step) for step in steps]
        entry = self._begin(verb, title, steps, undoes=None, generated=generated, outputs=outputs)
        self._forward(entry, steps, reporter)
        return entry

    def check(self, plan: Plan) -> None:
        """Raise PlanConflict if the plan cannot be applied; change nothing."""
        check(plan)

    def _begin(
        self,
        verb: str,
        title: str,
        steps: Sequence[JournalOperation],
        *,
        undoes: int | None,
        generated: Sequence[str] = (),
        outputs: Sequence[Output] = (),
    ) -> int:
        with self.store.transaction() as database:
            cursor = database.execute(
                "INSERT INTO journal (verb, title, started, state, phase, undoes) "
                "VALUES (?, ?, ?, 'open', 'prepare', ?)",
                (verb, title, time.time(), undoes),
            )
            entry = int(cursor.lastrowid or 0)
            database.executemany(
                "INSERT INTO ops VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [self._row(entry, n, step) for n, step in enumerate(steps)],
            )
            database.executemany(
                "INSERT OR IGNORE INTO written VALUES (?)", [(h,) for h in generated]
            )
            self.store.insert_claims(outputs)
        return entry

    def _renew_temps(self, entry: int) -> None:
        """Give a plan that was not prepared to its end new temporary names: the old ones may be
        half written.
        """
        rows = [
            (self.store.key(s.temp), entry, n)
            for n, s in enumerate(map(with_temp, self._steps(entry)))
            if s.temp
        ]
        with self.store.transaction() as database:
            database.executemany("UPDATE ops SET temp = ? WHERE entry = ? AND n = ?", rows)

    def _row(self, entry: int, n: int, step: JournalOperation) -> tuple[object, ...]:
        def key(path: Path | None) -> bytes | None:
            return None if path is None else self.store.key(path)

        signed = (
            sign_of(step) if step.kind == "write" else step.sign
        )  # a text's is known before it stands
        return (
            entry,
            n,
            step.kind,
            key(step.src),
            key(step.dst),
            step.before,
            step.after,
            signed,
            key(step.temp),
        )

    def _steps(self, entry: int) -> list[JournalOperation]:
        rows = self.store.database.execute(
            "SELECT kind, src, dst, before, after, sign, temp FROM ops WHERE entry = ? ORDER BY n",
            (entry,),
        )

        def path(key: bytes | None) -> Path | None:
            return None if key is None else self.store.path(key)

        return [
            JournalOperation(k, path(s), self.store.path(d), b, a, sign, path(t))
            for k, s, d, b, a, sign, t in rows
        ]

    def _phase(self, entry: int, phase: str) -> None:
        with self.store.transaction() as database:
            database.execute("UPDATE journal SET phase = ? WHERE id = ?", (phase, entry))

    def _forward(
        self,
        entry: int,
        steps: Sequence[JournalOperation],
        reporter: Reporter = SILENT,
        *,
        phase: str = "prepare",
    ) -> list[str]:
        """Run an open plan to its end from the phase that it reached; return the texts that a
        person edited since.
        """
        reporter.start("writing", len(steps))
        if phase == "prepare":
            self._prepare(entry, steps)
            self._phase(entry, phase := "move")
        if phase == "move":
            for step in steps:
                if step.kind == "move":
                    move(step)
            self._phase(entry, "place")
        replaced = self._folder_for_replaced(entry, steps)
        edited = []
        # What is new may take a moved file's name.
        for n, step in enumerate(sorted(steps, key=lambda step: step.kind != "move")):
            if replaced is not None and step.before is not None:
                keep(step.dst, replaced, n)
            if not place(step):
                edited.append(display(self._short(step.dst)))
            reporter.advance()
        sync_folders(
            {step.dst.parent for step in steps} | {s.src.parent for s in steps if s.src is not None}
        )
        self._finish(entry, steps)
        if replaced is not None:
            free_later([replaced])
        reporter.finish()
        return edited

    def _folder_for_replaced(self, entry: int, steps: Sequence[JournalOperation]) -> Path | None:
        """Make the folder where texts that are replaced keep a second name for a while; few texts
        need none.
        """
        many = sum(step.before is not None for step in steps) >= _SYNC_ALL_FROM
        return folder_for(self.root, entry) if many else None

    def _prepare(self, entry: int, steps: Sequence[JournalOperation]) -> None:
        """Make folders and temporaries. When that fails, take them away again: the plan never
        happened.
        """
        made: list[Path] = []
        temps = [step.temp for step in steps if step.temp is not None and step.kind != "move"]
        try:
            for folder in sorted({step.dst.parent for step in steps}):
                self._make_folder(entry, folder, made)
            few = len(temps) < _SYNC_ALL_FROM or not hasattr(os, "sync")
            for step in steps:
                make_temp(step, sync=few)
            if not few:
                os.sync()
        except BaseException as error:
            for temp in temps:
                with suppress(OSError):
                    os.unlink(temp)
            for folder in reversed(made):
                with suppress(OSError):
                    folder.rmdir()
            with suppress(StorageError), self.store.transaction() as database:
                database.execute("UPDATE journal SET state = 'aborted' WHERE id = ?", (entry,))
            if isinstance(error, OSError):
                raise storage_error(Path(error.filename or self.root), error) from error
            raise

    def _make_folder(self, entry: int, folder: Path, made: list[Path]) -> None:
        """Create a folder and its parents; note in `made` which were new, and in the store, for
        undo.
        """
        missing = [p for p in (folder, *folder.parents) if not p.exists()][::-1]
        for path in missing:
            with self.store.transaction() as database:
                database.execute(
                    "INSERT INTO dirs SELECT ?, COUNT(*), ? FROM dirs WHERE entry = ?",
                    (entry, self.store.key(path), entry),
                )
            path.mkdir(exist_ok=True)
            made.append(path)

    def _finish(self, entry: int, steps: Sequence[JournalOperation]) -> None:
        signs = [(sign_of(step), entry, n) for n, step in enumerate(steps) if not step.sign]
        undoes = self.store.database.execute(
            "SELECT undoes FROM journal WHERE id = ?", (entry,)
        ).fetchone()[0]
        if undoes is not None:
            self._remove_empty_folders(undoes)
        with self.store.transaction() as database:
            database.executemany("UPDATE ops SET sign = ? WHERE entry = ? AND n = ?", signs)
            database.execute("UPDATE journal SET state = 'done', phase = '' WHERE id = ?", (entry,))
            if undoes is not None:
                database.execute("UPDATE journal SET state = 'undone' WHERE id = ?", (undoes,))

    # ---- outputs of stages
    # ------------------------------------------------------------------------------------

    @contextmanager
    def recording(self, verb: str, title: str) -> Iterator[OpenEntry]:
        """Open an entry for a stage that makes files one by one; each becomes undoable as it is
        made.
        """
        recording = OpenEntry(self, verb, title)
        try:
            yield recording
        finally:
            recording.close()

    # ---- after a crash
    # ----------------------------------------------------------------------------------------

    def has_open_plan(self) -> bool:
        """Tell whether a plan is half done, by a killed command or by one that runs now."""
        return (
            self.store.database.execute("SELECT 1 FROM journal WHERE state = 'open'").fetchone()
            is not None
        )

    def recover(self) -> list[RecoveredEntry]:
        """Finish what interrupted commands left open."""
        recovered = []
        rows = self.store.database.execute(
            "SELECT id, verb, phase, state, undoes FROM journal WHERE state IN ('open', "
            "'running') ORDER BY id"
        ).fetchall()
        for entry, verb, phase, state, undoes in rows:
            steps = self._steps(entry)
            for folder in {
                step.dst.parent for step in steps if phase == "prepare" or state == "running"
            }:
                sweep(folder)
            if state == "running":
                with self.store.transaction() as database:
                    database.execute(
                        "UPDATE journal SET state = 'done', phase = '' WHERE id = ?", (entry,)
                    )
                continue
            if phase == "prepare":
                self._renew_temps(entry)
            try:
                edited = self._forward(entry, self._steps(entry), phase=phase)
                kept = f"; edited since, and kept: {', '.join(edited)}" if edited else ""
                line = f"completed the interrupted `dsk {verb}` (history {entry}){kept}"
                recovered.append(RecoveredEntry(line, undoes))
            except StorageError as error:
                if self._state(entry) != "aborted":
                    raise
                line = (
                    f"dropped the interrupted `dsk {verb}` (history {entry}), which had "
                    f"changed nothing: {error}"
                )
                recovered.append(RecoveredEntry(line, None))
        free_later(left(self.root))
        return recovered

    def _state(self, entry: int) -> str:
        return str(
            self.store.database.execute(
                "SELECT state FROM journal WHERE id = ?", (entry,)
            ).fetchone()[0]
        )

    # ---- history and undo
    # -------------------------------------------------------------------------------------

    def history(self) -> list[JournalEntry]:
        """Return every command that changed something, newest first."""
        rows = self.store.database.execute(
            "SELECT id, verb, title, started, state, (SELECT COUNT(*) FROM ops WHERE entry = id) "
            "FROM journal WHERE state != 'aborted' ORDER BY id DESC"
        )
        return [JournalEntry(*row) for row in rows]

    def newest(self) -> JournalEntry | None:
        """Return the command that `undo` would take back, None where there is none."""
        row = self.store.database.execute(
            "SELECT id, verb, title, started, state, (SELECT COUNT(*) FROM ops WHERE entry = id) "
            "FROM journal WHERE state = 'done' AND verb != 'undo' ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return JournalEntry(*row) if row else None

    def steps(self, entry: int) -> list[JournalOperation]:
        """Return what a command did, in order."""
        return self._steps(entry)

    def next_id(self) -> int:
        """Return the number that the next command of the history will have, at the least."""
        return int(
            self.store.database.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM journal").fetchone()[
                0
            ]
        )

    def undo(
        self, entry: int | None = None, *, partial: bool = False, dry_run: bool = False
    ) -> UndoResult:
        """Take back the newest command, or every command down to and including `entry`, newest
        first.

        An operation whose file no longer holds what dsk wrote is refused: PlanConflict names them
        all and nothing changes, unless `partial`, which leaves those files alone and takes back the
        rest.
        """
        undoable = self._undoable(entry)
        refused: list[str] = []
        foreseen = PlannedState()
        first: list[JournalOperation] | None = None
        for target in undoable:
            steps, problems = self._inverse(target, foreseen)
            first = steps if first is None else first
            if problems and not partial and not dry_run:
                raise PlanConflict(
                    f"`dsk {target.verb}` (history {target.id}) cannot be undone as a whole: "
                    + "; ".join(problems[:5])
                    + (f"; and {len(problems) - 5} more" if len(problems) > 5 else ""),
                    hint="dsk undo --partial leaves these files as they are and takes back the "
                    "rest",
                )
            refused.extend(problems)
            foreseen.add(steps)
        for target in undoable if not dry_run else ():
            # What was found out about the first still holds; the others are to be seen as those
            # before them left them.
            steps, first = (first or self._inverse(target, PlannedState())[0]), None
            steps = [with_temp(step) for step in steps]
            entry = self._begin(
                "undo", f"undo {target.verb} {target.title}".strip(), steps, undoes=target.id
            )
            self._forward(entry, steps)
        return UndoResult(tuple(undoable), tuple(refused))

    def _undoable(self, entry: int | None) -> list[JournalEntry]:
        """Return the commands that an undo takes back, newest first."""
        if entry is None:
            newest = self.newest()  # not the whole history, which may be thousands of edits
            return [newest] if newest else []
        commands = [e for e in self.history() if e.state in ("done", "undone") and e.verb != "undo"]
        if entry not in {e.id for e in commands}:
            raise PlanConflict(
                f"history has no command {entry} that can be undone", hint="dsk history lists them"
            )
        return [e for e in commands if e.state == "done" and e.id >= entry]

    def _inverse(
        self, target: JournalEntry, foreseen: PlannedState
    ) -> tuple[list[JournalOperation], list[str]]:
        trash = self.root / PROJECT / "trash" / str(target.id)
        renamed = target.verb == "rename"
        return inverse(
            self._steps(target.id), foreseen, trash=trash, root=self.root, with_companions=renamed
        )

    def _short(self, path: Path | None) -> str:
        return os.fsdecode(self.store.key(path)) if path is not None else ""

    def _remove_empty_folders(self, entry: int) -> None:
        rows = self.store.database.execute(
            "SELECT path FROM dirs WHERE entry = ? ORDER BY n DESC", (entry,)
        )
        for (key,) in rows.fetchall():
            with suppress(OSError):
                self.store.path(key).rmdir()


class OpenEntry:
    """The open journal entry of a stage: opened with the first file made, closed by
    Journal.recording.
    """

    def __init__(self, journal: Journal, verb: str, title: str) -> None:
        self._journal, self._verb, self._title = journal, verb, title
        self.entry: int | None = None  # the number in the history, once something was made
        self._count = 0

    def folder(self, path: Path) -> None:
        """Create a folder for outputs; undo removes it again once it is empty. Raises
        StorageError.
        """
        if not path.is_dir():
            with writing(path), self._journal.store.transaction():
                self._open()
            with writing(path):
                self._journal._make_folder(self.entry or 0, path, [])

    def _open(self) -> None:
        if self.entry is None:
            cursor = self._journal.store.database.execute(
                "INSERT INTO journal (verb, title, started, state, phase) VALUES (?, ?, ?, "
                "'running', '')",
                (self._verb, self._title, time.time()),
            )
            self.entry = int(cursor.lastrowid or 0)

    def made(self, output: Output) -> None:
        """Note that an output was made."""
        store, step = self._journal.store, JournalOperation("made", None, output.path)
        with store.transaction() as database:
            self._open()
            row = self._journal._row(
                self.entry or 0, self._count, replace(step, sign=sign_of(step))
            )
            database.execute("INSERT INTO ops VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            database.execute(
                "INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?, ?, ?)", store.made_row(output)
            )
        self._count += 1

    def close(self) -> None:
        """Mark the entry as done, also after an error: what was made was made."""
        if self.entry is not None:
            with self._journal.store.transaction() as database:
                database.execute("UPDATE journal SET state = 'done' WHERE id = ?", (self.entry,))
