"""File stamps: tell whether a file has changed since it was read, without reading it again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple


class FileStamp(NamedTuple):
    """The identity, size and time of a file: another stamp means a changed or another file.

    Renaming a file does not change its stamp.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, info: os.stat_result) -> FileStamp:
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)

    def key(self) -> str:
        """Return the name of this state of the file in caches."""
        return hashlib.blake2b(repr(tuple(self)).encode(), digest_size=12).hexdigest()


def state_of(info: os.stat_result) -> str:
    """Return a text for the state of a file that holds over restarts of the machine.

    A file that was replaced by one of equal size and modification time has another inode or another
    time of change, where the file system has them. A hard link changes the second as well: then a
    file is read once more for nothing.
    """
    return f"{info.st_size}-{info.st_mtime_ns}-{info.st_ctime_ns}-{info.st_ino}"


def stamp_of(path: Path) -> FileStamp | None:
    """Return the stamp of the file at a path, not following links; None if nothing is there."""
    try:
        return FileStamp.of(path.lstat())
    except OSError:
        return None
