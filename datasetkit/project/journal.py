"""The journal: the one place that applies plans, completes what a crash interrupted, and undoes.

A plan goes through three phases, and the store records durably when each one begins:

  prepare   New bytes and links are made under temporary names beside their targets. A person sees
            no change.
  move      Files that are in each other's way (swaps, chains, case-only renames) take temporary
            names, other renamed files their new ones. A name that becomes free here is taken in the
            next phase only.
  place     Every temporary file takes its final name.

Each phase begins when the files, folders and names that it relies on are on the disk: after a power
cut the store is never ahead of them.

After a crash, the open plan is rolled forward by the next changing command, from the phase that it
had reached. What a file held before is in the journal, the new bytes are in the journal or on disk,
so nothing depends on the killed process.

The journal may come from somebody else. Only an entry that this user signed in this folder
(project/signature.py) is rolled forward without asking, and only such an entry may touch files
outside of the project. Signatures are computed from what is in memory, never from what the store
returns.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from datasetkit.core.disk_sync import can_sync_disks, sync_disks, sync_folder, sync_folders
from datasetkit.core.errors import InputError, PlanConflict, StorageError, UnsignedEntry
from datasetkit.core.files import (
    PROJECT,
    display,
    refuse_links,
    storage_error,
    sweep,
    writing,
)
from datasetkit.core.packed import PackedList
from datasetkit.core.path_list import PathSet, folders_of
from datasetkit.core.progress import SILENT, Reporter, counted_off
from datasetkit.project.deferred_delete import delete_later, folder_for, keep, leftover_folders
from datasetkit.project.file_ops import (
    KINDS,
    JournalOperation,
    check,
    file_stamp,
    finished_stamp,
    make_temp,
    move,
    move_again,
    place,
    with_temp,
)
from datasetkit.project.plans import Plan
from datasetkit.project.signature import OperationsDigest, Signer
from datasetkit.project.store import Output, Store, is_inside, stored_path
from datasetkit.project.undo import PlannedState, inverse

# One sync of the whole disk is faster than one for each file if there are many (see
# docs/performance.md).
_SYNC_ALL_FROM = 16
# Rows that are read at once.
_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One command in the history. state: open | running | done | undone | aborted | forgotten."""

    id: int
    verb: str
    title: str
    started: float
    state: str
    operations: int


