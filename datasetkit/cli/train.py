"""The command that trains: `dsk train`, and its plan without a step by `--dry-run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.main import app

if TYPE_CHECKING:
    from datasetkit.core.config import TrainOptions
    from trainer.plan import TrainPlan
    from trainer.run import Trained

PANEL = "Train"


@app.command(rich_help_panel=PANEL)
def train(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A laid-out data set (train/ and reg/), or the folder of a dsk.toml.")
    ] = Path(),
    config_file: Annotated[
        Path | None, typer.Option(help=r"sd-scripts' config.toml, instead of \[train] in dsk.toml.", show_default=False)
    ] = None,
    dataset_config: Annotated[
        Path | None, typer.Option(help="sd-scripts' dataset.toml, instead of DIR.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help=r"An option of \[train]; stands above the files. Repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest state in output_dir.")] = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Train a LoRA for Stable Diffusion 1.x on a laid-out data set; print the plan first.

    Example: dsk train dataset --set pretrained_model_name_or_path=v1-5-pruned.safetensors --dry-run
    """
    from datasetkit.cli import console, run, show, train_plan
    from trainer.prompts import read as read_prompts

    given = _given(set_ or [])
    options, plan, ignored = _planned(folder, config_file, dataset_config, given)
    read_prompts(options)  # what is wrong with them is said before the plan is
    shown = train_plan.look(options, plan, ignored)
    if not json:
        train_plan.show(shown)
        show.problems(plan.failed)
    result: Trained | None = None
    with console.bars() as reporter:
        for notice in plan.notices:
            reporter.warn(notice)
        if not dry_run:
            result = _trained(options, plan, resume, wait, reporter)
    if json:
        told = train_plan.as_json(shown)
        console.show_json({"verb": "train", "dry_run": dry_run, "plan": told, "failed": plan.failed, "result": result})
    elif result is not None:
        _show_result(result)
    if run.failures(plan):
        raise typer.Exit(3)


def _given(pairs: list[str]) -> dict[str, Any]:
    from trainer.config import setting

    return dict(setting(pair) for pair in pairs)


def _planned(
    folder: Path, config_file: Path | None, dataset_config: Path | None, given: dict[str, Any]
) -> tuple[TrainOptions, TrainPlan, dict[str, str]]:
    """Read the options and the data set; load nothing heavy."""
    from datasetkit.core import config
    from trainer import config as translation
    from trainer.plan import find_subsets, make_plan

    if config_file is not None or dataset_config is not None:
        said = translation.translate(config_file, dataset_config, given)
        return said.options, make_plan(said.subsets, said.options, notices=said.notices), dict(said.ignored)
    project = config.find(folder)
    options = translation.of_project(project, given)
    subsets, notices = find_subsets(translation.data_folder(folder, project), options)
    return options, make_plan(subsets, options, notices=notices), {}


def _trained(options: TrainOptions, plan: TrainPlan, resume: bool, wait: bool, reporter: Any) -> Trained:
    from datasetkit.core.errors import MissingExtra

    try:
        from trainer import run
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"training needs the package {error.name}", hint='pip install "datasetkit[train]"'
        ) from error
    return run.train(options, plan, resume=resume, wait=wait, reporter=reporter)


def _show_result(result: Trained) -> None:
    from datasetkit.cli.console import counted, listed, say, warn

    new = result.steps - result.start
    pace = f", {result.seconds / new:.2f} s each" if new else ""
    say(f"trained {counted(new, 'step')}{pace}; loss {result.loss:.4f}; {result.modules} modules passed the gate")
    listed([str(file) for file in result.files])
    say(f"{result.plot} and {result.metrics} show how it went", "dim")
    if result.samples is not None:
        say(f"{result.samples} shows what it draws", "dim")
    for remark in result.remarks:
        warn(remark)
