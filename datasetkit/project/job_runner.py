"""The runner of the queue: a process of its own that starts the jobs one after the other.

It is started by whoever adds a job, and ends when nothing is left to start. It may be killed
without harm: jobs have a session of their own, so they go on, and their locks show that they run;
the next runner starts what is next, and each job that ends and each open studio sees to it that
there is one. Nothing depends on it but who starts the next job, and that the exit code of a job
that was killed is known.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import DskError
from datasetkit.core.files import display
from datasetkit.project import job_locks, job_queue, jobs
from datasetkit.project.jobs import Job, JobFolder

_LOCK: Final = "runner.lock"
# What works beside other commands of its project.
_UNLOCKED: Final = frozenset({"train", "find-lr", "models download"})
# How a job ends that has not done its work, so that none which comes after it starts.
_ENDS: Final = {"failed": "failed", "stopped": "was stopped", "lost": "ended without a record"}
_LARGEST_LOG: Final = 20 * 2**20  # bytes
_SECONDS_BETWEEN: Final = 0.5
_JOB: Final = (sys.executable, "-m", "datasetkit.cli.job")
_RUNNER: Final = (sys.executable, "-m", "datasetkit", "jobs", "runner")


def start() -> bool:
    """Start a runner if none runs; tell whether one was started.

    A runner looks at the queue once more after it has freed its lock: so a job that was added
    before is seen by it, or by the one that is started here.
    """
    if job_locks.is_held(_lock_path()):
        return False
    runner = subprocess.Popen(
        _RUNNER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **_apart()
    )
    # A server outlives its runner, which the system keeps until somebody asks how it ended.
    threading.Thread(target=runner.wait, name="dsk-runner", daemon=True).start()
    return True


def start_waiting() -> None:
    """Start a runner if a job waits and none runs, as after one that was killed."""
    with suppress(DskError, OSError):
        if not _all_rest(job_queue.queue()):
            start()


def run() -> int:
    """Start the jobs of the queue until none is left that may start; return how many were started.
    Does nothing where another runner is running.
    """
    count = 0
    while not _all_rest(job_queue.queue()):
        with _alone() as is_alone:
            if not is_alone:
                return count
            count += _Runner().run()
    return count


class _Runner:
    """A runner that holds the lock. children: the jobs that it has started."""

    def __init__(self) -> None:
        self._children: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}

    def run(self) -> int:
        count = 0
        while True:
            self._collect()
            self._refuse()
            entries = [e for e in job_queue.queue() if e.id not in self._children]
            entry = _next(entries, [job for job, _ in self._children.values()])
            if entry is not None:
                count += self._start(entry)
            elif not self._children and _all_rest(entries):
                return count
            else:
                time.sleep(_SECONDS_BETWEEN)

    def _start(self, job: Job) -> int:
        """Start a job; return 1, or 0 where its folder is missing, for example."""
        folder = _folder(job)
        try:
            with (folder.path_of(jobs.LOG)).open("ab") as log:
                child = subprocess.Popen(
                    [*_JOB, job.id], cwd=job.folder, stdout=log, stderr=log, **_apart()
                )
        except (OSError, ValueError) as error:
            job_queue.take(job.id)
            folder.end(1, f"it could not be started: {display(str(error))}")
            return 0
        self._children[job.id] = (job, child)
        return 1

    def _refuse(self) -> None:
        """End the jobs that come after one which did not do its work: they never start."""
        for entry in job_queue.queue():
            if entry.id not in self._children and (reason := self._refusal(entry)):
                _folder(entry).end(1, reason)
                job_queue.take(entry.id)

    def _refusal(self, entry: Job) -> str:
        """Return why a job of the queue can never start, "" where it can."""
        by_id = {job.id: job for job in jobs.list_jobs()} if entry.after else {}
        for job_id in entry.after:
            job = by_id.get(job_id)
            if job is None:
                return "not started: the command before it was taken out of the queue"
            # The end of a job that this runner has started is recorded in a moment.
            if job.state in _ENDS and job.id not in self._children:
                why = f": {job.reason}" if job.reason else ""
                return f"not started: {job.command} {_ENDS[job.state]}{why}"
        return ""

    def _collect(self) -> None:
        """Record the end of jobs that did not do so themselves. A job leaves the queue once its
        process has registered: before, it would be taken for one that was lost.
        """
        for job, child in list(self._children.values()):
            _cap_log(_folder(job))
            code = child.poll()
            if code is not None and not os.path.lexists(_folder(job).path_of(jobs.END)):
                reason = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                _folder(job).end(128 - code if code < 0 else code, reason)
            if code is not None or jobs.has_begun(job):
                job_queue.take(job.id)
            if code is not None:
                del self._children[job.id]


def _next(entries: Sequence[Job], started: Sequence[Job] = ()) -> Job | None:
    """Return the first job whose lane and folder are free, and which comes after none that is not
    done. A job that waits holds up those of its lane behind it, and one that changes its folder
    those behind it in that folder.
    """
    running = [*(job for job in jobs.list_jobs() if job.runs), *started]
    busy = {job.lane for job in running}
    changing = {job.folder for job in running if changes_its_folder(job)}
    resting = _resting(entries)
    ahead = {job.id for job in running}
    unfinished = ahead | {entry.id for entry in entries}
    for entry in entries:
        if entry.id in resting:
            continue
        awaited = unfinished.intersection(entry.after)
        if not awaited <= ahead:
            continue  # somebody has moved it before them: holding them up, it would wait forever
        has_lane = entry.lane == "io" or entry.lane not in busy
        if has_lane and not awaited and entry.folder not in changing:
            return entry
        if awaited:  # they are short: a training behind it must not take its lane meanwhile
            busy.add(entry.lane)
        if changes_its_folder(entry):
            changing.add(entry.folder)
        ahead.add(entry.id)
    return None


def _resting(entries: Sequence[Job]) -> set[str]:
    """Return the ids of the jobs that are held, and of those that come after one of them."""
    ids: set[str] = set()
    more = {entry.id for entry in entries if entry.held}
    while more - ids:
        ids |= more
        more = {entry.id for entry in entries if not ids.isdisjoint(entry.after)}
    return ids


def _all_rest(entries: Sequence[Job]) -> bool:
    """Tell whether nothing is left to start, or to end because of a job before it."""
    resting = _resting(entries)
    return all(entry.id in resting for entry in entries)


def changes_its_folder(job: Job) -> bool:
    """Tell whether a job locks its project. Others in it wait for their turn: started at once they
    would end, since the project is locked, and a layout before its resize would be another one.
    """
    return job.verb not in _UNLOCKED


def _cap_log(folder: JobFolder) -> None:
    """Move what a log has to a second file when it is large; the job goes on writing at its
    beginning, as it only appends.
    """
    path = folder.path_of(jobs.LOG)
    try:
        if path.stat().st_size < _LARGEST_LOG:
            return
        shutil.copyfile(path, path.with_name(f"{jobs.LOG}.1"))
        os.truncate(path, 0)
    except OSError:
        return  # a full disk: the job fails by itself


def _folder(job: Job) -> JobFolder:
    return jobs.folder_of(job)


def _apart() -> dict[str, Any]:
    """Return how a process is started that outlives this one, its terminal and its console."""
    apart: dict[str, Any] = {"stdin": subprocess.DEVNULL, "close_fds": True}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {**apart, "creationflags": flags | subprocess.CREATE_BREAKAWAY_FROM_JOB}
    return {**apart, "start_new_session": True}


def _lock_path() -> Path:
    folder = jobs.queue_folder()
    assert folder is not None  # a job was added there
    return folder.parent / _LOCK


@contextmanager
def _alone() -> Iterator[bool]:
    """Hold the runner's lock if it is free; yield whether it is held."""
    descriptor = os.open(_lock_path(), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield job_locks.try_lock(descriptor)
    finally:
        os.close(descriptor)
