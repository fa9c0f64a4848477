"""`dsk jobs remove`: take a job out of the queue."""

from __future__ import annotations

from datasetkit.project import job_queue
from datasetkit.project.jobs import Job


def remove_job(job_id: str) -> Job:
    """Take a job that has not begun out of the queue. job_id: its id, or the beginning of it.

    Raises InputError, StorageError.
    """
    return job_queue.remove(job_id)
