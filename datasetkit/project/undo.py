"""Undo: the operations that undo a finished command, and why some cannot be undone."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasetkit.core.file_kinds import IMAGE_SUFFIXES
from datasetkit.core.files import MASKS, display
from datasetkit.core.packed import PackedList
from datasetkit.core.path_list import PathSet
from datasetkit.project.file_ops import JournalOperation, file_stamp


class PlannedState:
    """The files as they will be once some operations are done that are only planned so far.

    An undo of several commands, and a dry run of one, checks each command against it.
    """

    def __init__(self) -> None:
        # Path -> the path that its content has now, its bytes, or None if nothing will be there.
        self._changes: dict[Path, Path | bytes | None] = {}

    def find(self, path: Path) -> Path | bytes | None:
        """Return where the content that `path` will have is now, or its bytes; None for nothing."""
        for changed in (path, *path.parents) if self._changes else ():
            if changed in self._changes:
                content = self._changes[changed]
                if isinstance(content, Path):
                    return content / path.relative_to(changed)
                return content if changed == path else None
        return path

    def exists(self, path: Path) -> bool:
        """Tell whether something will be at a path."""
        content = self.find(path)
        return os.path.lexists(content) if isinstance(content, Path) else content is not None

    def add(self, operations: Sequence[JournalOperation]) -> None:
        """Count operations as done, all at once."""
        moves = [(op.src, op.dst) for op in operations if op.kind == "move" and op.src is not None]
        left: dict[Path, Path | bytes | None] = {src: None for src, _ in moves}
        arrived = {dst: self.find(src) for src, dst in moves}
        written = {op.dst: op.after for op in operations if op.kind == "write"}
        self._changes |= left | arrived | written


def inverse(
    done: Sequence[JournalOperation],
    planned: PlannedState,
    *,
    trash: Path,
    root: Path,
    with_companions: bool,
) -> tuple[PackedList[JournalOperation], list[str]]:
    """Return the operations that undo `done`, last first, and why some cannot be undone.

    planned: the state that they start from. trash: a fresh folder for the files that dsk made.
    with_companions: files that were added beside a renamed image get its old name, too.
    """
    freed = PathSet(op.dst for op in done)
    companions = _Companions(freed)
    trashed: Counter[str] = Counter()
    operations: PackedList[JournalOperation] = PackedList()
    problems: list[str] = []
    for op in reversed(done):
        problem = _changed_since(op, planned) or _taken_again(op, freed, planned, root)
        if problem:
            problems.append(problem)
        elif op.kind == "write" and op.before is not None:
            operations.append(JournalOperation("write", None, op.dst, op.after, op.before))
        elif op.kind == "move" and op.src is not None:
            operations.append(JournalOperation("move", op.dst, op.src, temp=op.dst))
            if with_companions:
                operations.extend(companions.moves(op.src, op.dst))
        else:
            # A folder for all files of different names: thousands of folders would take minutes.
            key = unicodedata.normalize("NFC", op.dst.name).casefold()
            goal = trash / str(trashed[key]) / op.dst.name
            trashed[key] += 1
            operations.append(JournalOperation("move", op.dst, goal))
    return operations, problems


def _changed_since(op: JournalOperation, planned: PlannedState) -> str:
    """Return why a finished operation cannot be undone, "" if it can.

    A moved file may have been edited since: it moves back as it is.
    """
    if not planned.exists(op.dst):
        return f"{display(op.dst.name)} is gone"
    if op.kind == "move" or file_stamp(op, planned.find(op.dst)) == op.stamp:
        return ""
    return f"{display(op.dst.name)} has changed since"


def _taken_again(
    op: JournalOperation, freed: Container[Path], planned: PlannedState, root: Path
) -> str:
    """Return that the old name of a moved file is taken, "" if it is free or will be freed."""
    if op.kind != "move" or op.src is None or op.src in freed or not planned.exists(op.src):
        return ""
    return f"{display(os.path.relpath(op.src, root))} is taken again"


@dataclass(frozen=True, slots=True)
class _Companions:
    """The files that may belong to renamed images, of each folder, which is listed once.

    freed: files that the undo moves anyway.
    """

    freed: Container[Path]
    _by_folder: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)

    def moves(self, old: Path, new: Path) -> Iterator[JournalOperation]:
        """Yield the moves of captions, masks and sidecars that were added beside the image `new`,
        which gets its name `old` back.
        """
        if new.suffix.lower() not in IMAGE_SUFFIXES:
            return
        for folder, goal in ((new.parent, old.parent), (new.parent / MASKS, old.parent / MASKS)):
            files = self._files(folder)
            # `a.txt` belongs to the stem, `a.jpg.txt` to the whole name.
            moved = {path: f"{old.stem}{path.suffix}" for path in files.get(new.stem, ())}
            moved |= {
                path: f"{old.name}{path.name.removeprefix(new.name)}"
                for path in files.get(f"{new.name}.", ())
                if path not in moved
            }
            for path, name in sorted(moved.items()):
                if not os.path.lexists(goal / name):
                    yield JournalOperation("move", path, goal / name)

    def _files(self, folder: Path) -> dict[str, list[Path]]:
        """Return the files of a folder by stem, and by each part of the name up to a dot."""
        if folder not in self._by_folder:
            index = self._by_folder[folder] = {}
            for name in os.listdir(folder) if folder.is_dir() else ():
                path = folder / name
                is_image = path.suffix.lower() in IMAGE_SUFFIXES and folder.name != MASKS
                if is_image or path in self.freed:
                    continue
                index.setdefault(path.stem, []).append(path)
                for dot in (n for n, character in enumerate(name) if character == "."):
                    index.setdefault(name[: dot + 1], []).append(path)
        return self._by_folder[folder]
