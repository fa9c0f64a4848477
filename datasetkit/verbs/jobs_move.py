"""`dsk jobs move`: change the order of the queue."""

from __future__ import annotations

from datasetkit.project import job_queue
from datasetkit.project.jobs import Job


def move_job(job_id: str, place: int) -> Job:
    """Move a job to a place in the queue, 1 for the next one. job_id: its id, or the beginning of
    it. Raises InputError, StorageError.
    """
    return job_queue.move(job_id, place)
