"""One changing run a project at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from datasetkit.core.errors import Locked
from datasetkit.core.files import PROJECT, display, refuse_link, writing

if sys.platform == "win32":
    import msvcrt

    def _take(file: IO[bytes], wait: bool) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: IO[bytes], wait: bool) -> None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def lock(root: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the project's lock; the system frees it when the process ends, however it ends.

    Raises Locked at once when another run holds it, unless `wait`.
    """
    path = root / PROJECT / "lock"
    refuse_link(path.parent)
    refuse_link(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115 - closed below, with the lock
    with file:
        try:
            _take(file, wait)
        except OSError as error:
            raise Locked(
                f"another dsk run works in {display(root)}",
                hint="wait for it to end, or add --wait",
            ) from error
        os.utime(path)
        yield
