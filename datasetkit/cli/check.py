"""`dsk check`: what a trainer would stumble over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.dataset import PANEL, DataSet, Resolution
from datasetkit.cli.main import app

Strict = Annotated[
    bool | None, typer.Option("--strict/--no-strict", help="Exit with 20 if anything is found.")
]
Fix = Annotated[
    bool,
    typer.Option("--fix", help="Fix what needs no decision of yours; dsk undo takes it back."),
]
As = Annotated[
    Literal["sd-scripts"] | None,
    typer.Option(
        "--as", help="Check nothing; print each caption and bucket as this trainer would use it."
    ),
]
Only = Annotated[str | None, typer.Option(help="Run these checks only: names, comma-separated.")]
Skip = Annotated[str | None, typer.Option(help="Leave these checks out.")]
Kind = Annotated[
    Literal["character", "style"] | None,
    typer.Option(help="What is trained; a style may have many faces.", show_default="character"),
]
Upscale = Annotated[
    float | None,
    typer.Option(
        help="Images that their bucket enlarges by more are too small.", show_default="1.05"
    ),
]
Cut = Annotated[
    float | None,
    typer.Option(help="The share that a bucket may cut off an image.", show_default="0.2"),
]
Blur = Annotated[
    float | None, typer.Option(help="Images of this blur or more are found.", show_default="0.55")
]
Text = Annotated[
    float | None, typer.Option(help="The least score of a line of text.", show_default="0.7")
]
Faces = Annotated[float | None, typer.Option(help="The least score of a face.", show_default="0.5")]
Sheet = Annotated[str | None, typer.Option(help="Draw the flagged images with the reasons: a PNG.")]
Csv = Annotated[str | None, typer.Option(help="Write what is found as a table.")]


@app.command(rich_help_panel=PANEL)
def check(
    folder: DataSet = Path(),
    resolution: Resolution = None,
    strict: Strict = None,
    fix: Fix = False,
    as_: As = None,
    only: Only = None,
    skip: Skip = None,
    kind: Kind = None,
    trigger: opt.Trigger = None,
    upscale: Upscale = None,
    cut: Cut = None,
    blur: Blur = None,
    text: Text = None,
    faces: Faces = None,
    sheet: Sheet = None,
    csv: Csv = None,
    recursive: opt.Recursive = None,
    follow_links: opt.FollowLinks = None,
    workers: opt.Workers = None,
    max_pixels: opt.MaxPixels = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    wait: opt.Wait = False,
) -> None:
    """Look for what a trainer would stumble over: in images, captions and folders.

    Example: dsk check ./imgs --sheet check.png
    """
    from datasetkit.cli import run, show_check
    from datasetkit.core.errors import ConfigError

    if as_ is not None and (fix or strict or sheet):
        raise ConfigError(
            f"--as {as_} checks nothing", hint="leave out --fix, --strict and --sheet, or --as"
        )
    given = {
        "resolution": resolution, "kind": kind, "trigger": opt.words(trigger),
        "only": opt.words(only), "skip": opt.words(skip), "strict": strict, "upscale": upscale,
        "cut": cut, "blur": blur, "text": text, "faces": faces, "csv": csv, "sheet": sheet,
        "recursive": recursive, "follow_links": follow_links, "workers": workers,
        "max_pixels": max_pixels,
    }  # fmt: skip
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
    )
    if options.strict and result.unfixed:
        raise typer.Exit(result.exit_code)
