"""What init, run, undo, history, models and doctor print for people."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer
from rich.text import Text

from datasetkit.cli import show_dataset, show_images, show_prepare
from datasetkit.cli.console import counted, remark, say, table, time_left, warn
from datasetkit.cli.show import from_here
from datasetkit.cli.show_prepare import FALLBACK
from datasetkit.core.errors import InputError
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.verbs.doctor import DoctorResult
    from datasetkit.verbs.init import InitResult
    from datasetkit.verbs.jobs_ask import AskJobResult
    from datasetkit.verbs.jobs_log import JobLogResult
    from datasetkit.verbs.jobs_stop import StopJobResult
    from datasetkit.verbs.models_download import DownloadedModel
    from datasetkit.verbs.models_where import ModelFolders
    from datasetkit.verbs.run import RunResult, RunStepResult
    from datasetkit.verbs.shared.result_types import (
        InterruptedCommand,
        Job,
        JournalEntry,
        ModelRow,
        ProjectHistory,
        RecoverResult,
        UndoResult,
    )

# What prints the result of each step of a run.
_STEPS: dict[str, Callable[[Any, bool], None]] = {
    "rename": show_prepare.rename,
    "faces": show_images.faces,
    "resize": show_prepare.resize,
    "cutout": show_images.cutout,
    "tag": show_prepare.tag,
    "caption": show_prepare.caption,
    "layout": show_dataset.layout,
    "reg": show_dataset.reg,
    "report": show_dataset.report,
    "export": show_dataset.export,
}


def init(result: InitResult, dry_run: bool) -> None:
    verb = "would write" if dry_run else "wrote"
    edit = f"its trigger is {display(', '.join(result.trigger))}; edit it"
    if not result.trigger:
        edit = 'write the subject\'s trigger into its line `# trigger = ["NAME"]`'
    say(f"{verb} {from_here(result.path)}: {edit}, then dsk run dsk.toml")
    if not result.images.is_dir():
        warn(
            f"{from_here(result.images)} does not exist yet: put your images there, or write their "
            "folder into the line `folder` of [[concept]]"
        )


def ask_trigger(folder: Path, images: str) -> str:
    """Ask a person for the trigger; "" where nobody can answer."""
    if not sys.stdin.isatty():
        return ""
    from datasetkit.verbs.init import images_folder, suggested_trigger

    suggested = suggested_trigger(folder / (images or images_folder(folder)))
    question = "trigger: a word without a meaning that stands for the subject (Enter for none)"
    if suggested:
        question = "trigger: a word without a meaning that stands for the subject"
    return str(typer.prompt(question, default=suggested, show_default=bool(suggested), err=True))


def step_begins(step: str, concept: str) -> None:
    """Print the heading of a step of a run, before the step's own warnings."""
    say(f"== {step} {concept}".strip(), "bold cyan")


def step(dry_run: bool) -> Callable[[RunStepResult], None]:
    """Return what prints one step of a run as it ends."""

    def show(result: RunStepResult) -> None:
        _STEPS[result.step](result.result, dry_run)

    return show


def run(result: RunResult, dry_run: bool) -> None:
    failed = len(result.failed)
    say("")
    if failed:
        outcome = f"{counted(failed, 'item')} failed"
    else:
        outcome = "dry run, nothing changed" if dry_run else "all done"
    say(f"{counted(len(result.steps), 'step')} in {display(result.root)}: {outcome}", "bold")
    for path in result.strays:
        say(
            f"{from_here(path)} belongs to no concept of dsk.toml: captions that you edited there "
            "are not used"
        )
    if result.unforeseen:
        say(f"cannot be predicted before those steps are run: {', '.join(result.unforeseen)}")
    if result.fallback:
        say(FALLBACK, "yellow")


def undo(result: UndoResult, dry_run: bool) -> None:
    verb = "would undo" if dry_run else "undid"
    for entry in result.entries:
        number = counted(entry.operations, "file operation")
        say(f"{verb} {entry.verb} {entry.title} (history {entry.id}, {number})")
    if not result.entries:
        say("nothing to undo")
    for line in result.refused:
        warn(f"not undone: {line}")


def history(result: Sequence[JournalEntry]) -> None:
    if not result:
        say("no command has changed anything here")
        return
    rows = [
        (
            entry.id,
            _when(entry.started),
            entry.verb,
            entry.title.removeprefix("undo "),
            f"{entry.operations:,}",
            entry.state,
        )
        for entry in result
    ]
    columns = ["#", "when", "command", "what", "operations", "state"]
    table("", columns, rows, right=["#", "operations"])
    if any(entry.state == "open" for entry in result):
        remark("open: interrupted, or running now; dsk history --recover completes it")


def history_or_histories(result: Sequence[JournalEntry] | Sequence[ProjectHistory]) -> None:
    """Print the history of a project, or those of the projects below a folder."""
    projects = [project for project in result if not hasattr(project, "verb")]
    if not projects:
        history(cast("Sequence[JournalEntry]", result))
    for project in cast("Sequence[ProjectHistory]", projects):
        say(from_here(project.root), "bold")
        if project.problem:
            warn(project.problem)
        else:
            history(project.entries)


