"""The lock of a job: the system frees it at any death, and the programs that the job starts do not
inherit it, as they would with flock.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path


def is_held(path: Path) -> bool:
    """Tell whether another process has locked a file. Not for locks of this process: closing the
    file here would free them.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _is_free(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def lock(descriptor: int) -> None:
        """Lock an open file; wait for it."""
        while not try_lock(descriptor):  # LK_LOCK gives up after ten seconds
            time.sleep(0.05)

    def try_lock(descriptor: int) -> bool:
        """Lock an open file; tell whether that succeeded."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _is_free(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return True

else:
    import fcntl

    def lock(descriptor: int) -> None:
        """Lock an open file; wait for it."""
        fcntl.lockf(descriptor, fcntl.LOCK_EX)

    def try_lock(descriptor: int) -> bool:
        """Lock an open file; tell whether that succeeded."""
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_free(descriptor: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        return True
