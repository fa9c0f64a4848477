"""The application: the routes of the table, the files of the built page, and how errors answer.

    GET  /                 the built page, from datasetkit/web/static
    *    /api/...          the table of routes: datasetkit/web/routes/
    GET  /thumb/<id> ...   images, by number: in the table, too

Errors are JSON: {"error", "hint"} and, for some, what the page shows beside them
(`views.refusal`). Who may send a request at all is decided before, in security.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from datasetkit.core.errors import DskError, Locked, PlanConflict, StorageError
from datasetkit.verbs.review import views
from datasetkit.verbs.review.editing import ReadOnly
from datasetkit.verbs.studio.config_file import ConfigChanged, WrongValues
from datasetkit.verbs.studio.errors import NotAllowed, NotFound
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.routes import ROUTES
from datasetkit.web.table import json_response, starlette_routes

# The first class that matches decides.
_STATUS: tuple[tuple[type[DskError], int], ...] = (
    (NotFound, 404),
    (NotAllowed, 403),
    (ReadOnly, 403),
    (PlanConflict, 409),
    (Locked, 423),
    (StorageError, 507),
    (DskError, 400),
)
_HTTP_ERRORS = {404: "not found", 405: "method not allowed"}
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}


def application(session: StudioSession) -> Starlette:
    """Return the application of one server."""
    routes: list[BaseRoute] = [
        *(Route(path, _static(body, kind)) for path, (body, kind) in static_files().items()),
        *starlette_routes(session, ROUTES),
    ]
    handlers: Any = {HTTPException: _http_error, DskError: _dsk_error(session)}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def static_files() -> dict[str, tuple[bytes, str]]:
    """Return the content and type of each file of the built page, by URL path.

    All are read at the start: no URL is ever turned into a file path.
    """
    files: dict[str, tuple[bytes, str]] = {}
    static = resources.files("datasetkit").joinpath("web", "static")
    if not static.is_dir():
        return files
    folders = [("", static)]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            path = f"{prefix}/{entry.name}"
            content_type = _CONTENT_TYPES.get("." + entry.name.rpartition(".")[2])
            if entry.is_dir():
                folders.append((path, entry))
            elif content_type is not None:
                files[path] = entry.read_bytes(), content_type
    if "/index.html" in files:
        files["/"] = files.pop("/index.html")
    return files


def _static(body: bytes, content_type: str) -> Callable[[Request], Awaitable[Response]]:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    async def endpoint(request: Request) -> Response:
        headers = {"cache-control": "no-cache", "etag": etag}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=content_type, headers=headers)

    return endpoint


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = _HTTP_ERRORS.get(status, "the request could not be answered")
    return json_response({"error": message, "hint": ""}, status)


def _dsk_error(
    session: StudioSession,
) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        if not isinstance(error, DskError):
            raise error
        status = next(code for kind, code in _STATUS if isinstance(error, kind))
        loaded = session.captions.loaded
        answer = views.refusal(error, loaded.dataset if loaded else None)
        if isinstance(error, ConfigChanged):
            answer |= {"config": error.config, "differences": error.differences}
        if isinstance(error, WrongValues):
            answer["problems"] = error.problems
        return json_response(answer, status)

    return answer
