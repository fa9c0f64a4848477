"""The server of the page: a socket on this machine, the guard before the application, and a
clean end.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from contextlib import nullcontext, suppress
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from datasetkit.api import RunContext
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import find_root
from datasetkit.core.words import counted
from datasetkit.options.review import ReviewOptions
from datasetkit.verbs.review import RunningServer
from datasetkit.verbs.studio import jobs, open_studios
from datasetkit.verbs.studio.open_studios import OpenStudio
from datasetkit.verbs.studio.session import open_studio
from datasetkit.web.application import application
from datasetkit.web.routes import ROUTES
from datasetkit.web.security import Guard, SessionKeys
from datasetkit.web.table import body_of

# A request has so long to arrive as a whole; a browser sends it at once. A file has so long for
# each of these bytes.
REQUEST_SECONDS = 20.0
REQUEST_BYTES = 256 * 1024
# Connections whose request is not complete; beyond, the oldest is closed. Browsers open 6, and some
# of these ahead of a request.
MAX_UNFINISHED = 128
# How often a server that stays counts the jobs that are left, in ticks of uvicorn: a second.
_TICKS = 10
# So long streams have to say goodbye.
_BYE_SECONDS = 0.1
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})


def serve(
    command: str,
    folder: Path,
    options: ReviewOptions,
    context: RunContext,
    *,
    ready: Callable[[RunningServer], None],
) -> None:
    """Serve the page of a folder until it is stopped (Ctrl-C, SIGTERM, or `RunningServer.stop`).

    command: `review` or `studio`. ready: called once, when the server accepts connections. Raises
    ConfigError for a port that is in use or a host that is not valid, and for `review` what loading
    a dataset raises.
    """
    before = open_studios.stored(find_root(folder)) if options.keep_token else None
    keys = _keys(before)
    with (
        _listen(options, before) as listener,
        open_studio(command, folder, options, context, keys.header) as session,
    ):
        port = int(listener.getsockname()[1])
        app = application(session)
        server = _Server(
            uvicorn.Config(
                Guard(app, keys, hosts=_host_names(options), port=port, body_of=body_of(ROUTES)),
                loop="asyncio",
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_level="error",
                access_log=False,  # URLs contain the token
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )

        def stop() -> None:
            server.should_exit = True

        host = options.host if options.host in _LOOPBACK else options.allow_host[0]

        def link(used: Callable[[], None]) -> str:
            return f"http://{host}:{port}/?token={keys.entry.new(used)}"

        dataset = session.captions.loaded
        images = 0 if dataset is None else len(dataset.dataset)
        running = RunningServer(link(lambda: None), port, images, link, stop)
        server.on_started = lambda: ready(running)
        if options.stay:
            server.stay_for, server.warn = jobs.count_left, context.reporter.warn
        server.stopping = session.stopping
        kept = (keys.cookie, keys.header) if options.keep_token else ("", "")
        registered = OpenStudio(host, port, keys.key, *kept)
        with (
            open_studios.registered(session.root, registered, keep=options.keep_token)
            if command == "studio" and not options.read_only
            else nullcontext(),
            suppress(KeyboardInterrupt),
        ):
            server.run(sockets=[listener])


def _keys(before: OpenStudio | None) -> SessionKeys:
    """Return the secrets of a run; with --keep-token those of the one before."""
    if before is None or not before.cookie or not before.header:
        return SessionKeys()
    return SessionKeys(cookie=before.cookie, header=before.header)


class _Protocol(H11Protocol):
    """HTTP with a limit of time and number for requests that are not complete.

    uvicorn waits for the rest of a request forever, and each waiting connection takes a file
    descriptor, until the page can answer nobody.
    """

    # Of all connections, the one that waits longest first.
    _unfinished: ClassVar[dict[_Protocol, TimerHandle]] = {}
    # Bytes since its time began.
    _received = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._received += len(data)
        if self._received >= REQUEST_BYTES:
            self._received = 0
            self._complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._complete()
        super().connection_lost(exc)

    @property
    def is_stuck(self) -> bool:
        """Tell whether the client does not read what it is sent."""
        return bool(self.flow.write_paused)

    def _watch(self) -> None:
        """Start the time of a request that has begun; stop it when the request is complete."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY) or self.transport.is_closing():
            self._complete()
        elif self not in self._unfinished:
            self._unfinished[self] = self.loop.call_later(REQUEST_SECONDS, self._give_up)
            if len(self._unfinished) > MAX_UNFINISHED:
                next(iter(self._unfinished))._give_up()

    def _complete(self) -> None:
        timer = self._unfinished.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self) -> None:
        self._complete()
        self.transport.abort()


class _Server(uvicorn.Server):
    """A server with a callback for the moment when it accepts connections, and an event for the
    moment when it ends, which the streams of events wait for. stay_for: returns how many jobs are
    left: at the first signal the server goes on until none is, at the second it ends.
    """

    on_started: Callable[[], None]
    stopping: asyncio.Event
    stay_for: Callable[[], int] | None = None
    warn: Callable[[str], None]
    _asked_by: int | None = None  # the first signal
    _has_warned = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.stay_for is not None and self._asked_by is None:
            self._asked_by = sig
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        is_first = not self._has_warned
        if self._asked_by is not None and (is_first or counter % _TICKS == 0):
            await self._end_without_jobs(self._asked_by)
        return await super().on_tick(counter)

    async def _end_without_jobs(self, signum: int) -> None:
        """End as a signal asked for, if no job is left."""
        left = await asyncio.to_thread(self.stay_for) if self.stay_for is not None else 0
        if not left:
            super().handle_exit(signum, None)
        elif not self._has_warned:
            self._has_warned = True
            self.warn(f"{counted(left, 'job')} left, then the page ends; Ctrl-C ends it now")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self.on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.stopping.set()
        await asyncio.sleep(_BYE_SECONDS)
        # A client that does not read would keep its stream, and so the server, until a timeout.
        for connection in list(self.server_state.connections):
            if isinstance(connection, _Protocol) and connection.is_stuck:
                connection.transport.abort()
        await super().shutdown(sockets=sockets)


def _host_names(options: ReviewOptions) -> frozenset[str]:
    """Return the names by which a browser may address the server."""
    names = frozenset(name.lower() for name in options.allow_host)
    return names | (_LOOPBACK if options.host in _LOOPBACK else frozenset())


def _listen(options: ReviewOptions, before: OpenStudio | None = None) -> socket.socket:
    """Open the socket, if no port is given that of the server before. This comes first, so that a
    port in use is reported before the dataset is loaded.
    """
    host = "127.0.0.1" if options.host == "localhost" else options.host
    if host not in _LOOPBACK and not options.allow_host:
        raise ConfigError(
            f"--host {options.host} lets other machines in",
            hint="add --allow-host NAME with the name that they use for this machine",
        )
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise ConfigError(
            f"--host {options.host} is not an IP address",
            hint="e.g. 127.0.0.1, or 0.0.0.0 for all interfaces",
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere this would let two programs listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listener, host, options.port, 0 if before is None else before.port)
        listener.set_inheritable(True)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {options.host}, port {options.port}: {error.strerror}",
            hint="use --port 0 for any free port",
        ) from error
    return listener


def _bind(listener: socket.socket, host: str, port: int, wanted: int) -> None:
    """Bind to a port; without one to the wanted one if that is free. Raises OSError."""
    if not port and wanted:
        with suppress(OSError):
            listener.bind((host, wanted))
            return
    listener.bind((host, port))
