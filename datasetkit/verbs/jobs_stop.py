"""`dsk jobs stop`: ask a run to save what it needs to go on, and to end."""

from __future__ import annotations

from dataclasses import dataclass

from datasetkit.core.stopping import Request
from datasetkit.project.jobs import Job, find_running, request_stop


@dataclass(frozen=True, slots=True)
class StopJobResult:
    """The job that was asked to stop. how: `save`, or `now` for an end without saving."""

    job: Job
    how: Request


def stop_job(job_id: str = "", *, now: bool = False) -> StopJobResult:
    """Ask a job to stop; it does so after its optimizer step, or now, without saving.

    job_id: its id, or the beginning of it; without it the only job that runs. Raises InputError
    for no such job, StorageError.
    """
    how: Request = "now" if now else "save"
    job = find_running(job_id)
    request_stop(job, how)
    return StopJobResult(job, how)
