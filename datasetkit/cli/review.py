"""The command `dsk review`: the page on which captions are pruned."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.main import app
from datasetkit.cli.prepare import PANEL

if TYPE_CHECKING:
    from datasetkit.verbs.review import RunningServer


@app.command(rich_help_panel=PANEL)
def review(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of images, a laid-out dataset, or that of a dsk.toml."
        ),
    ] = Path(),
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0: any free one.", show_default="0")
    ] = None,
    open: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open the page in your browser.", show_default="open"
        ),
    ] = None,
    read_only: Annotated[
        bool | None,
        typer.Option(
            "--read-only/--no-read-only", help="Look only: nothing is written, not even .dsk/."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="The address to listen on; others let other machines in.", show_default="127.0.0.1"
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which browsers may come, with --host; repeat for more."),
    ] = None,
    recursive: opt.Recursive = None,
    max_pixels: opt.MaxPixels = None,
    wait: opt.Wait = False,
) -> None:
    """Open the review page in a browser: look through images, prune tags of thousands of captions
    by keyboard.

    What the page does is what dsk rules does, and dsk undo takes back. Ctrl-C stops it.

    Example: dsk review ./imgs
    """
    given = {
        "port": port, "open": open, "read_only": read_only, "host": host, "allow_host": allow_host,
        "recursive": recursive, "max_pixels": max_pixels,
    }  # fmt: skip
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
