"""`dsk studio`: the page for the whole way, from a folder of images to the LoRA file to keep."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from datasetkit.core.files import find_root
from datasetkit.options.review import ReviewOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.review import RunningServer, start_server
from datasetkit.verbs.studio import open_studios
from datasetkit.verbs.studio.open_studios import OpenStudio


def studio(
    folder: Path,
    options: ReviewOptions,
    context: RunContext = DEFAULT_CONTEXT,
    *,
    ready: Callable[[RunningServer], None] = lambda _: None,
) -> None:
    """Serve the studio of a project until it is stopped (Ctrl-C, SIGTERM, or `RunningServer.stop`).

    The folder may still be empty. Where a studio of this user runs for the project, it is that one
    which gives the link, unless `options.new`. ready: called once, when the server accepts
    browsers. Raises
    MissingExtra without the extra `web`, ConfigError for a port that is in use or an address that
    does not exist.
    """
    if not options.new and not options.read_only:
        other = open_studios.running(find_root(folder))
        url = None if other is None else open_studios.link(other)
        if other is not None and url is not None:
            again = partial(_link, other, url)
            ready(RunningServer(url, other.port, 0, again, lambda: None, runs_already=True))
            return
    start_server("studio", folder, options, context, ready)


def _link(other: OpenStudio, before: str, used: Callable[[], None]) -> str:
    """Return another link to a server that runs. Nobody can tell here when it is used."""
    return open_studios.link(other) or before
