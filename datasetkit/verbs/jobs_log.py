"""`dsk jobs log`: what a job from the queue has printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.project import jobs
from datasetkit.project.jobs import Job


@dataclass(frozen=True, slots=True)
class JobLogResult:
    """The output of a job. file: where it is written; text: the last part of it."""

    job: Job
    file: Path
    text: str


# Of the log, which may be long.
_LAST = 64 * 1024


def job_log(job_id: str) -> JobLogResult:
    """Return the end of a job's log. job_id: its id, or the beginning of it.

    Raises InputError for a job that has none: its output went to the terminal where it was started.
    """
    job = jobs.find(job_id)
    path = jobs.folder_of(job).path_of(jobs.LOG)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            file.seek(max(0, size - _LAST))
            data = file.read(_LAST)
    except OSError as error:
        raise InputError(
            f"the job {job.id} has no log",
            hint="only jobs of the queue have one; the output of others is in their terminal",
        ) from error
    return JobLogResult(job, path, data.decode("utf-8", errors="replace"))
