"""`dsk jobs ask`: let a training save or generate preview images after its step, and go on."""

from __future__ import annotations

from dataclasses import dataclass

from datasetkit.core.errors import InputError
from datasetkit.core.files import display
from datasetkit.core.ranges import one_of
from datasetkit.core.stopping import ACTIONS, Action
from datasetkit.project.jobs import Job, find_running, request_action


@dataclass(frozen=True, slots=True)
class AskJobResult:
    """The training that was asked, and for what."""

    job: Job
    action: Action


def ask_job(action: str, job_id: str = "") -> AskJobResult:
    """Ask a training to `save` or to `preview` after its optimizer step, and to go on.

    job_id: its id, or the beginning of it; without it the only job that runs. Raises ConfigError
    for another action, InputError for no such job and for one that is not a training, StorageError.
    """
    one_of("action", action, *ACTIONS)
    wanted = next(each for each in ACTIONS if each == action)
    job = find_running(job_id)
    if job.verb != "train":
        raise InputError(f"dsk {display(job.verb)} is not a training", hint="wait for its end")
    request_action(job, wanted)
    return AskJobResult(job, wanted)
