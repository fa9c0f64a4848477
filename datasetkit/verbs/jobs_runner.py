"""`dsk jobs runner`: start the jobs of the queue, one after the other."""

from __future__ import annotations

from datasetkit.project import job_runner


def run_jobs() -> int:
    """Start the jobs of the queue until none is left; return how many were started.

    Adding a job does this in the background. Does nothing where another runner is running.
    """
    return job_runner.run()
