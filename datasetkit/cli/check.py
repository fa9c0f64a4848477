"""`dsk check`: problems for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Given, command
from datasetkit.cli.dataset import PANEL, DataSet
from datasetkit.cli.main import app

Fix = Annotated[
    bool,
    typer.Option("--fix", help="Fix what needs no decision of yours; dsk undo reverts it."),
]
As = Annotated[
    Literal["sd-scripts"] | None,
    typer.Option(
        "--as",
        metavar="sd-scripts",
        help="Check nothing; print each caption and bucket as this trainer would use it.",
    ),
]


@command(app, panel=PANEL, table="check", on_cluster=True)
def check(
    folder: DataSet = Path(),
    *,
    given: Given,
    executor: Given,
    fix: Fix = False,
    as_: As = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Find training problems in images, captions and folders.

    Example: dsk check ./imgs --sheet check.png
    """
    from datasetkit.cli import run, show_check
    from datasetkit.core.errors import ConfigError

    if as_ is not None and (fix or given["strict"] or given["sheet"]):
        raise ConfigError(
            f"--as {as_} checks nothing", hint="leave out --fix, --strict and --sheet, or --as"
        )
    folder = opt.folder_of(folder)
    options = opt.options(folder, "check", given)
    if as_ is not None:
        run.verb(
            "check",
            lambda api, context: api.as_sd_scripts(folder, options, context),
            show_check.sd_scripts,
            json,
            dry_run,
            wait,
        )
        return
    result = run.verb(
        "check",
        lambda api, context: api.check(folder, options, fix=fix, context=context),
        show_check.check,
        json,
        dry_run,
        wait,
        opt.executor(folder, executor),
    )
    if options.strict and result.unfixed:
        raise typer.Exit(result.exit_code)
