"""Commands for the whole project: init, run, undo, history, models, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import HOW, CommandGroup, Given, command
from datasetkit.cli.main import app

PANEL = "The whole project"


@command(app, panel=PANEL)
def init(
    folder: opt.Here = Path(),
    images: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="The folder of raw images, as seen from the project; without it dsk looks for it.",
            show_default=False,
        ),
    ] = "",
    trigger: Annotated[
        str,
        typer.Option(
            help="The trigger of the first concept; without it dsk asks for it, where it can.",
            show_default=False,
        ),
    ] = "",
    example: Annotated[
        bool,
        typer.Option(
            "--example",
            help="Copy an example into a new folder: images, captions, and a dsk.toml that trains "
            "on the tiny base, in minutes on a CPU.",
        ),
    ] = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Write a commented dsk.toml to start from; an existing one is never overwritten.

    Example: dsk init --images photos --trigger MikamiYua
    """
    from datasetkit.cli import run, show_project

    if not trigger and not json and not example:
        trigger = show_project.ask_trigger(folder, images)
    run.verb(
        "init",
        lambda api, context: (
            api.init_example(folder, context)
            if example
            else api.init(folder, images, trigger, context)
        ),
        show_project.init,
        json,
        dry_run,
        wait,
    )


@command(app, "run", panel=PANEL)
def run_(
    config: Annotated[
        Path, typer.Argument(metavar="FILE", help="A dsk.toml, or its folder.")
    ] = Path("dsk.toml"),
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Run the steps of a dsk.toml: rename, faces, resize, cutout, tag, layout, ... Only what
    changed is redone.

    Example: dsk run dsk.toml
    """
    from datasetkit.cli import run, show_project

    each = None if json else show_project.step(dry_run)
    begins = None if json else show_project.step_begins
    run.verb(
        "run",
        lambda api, context: api.run(config, context, each, begins),
        show_project.run,
        json,
        dry_run,
        wait,
    )


@command(app, panel=PANEL)
def undo(
    folder: opt.Here = Path(),
    to: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Undo this command of the history, and all later ones.",
            show_default=False,
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Leave files that have changed since; undo the rest."),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Do not ask where the projects are below here.", rich_help_panel=HOW
        ),
    ] = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Undo the last command that changed something here. Files that have changed since then are
    left alone.

    In a folder above several projects, the newest command of them all is named, and undone if you
    agree.

    Example: dsk undo
    """
    from datasetkit.cli import run, show_project

    def settle(api: Any, context: Any) -> Any:
        root = folder
        if below := api.projects_below(folder):
            root = show_project.newest_below(below, to, ask=not yes and not dry_run)
        return api.undo(root, to, partial=partial, context=context)

    run.verb(
        "undo",
        settle,
        show_project.undo,
        json,
        dry_run,
        wait,
    )


@command(app, panel=PANEL)
def history(
    folder: opt.Here = Path(),
    recover: Annotated[
        bool,
        typer.Option("--recover", help="Show what an interrupted command has to do, and do it."),
    ] = False,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Drop an interrupted command; files stay as they are."),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do not ask before --recover or --forget.", rich_help_panel=HOW),
    ] = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """List what was done in this project, newest first; complete or drop an interrupted command.

    In a folder above several projects, the history of each is listed.

    Example: dsk history
    """
    from datasetkit.cli import run, show_project

    if not recover and not forget:
        run.look(
            "history",
            lambda api: api.projects_below(folder) or api.history(folder),
            show_project.history_or_histories,
            json,
        )
        return
    if recover and forget:
        raise typer.BadParameter("--recover completes what --forget drops: give one of them")

    def settle(api: Any, context: Any) -> Any:
        commands = api.interrupted(folder)
        show_project.interrupted(commands)
        if commands and not yes:
            show_project.confirm("complete this?" if recover else "drop this from the history?")
        change = api.recover if recover else api.forget
        return change(folder, [command.entry.id for command in commands], context)

    run.verb("history", settle, show_project.recovered, json, wait=wait)


@command(app, panel=PANEL, table="executor", only=("address",))
def doctor(folder: opt.Here = Path(), *, given: Given, json: opt.Json = False) -> None:
    """Check the installation: packages, inference, shipped models, disk, and the cluster of
    --executor; print a fix for each problem.

    Example: dsk doctor
    """
    from datasetkit.cli import run, show_project
    from datasetkit.core.errors import Exit

    folder = opt.folder_of(folder)
    executor = opt.executor_to_try(folder, given)
    result = run.look("doctor", lambda api: api.doctor(folder, executor), show_project.doctor, json)
    if not result.healthy:
        raise typer.Exit(Exit.MODEL)


jobs = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Long work on this machine: list it, stop it, and let more wait in the queue.\n\n"
    "Example: dsk jobs list",
)
app.add_typer(jobs, name="jobs", rich_help_panel=PANEL)

JobId = Annotated[
    str,
    typer.Argument(metavar="ID", help="An id from `dsk jobs list`, or its beginning."),
]
RunningJobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="An id from `dsk jobs list`, or its beginning; not needed if only one runs.",
        show_default=False,
    ),
]


@command(jobs, "list")
def jobs_list(json: opt.Json = False) -> None:
    """List the jobs of this user on this machine: those that wait or run, and the last ones that
    ended.

    Example: dsk jobs list
    """
    from datasetkit.cli import run, show_project

    run.look("jobs list", lambda api: api.jobs(), show_project.jobs_list, json)


