"""`dsk jobs add`: let a command wait in the queue until those before it are done."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.project import job_queue, job_runner
from datasetkit.project.jobs import Job

# Commands that ask, or show a page, or are done at once.
_NOT_QUEUED = frozenset({"jobs", "review", "studio", "undo", "history", "init"})


def add_job(
    command: Sequence[str],
    folder: Path | None = None,
    *,
    held: bool = False,
    title: str = "",
    config: tuple[Path, bytes] | None = None,
    after: Sequence[str] = (),
) -> Job:
    """Add a command line of `dsk` to the queue, and start the runner if none runs.

    command: without `dsk`. folder: where it runs, by default here. held: it waits until
    `hold_job(..., held=False)`. title: until it gives itself one. config: a dsk.toml and the text
    that the job reads in it; later edits of the file do not count. after: ids of jobs that must be
    done before it starts; if one of them fails, it fails too. Raises InputError, StorageError.
    """
    if not command or command[0] in _NOT_QUEUED or command[0].startswith("-"):
        raise InputError(
            f"{shlex.join(['dsk', *command])} cannot wait in the queue",
            hint="give a command that works by itself, such as: dsk jobs add train",
        )
    job = job_queue.enqueue(
        command,
        (folder or Path.cwd()).absolute(),
        held=held,
        title=title,
        config=config,
        after=after,
    )
    if not held:
        job_runner.start()
    return job
