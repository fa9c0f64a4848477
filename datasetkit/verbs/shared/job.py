"""The job that a command is: registered while it runs, with its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from datasetkit.core import toml_text
from datasetkit.core.progress import Reporter
from datasetkit.project import job_runner, jobs
from datasetkit.project.job_progress import JobReporter
from datasetkit.project.jobs import JobFolder

# Commands that `dsk jobs` lists: those that may take long. Training registers itself.
_LONG: Final = frozenset(
    {
        "caption", "check", "cutout", "faces crop", "faces erase", "faces list", "find-lr", "grid",
        "layout", "models download", "reg generate", "resize", "run", "tag",
    }
)  # fmt: skip


@contextmanager
def registered(command: str, reporter: Reporter, *, dry_run: bool) -> Iterator[Reporter]:
    """Register a command that may take long as a job; yield the reporter that records its
    progress.
    """
    if dry_run or command not in _LONG:
        yield reporter
        return
    with registered_job(command, "") as job:
        yield JobReporter(reporter, job)


@contextmanager
def registered_job(verb: str, title: str) -> Iterator[JobFolder]:
    """Register a job while it runs. At its end the next one of the queue starts, also where the
    runner was killed meanwhile.
    """
    try:
        with jobs.registered(verb, title) as job:
            yield job
    finally:
        job_runner.start_waiting()


def execute(job_id: str, run: Callable[[list[str]], int]) -> int:
    """Be the process of a job of the queue: run its command line, record how it ends, and return
    its exit code. Raises InputError for no such job.
    """
    code = 1
    with jobs.executing(job_id) as job, ExitStack() as stack:
        try:
            spec = jobs.find(job_id)
            if (frozen := jobs.frozen_config(spec)) is not None:
                stack.enter_context(toml_text.frozen(*frozen))
            code = run(list(spec.argv))
        finally:
            job.end(code)
    job_runner.start_waiting()
    return code
