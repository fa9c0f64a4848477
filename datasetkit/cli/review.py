"""The command `dsk review`: the page to look through images and prune captions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Given, command
from datasetkit.cli.main import app
from datasetkit.cli.prepare import PANEL

if TYPE_CHECKING:
    from datasetkit.verbs.review import RunningServer


@command(app, panel=PANEL, table="review")
def review(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of images, a laid-out dataset, or that of a dsk.toml."
        ),
    ] = Path(),
    *,
    given: Given,
    wait: opt.Wait = False,
) -> None:
    """Open the review page in a browser: look through images, prune the tags of thousands of
    captions by keyboard.

    The page edits captions as dsk rules does; dsk undo reverts it. Ctrl-C stops the page.

    Example: dsk review ./imgs
    """
    options = opt.options(folder, "review", given)
    from datasetkit import api
    from datasetkit.cli import console

    def ready(server: RunningServer) -> None:
        # The first line of stdout is the address alone, for programs that start the page.
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        reporter.finish()
        console.remark(f"{console.images(server.images)}; Ctrl-C stops the page")
        if options.open:
            import webbrowser

            webbrowser.open(server.url)

    with console.bars() as reporter:
        api.review(folder, options, api.RunContext(wait=wait, reporter=reporter), ready=ready)
