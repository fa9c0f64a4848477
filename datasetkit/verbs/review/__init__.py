"""`dsk review`: the page on which captions are pruned, and what it does with a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from datasetkit.core.errors import MissingExtra
from datasetkit.core.install import install_command
from datasetkit.images.scan import require_folder
from datasetkit.options.review import ReviewOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext

# By name, as taggers are: the server stands on the verbs, so no verb can import it, and its
# packages are an extra.
SERVER = "datasetkit.web.server"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts browsers. url: a link that lets one in, once; images: in the dataset.

    link: returns another link, from any thread; what it is given is called when the link is used.
    stop: ends the server, from any thread. runs_already: it is another process, which goes on.
    """

    url: str
    port: int
    images: int
    link: Callable[[Callable[[], None]], str]
    stop: Callable[[], None]
    runs_already: bool = False


def review(
    folder: Path,
    options: ReviewOptions,
    context: RunContext = DEFAULT_CONTEXT,
    *,
    ready: Callable[[RunningServer], None] = lambda _: None,
) -> None:
    """Serve the review page of a folder until it is stopped (Ctrl-C, SIGTERM, or
    `RunningServer.stop`).

    ready: called once, when the server accepts browsers. Raises MissingExtra without the extra
    `web`, ConfigError for a port that is in use or an address that does not exist, and what loading
    a dataset raises.
    """
    start_server("review", folder, options, context, ready)


def start_server(
    command: str,
    folder: Path,
    options: ReviewOptions,
    context: RunContext,
    ready: Callable[[RunningServer], None],
) -> None:
    """Serve the page for a command, `review` or `studio`. Raises as the command does."""
    require_folder(folder)
    try:
        server = import_module(SERVER)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"dsk {command} needs the package {error.name}", hint=install_command("web")
        ) from error
    server.serve(command, folder, options, context, ready=ready)
