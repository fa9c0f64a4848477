"""`dsk studio`: the page for the whole way, from a folder of images to the LoRA file to keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from datasetkit.options.review import ReviewOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.review import RunningServer, start_server


def studio(
    folder: Path,
    options: ReviewOptions,
    context: RunContext = DEFAULT_CONTEXT,
    *,
    ready: Callable[[RunningServer], None] = lambda _: None,
) -> None:
    """Serve the studio of a project until it is stopped (Ctrl-C, SIGTERM, or `RunningServer.stop`).

    The folder may still be empty. ready: called once, when the server accepts browsers. Raises
    MissingExtra without the extra `web`, ConfigError for a port that is in use or an address that
    does not exist.
    """
    start_server("studio", folder, options, context, ready)