@command(jobs, "add", takes_command=True)
def jobs_add(
    line: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND...", help="A command with its options, without `dsk`."),
    ],
    hold: Annotated[
        bool, typer.Option("--hold", help="Let it wait until `dsk jobs hold ID --release`.")
    ] = False,
    json: opt.Json = False,
) -> None:
    """Let a command wait in the queue. Jobs that fill a GPU run one at a time; the terminal may be
    closed.

    Example: dsk jobs add train kitsu
    """
    from datasetkit.cli import main, run, show_project

    main.require_valid(line)
    run.look("jobs add", lambda api: api.add_job(line, held=hold), show_project.jobs_add, json)


@command(jobs, "stop")
def jobs_stop(
    job: RunningJobId = "",
    now: Annotated[
        bool, typer.Option("--now", help="End at once, without saving a training state.")
    ] = False,
    json: opt.Json = False,
) -> None:
    """Ask a training to stop after its optimizer step, with a training state to go on from.

    Example: dsk jobs stop
    """
    from datasetkit.cli import run, show_project

    run.look("jobs stop", lambda api: api.stop_job(job, now=now), show_project.jobs_stop, json)


@command(jobs, "ask")
def jobs_ask(
    action: Annotated[
        str,
        typer.Argument(
            metavar="ACTION",
            help="`save`: write the LoRA and a training state; `preview`: generate the preview "
            "images of `sample_prompts`.",
        ),
    ],
    job: RunningJobId = "",
    json: opt.Json = False,
) -> None:
    """Let a training save or generate preview images after its optimizer step, and go on.

    Example: dsk jobs ask save
    """
    from datasetkit.cli import run, show_project

    run.look("jobs ask", lambda api: api.ask_job(action, job), show_project.jobs_ask, json)


@command(jobs, "resume")
def jobs_resume(job: JobId, json: opt.Json = False) -> None:
    """Continue a training that was stopped: its command waits in the queue again, with --resume.

    Example: dsk jobs resume 20261129T172600
    """
    from datasetkit.cli import run, show_project

    run.look("jobs resume", lambda api: api.resume_job(job), show_project.jobs_add, json)


@command(jobs, "log")
def jobs_log(job: JobId, json: opt.Json = False) -> None:
    """Print the end of what a job from the queue has printed.

    Example: dsk jobs log 20261129T172600
    """
    from datasetkit.cli import run, show_project

    run.look("jobs log", lambda api: api.job_log(job), show_project.jobs_log, json)


@command(jobs, "hold")
def jobs_hold(
    job: JobId,
    release: Annotated[
        bool, typer.Option("--release", help="Let a job that was held start in its turn.")
    ] = False,
    json: opt.Json = False,
) -> None:
    """Let a job in the queue wait until it is released.

    Example: dsk jobs hold 20261129T172600
    """
    from datasetkit.cli import run, show_project

    run.look(
        "jobs hold", lambda api: api.hold_job(job, held=not release), show_project.jobs_add, json
    )


@command(jobs, "move")
def jobs_move(
    job: JobId,
    place: Annotated[int, typer.Argument(min=1, help="The place in the queue; 1 is next.")],
    json: opt.Json = False,
) -> None:
    """Move a job to another place in the queue.

    Example: dsk jobs move 20261129T172600 1
    """
    from datasetkit.cli import run, show_project

    run.look("jobs move", lambda api: api.move_job(job, place), show_project.jobs_add, json)


@command(jobs, "remove")
def jobs_remove(job: JobId, json: opt.Json = False) -> None:
    """Take a job that has not begun out of the queue.

    Example: dsk jobs remove 20261129T172600
    """
    from datasetkit.cli import run, show_project

    run.look("jobs remove", lambda api: api.remove_job(job), show_project.jobs_remove, json)


@command(jobs, "runner")
def jobs_runner(json: opt.Json = False) -> None:
    """Start the jobs of the queue, one after the other, until none is left; `dsk jobs add` does so
    in the background.

    Example: dsk jobs runner
    """
    from datasetkit.cli import run, show_project

    run.look("jobs runner", lambda api: api.run_jobs(), show_project.jobs_runner, json)


models = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Taggers and captioners: list them, download one, print their folders.\n\n"
    "Example: dsk models download wd-swinv2-v3",
)
app.add_typer(models, name="models", rich_help_panel=PANEL)


@command(models, "list")
def models_list(json: opt.Json = False) -> None:
    """List the models by short name: repository, pinned revision, and whether it is downloaded.

    Example: dsk models list
    """
    from datasetkit.cli import run, show_project

    run.look("models list", lambda api: api.models(), show_project.models_list, json)


@command(models, "download")
def models_download(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help=r"A short name from `dsk models list`, or owner/repo\[@revision]."
        ),
    ],
    json: opt.Json = False,
) -> None:
    """Download a model at its pinned revision and verify its hash; an interrupted download is
    resumed.

    Example: dsk models download wd-swinv2-v3
    """
    from datasetkit.cli import run, show_project

    run.verb(
        "models download",
        lambda api, context: api.download(name, context),
        show_project.models_download,
        json,
    )


@command(models, "where")
def models_where(json: opt.Json = False) -> None:
    """Print the folders of the taggers.

    Example: dsk models where
    """
    from datasetkit.cli import run, show_project

    run.look("models where", lambda api: api.where(), show_project.models_where, json)
