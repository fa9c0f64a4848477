"""The project lock: one changing run at a time, and which one it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datasetkit.core.errors import InputError, Locked, StorageError
from datasetkit.core.files import (
    PROJECT,
    display,
    make_project_folder,
    read_regular,
    share_with_group,
    writing,
)

# Who holds the lock: the lock file itself cannot be read on Windows while it is held.
_HOLDER = Path(PROJECT, "running")
_MAX_HOLDER = 500  # bytes


@contextmanager
def lock(root: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the project's lock; the system releases it when the process ends, killed or not.

    Raises Locked at once if another run holds it, unless `wait`; StorageError if the lock file
    cannot be written.
    """
    from filelock import FileLock, Timeout  # takes 50 ms, which commands that only read save

    path = make_project_folder(root) / "lock"
    # Not thread_local: the thread that ends a run may not be the one that began it.
    project_lock = FileLock(path, blocking=wait, thread_local=False, preserve_lock_file=True)
    with writing(path):
        try:
            project_lock.acquire()
        except Timeout as error:
            raise locked(root) from error
        except NotImplementedError as error:
            raise StorageError(
                f"cannot lock {display(root)}: its file system has no locks",
                hint="copy the folder to a local disk",
            ) from error
    share_with_group(path)
    holder = root / _HOLDER
    with suppress(OSError):  # a full disk: the lock holds all the same
        holder.write_text(f"`{_command()}`, process {os.getpid()}", encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        with writing(path):
            project_lock.release()


def locked(root: Path) -> Locked:
    """Return the error that names the run that holds the lock."""
    return Locked(
        f"another dsk run is working in {display(root)}{_holder(root)}",
        hint="wait for it to end, or add --wait",
    )


def is_locked(root: Path) -> bool:
    """Tell whether a run holds the lock now. Where the lock file cannot be opened, it is not."""
    from filelock import FileLock, Timeout

    path = root / PROJECT / "lock"
    if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        return False
    probe = FileLock(path, blocking=False, thread_local=False, preserve_lock_file=True)
    try:
        with probe:
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _holder(root: Path) -> str:
    """Return which run holds the lock, in brackets; "" where it could not say."""
    try:
        text = read_regular(root / _HOLDER, limit=_MAX_HOLDER)
    except InputError:
        return ""
    return f" ({display(text.decode('utf-8', 'replace'))})" if text else ""


def _command() -> str:
    """Return the running command without its arguments, which may be long."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    if program not in ("dsk", "dsk.exe", "__main__.py"):
        return program
    return " ".join(["dsk", *(word for word in sys.argv[1:2] if not word.startswith("-"))])
