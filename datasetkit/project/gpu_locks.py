"""The locks of GPUs: one run at a time fills a GPU, whoever started it.

`devices/gpu-0.lock` in the user's state folder is locked while a run uses the first GPU; the system
frees it at any death. Who uses a GPU follows from the jobs that run, which name their GPUs. Where
the folder cannot be used, nothing is locked: training works without it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import Final

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import Locked
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.project import job_locks, jobs
from datasetkit.project.jobs import Job
from datasetkit.project.signature import state_folder

_FOLDER: Final = "devices"
_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_SECONDS_BETWEEN: Final = 0.5
# GPUs of this process, and since when: what it calls does not lock them again.
_own: dict[str, float] = {}


@contextmanager
def hold(
    gpus: Sequence[str],
    *,
    wait: bool = False,
    now: bool = False,
    may_wait: bool = True,
    reporter: Reporter = SILENT,
) -> Iterator[None]:
    """Hold the locks of GPUs, such as `gpu-0`.

    wait: wait for another run to end; a job of the queue always does. now: start beside it, and
    take its lock when it ends. may_wait: the command has --wait. Raises Locked while another run
    uses one of them, unless `wait` or `now`.
    """
    must_wait = (wait or jobs.is_from_queue()) and not now
    with ExitStack() as locks:
        # In one order: two runs on the same GPUs never wait for each other.
        for gpu in sorted(set(gpus) - set(_own)):
            lock = _open(gpu)
            if lock is None:
                continue
            locks.callback(os.close, lock)
            if not _try_lock(lock):
                if now:
                    reporter.warn(f"{_in_use(gpu)}; this run starts beside it")
                    locks.enter_context(_locking_later(lock))
                elif must_wait:
                    _wait(gpu, lock, reporter)
                else:
                    raise _busy(gpu, may_wait=may_wait)
            _own[gpu] = time.time()
            locks.callback(_own.pop, gpu)
            jobs.name_gpus(_own)
        try:
            yield
        finally:
            locks.close()
            jobs.name_gpus(_own)


def users(gpu: str) -> list[Job]:
    """Return the jobs that use a GPU, the one that has used it longest first."""
    there = [job for job in jobs.list_jobs() if job.runs and gpu in job.gpus]
    return sorted(there, key=lambda job: job.gpus[gpu])


def title(gpu: str) -> str:
    """Return what messages call a GPU: `GPU 0`."""
    return gpu.replace("gpu-", "GPU ", 1)


def _open(gpu: str) -> int | None:
    """Open the file of a lock; return None where there is no place for it."""
    state = state_folder()
    if state is None:
        return None
    folder = state / _FOLDER
    with suppress(OSError):
        make_folders(folder, mode=0o700)
        return os.open(folder / f"{gpu}.lock", _FLAGS, 0o600)
    return None


def _try_lock(lock: int) -> bool:
    try:
        return job_locks.try_lock(lock)
    except OSError:  # a file system without locks
        return True


def _wait(gpu: str, lock: int, reporter: Reporter) -> None:
    while not _try_lock(lock):
        reporter.phase(f"waiting: {_in_use(gpu)}")  # the next one may have it meanwhile
        time.sleep(_SECONDS_BETWEEN)
    reporter.finish()


@contextmanager
def _locking_later(lock: int) -> Iterator[None]:
    """Take a lock once it is free: a third run then sees that the GPU is in use."""
    ended = threading.Event()

    def take() -> None:
        while not ended.wait(_SECONDS_BETWEEN) and not _try_lock(lock):
            pass

    thread = threading.Thread(target=take, name="gpu lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _busy(gpu: str, *, may_wait: bool) -> Locked:
    wait = "--wait to start when it ends, or " if may_wait else ""
    stop = "".join(f"; dsk jobs stop {job.id} ends it" for job in users(gpu)[:1])
    return Locked(_in_use(gpu), hint=f"add {wait}--now to start beside it{stop}")


def _in_use(gpu: str) -> str:
    jobs_there = users(gpu)
    if not jobs_there:
        return f"{title(gpu)} is in use by another dsk run"
    job = jobs_there[0]
    what = f"dsk {job.verb}" + (f" ({job.title})" if job.title else "")
    more = f", and by {len(jobs_there) - 1:,} more" if len(jobs_there) > 1 else ""
    since = f"{datetime.fromtimestamp(job.gpus[gpu]):%Y-%m-%d %H:%M}"
    return f"{title(gpu)} is in use by {what} since {since}{more}"
