"""The jobs of this user, for the page: what they are, their logs, and how they are changed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import DskError, InputError
from datasetkit.core.files import config_path, display, read_existing
from datasetkit.options.toml import find as find_config
from datasetkit.project import job_queue, job_runner, jobs
from datasetkit.project.jobs import Job
from datasetkit.verbs.jobs_add import add_job
from datasetkit.verbs.jobs_ask import ask_job
from datasetkit.verbs.jobs_hold import hold_job
from datasetkit.verbs.jobs_list import jobs as list_jobs
from datasetkit.verbs.jobs_resume import resume_job
from datasetkit.verbs.jobs_stop import stop_job
from datasetkit.verbs.studio.commands import StudioCommand
from datasetkit.verbs.studio.errors import NotFound
from datasetkit.verbs.studio.run_files import run_id
from datasetkit.verbs.studio.session import StudioSession

Json = dict[str, Any]
WHEN: Final = ("now", "queue", "held")
HOW: Final = ("save", "now", "kill")
MOST_BYTES: Final = 256 * 1024  # of a log, in one answer
_LAST: Final = 8 * 1024  # of the log of one job


def all_jobs(session: StudioSession) -> list[Json]:
    """Return the jobs of this user: the queue, then those that run and that ended, newest first."""
    return [view(session, job) for job in list_jobs()]


def count_left() -> int:
    """Return how many jobs of this user run, or are going to: those of the queue that are not
    held.
    """
    return sum(job.runs or (job.state == "queued" and not job.held) for job in list_jobs())


def view(session: StudioSession, job: Job) -> Json:
    """Return a job as plain data."""
    progress = job.progress
    return {
        "id": job.id,
        "state": job.state,
        "verb": job.verb,
        "title": job.title,
        "command": job.command,
        "folder": job.folder,
        "here": is_here(session, job),
        "started": job.started,
        "code": job.code,
        "reason": job.reason,
        "lane": job.lane,
        "place": job.place,
        "held": job.held,
        "after": list(job.after),
        "run": None if job.run is None else run_id(Path(job.run[0]), job.run[1]),
        "stop": None
        if job.asked is None or not job.runs
        else {"how": job.asked[0], "seconds": max(0, round(time.time() - job.asked[1]))},
        "asked": list(jobs.pending_actions(job)) if job.runs else [],
        "progress": None
        if progress is None
        else {
            "phase": progress.phase,
            "done": progress.done,
            "of": progress.of,
            "per_second": progress.per_second,
            "seconds_left": progress.seconds_left,
            "note": progress.note,
            "time": progress.time,
        },
    }


def is_here(session: StudioSession, job: Job) -> bool:
    """Tell whether a job works in this project."""
    project = session.roots.project
    places = [job.folder, *([job.run[0]] if job.run else [])]
    return any(Path(place).is_relative_to(project) for place in places if place)


def find(session: StudioSession, job_id: str) -> Job:
    """Return the job of an id. Raises NotFound."""
    for job in list_jobs():
        if job.id == job_id:
            return job
    raise NotFound(f"there is no job {display(job_id)}", hint="it may have been forgotten")


def start(session: StudioSession, commands: Sequence[StudioCommand], when: str) -> list[Json]:
    """Add commands to the queue, each after those before it, with the options that dsk.toml has
    now. when: `now` puts them at the front, and they start as soon as their device is free. Raises
    InputError; then none of them is in the queue.
    """
    if when not in WHEN:
        raise InputError(f"when must be one of {', '.join(WHEN)}")
    path = config_path(session.root)
    data = None if path is None else read_existing(path)
    config = None if path is None or data is None else (path, data)
    added: list[str] = []
    try:
        for command in commands:
            job = add_job(
                command.words, session.roots.project, held=True, title=_title(session, command),
                config=config, after=added,
            )  # fmt: skip
            added.append(job.id)
    except DskError:
        for job_id in added:
            job_queue.remove(job_id)
        raise
    if when == "now":
        first = _first_place(session, added)
        for job_id in reversed(added):
            job_queue.move(job_id, first)
    if when != "held":
        for job_id in added:
            job_queue.hold(job_id, False)
        job_runner.start()
    return [view(session, find(session, job_id)) for job_id in added]


def _title(session: StudioSession, command: StudioCommand) -> str:
    """Return what a training is called until it has read its options; "" for other commands."""
    if command.verb == "train":
        with suppress(DskError):
            return str(find_config(session.root).table("train").get("output_name", ""))
    return ""


def _first_place(session: StudioSession, added: Sequence[str]) -> int:
    """Return the place of a command that runs before all others that wait, but for those that
    change the project: it comes after them.
    """
    return 1 + max(
        (
            job.place
            for job in job_queue.queue()
            if job.id not in added
            and not job.held
            and job.folder == str(session.roots.project)
            and job_runner.changes_its_folder(job)
        ),
        default=0,
    )


def stop(session: StudioSession, job_id: str, how: str) -> Json:
    """Ask a job to stop, or kill it. Raises InputError for one that does not run."""
    if how not in HOW:
        raise InputError(f"how must be one of {', '.join(HOW)}")
    job = find(session, job_id)
    if how != "kill":
        stop_job(job.id, now=how == "now")
    elif not jobs.kill(jobs.find_running(job.id)):
        raise InputError(
            f"the process of the job {job.id} is not known for certain, so it is not killed",
            hint="end it yourself in a terminal",
        )
    return view(session, find(session, job_id))


def ask(session: StudioSession, job_id: str, action: str) -> Json:
    """Ask a training to save or to generate preview images after its step, and to go on. Raises
    ConfigError for another action, InputError for a job that does not run or is not a training.
    """
    ask_job(action, find(session, job_id).id)
    return view(session, find(session, job_id))


def log(session: StudioSession, job_id: str, start_at: int | None = None) -> Json:
    """Return a part of the log of a job. start_at: the first byte; None: its end. Raises NotFound
    for a job that has no log.
    """
    job = find(session, job_id)
    text = read_log(job, start_at, MOST_BYTES if start_at is not None else _LAST)
    if text is None:
        raise NotFound(
            f"the job {job.id} has no log",
            hint="the output of a command that was started in a terminal is there",
        )
    return text


def read_log(job: Job, start_at: int | None, most: int) -> Json | None:
    """Return {"from", "to", "size", "text"} of a log; None without one. What is not whole yet at
    the end, such as a part of a letter, comes with the next part.
    """
    folder = jobs.folder_of(job).path
    if folder is None:
        return None
    try:
        with (folder / jobs.LOG).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = max(0, size - most) if start_at is None else min(start_at, size)
            file.seek(begin)
            data = file.read(most)
    except OSError:
        return None
    text = data.decode("utf-8", "ignore" if start_at is None else "replace")
    if begin + len(data) < size or start_at is not None:
        whole = _whole(data)
        text, data = whole.decode("utf-8", "replace"), whole
    return {"from": begin, "to": begin + len(data), "size": size, "text": text}


def _whole(data: bytes) -> bytes:
    """Return bytes without a letter at the end that is not complete."""
    for length in range(1, min(4, len(data)) + 1):
        byte = data[-length]
        if byte & 0xC0 == 0xC0:  # the first byte of a letter
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-length] if needs > length else data
        if byte & 0x80 == 0:
            return data
    return data


def changes(before: Mapping[str, Json], now: list[Json]) -> tuple[list[Json], list[str]]:
    """Return the jobs that are new or differ, and the ids of those that are gone."""
    changed = [job for job in now if before.get(job["id"]) != job]
    return changed, sorted(set(before) - {job["id"] for job in now})


def resume(session: StudioSession, job_id: str) -> Json:
    """Add the training of a job to the queue again, with --resume. Raises InputError."""
    return view(session, find(session, resume_job(find(session, job_id).id).id))


def forget(session: StudioSession, job_id: str) -> Json:
    """Delete what is recorded of a job that ended. Raises InputError for one that did not."""
    job = find(session, job_id)
    jobs.forget(job)
    return view(session, job)


def remove(session: StudioSession, job_id: str) -> Json:
    """Take a job out of the queue. Raises InputError."""
    return view(session, job_queue.remove(find(session, job_id).id))


def hold(session: StudioSession, job_id: str, held: bool) -> Json:
    """Let a job wait until it is released, or release it. Raises InputError."""
    return view(session, hold_job(find(session, job_id).id, held=held))


def order(session: StudioSession, job_id: str, place: int) -> Json:
    """Move a job to a place in the queue, 1 for the next one. Raises InputError."""
    return view(session, job_queue.move(find(session, job_id).id, place))
