"""A plan's operations as the journal keeps them: checked before the first one runs, and how each
one is done to a file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from datasetkit.core.disk_sync import sync_file, sync_folder
from datasetkit.core.errors import FileChanged, PlanConflict, StorageError
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    TEMP_PREFIX,
    TEMP_SUFFIX,
    display,
    file_sha256,
    keep_mode,
    patiently,
    temp_name,
    write_new,
    writing,
)
from datasetkit.core.packed import PackedList
from datasetkit.core.reflink import copy_file
from datasetkit.project.plans import Copy, FileOp, Link, Move, Plan, WriteBytes, WriteText

Kind = Literal["move", "copy", "link", "write", "made"]
KINDS: tuple[str, ...] = get_args(Kind)
_WRITES = (WriteText, WriteBytes)
_NO_COPY_EITHER = (errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_SHOWN = 5  # problems that an error names; it counts the others


@dataclass(frozen=True, slots=True)
class JournalOperation:
    """One operation as the journal keeps it.

    before, after: the bytes of a file that is written. stamp: of the finished `dst`, see
    `file_stamp`. temp: the name that the new file, or a moved one, has until the last phase.
    """

    kind: Kind
    src: Path | None
    dst: Path
    before: bytes | None = None
    after: bytes | None = None
    stamp: str = ""
    temp: Path | None = None


def check(plan: Plan) -> Sequence[JournalOperation]:
    """Turn a plan into journal operations with temporary names; what is done already is left out.

    Raises PlanConflict for a target that is taken, a source that is missing, or a link; FileChanged
    if nothing else is wrong, but a file is not the one that the plan was made for.
    """
    # Everything is checked before anything is written, so that a refused plan changes nothing.
    # - A target may be taken by a file that the same plan moves away: swaps and chains work.
    # - A case-only rename (`a.jpg` to `A.jpg`) meets itself if the file system ignores case.
    # - Two operations with one target: the second would overwrite the first.
    # - Nothing is written through a link or over a folder.
    # - FileChanged is raised last: what else is wrong is not put right by reading the texts again.
    checked = _CheckedPlan({op.src for op in plan.ops if isinstance(op, Move) and op.src != op.dst})
    # Of each target its hash: a path takes ten times as much memory.
    targets: set[int] = set()
    for op in plan.ops:
        checked.add(op)
        targets.add(hash(str(_target(op))))
    twice = [] if len(targets) == len(plan.ops) else _written_twice(plan)
    if conflicts := checked.conflicts + twice:
        raise PlanConflict(_listed(conflicts, "; "), hint="nothing was changed")
    if checked.changed:
        names = _listed([display(path) for path in checked.changed], ", ")
        raise FileChanged(f"changed meanwhile: {names}", checked.changed)
    return checked.operations


def _target(op: FileOp) -> Path:
    return op.path if isinstance(op, _WRITES) else op.dst


def _written_twice(plan: Plan) -> list[str]:
    targets = Counter(map(_target, plan.ops))
    return [f"{display(path)} would be written twice" for path, n in targets.items() if n > 1]


@dataclass(frozen=True, slots=True)
class _CheckedPlan:
    """The operations of a plan, and what is wrong with it.

    moved_away: the files that it moves. changed: the files that are no longer what it was made for.
    """

    moved_away: set[Path]
    operations: PackedList[JournalOperation] = field(default_factory=PackedList)
    conflicts: list[str] = field(default_factory=list)
    changed: list[Path] = field(default_factory=list)

    def add(self, op: FileOp) -> None:
        if isinstance(op, _WRITES):
            self._add_write(op)
        elif not os.path.lexists(op.src):
            self.conflicts.append(f"{display(op.src)} is gone")
        elif isinstance(op, Move):
            self._add_move(op)
        else:
            self._add_copy(op)

    def _add_write(self, op: WriteText | WriteBytes) -> None:
        regular = None if op.path in self.moved_away else _is_regular(op.path)
        if regular is False:
            self.conflicts.append(f"{display(op.path)} is not a regular file")
            return
        before = op.path.read_bytes() if regular else None
        if before == op.over:
            before = op.over  # one copy of the bytes: there may be a million
        after = op.data if isinstance(op, WriteBytes) else op.text.encode("utf-8", "surrogatepass")
        if before != after:
            if op.over != before and op.path not in self.moved_away:
                self.changed.append(op.path)
            self._append(JournalOperation("write", None, op.path, before, after))

    def _add_move(self, op: Move) -> None:
        if op.src == op.dst:
            return
        if op.over is not None and not _holds(op.src, op.over):
            self.changed.append(op.src)
        is_itself = self._is_occupied(op.dst) and _is_same_name(op.src, op.dst)
        if not is_itself:
            self._require_free(op.dst)
        is_in_the_way = is_itself or op.dst in self.moved_away
        self._append(
            JournalOperation("move", op.src, op.dst, temp=op.dst if is_in_the_way else None)
        )

    def _add_copy(self, op: Copy | Link) -> None:
        self._require_free(op.dst)
        kind: Kind = "copy" if isinstance(op, Copy) else "link"
        self._append(JournalOperation(kind, op.src, op.dst))

    def _append(self, op: JournalOperation) -> None:
        # With its temporary name at once: to pack and unpack a million once more takes 20 s.
        self.operations.append(with_temp(op))

    def _require_free(self, path: Path) -> None:
        if self._is_occupied(path):
            self.conflicts.append(f"{display(path)} already exists")

    def _is_occupied(self, path: Path) -> bool:
        return os.path.lexists(path) and path not in self.moved_away


def _is_same_name(old: Path, new: Path) -> bool:
    """Tell whether two spellings name one file, as where the file system ignores case. Two hard
    links of a file are two names.
    """
    info = os.lstat(old)
    if not os.path.samestat(info, os.lstat(new)):
        return False
    return info.st_nlink == 1 or new.name not in os.listdir(new.parent)


def _listed(names: list[str], separator: str) -> str:
    more = len(names) - _SHOWN
    return separator.join([*names[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def finished_stamp(op: JournalOperation) -> str:
    """Return the stamp of an operation's finished file: undo compares it, to find later changes."""
    return file_stamp(op, op.after or b"" if op.kind == "write" else op.dst)


