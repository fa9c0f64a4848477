"""`dsk jobs list`: the long runs of this user on this machine."""

from __future__ import annotations

from datasetkit.project.jobs import Job, list_jobs


def jobs() -> tuple[Job, ...]:
    """Return the jobs that run, and the last ones that ended; the newest first."""
    return list_jobs()
