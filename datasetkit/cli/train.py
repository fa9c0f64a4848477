"""The command that trains: `dsk train`; with `--dry-run` it prints the plan alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from datasetkit.cli import interruption
from datasetkit.cli import options as opt
from datasetkit.cli.command import HOW, command
from datasetkit.cli.main import app

if TYPE_CHECKING:
    from datasetkit.api import RunContext
    from datasetkit.verbs.shared.training_plan import PlanTrainingResult
    from datasetkit.verbs.train import TrainResult

PANEL = "Train"
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=r"An option of \[train], before those of the files. Repeatable.",
    ),
]


@command(app, panel=PANEL)
def train(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A laid-out dataset (train/ and reg/), a dsk.toml, its folder, or a "
            "file of another trainer.",
        ),
    ] = Path(),
    config_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=r"Another trainer's file of options, instead of \[train] in dsk.toml.",
            show_default=False,
        ),
    ] = None,
    dataset_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="sd-scripts' dataset.toml, instead of DIR.", show_default=False
        ),
    ] = None,
    set_: Settings = None,
    allow_import: Annotated[
        bool,
        typer.Option(
            "--allow-import",
            help="Let optimizer_type and lr_scheduler_type of a file import any package.",
            rich_help_panel=HOW,
        ),
    ] = False,
    base_is_distilled: Annotated[
        bool,
        typer.Option(
            "--base-is-distilled",
            help="Train on a base that is distilled to few steps all the same.",
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest state in output_dir.")
    ] = False,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend",
            help="With --resume: take another number of steps, also where that changes the LR "
            "schedule.",
        ),
    ] = False,
    plot: Annotated[
        bool,
        typer.Option(
            "--plot", help="With --dry-run: write a plot of the LR schedule to output_dir."
        ),
    ] = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.WaitForGpu = False,
    now: opt.Now = False,
) -> None:
    """Train a LoRA for Stable Diffusion or a flow-matching transformer on a laid-out dataset;
    print the plan first.

    Example: dsk train dataset --set pretrained_model_name_or_path=v1-5-pruned.safetensors --dry-run
    """
    from datasetkit.cli import run, show_train
    from datasetkit.verbs.train import read_setting

    if config_file is None and dataset_config is None and not folder.is_file():
        opt.name_settings(folder)
    if plot and not dry_run:
        raise typer.BadParameter("--plot needs --dry-run: a run plots its rates in <name>-loss.png")
    settings = dict(read_setting(text) for text in set_ or ())
    if base_is_distilled:
        settings["base_is_distilled"] = True

    def plan_and_train(api: ModuleType, context: RunContext) -> TrainResult:
        plan = api.plan_training(
            folder,
            settings=settings,
            config_file=config_file,
            dataset_config=dataset_config,
            allow_import=allow_import,
            resume=resume,
            extend=extend,
            context=context,
        )
        if not json:
            show_train.plan(plan, context.dry_run)
        interruption.ask_when_interrupted(partial(_after_interruption, plan))
        result: TrainResult = api.train(plan, context, plot=plot)
        return result

    run.verb("train", plan_and_train, show_train.trained, json, dry_run, wait, now=now)


def _after_interruption(
    plan: PlanTrainingResult, arguments: Sequence[str]
) -> interruption.NextStep | None:
    """Return what an interrupted training left: the state that --resume goes on from, if any."""
    if "--dry-run" in arguments:
        return None
    from datasetkit.cli import show_train

    return show_train.next_step(plan, interruption.typed(arguments, "--resume"))
