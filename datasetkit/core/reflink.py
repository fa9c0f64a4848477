"""Copies of files that share their blocks on disk until one of them changes, where the file system
can (btrfs, XFS, bcachefs); elsewhere ordinary copies.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# From linux/fs.h: share all blocks of a file with another one.
_FICLONE = 0x40049409


def reflink(source: int, target: int) -> bool:
    """Let an empty open file share the blocks of another; return False where that is impossible."""
    if fcntl is None or sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # another disk, or a file system without reflinks
        return False
    return True


def copy_file(source: Path, target: Path) -> None:
    """Copy a file with its mode and times to a path that must not exist yet. Raises OSError."""
    with source.open("rb") as original, target.open("xb") as copy:
        shares_blocks = reflink(original.fileno(), copy.fileno())
    if shares_blocks:
        shutil.copystat(source, target)
    else:
        shutil.copy2(source, target)


def can_reflink(source: Path, folder: Path) -> bool:
    """Tell whether a copy of a file in `folder` can share its blocks, by trying it with a file
    without a name: nothing is left behind.
    """
    flag = getattr(os, "O_TMPFILE", 0)
    if not flag:
        return False
    try:
        target = os.open(folder, os.O_WRONLY | flag, 0o600)
    except OSError:
        return False
    try:
        with source.open("rb") as original:
            return reflink(original.fileno(), target)
    except OSError:
        return False
    finally:
        os.close(target)
