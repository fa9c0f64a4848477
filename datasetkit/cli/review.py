"""The commands `dsk review` and `dsk studio`: the page, opened at its captions or its images."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from datasetkit.cli import options as opt
from datasetkit.cli.command import Given, command
from datasetkit.cli.main import app
from datasetkit.cli.prepare import PANEL

if TYPE_CHECKING:
    from datasetkit.verbs.review import RunningServer


_BROWSER_SECONDS = 5
# Options of dsk studio alone.
STUDIO = ("root", "allow_import", "keep_token", "new", "stay")


@command(app, panel=PANEL, table="review", without=STUDIO)
def review(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder of images, a laid-out dataset, a dsk.toml, or its folder."
        ),
    ] = Path(),
    *,
    given: Given,
    wait: opt.Wait = False,
) -> None:
    """Open the review page in a browser: look through images, prune the tags of thousands of
    captions by keyboard.

    The page edits captions as dsk rules does; dsk undo reverts it. Ctrl-C stops the page. A table
    translations.csv in DIR, with tag,meaning on each line, shows what the tags mean.

    Example: dsk review ./imgs
    """
    _serve("review", folder, given, wait=wait)


@command(app, panel=PANEL, table="review")
def studio(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="The folder of a project, a folder of images, or a dsk.toml; it may be empty.",
        ),
    ] = Path(),
    *,
    given: Given,
    wait: opt.Wait = False,
) -> None:
    """Open the studio in a browser: the whole way from a folder of images to the LoRA file to keep.

    The page shows what commands do, and the command that does the same in a terminal. Runs that
    were started in a terminal appear in it. Ctrl-C stops the page; trainings go on.

    Example: dsk studio ./project
    """
    _serve("studio", folder, given, wait=wait)


def _serve(command: str, folder: Path, given: Given, *, wait: bool) -> None:
    """Serve the page until it is stopped. command: `review` or `studio`."""
    folder = opt.folder_of(folder)
    options = opt.options(folder, "review", given)
    from datasetkit import api
    from datasetkit.cli import console

    def ready(server: RunningServer) -> None:
        # The first line of stdout is a link alone, for programs that start the page.
        _print(server.url)
        reporter.finish()
        if server.runs_already:
            console.remark("a studio of this project runs already; --new starts another one")
            if options.open:
                if _opened(server, at_end):
                    time.sleep(_BROWSER_SECONDS)  # it has to read the file that leads to the page
                else:
                    console.remark("no browser could be started: open the link above")
            return
        console.remark(
            f"{console.images(server.images)}; Ctrl-C stops the page"
            + (", Enter prints another link" if _listen(server) else "")
        )
        if options.open and not _opened(server, at_end):
            console.remark("no browser could be started: open the link above")

    serve = api.review if command == "review" else api.studio
    with console.bars() as reporter, ExitStack() as at_end:
        serve(folder, options, api.RunContext(wait=wait, reporter=reporter), ready=ready)


def _print(link: str) -> None:
    sys.stdout.write(link + "\n")
    sys.stdout.flush()


def _opened(server: RunningServer, at_end: ExitStack) -> bool:
    """Open the page in a browser, until the end; tell whether that worked."""
    from datasetkit.verbs.review.browser import opened_in_browser

    try:
        return at_end.enter_context(opened_in_browser(server))
    except OSError:
        return False


def _listen(server: RunningServer) -> bool:
    """Print another link for each line that is typed; tell whether there is something to type on.

    A link works once: another browser, or this one after its data were cleared, needs another.
    """
    try:
        stdin = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or replaced
        return False

    def listen() -> None:
        if sys.platform != "win32":  # in the background, a read fails instead of stopping us
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN})
        while True:
            try:
                # Not sys.stdin, whose lock the end of the program would wait for.
                typed = os.read(stdin, 4096)
            except OSError:
                time.sleep(1)
                continue
            if not typed:
                return
            _print(server.link(lambda: None))

    Thread(target=listen, name="dsk-enter", daemon=True).start()
    return True
