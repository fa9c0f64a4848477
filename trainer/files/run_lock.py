"""The lock of a run: one run of a name in an output folder at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from datasetkit.core.files import PROJECT, display, make_project_folder, temporary_files
from datasetkit.project.locks import file_lock, is_file_locked, is_locked

STAGE: Final = ".dsk-stage-"  # a state that is being written
_PREFIX: Final = "run-"
_SUFFIX: Final = ".lock"


def _path(folder: Path, name: str) -> Path:
    return folder / PROJECT / f"{_PREFIX}{name}{_SUFFIX}"


@contextmanager
def hold(folder: Path, name: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a run; the system releases it when the process ends, killed or not.

    Raises Locked while another run of this name holds it, unless `wait`; StorageError.
    """
    make_project_folder(folder)
    what = f"another run is training {display(name)} in {display(folder)}"
    with file_lock(_path(folder, name), what, wait=wait):
        yield


def is_held(folder: Path, name: str) -> bool:
    """Tell whether a run of this name is going on in a folder."""
    return is_file_locked(_path(folder, name))


def held_names(folder: Path) -> list[str]:
    """Return the names of the runs that are going on in a folder."""
    locks = (folder / PROJECT).glob(f"{_PREFIX}*{_SUFFIX}")
    held = (path.name for path in locks if is_file_locked(path))
    return [name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for name in held]


def sweep(folder: Path, name: str) -> None:
    """Delete the temporary files of killed runs, unless another run or command is using the folder.
    Needs the lock of this run.
    """
    # In this order: what was there before its writer's lock was seen to be free is nobody's.
    files = temporary_files(folder)
    stages = list(folder.glob(f"{STAGE}*"))
    own_lock = _path(folder, name)
    locks = [p for p in own_lock.parent.glob(f"{_PREFIX}*{_SUFFIX}") if p != own_lock]
    if is_locked(folder) or any(is_file_locked(path) for path in locks):
        return
    for file in files:
        with suppress(OSError):
            file.unlink()
    for stage in stages:
        shutil.rmtree(stage, ignore_errors=True)