@dataclass(frozen=True, slots=True)
class UndoResult:
    """What an undo did: the commands that it undid, and why it left some operations alone."""

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

    def __init__(self, store: Store, reporter: Reporter = SILENT) -> None:
        self.store = store
        self.root = store.root
        self._signer = Signer(store.root)
        self._reporter = reporter
        self._warned = False
        # Files that were saved while a plan was being written over them: they are kept.
        self.edited: list[Path] = []

    @property
    def _quoted_root(self) -> str:
        return shlex.quote(display(self.root))

    # ---- applying

    def apply(
        self,
        plan: Plan,
        verb: str,
        title: str = "",
        *,
        generated: Iterable[str] = (),
        outputs: Sequence[Output] = (),
        triggers: Mapping[Path, Sequence[str]] | None = None,
        reporter: Reporter = SILENT,
    ) -> int | None:
        """Check a plan, write it to the journal, and do it; return its number in the history, or
        None if there was nothing to do.

        generated: hashes of the captions in it that dsk itself made (see Store.generated).
        outputs: files in it that are dsk's own from then on, even if a later command completes the
        plan. triggers: of folders, stored until the command is undone. Raises PlanConflict before
        anything changed; StorageError with nothing changed, or with the rest of the plan left for
        the next command to complete.
        """
        # The order makes a kill harmless at any point:
        # 1. `check` refuses the plan as a whole, before anything is written.
        # 2. `_begin` commits all operations, with the old and new texts, and what dsk calls its
        #    own. A kill before this has changed nothing.
        # 3. `_run` does them in phases. After a kill from here on the plan is rolled forward, never
        #    back: some files have their new names already, and a reader may have used them.
        operations = check(plan)
        if not operations:
            self.store.put_triggers(triggers or {})
            return None
        entry = self._begin(
            verb, title, operations, generated=generated, outputs=outputs, triggers=triggers
        )
        self.edited += self._run(entry, operations, reporter)
        return entry

    def join(self, earlier: int, later: int, title: str) -> None:
        """Make one command of two that wrote one file, the second over the bytes of the first: an
        undo goes back to what the file was before both. title: of the command that remains.
        """
        (first,), (second,) = self.operations(earlier), self.operations(later)
        verb, stamp = self._entry_verb(later), second.stamp
        digest = OperationsDigest()
        digest.added(self._row(later, 0, replace(second, before=first.before), stamp))
        with self.store.transaction() as database:
            database.execute("UPDATE ops SET before = ? WHERE entry = ?", (first.before, later))
            database.execute("UPDATE journal SET title = ? WHERE id = ?", (title, later))
            self._sign(later, verb, "done", None, digest)
            database.execute("DELETE FROM ops WHERE entry = ?", (earlier,))
            database.execute("DELETE FROM journal WHERE id = ?", (earlier,))

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
        generated: Iterable[str] = (),
        outputs: Sequence[Output] = (),
        triggers: Mapping[Path, Sequence[str]] | None = None,
    ) -> int:
        with self.store.transaction() as database:
            cursor = database.execute(
                "INSERT INTO journal (verb, title, started, state, phase, undoes) "
                "VALUES (?, ?, ?, 'open', 'prepare', ?)",
                (verb, title, time.time(), undoes),
            )
            entry = int(cursor.lastrowid or 0)
            digest = OperationsDigest()
            rows = (digest.added(self._row(entry, n, op)) for n, op in enumerate(operations))
            # An iterator: a list of a million rows would take a gigabyte, and Ctrl-C would wait.
            database.executemany("INSERT INTO ops VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._sign(entry, verb, "open", undoes, digest)
            database.executemany(
                "INSERT OR IGNORE INTO generated VALUES (?)", ((h,) for h in generated)
            )
            self.store.insert_pending(outputs)
            self.store.insert_triggers(triggers or {}, entry)
        return entry

    def _run(
        self,
        entry: int,
        operations: Sequence[JournalOperation],
        reporter: Reporter = SILENT,
        *,
        phase: str = "prepare",
    ) -> list[Path]:
        """Run an open plan to its end from a phase; return the files the user has edited in the
        meantime, which are kept.
        """
        moves = PackedList(op for op in operations if op.kind == "move")
        others = PackedList(op for op in operations if op.kind != "move") if moves else operations
        folders, replaced_texts = _targets(others)
        if phase == "prepare":
            self._prepare(entry, moves, others, folders, reporter)
            self._set_phase(entry, phase := "move")
        if phase == "move":
            for op in moves:
                move(op)
            _sync_names(moves)
            self._set_phase(entry, "place")
        old_files = folder_for(self.root, entry) if replaced_texts >= _SYNC_ALL_FROM else None
        edited = self._place(old_files, moves, others, reporter)
        _sync_names(moves, folders)
        self._finish(entry, operations)
        delete_later([] if old_files is None else [old_files])
        return edited

    def _prepare(
        self,
        entry: int,
        moves: Sequence[JournalOperation],
        others: Sequence[JournalOperation],
        folders: Sequence[Path],
        reporter: Reporter,
    ) -> None:
        """Make folders and temporary files. If that fails, remove them: the plan never happened.

        folders: those of the targets of `others`.
        """
        new_folders: list[Path] = []
        try:
            moved_to = folders_of(op.dst for op in moves)
            self._make_folders(entry, {*folders, *moved_to}, new_folders)
            sync_each = len(others) < _SYNC_ALL_FROM or not can_sync_disks()
            for op in counted_off(others, "preparing", reporter):
                make_temp(op, sync=sync_each)
            (sync_folders if sync_each else sync_disks)(folders)
        except BaseException as error:
            self._abort(entry, others, new_folders, reporter)
            if isinstance(error, OSError):
                raise storage_error(Path(error.filename or self.root), error) from error
            raise

    def _abort(
        self,
        entry: int,
        operations: Sequence[JournalOperation],
        new_folders: Sequence[Path],
        reporter: Reporter,
    ) -> None:
        for op in counted_off(operations, "taking back", reporter):
            if op.temp is not None:
                with suppress(OSError):
                    os.unlink(op.temp)
        for folder in reversed(new_folders):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            temps = (op.temp for op in operations if op.temp is not None)
            sync_folders(folders_of(chain(temps, new_folders)))
        with suppress(StorageError), self.store.transaction() as database:
            database.execute(
                "UPDATE journal SET state = 'aborted', signature = NULL WHERE id = ?", (entry,)
            )

    def _make_folders(self, entry: int, folders: Iterable[Path], new_folders: list[Path]) -> None:
        """Create folders and their parents; add those that are new to `new_folders`, and to the
        store, for undo.
        """
        missing: dict[Path, None] = {}
        for folder in sorted(folders):
            if folder.is_relative_to(self.root / PROJECT):
                refuse_links(folder, self.root)
            above = [p for p in (folder, *folder.parents) if p not in missing and not p.exists()]
            missing |= dict.fromkeys(reversed(above))
        if not missing:
            return
        with self.store.transaction() as database:
            stored = dict(
                database.execute("SELECT path, n FROM dirs WHERE entry = ?", (entry,)).fetchall()
            )
            keys = [key for path in missing if (key := self.store.key(path)) not in stored]
            database.executemany(
                "INSERT INTO dirs VALUES (?, ?, ?)",
                [(entry, n, key) for n, key in enumerate(keys, len(stored))],
            )
        for path in missing:
            path.mkdir(exist_ok=True)
            new_folders.append(path)
        sync_folders(path.parent for path in missing)

    def _place(
        self,
        old_files: Path | None,
        moves: Sequence[JournalOperation],
        others: Sequence[JournalOperation],
        reporter: Reporter,
    ) -> list[Path]:
        """Give every temporary file its final name; return the files the user has edited in the
        meantime, which are kept. old_files: the folder of replaced files, see `keep`.
        """
        edited = []
        # Moves first: a new file may take the name of a moved one.
        number = len(moves) + len(others)
        ordered = counted_off(chain(moves, others), "writing", reporter, number=number)
        for n, op in enumerate(ordered):
            if old_files is not None and op.before is not None:
                keep(op.dst, old_files, n)
            if not place(op):
                edited.append(op.dst)
        return edited

    def _finish(self, entry: int, operations: Sequence[JournalOperation]) -> None:
        verb, undoes = self.store.database.execute(
            "SELECT verb, undoes FROM journal WHERE id = ?", (entry,)
        ).fetchone()
        if undoes is not None:
            self._remove_empty_folders(undoes)
        digest = OperationsDigest()
        # Our own rows have them since they were inserted; those of somebody else, which a person
        # has let run, may not.
        unstamped = self.store.database.execute(
            "SELECT 1 FROM ops WHERE entry = ? AND kind = 'write' AND stamp = '' LIMIT 1", (entry,)
        ).fetchone()

        def stamps() -> Iterator[tuple[str, int, int]]:
            for n, op in enumerate(operations):
                stamp = op.stamp or finished_stamp(op)
                digest.add(self._row(entry, n, op, stamp))
                if (op.kind != "write" or unstamped) and stamp != op.stamp:
                    yield stamp, entry, n

        with self.store.transaction() as database:
            database.executemany("UPDATE ops SET stamp = ? WHERE entry = ? AND n = ?", stamps())
            database.execute("UPDATE journal SET state = 'done', phase = '' WHERE id = ?", (entry,))
            self._sign(entry, verb, "done", undoes, digest)
            if undoes is not None:
                database.execute(
                    "UPDATE journal SET state = 'undone', signature = NULL WHERE id = ?", (undoes,)
                )

    def _remove_empty_folders(self, entry: int) -> None:
        """Remove the folders that a command created, unless something is in them.

        The store's list of folders is not signed: outside of the project only those count that
        a signed operation needed.
        """
        rows = self.store.database.execute(
            "SELECT path FROM dirs WHERE entry = ? ORDER BY n DESC", (entry,)
        ).fetchall()
        needed: set[Path] = set()
        if rows and self.is_signed(entry):
            parents = folders_of(op.dst for op in self.operations(entry))
            needed = {path for parent in parents for path in (parent, *parent.parents)}
        for (key,) in rows:
            with suppress(OSError, InputError):
                folder = self.store.path(key, signed=True)
                if folder in needed or self.stays_inside((key,)):
                    folder.rmdir()
                    sync_folder(folder.parent)

    # ---- signatures

    def is_signed(self, entry: int) -> bool:
        """Tell whether this user made an entry of the journal, on this machine, in this folder."""
        row = self.store.database.execute(
            "SELECT verb, state, undoes, signature FROM journal WHERE id = ?", (entry,)
        ).fetchone()
        if row is None:
            return False
        verb, state, undoes, signature = row
        signed_as = "open" if state == "open" else "done"
        digest = OperationsDigest(self._rows(entry))
        return self._signer.verify(signature, (entry, verb, signed_as, undoes), digest.hexdigest())

    def stays_inside(self, keys: Iterable[object]) -> bool:
        """Tell whether stored paths lie in the project, also once the links on their way are
        followed. None counts: nothing is there.
        """
        return all(key is None or lies_inside(stored_path(key), self.root) for key in keys)

    def _sign(
        self, entry: int, verb: str, state: str, undoes: int | None, digest: OperationsDigest
    ) -> None:
        """Sign an entry, within a transaction that is open."""
        signature = self._signer.sign((entry, verb, state, undoes), digest.hexdigest())
        if signature is None and not self._warned:
            self._warned = True
            self._reporter.warn(
                f"the history entry is not signed, because {self._signer.problem}: if the command "
                "is interrupted, dsk history --recover must complete it, and dsk undo does not "
                "touch files outside of the project"
            )
        self.store.database.execute(
            "UPDATE journal SET signature = ? WHERE id = ?", (signature, entry)
        )

    def _rows(self, entry: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of an entry. They hold texts: a million of them take a gigabyte."""
        rows = self.store.database.execute("SELECT * FROM ops WHERE entry = ? ORDER BY n", (entry,))
        for chunk in iter(lambda: rows.fetchmany(_ROWS), []):
            yield from chunk

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

    def open_entries(self) -> list[JournalEntry]:
        """Return the commands whose plan is half done, oldest first."""
        return [entry for entry in reversed(self.history()) if entry.state == "open"]

    def recover(self, approved: Iterable[int] = ()) -> list[RecoveredEntry]:
        """Complete what interrupted commands left open, oldest first.

        approved: entries without a valid signature that a person wants to be completed. Raises
        UnsignedEntry for others, with nothing changed, and for one that leads out of the project.
        """
        rows = self.store.database.execute(
            "SELECT id, verb, phase, state, undoes FROM journal WHERE state IN ('open', "
            "'running') ORDER BY id"
        ).fetchall()
        signed = {entry: self.is_signed(entry) for entry, *_ in rows}
        approved = set(approved)
        for entry, verb, _, state, _ in rows:
            if state == "open" and not signed[entry]:
                self._require_approval(entry, verb, entry in approved)
        recovered = []
        for entry, verb, phase, state, undoes in rows:
            if phase == "prepare" or state == "running":
                for folder in self._target_folders(entry, signed=signed[entry]):
                    sweep(folder)
            if state == "running":  # a stage: files already produced are kept
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
        rows = self.store.database.execute("SELECT path FROM outputs WHERE size = -1").fetchall()
        folders = {self.store.path(key).parent for (key,) in rows if is_inside(key)}
        folders.update((self.root / PROJECT / "stage").glob("*"))
        for folder in folders:
            # Resolved: what a store says that came with a folder leads nowhere else.
            if folder.resolve().is_relative_to(self.root):
                sweep(folder)

    def _require_approval(self, entry: int, verb: str, approved: bool) -> None:
        name = f"`dsk {display(str(verb))}` (history {entry})"
        outside = self.outside(entry)
        if approved and outside:
            raise UnsignedEntry(
                f"{name} is not signed, and it would touch files outside of the project: "
                f"{', '.join(outside[:5])}",
                hint=f"dsk history --forget {self._quoted_root} drops it from the history",
            )
        if not approved:
            raise UnsignedEntry(
                f"{display(self.root)} has an interrupted {name} that was not signed here: the "
                "folder was moved or copied, or comes from somebody else",
                hint=f"dsk history --recover {self._quoted_root} shows what it would do, and asks; "
                f"dsk history --forget {self._quoted_root} drops it",
            )

    def forget(self, entries: Iterable[int]) -> list[Path]:
        """Drop interrupted commands from the history; return the files that they left under
        temporary names.
        """
        leftovers: list[Path] = []
        for entry in entries:
            for folder in self._target_folders(entry, signed=self.is_signed(entry)):
                sweep(folder)
            leftovers += [
                path
                for *_, key in self._rows(entry)
                if self.stays_inside((key,))
                and (path := stored_path(key)) is not None
                and os.path.lexists(self.root / path)
            ]
            with self.store.transaction() as database:
                database.execute(
                    "UPDATE journal SET state = 'forgotten', signature = NULL WHERE id = ?",
                    (entry,),
                )
        return leftovers

    def outside(self, entry: int) -> list[str]:
        """Return the paths of an entry that lie outside of the project, for people."""
        keys = dict.fromkeys(
            key for _, _, _, src, dst, *_, temp in self._rows(entry) for key in (src, dst, temp)
        )
        return [_shown(key) for key in keys if not self.stays_inside((key,))]

    def describe(self, entry: int) -> list[str]:
        """Return what each operation of an entry does, for people."""
        return [
            f"{display(str(kind)):6} " + " -> ".join(_shown(k) for k in (src, dst) if k is not None)
            for _, _, kind, src, dst, *_ in self._rows(entry)
        ]

    def _target_folders(self, entry: int, *, signed: bool) -> set[Path]:
        """Return the folders that an entry writes to; of one that is not signed those inside the
        project.
        """
        keys = [row[4] for row in self._rows(entry)]
        return {
            self.store.path(key, signed=signed).parent
            for key in keys
            if isinstance(key, bytes) and (signed or self.stays_inside((key,)))
        }

    def _complete(self, entry: int, verb: str, phase: str, undoes: int | None) -> RecoveredEntry:
        """Run an interrupted plan to its end; drop it if that fails before it changed anything."""
        operations: Sequence[JournalOperation] = self.operations(entry)
        if phase == "prepare":
            operations = self._renew_temps(entry, verb, undoes, operations)
        else:
            self._restore_names(entry, operations, phase)
        try:
            edited = self._run(entry, operations, phase=phase)
        except StorageError as error:
            if self._state(entry) != "aborted":
                raise
            return RecoveredEntry(
                f"dropped the interrupted `dsk {verb}` (history {entry}), which had changed "
                f"nothing: {error}",
                None,
            )
        names = ", ".join(display(os.fsdecode(self.store.key(path))) for path in edited)
        kept = f"; kept files that have changed since then: {names}" if edited else ""
        return RecoveredEntry(
            f"completed the interrupted `dsk {verb}` (history {entry}){kept}", undoes
        )

    def _restore_names(
        self, entry: int, operations: Sequence[JournalOperation], phase: str
    ) -> None:
        """Make folders and moves again that a power cut has undone: not every file system can sync
        a folder.
        """
        with writing(self.root):
            self._make_folders(entry, folders_of(op.dst for op in operations), [])
        if phase == "place":
            targets = PathSet(op.dst for op in operations)
            # The name of a moved file may be the new name of another one: that one is not moved.
            moves = PackedList(
                op for op in operations if op.kind == "move" and op.src not in targets
            )
            for op in moves:
                move_again(op)
            _sync_names(moves)

    def _renew_temps(
        self, entry: int, verb: str, undoes: int | None, operations: Sequence[JournalOperation]
    ) -> Sequence[JournalOperation]:
        """Give a plan that was not fully prepared new temporary names: files under the old ones may
        be half written.
        """
        renewed = PackedList(map(with_temp, operations))
        temps = ((self.store.key(op.temp), entry, n) for n, op in enumerate(renewed) if op.temp)
        digest = OperationsDigest(self._row(entry, n, op) for n, op in enumerate(renewed))
        with self.store.transaction() as database:
            database.executemany("UPDATE ops SET temp = ? WHERE entry = ? AND n = ?", temps)
            self._sign(entry, verb, "open", undoes, digest)
        return renewed

    # ---- history and undo

    def history(self) -> list[JournalEntry]:
        """Return every command that changed something, newest first."""
        rows = self.store.database.execute(
            "SELECT id, verb, title, started, state, (SELECT COUNT(*) FROM ops WHERE entry = id) "
            "FROM journal WHERE state != 'aborted' ORDER BY id DESC"
        )
        return [_entry(*row) for row in rows]

    def newest(self) -> JournalEntry | None:
        """Return the newest command that can be undone, or None."""
        row = self.store.database.execute(
            "SELECT id, verb, title, started, state, (SELECT COUNT(*) FROM ops WHERE entry = id) "
            "FROM journal WHERE state = 'done' AND verb != 'undo' ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return _entry(*row) if row else None

    def operations(self, entry: int) -> Sequence[JournalOperation]:
        """Return the operations of a command, in order. Before they are used: `recover` and `undo`
        refuse those of an unsigned entry that lead out of the project.
        """
        return PackedList(self._operation(*row) for row in self._rows(entry))

    def _operation(
        self, _entry: int, _n: int, kind: Any, src: Any, dst: Any, before: Any, after: Any,
        stamp: Any, temp: Any,
    ) -> JournalOperation:  # fmt: skip
        def path(key: Any) -> Path | None:
            return None if key is None else self.store.path(key, signed=True)

        texts = (before, after)
        if kind not in KINDS or not all(t is None or isinstance(t, bytes) for t in texts):
            raise InputError(
                f"{display(self.root / PROJECT)} has an operation that dsk does not write",
                hint="the folder may come from somebody else: dsk history --forget drops it",
            )
        target = self.store.path(dst, signed=True)
        return JournalOperation(kind, path(src), target, before, after, str(stamp), path(temp))

    def wrote(self, path: Path) -> bool:
        """Tell whether a command of this project wrote the file at a path.

        The store may have come with the folder. Outside of the project only a signed entry counts,
        and the file must hold what it says was written.
        """
        rows = self.store.database.execute(
            "SELECT entry, after FROM ops JOIN journal ON journal.id = ops.entry WHERE dst = ? "
            "AND kind = 'write' AND undoes IS NULL AND state IN ('open', 'done')",
            (self.store.key(path),),
        ).fetchall()
        if path.resolve().is_relative_to(self.root.resolve()):
            return bool(rows)
        now = path.read_bytes() if rows else None
        return any(after == now and self.is_signed(entry) for entry, after in rows)

    def placed(self, path: Path) -> bool:
        """Tell whether a command of this project put the file at a path, as a copy or a link of
        another, and nobody changed it since.
        """
        stamp = file_stamp(JournalOperation("link", None, path), path)
        rows = self.store.database.execute(
            "SELECT entry FROM ops JOIN journal ON journal.id = ops.entry WHERE dst = ? "
            "AND kind IN ('link', 'copy') AND ops.stamp = ? AND undoes IS NULL AND state = 'done'",
            (self.store.key(path), stamp),
        ).fetchall()
        inside = path.resolve().is_relative_to(self.root.resolve())
        return any(inside or self.is_signed(entry) for (entry,) in rows)

    def written_below(self, folder: Path, verbs: Collection[str]) -> dict[bytes, bytes]:
        """Return what these verbs wrote last to each file below a folder, by the key of the file.

        The text of a file follows it where a command renamed a subfolder.
        """
        prefix = self.store.key(folder) + b"/"
        rows = self.store.database.execute(
            "SELECT kind, src, dst, verb, after FROM ops JOIN journal ON journal.id = ops.entry "
            "WHERE undoes IS NULL AND state IN ('open', 'done') AND kind IN ('move', 'write') "
            "AND substr(CASE kind WHEN 'move' THEN src ELSE dst END, 1, ?) = ? ORDER BY entry, n",
            (len(prefix), prefix),
        )
        written: dict[bytes, bytes] = {}
        for kind, src, dst, verb, after in rows:
            if kind == "write" and verb in verbs and isinstance(after, bytes):
                written[dst] = after
            elif kind == "move" and b"/" not in src[len(prefix) :]:
                inside = [key for key in written if key.startswith(src + b"/")]
                written |= {dst + key[len(src) :]: written.pop(key) for key in inside}
            elif kind == "move":
                written.pop(src, None)
        return written

    def next_id(self) -> int:
        """Return the id of the next history entry."""
        row = self.store.database.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM journal").fetchone()
        return int(row[0])

    def undo(
        self,
        entry: int | None = None,
        *,
        partial: bool = False,
        dry_run: bool = False,
        reporter: Reporter = SILENT,
    ) -> UndoResult:
        """Undo the newest command, or every command down to and including `entry`, newest
        first.

        An operation whose file no longer holds what dsk wrote is refused: PlanConflict names them
        all and nothing changes. With `partial` those files are left alone, and the rest is undone.
        """
        entries = self._undoable(entry)
        refused: list[str] = []
        planned = PlannedState()
        first: PackedList[JournalOperation] | None = None
        for target in entries:
            operations, problems = self._inverse(target, planned)
            first = operations if first is None else first
            if problems and not partial and not dry_run:
                raise _cannot_undo(target, problems, self._quoted_root)
            refused.extend(problems)
            if target is not entries[-1]:
                planned.add(operations)
        for target in entries if not dry_run else ():
            # The inverse of the first entry still holds. The others are computed again, from what
            # the undo before them really left on disk.
            operations, first = (first or self._inverse(target, PlannedState())[0]), None
            operations = PackedList(map(with_temp, operations))
            title = f"undo {target.verb} {target.title}".strip()
            undo = self._begin("undo", title, operations, undoes=target.id)
            self._run(undo, operations, reporter)
        return UndoResult(tuple(entries), tuple(refused))

    def _undoable(self, entry: int | None) -> list[JournalEntry]:
        """Return the commands that an undo covers, newest first."""
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
    ) -> tuple[PackedList[JournalOperation], list[str]]:
        done = self.operations(target.id)
        problems: list[str] = []
        if not self.is_signed(target.id):
            # Undo moves a link or a copy away, and leaves its source alone.
            touched = [(op.dst, op.src if op.kind == "move" else None) for op in done]
            inside = [all(p is None or lies_inside(p, self.root) for p in ps) for ps in touched]
            problems = [
                f"{display(op.dst)} is outside of the project, and the entry was not signed here"
                for op, is_inside in zip(done, inside, strict=True)
                if not is_inside
            ]
            done = PackedList(op for op, ok in zip(done, inside, strict=True) if ok)
        operations, others = inverse(
            done,
            planned,
            trash=self.root / PROJECT / "trash" / str(target.id),
            root=self.root,
            with_companions=target.verb == "rename",
        )
        return operations, [*problems, *others]

    # ---- rows of the store

    def _row(self, entry: int, n: int, op: JournalOperation, stamp: str = "") -> tuple[object, ...]:
        """Return an operation's row of `ops`. A written file's stamp follows from its bytes; those
        of others are added by `_finish`.
        """
        key = self.store.key
        src = None if op.src is None else key(op.src)
        temp = None if op.temp is None else key(op.temp)
        stamp = stamp or op.stamp or (finished_stamp(op) if op.kind == "write" else "")
        return entry, n, op.kind, src, key(op.dst), op.before, op.after, stamp, temp

    def _set_phase(self, entry: int, phase: str) -> None:
        with self.store.transaction() as database:
            database.execute("UPDATE journal SET phase = ? WHERE id = ?", (phase, entry))

    def _entry_verb(self, entry: int) -> str:
        row = self.store.database.execute(
            "SELECT verb FROM journal WHERE id = ?", (entry,)
        ).fetchone()
        return str(row[0])

    def _state(self, entry: int) -> str:
        row = self.store.database.execute(
            "SELECT state FROM journal WHERE id = ?", (entry,)
        ).fetchone()
        return str(row[0])


def _targets(operations: Iterable[JournalOperation]) -> tuple[list[Path], int]:
    """Return the folders that operations write to, and how many texts they replace, in one pass."""
    replaced = 0

    def targets() -> Iterator[Path]:
        nonlocal replaced
        for op in operations:
            replaced += op.before is not None
            yield op.dst

    return folders_of(targets()), replaced


def _sync_names(moves: Iterable[JournalOperation], folders: Iterable[Path] = ()) -> None:
    """Write the new names of files to the disk, and then that the old ones are gone. folders: those
    of other new files. Raises StorageError.
    """
    moved_to = folders_of(op.dst for op in moves)
    moved_from = folders_of(op.src for op in moves if op.src is not None)
    for folder in dict.fromkeys((*folders, *moved_to, *moved_from)):
        with writing(folder):
            sync_folder(folder)


def lies_inside(path: Path | None, root: Path) -> bool:
    """Tell whether a path, relative to the root or absolute, lies below it: as it is written, and
    once the links on its way are followed. The last part may be anything: renames do not follow it.
    """
    if path is None or ".." in path.parts:
        return False
    path = root / path
    try:
        # A link in the last part leads out when a file is copied from it.
        real = path.resolve() if path.is_symlink() else path.parent.resolve() / path.name
    except (OSError, RuntimeError):  # a ring of links
        return False
    return path != root and path.is_relative_to(root) and real.is_relative_to(root)


def _entry(
    number: int, verb: object, title: object, started: object, state: object, operations: int
) -> JournalEntry:
    """Return a row of the journal, safe to print also if somebody else wrote it."""
    time_ = float(started) if isinstance(started, int | float) and 0 <= started < 2**35 else 0.0
    texts = (display(str(verb)), display(str(title)))
    return JournalEntry(number, *texts, time_, display(str(state)), operations)


def _shown(key: object) -> str:
    return display(os.fsdecode(key) if isinstance(key, bytes) else repr(key))


def _cannot_undo(target: JournalEntry, problems: Sequence[str], root: str) -> PlanConflict:
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return PlanConflict(
        f"`dsk {target.verb}` (history {target.id}) cannot be undone as a whole: "
        f"{'; '.join(problems[:5])}{more}",
        hint=f"dsk undo --partial {root} leaves these files as they are and undoes the rest",
    )


class OpenEntry:
    """The open journal entry of a stage: it begins with the first file made, and
    Journal.recording closes it.
    """

    def __init__(self, journal: Journal, verb: str, title: str) -> None:
        self._journal, self._verb, self._title = journal, verb, title
        self.entry: int | None = None  # the number in the history, once something was made
        self._count = 0
        self._digest = OperationsDigest()

    def make_folder(self, path: Path) -> None:
        """Create a folder for outputs; undo removes it again if it is empty. Raises
        StorageError.
        """
        if path.is_relative_to(self._journal.root):
            refuse_links(path, self._journal.root)
        if not path.is_dir():
            with writing(path), self._journal.store.transaction():
                entry = self._open()
            with writing(path):
                self._journal._make_folders(entry, [path], [])

    def record(self, output: Output) -> None:
        """Record an output that was made."""
        store = self._journal.store
        op = JournalOperation("made", None, output.path)
        with store.transaction() as database:
            entry = self._open()
            row = self._journal._row(entry, self._count, replace(op, stamp=finished_stamp(op)))
            database.execute("INSERT INTO ops VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._digest.add(row)
            self._journal._sign(entry, self._verb, "done", None, self._digest)
            database.execute(
                "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, ?, ?)", store.output_row(output)
            )
        self._count += 1

    def close(self) -> None:
        """Mark the entry as done, even after an error: files already produced are kept."""
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
