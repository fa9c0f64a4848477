"""The command that trains: `dsk train`, and its plan without a step by `--dry-run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.main import app

if TYPE_CHECKING:
    from datasetkit.options.train import TrainOptions
    from trainer.plan.plan import TrainingPlan
    from trainer.run import TrainResult

PANEL = "Train"


@app.command(rich_help_panel=PANEL)
def train(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A laid-out dataset (train/ and reg/), or the folder of a dsk.toml.",
        ),
    ] = Path(),
    config_file: Annotated[
        Path | None,
        typer.Option(
            help=r"sd-scripts' config.toml, instead of \[train] in dsk.toml.", show_default=False
        ),
    ] = None,
    dataset_config: Annotated[
        Path | None,
        typer.Option(help="sd-scripts' dataset.toml, instead of DIR.", show_default=False),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help=r"An option of \[train]; stands above the files. Repeatable.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest state in output_dir.")
    ] = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Train a LoRA for Stable Diffusion 1.x, 2.x or XL on a laid-out dataset; print the plan
    first.

    Example: dsk train dataset --set pretrained_model_name_or_path=v1-5-pruned.safetensors --dry-run
    """
    from datasetkit.cli import console, run, show, train_plan
    from trainer.monitor.prompts import read as read_prompts

    given = _given(set_ or [])
    options, plan, ignored = planned(folder, config_file, dataset_config, given)
    read_prompts(options)  # what is wrong with them is said before the plan is
    shown = train_plan.look(options, plan, ignored)
    if not json:
        train_plan.show(shown)
        show.problems(plan.failed)
    result: TrainResult | None = None
    with console.bars() as reporter:
        for notice in plan.notices:
            reporter.warn(notice)
        if not dry_run:
            result = trained(options, plan, resume, wait, reporter)
    if json:
        told = train_plan.as_json(shown)
        console.show_json(
            {
                "verb": "train",
                "dry_run": dry_run,
                "plan": told,
                "failed": plan.failed,
                "result": result,
            }
        )
    elif result is not None:
        show_result(result)
    if run.failures(plan):
        raise typer.Exit(3)


def _given(pairs: list[str]) -> dict[str, Any]:
    from trainer.config import setting

    return dict(setting(pair) for pair in pairs)


def planned(
    folder: Path,
    config_file: Path | None,
    dataset_config: Path | None,
    given: dict[str, Any],
    *,
    processes: int = 1,
) -> tuple[TrainOptions, TrainingPlan, dict[str, str]]:
    """Read the options and the dataset; load nothing heavy. processes: that train together."""
    from datasetkit.options import toml
    from trainer import config as translation
    from trainer.plan.plan import find_subsets, make_plan

    if config_file is not None or dataset_config is not None:
        said = translation.translate(config_file, dataset_config, given)
        plan = make_plan(said.subsets, said.options, processes=processes, notices=said.notices)
        return said.options, plan, dict(said.ignored)
    project = toml.find(folder)
    options = translation.of_project(project, given)
    subsets, notices = find_subsets(translation.data_folder(folder, project), options)
    return options, make_plan(subsets, options, processes=processes, notices=notices), {}


def trained(
    options: TrainOptions, plan: TrainingPlan, resume: bool, wait: bool, reporter: Any
) -> TrainResult:
    """Train. Raises MissingExtra where what training needs is not installed."""
    from datasetkit.core.errors import MissingExtra

    try:
        from trainer import run
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"training needs the package {error.name}", hint='pip install "datasetkit[train]"'
        ) from error
    return run.train(options, plan, resume=resume, wait=wait, reporter=reporter)


def show_result(result: TrainResult) -> None:
    """Say what a run made."""
    from datasetkit.cli.console import counted, listed, say, warn

    new = result.steps - result.start
    pace = f", {result.seconds / new:.2f} s each" if new else ""
    say(
        f"trained {counted(new, 'step')}{pace}; loss {result.loss:.4f}; {result.modules} "
        "modules passed the gate"
    )
    listed([str(file) for file in result.files])
    say(f"{result.plot} and {result.metrics} show how it went", "dim")
    if result.samples is not None:
        say(f"{result.samples} shows what it draws", "dim")
    _show_held_out(result)
    for remark in result.remarks:
        warn(remark)


def _show_held_out(result: TrainResult) -> None:
    """Say how the held-out images did, and which step did best on them."""
    from datasetkit.cli.console import say, warn

    best, last = result.best, result.last
    if last is not None:
        change = f", {last.words()} against step 0" if last.words() else ""
        learnt = (
            "" if last.trained_change is None else f" (trained images: {last.trained_change:+.4f})"
        )
        say(f"held-out images: loss {last.loss:.4f}{change}{learnt}")
    if best is not None:
        say(f"best on them: step {best.step:,}, epoch {best.epoch:,}, loss {best.loss:.4f}")
        if best.change is not None and best.change >= 0:
            warn(
                "no step did better on the held-out images than the base: look at the learning rate"
            )
