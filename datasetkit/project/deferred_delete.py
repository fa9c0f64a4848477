"""What was replaced: old files keep a second name in `.dsk/` until nobody waits for the disk to
free them.

A rename over a file frees what stood there. Where the disk is told of freed blocks at once (ext4
with `discard`) that takes up to 2.5 ms a caption, and an ext4 without a journal is slow to make
files for a minute after so many were freed.
"""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Timer

from datasetkit.core.files import PROJECT

_PREFIX = "replaced-"
# Seconds in which a person may take back or change again what was changed.
_QUIET = 60
_waiting: set[Path] = set()


def folder_for(root: Path, entry: int) -> Path:
    """Make the folder for what one command of the history replaces; where that fails nothing can be
    kept in it.
    """
    folder = root / PROJECT / f"{_PREFIX}{entry}"
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
    return folder


def keep(file: Path, folder: Path, number: int) -> None:
    """Give the file that is about to be replaced a second name.

    Where that is not possible, replacing only takes longer: a file system without hard links, or
    another one than that of `.dsk/`; too many links; somebody else's file.
    """
    with suppress(OSError):
        os.link(file, folder / str(number))


def left(root: Path) -> list[Path]:
    """Return the folders of replaced files that there are, those that killed commands left among
    them.
    """
    return list((root / PROJECT).glob(f"{_PREFIX}*"))


def free_later(folders: Iterable[Path]) -> None:
    """Remove folders of replaced files a minute later, or when this process ends; the next one does
    it for a killed.
    """
    none_before = not _waiting
    _waiting.update(folders)
    if _waiting and none_before:
        timer = Timer(_QUIET, free)
        timer.daemon = True
        timer.start()


@atexit.register
def free() -> None:
    """Remove the folders of replaced files that are still waiting for it."""
    with suppress(KeyError):  # the last one was taken
        while True:
            shutil.rmtree(_waiting.pop(), ignore_errors=True)
