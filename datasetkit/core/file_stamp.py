"""Signs: what tells whether a file is still the one that was looked at, without reading it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple


class FileStamp(NamedTuple):
    """What tells whether a file is still the one that was looked at; a rename leaves it as
    it is.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, info: os.stat_result) -> FileStamp:
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)

    def key(self) -> str:
        """Return the name that this very content has in caches."""
        return hashlib.blake2b(repr(tuple(self)).encode(), digest_size=12).hexdigest()


def sign(path: Path) -> FileStamp | None:
    """Return the sign of what stands at a path, not following links; None for nothing."""
    try:
        return FileStamp.of(path.lstat())
    except OSError:
        return None
