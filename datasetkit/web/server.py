"""The server of the review page: a socket on this machine, the guard before the application, and
its end.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from datasetkit.core.errors import ConfigError
from datasetkit.options.review import ReviewOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.review import RunningServer
from datasetkit.web.page import opened
from datasetkit.web.routes import application
from datasetkit.web.security import Guard, SessionKeys

_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


def serve(
    folder: Path,
    options: ReviewOptions,
    context: RunContext = DEFAULT_CONTEXT,
    *,
    ready: Callable[[RunningServer], None] = lambda _: None,
) -> None:
    """Serve the review page of a folder until it is stopped (Ctrl-C, SIGTERM, or
    `RunningServer.stop`).

    ready: called once, when a browser may come. Raises ConfigError for a port that is taken or a
    host that cannot be meant, and what loading a dataset raises.
    """
    with _listening(options) as listener, opened(folder, options, context) as page:
        port = int(listener.getsockname()[1])
        keys = SessionKeys()
        guarded = Guard(application(page, keys.header), keys, hosts=_names(options), port=port)
        config = uvicorn.Config(
            guarded,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_level="error",
            access_log=False,  # addresses hold the token
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        server = _Server(config)

        def stop() -> None:
            server.should_exit = True

        name = options.host if options.host in _LOOPBACK else options.allow_host[0]
        server.begun = lambda: ready(
            RunningServer(
                f"http://{name}:{port}/?token={keys.entry}", port, len(page.dataset), stop
            )
        )
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that says when it listens."""

    begun: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self.begun()


def _names(options: ReviewOptions) -> frozenset[str]:
    """Return the names under which a browser may speak to the server."""
    given = frozenset(name.lower() for name in options.allow_host)
    return given | (_LOOPBACK if options.host in _LOOPBACK else frozenset())


def _listening(options: ReviewOptions) -> socket.socket:
    """Open the socket before anything else, so that a port that is taken is known at once."""
    host = "127.0.0.1" if options.host == "localhost" else options.host
    if host not in _LOOPBACK and not options.allow_host:
        raise ConfigError(
            f"--host {options.host} lets other machines in",
            hint="--allow-host NAME says under which name they come",
        )
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise ConfigError(
            f"--host {options.host} is no address", hint="e.g. 127.0.0.1, or 0.0.0.0 for all"
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, options.port))
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {options.host}, port {options.port}: {error.strerror}",
            hint="--port 0 takes a free one",
        ) from error
    return listener
