"""`dsk jobs hold`: let a job wait until it is released."""

from __future__ import annotations

from datasetkit.project import job_queue, job_runner
from datasetkit.project.jobs import Job


def hold_job(job_id: str, *, held: bool = True) -> Job:
    """Let a job in the queue wait; held=False releases it. job_id: its id, or the beginning of it.

    Raises InputError, StorageError.
    """
    job = job_queue.hold(job_id, held)
    if not held:
        job_runner.start()
    return job
