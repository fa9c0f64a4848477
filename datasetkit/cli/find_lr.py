"""The command that searches learning rates: `dsk find-lr`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Given, command
from datasetkit.cli.main import app
from datasetkit.cli.train import PANEL, Settings

if TYPE_CHECKING:
    from datasetkit.api import RunContext
    from datasetkit.verbs.find_lr import FindLrResult


@command(app, "find-lr", panel=PANEL, table="find-lr")
def find_lr(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="As for dsk train: a laid-out dataset or a dsk.toml."),
    ] = Path(),
    *,
    set_: Settings = None,
    given: Given,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.WaitForGpu = False,
    now: opt.Now = False,
) -> None:
    """Search the learning rates for a training: probes by an optimizer that estimates them, then a
    short sweep of AdamW that decides.

    What it takes at most is printed first; --dry-run ends there. The exit code is 3 if a part has
    no rate.

    Example: dsk find-lr my-project --write
    """
    from datasetkit.cli import run, show_find_lr
    from datasetkit.verbs.train import read_setting

    options = opt.options(folder.parent if folder.is_file() else folder, "find-lr", given)
    settings = dict(read_setting(text) for text in set_ or ())

    def search(api: ModuleType, context: RunContext) -> FindLrResult:
        result: FindLrResult = api.find_lr(
            folder,
            options,
            context,
            settings=settings,
            on_plan=(lambda _: None) if json else show_find_lr.plan,
        )
        return result

    result = run.verb("find-lr", search, show_find_lr.found, json, dry_run, wait, now=now)
    if result.exit_code:
        raise typer.Exit(result.exit_code)
