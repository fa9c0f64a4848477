"""How much disk space the copies of a plan take, and whether there is as much."""

from __future__ import annotations

import shutil
import stat
from collections import defaultdict
from functools import cache
from pathlib import Path

from datasetkit.core.errors import StorageError
from datasetkit.core.files import display, nearest_folder
from datasetkit.core.reflink import can_reflink
from datasetkit.project.plans import Copy, Link, Plan


class CopiedBytes:
    """Counts the bytes that copies take, by the existing folder that they go into, or into new
    folders below it. Hard links, and copies that share their blocks with the original, take none.
    """

    def __init__(self) -> None:
        self.by_folder: defaultdict[Path, int] = defaultdict(int)
        self._nearest = cache(nearest_folder)
        self._disk_of = cache(_disk)
        self._shares_blocks: dict[tuple[int, Path], bool] = {}

    def add(self, op: Copy | Link) -> bool:
        """Count an operation; tell whether it makes a hard link, which shares its bytes with the
        source for good. A link to another disk becomes a copy.
        """
        try:
            info = op.src.stat()
        except OSError:
            return False
        folder = self._nearest(op.dst.parent)
        if isinstance(op, Link) and info.st_dev == self._disk_of(folder):
            return True
        if stat.S_ISREG(info.st_mode) and not self._has_reflinks(op.src, info.st_dev, folder):
            self.by_folder[folder] += info.st_size
        return False

    @property
    def total(self) -> int:
        """Return the bytes of all copies."""
        return sum(self.by_folder.values())

    def _has_reflinks(self, source: Path, disk: int, folder: Path) -> bool:
        key = (disk, folder)
        if key not in self._shares_blocks:
            self._shares_blocks[key] = can_reflink(source, folder)
        return self._shares_blocks[key]


def require_space(plan: Plan, *, hint: str = "free some disk space") -> None:
    """Raise StorageError if a disk has less room than the copies of a plan take on it."""
    by_disk: defaultdict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    copied = CopiedBytes()
    for op in plan.ops:
        if isinstance(op, Copy | Link):
            copied.add(op)
    for folder, size in copied.by_folder.items():
        disk = _disk(folder)
        by_disk[disk] += size
        folders[disk] = folder
    for disk, size in by_disk.items():
        require_free(folders[disk], size, "copies", hint=hint)


def require_free(folder: Path, size: int, what: str, *, hint: str = "free some disk space") -> None:
    """Raise StorageError if the disk of a folder has less room than some files take."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(
            f"the {what} take {size / 1e6:,.0f} MB, and {display(folder)} has "
            f"{free / 1e6:,.0f} MB free",
            hint=hint,
        )


def _disk(path: Path) -> int:
    return path.stat().st_dev
