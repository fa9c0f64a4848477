"""`dsk jobs list`: the long runs of this user on this machine, and the queue."""

from __future__ import annotations

from dataclasses import replace

from datasetkit.project import job_progress, job_queue
from datasetkit.project.jobs import Job, JobProgress, folder_of, list_jobs


def jobs() -> tuple[Job, ...]:
    """Return the jobs that wait in their order, then those that run and the last ones that ended,
    the newest first.
    """
    waiting = job_queue.queue()
    begun = [job for job in list_jobs() if job.state != "queued"]
    return (*waiting, *(replace(job, progress=_progress(job)) for job in begun))


def _progress(job: Job) -> JobProgress | None:
    path = folder_of(job).path
    return None if path is None else job_progress.read(path)
