"""The journal: the one place that applies plans, completes what a crash interrupted, and undoes.

A plan goes through three phases, and the store records durably when each one begins:

  prepare   New bytes and links are made under temporary names beside their targets. A person sees
            no change.
  move      Files that are in each other's way (swaps, chains, case-only renames) take temporary
            names, other renamed files their new ones. A name that becomes free here is taken in the
            next phase only.
  place     Every temporary file takes its final name.

After a crash, the next changing command runs the open plan forward from the phase that it had
reached. What a file held before is in the journal, the new bytes are in the journal or on disk, so
nothing depends on the killed process.
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
from datasetkit.project.deferred_delete import delete_later, folder_for, keep, leftover_folders
from datasetkit.project.file_ops import (
    JournalOperation,
    check,
    finished_stamp,
    make_temp,
    move,
    place,
    sync_folders,
    with_temp,
)
from datasetkit.project.plans import Plan
from datasetkit.project.store import Output, Store
from datasetkit.project.undo import PlannedState, inverse

# One sync of the whole disk is faster than one for each file if there are many (10,000 captions:
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
    """What an undo did: the commands that it took back, and why it left some operations alone."""

    entries: tuple[JournalEntry, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecoveredEntry:
    """What was done about a killed command, in one line for people. undoes: the entry that the
    command was an undo of.
    """

    line: str
    undoes: int | None


class Journal:
    """The history of one project, over its store. Methods that change something need the project
    lock.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = store.root

    # ---- applying

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
        """Check a plan, write it to the journal, and do it; return its number in the history, or
        None if there was nothing to do.

        generated: hashes of the captions in it that dsk itself made (see Store.generated).
        outputs: files in it that are dsk's own from then on, also if a later command completes the
        plan. Raises PlanConflict before anything changed; StorageError with nothing changed, or
        with the rest of the plan left for the next command to complete.
        """
        # The order makes a kill harmless at any point:
        # 1. `check` refuses the plan as a whole, before anything is written.
        # 2. `_begin` commits all operations, with the old and new texts, and what dsk calls its
        #    own. A kill before this changed nothing.
        # 3. `_run` does them in phases. A kill from here on is completed forward, never rolled
        #    back: some files have their new names already, and a reader may have used them.
        operations = [with_temp(op) for op in check(plan)]
        if not operations:
            return None
        entry = self._begin(verb, title, operations, generated=generated, outputs=outputs)
        self._run(entry, operations, reporter)
        return entry

    def check(self, plan: Plan) -> None:
        """Raise PlanConflict if the plan cannot be applied; change nothing."""
        check(plan)

    def _begin(
        self,
        verb: str,
        title: str,
        operations: Sequence[JournalOperation],
        *,
        undoes: int | None = None,
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
                [self._row(entry, n, op) for n, op in enumerate(operations)],
            )
            database.executemany(
                "INSERT OR IGNORE INTO written VALUES (?)", [(h,) for h in generated]
            )
            self.store.insert_pending(outputs)
        return entry

    def _run(
        self,
        entry: int,
        operations: Sequence[JournalOperation],
        reporter: Reporter = SILENT,
        *,
        phase: str = "prepare",
    ) -> list[str]:
        """Run an open plan to its end from a phase; return the texts that a person edited since and
        that are kept.
        """
        reporter.start("writing", len(operations))
        if phase == "prepare":
            self._prepare(entry, operations)
            self._set_phase(entry, phase := "move")
        if phase == "move":
            for op in operations:
                if op.kind == "move":
                    move(op)
            self._set_phase(entry, "place")
        edited = self._place(entry, operations, reporter)
        reporter.finish()
        return edited

    def _prepare(self, entry: int, operations: Sequence[JournalOperation]) -> None:
        """Make folders and temporary files. If that fails, remove them: the plan never happened."""
        temps = [op.temp for op in operations if op.temp is not None and op.kind != "move"]
        new_folders: list[Path] = []
        try:
            for folder in sorted({op.dst.parent for op in operations}):
                self._make_folder(entry, folder, new_folders)
            sync_each = len(temps) < _SYNC_ALL_FROM or not hasattr(os, "sync")
            for op in operations:
                make_temp(op, sync=sync_each)
            if not sync_each:
                os.sync()
        except BaseException as error:
            self._abort(entry, temps, new_folders)
            if isinstance(error, OSError):
                raise storage_error(Path(error.filename or self.root), error) from error
            raise

    def _abort(self, entry: int, temps: Sequence[Path], new_folders: Sequence[Path]) -> None:
        for temp in temps:
            with suppress(OSError):
                os.unlink(temp)
        for folder in reversed(new_folders):
            with suppress(OSError):
                folder.rmdir()
        with suppress(StorageError), self.store.transaction() as database:
            database.execute("UPDATE journal SET state = 'aborted' WHERE id = ?", (entry,))

    def _make_folder(self, entry: int, folder: Path, new_folders: list[Path]) -> None:
        """Create a folder and its parents; add those that are new to `new_folders`, and to the
        store, for undo.
        """
        missing = [p for p in (folder, *folder.parents) if not p.exists()][::-1]
        for path in missing:
            with self.store.transaction() as database:
                database.execute(
                    "INSERT INTO dirs SELECT ?, COUNT(*), ? FROM dirs WHERE entry = ?",
                    (entry, self.store.key(path), entry),
                )
            path.mkdir(exist_ok=True)
            new_folders.append(path)

    def _place(
        self, entry: int, operations: Sequence[JournalOperation], reporter: Reporter
    ) -> list[str]:
        """Give every temporary file its final name; return the texts that a person edited since."""
        replaced_texts = sum(op.before is not None for op in operations)
        old_files = folder_for(self.root, entry) if replaced_texts >= _SYNC_ALL_FROM else None
        edited = []
        # Moves first: a new file may take the name of a moved one.
        for n, op in enumerate(sorted(operations, key=lambda op: op.kind != "move")):
            if old_files is not None and op.before is not None:
                keep(op.dst, old_files, n)
            if not place(op):
                edited.append(display(os.fsdecode(self.store.key(op.dst))))
            reporter.advance()
        sync_folders(
            {op.dst.parent for op in operations}
            | {op.src.parent for op in operations if op.src is not None}
        )
        self._finish(entry, operations)
        if old_files is not None:
            delete_later([old_files])
        return edited

    def _finish(self, entry: int, operations: Sequence[JournalOperation]) -> None:
        stamps = [(finished_stamp(op), entry, n) for n, op in enumerate(operations) if not op.stamp]
        undoes = self.store.database.execute(
            "SELECT undoes FROM journal WHERE id = ?", (entry,)
        ).fetchone()[0]
        if undoes is not None:
            self._remove_empty_folders(undoes)
        with self.store.transaction() as database:
            database.executemany("UPDATE ops SET sign = ? WHERE entry = ? AND n = ?", stamps)
            database.execute("UPDATE journal SET state = 'done', phase = '' WHERE id = ?", (entry,))
            if undoes is not None:
                database.execute("UPDATE journal SET state = 'undone' WHERE id = ?", (undoes,))

    def _remove_empty_folders(self, entry: int) -> None:
        """Remove the folders that a command created, unless something is in them."""
        rows = self.store.database.execute(
            "SELECT path FROM dirs WHERE entry = ? ORDER BY n DESC", (entry,)
        )
        for (key,) in rows.fetchall():
            with suppress(OSError):
                self.store.path(key).rmdir()

    # ---- outputs of stages

    @contextmanager
    def recording(self, verb: str, title: str) -> Iterator[OpenEntry]:
        """Open an entry for a stage that makes files one by one; each can be undone once it is
        made.
        """
        recording = OpenEntry(self, verb, title)
        try:
            yield recording
        finally:
            recording.close()

    # ---- after a crash

    def has_open_plan(self) -> bool:
        """Tell whether a plan is half done, by a killed command or by one that runs now."""
        return (
            self.store.database.execute("SELECT 1 FROM journal WHERE state = 'open'").fetchone()
            is not None
        )

    def recover(self) -> list[RecoveredEntry]:
        """Complete what interrupted commands left open, oldest first."""
        rows = self.store.database.execute(
            "SELECT id, verb, phase, state, undoes FROM journal WHERE state IN ('open', "
            "'running') ORDER BY id"
        ).fetchall()
        recovered = []
        for entry, verb, phase, state, undoes in rows:
            if phase == "prepare" or state == "running":
                for folder in {op.dst.parent for op in self.operations(entry)}:
                    sweep(folder)
            if state == "running":  # a stage: what it made was made
                with self.store.transaction() as database:
                    database.execute(
                        "UPDATE journal SET state = 'done', phase = '' WHERE id = ?", (entry,)
                    )
            else:
                recovered.append(self._complete(entry, verb, phase, undoes))
        self._sweep_stages()
        delete_later(leftover_folders(self.root))
        return recovered

    def _sweep_stages(self) -> None:
        """Remove the temporary files of a killed stage: it was making outputs that are pending, in
        folders that are its own or were there before.
        """
        rows = self.store.database.execute("SELECT path FROM made WHERE size = -1").fetchall()
        folders = {self.store.path(key).parent for (key,) in rows}
        folders.update((self.root / PROJECT / "stage").glob("*"))
        for folder in folders:
            # Resolved: what a store says that came with a folder leads nowhere else.
            if folder.resolve().is_relative_to(self.root):
                sweep(folder)

    def _complete(self, entry: int, verb: str, phase: str, undoes: int | None) -> RecoveredEntry:
        """Run an interrupted plan to its end; drop it if that fails before it changed anything."""
        if phase == "prepare":
            self._renew_temps(entry)
        try:
            edited = self._run(entry, self.operations(entry), phase=phase)
        except StorageError as error:
            if self._state(entry) != "aborted":
                raise
            return RecoveredEntry(
                f"dropped the interrupted `dsk {verb}` (history {entry}), which had changed "
                f"nothing: {error}",
                None,
            )
        kept = f"; kept what was edited since: {', '.join(edited)}" if edited else ""
        return RecoveredEntry(
            f"completed the interrupted `dsk {verb}` (history {entry}){kept}", undoes
        )

    def _renew_temps(self, entry: int) -> None:
        """Give a plan that was not fully prepared new temporary names: files under the old ones may
        be half written.
        """
        rows = [
            (self.store.key(op.temp), entry, n)
            for n, op in enumerate(map(with_temp, self.operations(entry)))
            if op.temp
        ]
        with self.store.transaction() as database:
            database.executemany("UPDATE ops SET temp = ? WHERE entry = ? AND n = ?", rows)

    # ---- history and undo

    def history(self) -> list[JournalEntry]:
        """Return every command that changed something, newest first."""
        rows = self.store.database.execute(
            "SELECT id, verb, title, started, state, (SELECT COUNT(*) FROM ops WHERE entry = id) "
            "FROM journal WHERE state != 'aborted' ORDER BY id DESC"
        )
        return [JournalEntry(*row) for row in rows]

    def newest(self) -> JournalEntry | None:
        """Return the command that `undo` would take back, or None."""
        row = self.store.database.execute(
            "SELECT id, verb, title, started, state, (SELECT COUNT(*) FROM ops WHERE entry = id) "
            "FROM journal WHERE state = 'done' AND verb != 'undo' ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return JournalEntry(*row) if row else None

    def operations(self, entry: int) -> list[JournalOperation]:
        """Return the operations of a command, in order."""
        rows = self.store.database.execute(
            "SELECT kind, src, dst, before, after, sign, temp FROM ops WHERE entry = ? ORDER BY n",
            (entry,),
        )

        def path(key: bytes | None) -> Path | None:
            return None if key is None else self.store.path(key)

        return [
            JournalOperation(kind, path(src), self.store.path(dst), before, after, sign, path(temp))
            for kind, src, dst, before, after, sign, temp in rows
        ]

    def wrote(self, path: Path) -> bool:
        """Tell whether a command of this project wrote the file at a path.

        The store may have come with the folder. Outside of the project its word is not enough: the
        file must hold what the entry says was written.
        """
        rows = self.store.database.execute(
            "SELECT after FROM ops JOIN journal ON journal.id = ops.entry WHERE dst = ? "
            "AND kind = 'write' AND undoes IS NULL AND state IN ('open', 'done')",
            (self.store.key(path),),
        ).fetchall()
        if path.resolve().is_relative_to(self.root.resolve()):
            return bool(rows)
        return bool(rows) and path.read_bytes() in [after for (after,) in rows]

    def next_id(self) -> int:
        """Return the least number that the next command of the history can have."""
        row = self.store.database.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM journal").fetchone()
        return int(row[0])

    def undo(
        self, entry: int | None = None, *, partial: bool = False, dry_run: bool = False
    ) -> UndoResult:
        """Take back the newest command, or every command down to and including `entry`, newest
        first.

        An operation whose file no longer holds what dsk wrote is refused: PlanConflict names them
        all and nothing changes. With `partial` those files are left alone, and the rest is taken
        back.
        """
        entries = self._undoable(entry)
        refused: list[str] = []
        planned = PlannedState()
        first: list[JournalOperation] | None = None
        for target in entries:
            operations, problems = self._inverse(target, planned)
            first = operations if first is None else first
            if problems and not partial and not dry_run:
                raise _cannot_undo(target, problems)
            refused.extend(problems)
            planned.add(operations)
        for target in entries if not dry_run else ():
            # The inverse of the first entry still holds. The others are computed again, from what
            # the undo before them really left on disk.
            operations, first = (first or self._inverse(target, PlannedState())[0]), None
            operations = [with_temp(op) for op in operations]
            title = f"undo {target.verb} {target.title}".strip()
            self._run(self._begin("undo", title, operations, undoes=target.id), operations)
        return UndoResult(tuple(entries), tuple(refused))

    def _undoable(self, entry: int | None) -> list[JournalEntry]:
        """Return the commands that an undo takes back, newest first."""
        if entry is None:
            newest = self.newest()  # not the whole history, which may be thousands of edits
            return [newest] if newest else []
        commands = [e for e in self.history() if e.state in ("done", "undone") and e.verb != "undo"]
        if all(command.id != entry for command in commands):
            raise PlanConflict(
                f"history has no command {entry} that can be undone", hint="dsk history lists them"
            )
        return [e for e in commands if e.state == "done" and e.id >= entry]

    def _inverse(
        self, target: JournalEntry, planned: PlannedState
    ) -> tuple[list[JournalOperation], list[str]]:
        return inverse(
            self.operations(target.id),
            planned,
            trash=self.root / PROJECT / "trash" / str(target.id),
            root=self.root,
            with_companions=target.verb == "rename",
        )

    # ---- rows of the store

    def _row(self, entry: int, n: int, op: JournalOperation) -> tuple[object, ...]:
        """Return an operation's row of `ops`. A written file's stamp follows from its bytes; those
        of others are added by `_finish`.
        """
        key = self.store.key
        src = None if op.src is None else key(op.src)
        temp = None if op.temp is None else key(op.temp)
        stamp = finished_stamp(op) if op.kind == "write" else op.stamp
        return entry, n, op.kind, src, key(op.dst), op.before, op.after, stamp, temp

    def _set_phase(self, entry: int, phase: str) -> None:
        with self.store.transaction() as database:
            database.execute("UPDATE journal SET phase = ? WHERE id = ?", (phase, entry))

    def _state(self, entry: int) -> str:
        row = self.store.database.execute(
            "SELECT state FROM journal WHERE id = ?", (entry,)
        ).fetchone()
        return str(row[0])


def _cannot_undo(target: JournalEntry, problems: Sequence[str]) -> PlanConflict:
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return PlanConflict(
        f"`dsk {target.verb}` (history {target.id}) cannot be undone as a whole: "
        f"{'; '.join(problems[:5])}{more}",
        hint="dsk undo --partial leaves these files as they are and takes back the rest",
    )


class OpenEntry:
    """The open journal entry of a stage: it begins with the first file made, and
    Journal.recording closes it.
    """

    def __init__(self, journal: Journal, verb: str, title: str) -> None:
        self._journal, self._verb, self._title = journal, verb, title
        self.entry: int | None = None  # the number in the history, once something was made
        self._count = 0

    def make_folder(self, path: Path) -> None:
        """Create a folder for outputs; undo removes it again if it is empty. Raises
        StorageError.
        """
        if not path.is_dir():
            with writing(path), self._journal.store.transaction():
                entry = self._open()
            with writing(path):
                self._journal._make_folder(entry, path, [])

    def record(self, output: Output) -> None:
        """Record an output that was made."""
        store = self._journal.store
        op = JournalOperation("made", None, output.path)
        with store.transaction() as database:
            entry = self._open()
            row = self._journal._row(entry, self._count, replace(op, stamp=finished_stamp(op)))
            database.execute("INSERT INTO ops VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            database.execute(
                "INSERT OR REPLACE INTO made VALUES (?, ?, ?, ?, ?, ?)", store.output_row(output)
            )
        self._count += 1

    def close(self) -> None:
        """Mark the entry as done, also after an error: what was made was made."""
        if self.entry is not None:
            with self._journal.store.transaction() as database:
                database.execute("UPDATE journal SET state = 'done' WHERE id = ?", (self.entry,))

    def _open(self) -> int:
        """Return the number of the entry, and insert it first if it is not there."""
        if self.entry is None:
            cursor = self._journal.store.database.execute(
                "INSERT INTO journal (verb, title, started, state, phase) VALUES (?, ?, ?, "
                "'running', '')",
                (self._verb, self._title, time.time()),
            )
            self.entry = int(cursor.lastrowid or 0)
        return self.entry
