"""Locks: the project lock, which one changing command holds at a time, and the locks of single
trainings; and who holds them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from datasetkit.core.errors import InputError, Locked, StorageError
from datasetkit.core.files import (
    PROJECT,
    display,
    make_project_folder,
    read_regular,
    share_with_group,
    writing,
)

if TYPE_CHECKING:
    from filelock import FileLock

# Who holds the lock: the lock file itself cannot be read on Windows while it is held.
_HOLDER = Path(PROJECT, "running")
_MAX_HOLDER = 500  # bytes
_LOCKED_BYTE = 2**20  # beyond the text: on Windows nobody else can read what is locked
_RETRY = 0.1  # seconds
_TRIES = 3
# Seconds in which a thread waits for another one of its process, as on a page that reads a dataset
# when somebody clicks.
OWN_SECONDS = 20.0
# Of this process, by the path of a project's lock: which thread holds it.
_own: dict[Path, threading.Lock] = {}
_own_holders: dict[Path, int] = {}
# Locks of this process, by device and inode: the system tells apart processes only, and closing a
# second descriptor of a locked file would release its lock.
_held: set[tuple[int, int]] = set()
_one_at_a_time = threading.Lock()


@contextmanager
def lock(root: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the project's lock; the system releases it when the process ends, killed or not.

    Raises Locked if another run holds it, unless `wait`: after a moment for another process, after
    OWN_SECONDS for another thread of this one; StorageError if the lock file cannot be written.
    """
    from filelock import FileLock  # takes 50 ms, which commands that only read save

    path = make_project_folder(root) / "lock"
    # Not thread_local: the thread that ends a run may not be the one that began it. Who only asks
    # whether a project is locked holds the lock for a moment, which must not end another command.
    project_lock = FileLock(
        path, timeout=-1 if wait else _TRIES * _RETRY, thread_local=False, preserve_lock_file=True
    )
    with _alone_in_process(path.resolve(), root, wait=wait), _held_by_process(project_lock, root):
        holder = root / _HOLDER
        with suppress(OSError):  # a full disk: the lock holds all the same
            holder.write_text(f"`{_command()}`, process {os.getpid()}", encoding="utf-8")
        try:
            yield
        finally:
            with suppress(OSError):
                holder.unlink()


@contextmanager
def _alone_in_process(path: Path, root: Path, *, wait: bool) -> Iterator[None]:
    """Be the only thread of this process that holds the lock at a path. Raises Locked."""
    own = _own.setdefault(path, threading.Lock())
    is_mine = _own_holders.get(path) == threading.get_ident()
    if not own.acquire(timeout=0 if is_mine and not wait else -1 if wait else OWN_SECONDS):
        raise locked(root)
    _own_holders[path] = threading.get_ident()
    try:
        yield
    finally:
        del _own_holders[path]
        own.release()


@contextmanager
def _held_by_process(project_lock: FileLock, root: Path) -> Iterator[None]:
    from filelock import Timeout

    path = Path(project_lock.lock_file)
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
    try:
        yield
    finally:
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


@contextmanager
def file_lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file that nothing else opens, and write into it who holds it.

    Unlike the project lock it is not inherited by forked processes, such as a program's workers,
    which may live on after a kill. Raises Locked, with `what` another run is doing, unless `wait`;
    StorageError.
    """
    tries = _TRIES  # `is_file_locked` holds the lock for a moment
    while (descriptor := _acquire(path, create=True)) is None:
        tries -= 1
        if not tries and not wait:
            holder = "" if _key(path) in _held else _holder_of(path)
            raise Locked(f"{what}{holder}", hint="wait for it to end, or add --wait")
        time.sleep(_RETRY)
    share_with_group(path)
    with suppress(OSError):  # a full disk: the lock holds all the same
        os.truncate(descriptor, 0)
        os.write(descriptor, f"`{_command()}`, process {os.getpid()}".encode())
    try:
        yield
    finally:
        with suppress(OSError):
            os.truncate(descriptor, 0)
        _release(descriptor)


def is_file_locked(path: Path) -> bool:
    """Tell whether a run holds the lock of a file; False where it cannot be opened."""
    try:
        descriptor = _acquire(path, create=False)
    except StorageError:
        return False
    if descriptor is not None:
        _release(descriptor)
    return descriptor is None


def _acquire(path: Path, *, create: bool) -> int | None:
    """Open and lock a file; return None if it is locked already. Raises StorageError."""
    flags = os.O_RDWR | (os.O_CREAT if create else 0) | getattr(os, "O_NOFOLLOW", 0)
    with _one_at_a_time:
        if _key(path) in _held:
            return None
        with writing(path):
            descriptor = os.open(path, flags, 0o666)
        try:
            locked = _try_lock(descriptor, path)
        except StorageError:
            os.close(descriptor)
            raise
        if not locked:
            os.close(descriptor)
            return None
        _held.add(_key(path))
        return descriptor


def _release(descriptor: int) -> None:
    with _one_at_a_time:
        info = os.fstat(descriptor)
        _held.discard((info.st_dev, info.st_ino))
        os.close(descriptor)  # releases the lock


def _key(path: Path) -> tuple[int, int]:
    try:
        info = path.stat(follow_symlinks=False)
    except OSError:
        return (-1, -1)
    return info.st_dev, info.st_ino


def _try_lock(descriptor: int, path: Path) -> bool:
    """Lock an open file, unless another process has locked it. Raises StorageError."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCKED_BYTE)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise StorageError(
            f"cannot lock {display(path)}: {error.strerror or error}",
            hint="use a folder on a local disk",
        ) from error
    return True


def _holder(root: Path) -> str:
    """Return which run holds the lock, in brackets; "" where it could not say."""
    return _holder_of(root / _HOLDER)


def _holder_of(path: Path) -> str:
    try:
        text = read_regular(path, limit=_MAX_HOLDER)
    except InputError:
        return ""
    return f" ({display(text.decode('utf-8', 'replace'))})" if text else ""


def _command() -> str:
    """Return the running command without its arguments, which may be long."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    if program not in ("dsk", "dsk.exe", "__main__.py"):
        return program
    return " ".join(["dsk", *(word for word in sys.argv[1:2] if not word.startswith("-"))])
