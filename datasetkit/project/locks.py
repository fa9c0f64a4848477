"""The project lock: one changing run at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasetkit.core.errors import Locked, StorageError
from datasetkit.core.files import PROJECT, display, refuse_link, writing


@contextmanager
def lock(root: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the project's lock; the system releases it when the process ends, killed or not.

    Raises Locked at once if another run holds it, unless `wait`; StorageError if the lock file
    cannot be written.
    """
    from filelock import FileLock, Timeout  # takes 50 ms, which commands that only read save

    path = root / PROJECT / "lock"
    refuse_link(path.parent)
    refuse_link(path)
    # Not thread_local: the thread that ends a run may not be the one that began it.
    project_lock = FileLock(path, blocking=wait, thread_local=False, preserve_lock_file=True)
    with writing(path):
        try:
            project_lock.acquire()  # creates the folder as well
        except Timeout as error:
            raise Locked(
                f"another dsk run is working in {display(root)}",
                hint="wait for it to end, or add --wait",
            ) from error
        except NotImplementedError as error:
            raise StorageError(
                f"cannot lock {display(root)}: its file system has no locks",
                hint="copy the folder to a local disk",
            ) from error
    try:
        yield
    finally:
        with writing(path):
            project_lock.release()