def file_stamp(op: JournalOperation, content: Path | bytes | None) -> str:
    """Return the stamp of what is, or will be, at an operation's target; "gone" for nothing.

    A text gives the hash of its bytes, since undo restores it with a new time; an image gives its
    size and time, which takes no reading.
    """
    try:
        if isinstance(content, Path) and (
            op.kind == "write" or op.dst.suffix.lower() == CAPTION_SUFFIX
        ):
            content = content.read_bytes() if _is_regular(content) else None
        if isinstance(content, bytes):
            return hashlib.sha256(content).hexdigest()
        if content is not None:
            info = os.lstat(content)
            return f"{info.st_size}:{info.st_mtime_ns}"
    except OSError:
        pass
    return "gone"


def with_temp(op: JournalOperation) -> JournalOperation:
    """Give an operation its temporary name; a rename to a free name needs none.

    The temporary name of a moved file has no `.tmp`: it is the only copy, which `sweep` must not
    remove.
    """
    if op.kind == "move" and op.temp is None:
        return op
    name = temp_name()
    if op.kind == "move":
        name = f"{TEMP_PREFIX}move-{name.removeprefix(TEMP_PREFIX).removesuffix(TEMP_SUFFIX)}"
    return replace(op, temp=op.dst.parent / name)


def make_temp(op: JournalOperation, *, sync: bool) -> None:
    """Write, copy or link the new file under its temporary name. sync: flush it to the disk."""
    if op.temp is None or op.kind == "move":
        return
    if op.kind == "write":
        write_new(op.temp, op.after or b"", sync=sync)
        keep_mode(op.dst, op.temp)
        return
    source = op.src or op.dst
    if op.kind == "link":
        try:
            os.link(os.path.realpath(source), op.temp)
            return
        except OSError as error:
            if error.errno in _NO_COPY_EITHER:
                raise
            # Another disk, a file system without hard links, too many links: copy it.
    try:
        copy_file(source, op.temp)
        if sync:
            sync_file(op.temp)
    except BaseException:
        with suppress(OSError):
            os.unlink(op.temp)
        raise


def move(op: JournalOperation) -> None:
    """Rename a file to its free target, or to its temporary name if the target is not free yet.

    Does nothing if the run that was killed did it.
    """
    goal = op.temp or op.dst
    if op.src is None or not os.path.lexists(op.src):
        return
    if os.path.lexists(goal) and _is_same_file(op.src, goal):
        # After a power cut a file that moved between folders may have both names.
        with writing(op.src):
            os.unlink(op.src)
        return
    if op.temp is not None and os.path.lexists(op.temp):
        return
    _require_free(goal)
    with writing(goal):
        try:
            patiently(os.rename, op.src, goal)
        except OSError as error:
            if error.errno != errno.EXDEV or not _is_regular(op.src):
                raise
            _move_to_other_disk(op.src, goal)


def _is_same_file(source: Path, goal: Path) -> bool:
    """Tell whether two names are those of one file, or of a file and its finished copy on another
    disk.
    """
    old, new = os.lstat(source), os.lstat(goal)
    if old.st_dev == new.st_dev:
        return os.path.samestat(old, new)
    same = (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns)
    return same and stat.S_ISREG(old.st_mode) and file_sha256(source) == file_sha256(goal)


def _move_to_other_disk(source: Path, goal: Path) -> None:
    """Copy a file to another disk, and remove it when the copy is on that disk. Raises OSError."""
    temporary = goal.parent / temp_name()
    try:
        copy_file(source, temporary)
        sync_file(temporary)
        patiently(os.replace, temporary, goal)
        sync_folder(goal.parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    os.unlink(source)


def move_again(op: JournalOperation) -> None:
    """Rename a file whose earlier rename is lost; does nothing if its new name is there."""
    if not any(os.path.lexists(path) for path in (op.dst, op.temp) if path is not None):
        move(op)


def place(op: JournalOperation) -> bool:
    """Rename an operation's temporary file to its target.

    Does nothing if the run that was killed did it. Returns False if a person has edited the text
    since the plan was made: their text is kept.
    """
    if op.temp is None or not os.path.lexists(op.temp):
        return True
    if op.kind != "write":
        _require_free(op.dst)
    with writing(op.dst):
        if op.kind == "write" and not _is_unedited(op):
            os.unlink(op.temp)
            return False
        patiently(os.replace, op.temp, op.dst)
    return True


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        raise StorageError(
            f"{display(path)} appeared while the plan ran",
            hint="move it away and run any dsk command again",
        )


def _is_unedited(op: JournalOperation) -> bool:
    regular = _is_regular(op.dst)
    return regular is None or (regular and op.dst.read_bytes() in (op.before, op.after))


def _holds(path: Path, data: bytes) -> bool:
    return bool(_is_regular(path)) and path.read_bytes() == data


def _is_regular(path: Path) -> bool | None:
    """Tell whether a path is a regular file and not a link to one; None if nothing is there."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return None
