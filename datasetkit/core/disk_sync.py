"""What survives a power cut: a file's bytes once the file is synced, and its name, new or changed,
once the folder is synced that holds it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

# Windows, and some network file systems, do not open or sync folders.
_NO_FOLDER_SYNC = frozenset(
    {errno.EACCES, errno.EBADF, errno.EINVAL, errno.EISDIR, errno.EPERM, errno.ENOTSUP}
)


def sync_file(path: Path) -> None:
    """Write a file's bytes to the disk. Raises OSError, also for an earlier write that failed."""
    # Windows syncs only what is open for writing; elsewhere a read-only file must work, too.
    _sync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, if its file system can. Raises OSError."""
    try:
        _sync(folder, os.O_RDONLY)
    except FileNotFoundError:
        pass  # it was moved or removed: its names went with it
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def sync_folders(folders: Iterable[Path]) -> None:
    """Write the names in folders to the disk, each folder once. Raises OSError."""
    for folder in dict.fromkeys(folders):
        sync_folder(folder)


def can_sync_disks() -> bool:
    """Tell whether `sync_disks` waits until everything is on the disk: elsewhere than on Linux the
    system may return before that.
    """
    return sys.platform == "linux"


def sync_disks(folders: Iterable[Path]) -> None:
    """Write everything to the disks that folders lie on, and wait. Raises OSError."""
    disks: set[int] = set()
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            device = os.fstat(descriptor).st_dev
            if device not in disks:
                disks.add(device)
                sync_disk(descriptor)
        finally:
            os.close(descriptor)


def sync_disk(descriptor: int) -> None:
    """Write everything to the disk of an open file or folder, and wait. Raises OSError."""
    syncfs = _libc_syncfs()
    if syncfs is None:
        os.sync()
    elif syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _libc_syncfs() -> Callable[[int], int] | None:
    # Unlike os.sync, it reports failed writes, and does not wait for other disks.
    with suppress(OSError, AttributeError):
        function: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
        return function
    return None


def make_folders(folder: Path, *, mode: int = 0o777) -> list[Path]:
    """Create a folder and those above it, and sync the names; return the new ones, topmost first.

    Raises OSError. The mode is that of `folder` alone.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    for path in new:
        path.mkdir(exist_ok=True, mode=mode if path == folder else 0o777)
    if not folder.is_dir():  # a file, or a link to nothing
        folder.mkdir()
    sync_folders(path.parent for path in new)
    return new


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
