"""The stream of events: one for each browser, from the positions that it sends back."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from datasetkit.core.errors import DskError
from datasetkit.verbs.studio.events import EventSource, StudioEvent, wire
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import ApiRoute, endpoint

SECONDS_BETWEEN: Final = 1.0
HEARTBEAT: Final = 15.0
# A look rests so many times as long as the last one used a core, and so many times as long as it
# took: the latter for folders of a network. On a busy machine it takes long and uses little.
_REST: Final = 20
_REST_OF_CLOCK: Final = 3
_SEND_BUFFER: Final = 64 * 1024  # bytes: seconds that are old do not pile up in the system
_AGAIN: Final = 1000  # milliseconds until a browser comes back


async def events(studio: StudioSession, request: Request) -> Response:
    """Answer the stream. It ends with `bye` when the server is asked to stop."""
    query = request.query_params
    source = EventSource(
        studio,
        [run for run in query.get("watch", "").split(",") if run],
        [job for job in query.get("log", "").split(",") if job],
        # A tab that goes on from another one cannot send the header at first.
        request.headers.get("last-event-id", "") or query.get("after", ""),
    )
    _keep_buffer_small(request)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(
        _stream(studio, source), media_type="text/event-stream", headers=headers
    )


def _keep_buffer_small(request: Request) -> None:
    """Limit what the system holds back for a client that does not read."""
    transport: Any = request.scope.get("state", {}).get("transport")
    connection = transport.get_extra_info("socket") if transport is not None else None
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


async def _stream(studio: StudioSession, source: EventSource) -> AsyncIterator[bytes]:
    hello = await run_in_threadpool(source.hello)
    yield f"retry: {_AGAIN}\n\n".encode() + wire(hello)
    sent = time.monotonic()
    while not studio.stopping.is_set():
        changes, rest = await run_in_threadpool(_look, source)
        for event in changes:
            yield wire(event)  # waits for a client that does not read
            sent = time.monotonic()
        if time.monotonic() - sent >= HEARTBEAT:
            yield b": \n\n"
            sent = time.monotonic()
        await _wait(studio, max(SECONDS_BETWEEN, rest))
    bye = json.dumps({"again": _AGAIN})
    yield f"id: {source.positions.text()}\nevent: bye\ndata: {bye}\n\n".encode()


def _look(source: EventSource) -> tuple[list[StudioEvent], float]:
    """Return what has changed, and how many seconds to rest after this look."""
    began, used = time.monotonic(), time.thread_time()
    changes: list[StudioEvent] = []
    with suppress(DskError, OSError):  # what cannot be read now is read at the next look
        changes.extend(source.look())  # what came before it was read, and is not read again
    used, took = time.thread_time() - used, time.monotonic() - began
    return changes, max(_REST * used, _REST_OF_CLOCK * took)


async def _wait(studio: StudioSession, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(studio.stopping.wait(), seconds)


ROUTES: tuple[ApiRoute, ...] = (endpoint("GET", "/api/events", events, is_stream=True),)
