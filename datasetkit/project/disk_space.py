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


def copied_bytes(plan: Plan) -> int:
    """Return how many bytes the copies of a plan take. Hard links, and copies that share their
    blocks with the original, take none.
    """
    return sum(_bytes_by_folder(plan).values())


def require_space(plan: Plan, *, hint: str = "free some disk space") -> None:
    """Raise StorageError if a disk has less room than the copies of a plan take on it."""
    by_disk: defaultdict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    for folder, size in _bytes_by_folder(plan).items():
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


def is_shared(op: Copy | Link) -> bool:
    """Tell whether an operation makes a hard link, which shares its bytes with the source for
    good; a link to another disk becomes a copy.
    """
    return isinstance(op, Link) and _disk(op.src) == _disk(nearest_folder(op.dst.parent))


def _disk(path: Path) -> int:
    return path.stat().st_dev


def _bytes_by_folder(plan: Plan) -> dict[Path, int]:
    """Return existing folder -> the bytes that are copied into it, or into new folders below it."""
    sizes: defaultdict[Path, int] = defaultdict(int)
    nearest = cache(nearest_folder)
    shares_blocks: dict[tuple[int, Path], bool] = {}
    for op in plan.ops:
        if not isinstance(op, Copy | Link) or is_shared(op):
            continue
        try:
            info = op.src.stat()
        except OSError:
            continue
        if not stat.S_ISREG(info.st_mode):
            continue
        folder = nearest(op.dst.parent)
        key = (info.st_dev, folder)
        if key not in shares_blocks:
            shares_blocks[key] = can_reflink(op.src, folder)
        if not shares_blocks[key]:
            sizes[folder] += info.st_size
    return dict(sizes)
