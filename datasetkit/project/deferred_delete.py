"""Replaced files are deleted a minute later: until then they keep a second name in `.dsk/`.

Renaming over a file deletes the old one. A disk that is notified of freed blocks at once (ext4 with
`discard`) takes up to 2.5 ms for each caption, and an ext4 without a journal is slow to create
files for a minute after many deletions.
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
# Seconds: a person who looks at a result may undo it, or run the command again, meanwhile.
_DELAY = 60
_to_delete: set[Path] = set()


def folder_for(root: Path, entry: int) -> Path:
    """Create the folder for what one command of the history replaces; if that fails, `keep` keeps
    nothing.
    """
    folder = root / PROJECT / f"{_PREFIX}{entry}"
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
    return folder


def keep(file: Path, folder: Path, number: int) -> None:
    """Give a file that is about to be replaced a second name.

    It may fail: a file system without hard links, or another one than that of `.dsk/`; too many
    links; somebody else's file. Then replacing takes longer.
    """
    with suppress(OSError):
        os.link(file, folder / str(number))


def leftover_folders(root: Path) -> list[Path]:
    """Return the folders of replaced files, those of killed commands among them."""
    return list((root / PROJECT).glob(f"{_PREFIX}*"))


def delete_later(folders: Iterable[Path]) -> None:
    """Delete folders of replaced files after a minute, or when this process ends.

    What a killed process leaves, the next one deletes.
    """
    timer_runs = bool(_to_delete)
    _to_delete.update(folders)
    if _to_delete and not timer_runs:
        timer = Timer(_DELAY, delete_now)
        timer.daemon = True
        timer.start()


@atexit.register
def delete_now() -> None:
    """Delete the folders of replaced files that wait for it."""
    with suppress(KeyError):  # the last one was popped
        while True:
            shutil.rmtree(_to_delete.pop(), ignore_errors=True)
