"""The queue of jobs: one small file for each that waits, in the user's state folder.

`queue/<number>-<id>` is in the order of the numbers, and a rename reorders; the file holds
{"held": true} for a job that waits until it is released. Any process may change the queue; it is
locked meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import InputError
from datasetkit.core.files import read_regular, write_atomic, writing
from datasetkit.project import job_locks, jobs
from datasetkit.project.jobs import Job

LIMIT: Final = 64  # jobs that wait
_NAME: Final = re.compile(r"([0-9]{6})-(.+)")
_LOCK: Final = "queue.lock"
# Locks of files do not keep the threads of one process apart.
_thread_lock = threading.RLock()


def queue() -> tuple[Job, ...]:
    """Return the jobs that wait, in their order."""
    by_id = {job.id: job for job in jobs.list_jobs() if job.state == "queued"}
    waiting = [(path, job_id) for path, job_id in _entries() if job_id in by_id]
    return tuple(
        replace(by_id[job_id], place=place, held=_is_held(path))
        for place, (path, job_id) in enumerate(waiting, start=1)
    )


def enqueue(
    arguments: Sequence[str],
    folder: Path,
    *,
    held: bool = False,
    title: str = "",
    config: tuple[Path, bytes] | None = None,
    after: Sequence[str] = (),
) -> Job:
    """Add a command line, without `dsk`, to the end of the queue. Nothing starts it by itself, see
    job_runner.start. title: until the job gives itself one. config, after: see jobs.add. Raises
    InputError for a full queue, StorageError.
    """
    with _changing() as queue_folder:
        entries = _entries()
        if len(entries) >= LIMIT:
            raise InputError(
                f"{len(entries):,} jobs wait, which is the limit",
                hint="dsk jobs remove takes one out of the queue",
            )
        verb = " ".join(arguments[:2]) if arguments[:1] in (["reg"], ["faces"]) else arguments[0]
        path = jobs.add(verb, title, arguments, folder, config, after)
        number = int(entries[-1][0].name[:6]) + 1 if entries else 1
        _write(queue_folder / f"{number:06d}-{path.name}", held=held)
    return find(path.name)


def find(job_id: str) -> Job:
    """Return the job that waits with an id, or the beginning of one. Raises InputError."""
    return jobs.the_one(queue(), job_id, "jobs in the queue")


def hold(job_id: str, held: bool) -> Job:
    """Let a job wait until it is released, or release it. Raises InputError, StorageError."""
    with _changing():
        job = find(job_id)
        _write(_path(job), held=held)
        return find(job.id)


def move(job_id: str, place: int) -> Job:
    """Move a job to a place in the queue, 1 for the next one. Raises InputError, StorageError."""
    with _changing() as folder:
        job = find(job_id)
        order = [other for other in queue() if other.id != job.id]
        order.insert(max(0, place - 1), job)
        # First to numbers that none has: a rename onto an entry would delete it.
        first = int(_entries()[-1][0].name[:6]) + 1
        for offset in (first, 1):
            for number, other in enumerate(order, start=offset):
                _path(other).rename(folder / f"{number:06d}-{other.id}")
        return find(job.id)


def remove(job_id: str) -> Job:
    """Take a job out of the queue. Raises InputError, StorageError."""
    with _changing():
        job = find(job_id)
        path = _path(job)
        folder = path.parent.parent / "jobs" / job.id
        shutil.rmtree(folder, ignore_errors=True)
        path.unlink(missing_ok=True)
    return job


def take(job_id: str) -> None:
    """Delete the entry of a job that has begun or cannot begin."""
    with _changing():
        for path, entry_id in _entries():
            if entry_id == job_id:
                path.unlink(missing_ok=True)


def _path(job: Job) -> Path:
    return next(path for path, job_id in _entries() if job_id == job.id)


def _entries() -> list[tuple[Path, str]]:
    """Return the entries' files and ids, in their order."""
    folder = jobs.queue_folder()
    if folder is None:
        return []
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    matches = ((path, _NAME.fullmatch(path.name)) for path in paths)
    return [(path, match[2]) for path, match in matches if match]


def _is_held(path: Path) -> bool:
    try:
        data = read_regular(path, limit=1024)
        return bool(data and json.loads(data).get("held"))
    except (InputError, OSError, ValueError, AttributeError, RecursionError):
        return False


def _write(path: Path, *, held: bool) -> None:
    with writing(path):
        write_atomic(path, json.dumps({"held": held}).encode("ascii"))


@contextmanager
def _changing() -> Iterator[Path]:
    """Hold the queue's lock; yield its folder. Raises InputError, StorageError."""
    folder = jobs.queue_folder()
    if folder is None:
        raise InputError("there is no home folder", hint="set XDG_STATE_HOME to a folder")
    with _thread_lock, writing(folder):
        make_folders(folder, mode=0o700)
        descriptor = os.open(folder.parent / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            job_locks.lock(descriptor)
            yield folder
        finally:
            with suppress(OSError):
                os.close(descriptor)
