"""`dsk jobs resume`: continue a training that was stopped, through the queue."""

from __future__ import annotations

from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.project import job_queue, job_runner, jobs
from datasetkit.project.jobs import Job

_RESUME = "--resume"


def resume_job(job_id: str) -> Job:
    """Add the training of a job to the queue again, with --resume. Returns the new job.

    job_id: its id, or the beginning of it. Raises InputError, StorageError.
    """
    job = jobs.find(job_id)
    if job.runs or job.state == "queued":
        raise InputError(
            f"the job {job.id} is {job.state}", hint="dsk jobs list shows those that have ended"
        )
    if job.argv[:1] != ("train",):
        raise InputError(
            f"the job {job.id} is not a training that dsk can continue",
            hint="dsk jobs list shows what it ran; the same command goes on where it stopped",
        )
    arguments = job.argv if _RESUME in job.argv else (*job.argv, _RESUME)
    added = job_queue.enqueue(arguments, Path(job.folder), config=jobs.frozen_config(job))
    job_runner.start()
    return added