def newest_below(histories: Sequence[ProjectHistory], to: int | None, *, ask: bool) -> Path:
    """Name the newest command of several projects, and ask whether to undo it; return its project.

    Raises InputError for a no, and where nothing or no single command can be named.
    """
    folders = ", ".join(from_here(project.root) for project in histories)
    if to is not None:
        raise InputError(
            f"each folder has a history of its own: {folders}",
            hint=f"name the folder: dsk undo {_quoted(histories[0].root)} --to {to}",
        )
    commands = [(p.newest.started, p) for p in histories if p.newest is not None]
    if not commands:
        raise InputError(f"nothing can be undone in {folders}")
    project = max(commands, key=lambda command: command[0])[1]
    entry = project.newest
    if any(other.state == "open" for other in project.entries):
        raise InputError(
            f"a command was interrupted in {from_here(project.root)}",
            hint=f"dsk history --recover {_quoted(project.root)} completes it",
        )
    if entry is not None:
        remark(
            f"the newest command below this folder: {entry.verb} {entry.title}, "
            f"{_when(entry.started)}, in {from_here(project.root)} (history {entry.id})"
        )
    if ask:
        confirm("undo this?", f"add --yes, or name the folder: dsk undo {_quoted(project.root)}")
    return project.root


def _quoted(folder: Path) -> str:
    return shlex.quote(from_here(folder))


def _when(started: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(started))


def interrupted(result: Sequence[InterruptedCommand]) -> None:
    """Print on stderr what interrupted commands have to do."""
    for command in result:
        entry = command.entry
        origin = "" if command.signed else ", not signed by you in this folder"
        remark(f"interrupted: {entry.verb} {entry.title} (history {entry.id}{origin})")
        for line in command.operations:
            remark(f"  {line}")
        for path in command.outside if not command.signed else ():
            warn(f"outside of the project: {path}")


def confirm(question: str, hint: str = "add --yes if you have read the above") -> None:
    """Ask a person to go on. Raises InputError for a no, and where nobody can answer."""
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked here", hint=hint)
    if not typer.confirm(question, err=True):
        raise InputError("nothing was changed")


def recovered(result: RecoverResult, dry_run: bool) -> None:
    for line in result.lines:
        say(line)
    if not result.lines:
        say("no command was interrupted here")
    for path in result.leftovers:
        warn(f"{from_here(path)} keeps its temporary name: rename it, or delete it")


def jobs_list(result: Sequence[Job]) -> None:
    if not result:
        say("no job has run on this machine yet, or none is recorded any more")
        return
    rows = [
        (job.id, _job_state(job), _local_time(job.started), job.title or job.command or job.verb)
        for job in result
    ]
    table("", ["id", "state", "started", "what"], rows)


def _job_state(job: Job) -> str:
    """Return the state, with what makes it useful: the place in the queue, or how far it is."""
    if job.state == "queued":
        return f"held, {job.place}" if job.held else f"queued, {job.place}"
    progress = job.progress
    if not job.runs or progress is None or not progress.phase:
        return job.state
    if not progress.of:
        return f"{job.state}: {progress.phase}"
    share = f"{job.state}, {progress.done / progress.of:.0%}"
    left = progress.seconds_left
    return share if left is None else f"{share}, {time_left(left)}"


def jobs_add(job: Job) -> None:
    if job.held:
        say(f"{job.id} is held at place {job.place} of the queue: {job.command}")
    else:
        say(f"{job.id} waits at place {job.place} of the queue: {job.command}")


def jobs_remove(job: Job) -> None:
    say(f"{job.id} is no longer in the queue: {job.command}")


def jobs_runner(count: int) -> None:
    say(f"{counted(count, 'job')} started; no job waits any more")


def jobs_log(result: JobLogResult) -> None:
    # A bar that was redrawn is its last state.
    for line in result.text.rstrip().split("\n"):
        say(line.rstrip("\r").rpartition("\r")[2])


def jobs_stop(result: StopJobResult) -> None:
    job = result.job
    if result.how == "now":
        say(f"{job.id} was asked to end now, without saving")
        return
    say(
        f"{job.id} was asked to stop: it finishes its optimizer step and saves a training state; "
        "while it loads a model or encodes images, it ends at once"
    )


def jobs_ask(result: AskJobResult) -> None:
    does = {"save": "saves the LoRA and a state", "preview": "generates preview images"}
    say(f"{result.job.id}: after this step it {does[result.action]}, and goes on")


def _local_time(utc: str) -> str:
    return datetime.fromisoformat(utc).astimezone().strftime("%Y-%m-%d %H:%M") if utc else ""


def models_list(result: Sequence[ModelRow]) -> None:
    rows = [("basic", "part of the package", "", "shipped")]
    rows += [(m.name, m.repo, m.revision[:8], "downloaded" if m.cached else "-") for m in result]
    table("", ["name", "repository", "revision", "files"], rows)


def models_download(result: DownloadedModel, dry_run: bool) -> None:
    say(f"{display(result.weights)}: downloaded, hash verified")


def models_where(result: ModelFolders) -> None:
    say(f"hub cache: {display(result.hub_cache)}")
    say(f"shipped:   {display(result.shipped)}")


def doctor(result: DoctorResult) -> None:
    styles = {"ok": "green", "note": "yellow", "problem": "bold red"}
    rows = [
        (f.what, Text(f.state, styles[f.state]), f.detail + (f"  ->  {f.fix}" if f.fix else ""))
        for f in result.findings
    ]
    table("", ["what", "state", "detail"], rows)
    summary = (
        "everything that dsk needs is installed"
        if result.healthy
        else "something is missing: see the problems above"
    )
    say(summary, "bold")
