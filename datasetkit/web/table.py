"""The table of routes: what a route is, and how it reads a request and answers.

Each module of datasetkit/web/routes/ has a tuple ROUTES of these; `routes.ROUTES` has them all.
From that table come the application, what the guard lets through, and the tests of the guard.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path

from datasetkit.core.errors import DskError, InputError
from datasetkit.verbs.review.editing import ReadOnly
from datasetkit.verbs.review.operations import is_text
from datasetkit.verbs.studio.errors import NotFound as NotFound
from datasetkit.verbs.studio.session import StudioSession

Json = dict[str, Any]
Method = Literal["GET", "POST", "PUT", "DELETE"]
Values = Mapping[str, Any]
# From the query of a GET, or the JSON object of any other request, with the names of the path.
Handler = Callable[[StudioSession, Values], Json]
# What reads the request and makes the response itself; it must not block.
Endpoint = Callable[[StudioSession, Request], Awaitable[Response]]

_MAX_DIGITS = 15


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """A route. It has a handler, which runs in a thread, or an endpoint.

    writes: it changes something, so a page that is read-only refuses it. body: of a request that is
    not a GET; bytes are not read before the endpoint does so, and have no limit but its own.
    is_stream: the response does not end by itself.
    """

    method: Method
    path: str
    handler: Handler | None = None
    endpoint: Endpoint | None = None
    writes: bool = False
    body: Literal["json", "bytes"] = "json"
    is_stream: bool = False

    def __post_init__(self) -> None:
        if self.writes and self.method == "GET":
            raise ValueError(f"GET {self.path} must not change anything")


def get(path: str, handler: Handler) -> ApiRoute:
    """Return a route that reads. Its values are the query and the names of the path."""
    return ApiRoute("GET", path, handler)


def post(path: str, handler: Handler, *, writes: bool = True) -> ApiRoute:
    """Return a route whose values are a JSON object. writes=False: it only computes."""
    return ApiRoute("POST", path, handler, writes=writes)


def put(path: str, handler: Handler) -> ApiRoute:
    """Return a route that replaces something."""
    return ApiRoute("PUT", path, handler, writes=True)


def delete(path: str, handler: Handler) -> ApiRoute:
    """Return a route that removes something. Its body may be empty."""
    return ApiRoute("DELETE", path, handler, writes=True)


def endpoint(
    method: Method,
    path: str,
    function: Endpoint,
    *,
    writes: bool = False,
    body: Literal["json", "bytes"] = "json",
    is_stream: bool = False,
) -> ApiRoute:
    """Return a route that reads the request and makes the response itself."""
    return ApiRoute(method, path, endpoint=function, writes=writes, body=body, is_stream=is_stream)


def starlette_routes(session: StudioSession, table: Sequence[ApiRoute]) -> list[Route]:
    """Return the routes of the application."""
    return [Route(route.path, _answer(session, route), methods=[route.method]) for route in table]


def body_of(table: Sequence[ApiRoute]) -> Callable[[str, str], Literal["json", "bytes"]]:
    """Return what tells the kind of body that a method and a path take."""
    streamed = [
        (route.method, compile_path(route.path)[0]) for route in table if route.body == "bytes"
    ]

    def kind(method: str, path: str) -> Literal["json", "bytes"]:
        matches = any(name == method and pattern.match(path) for name, pattern in streamed)
        return "bytes" if matches else "json"

    return kind


def _answer(session: StudioSession, route: ApiRoute) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if route.writes and session.read_only:
            raise ReadOnly(
                "this page is read-only",
                hint=f"run `dsk {session.command}` without --read-only to change something",
            )
        if route.endpoint is not None:
            return await route.endpoint(session, request)
        values = await _values(request)
        handler = route.handler
        assert handler is not None
        return await run_in_threadpool(lambda: json_response(handler(session, values)))

    return answer


async def _values(request: Request) -> Values:
    if request.method in ("GET", "HEAD"):
        return {**request.query_params, **request.path_params}
    data = await request.body()
    if request.method == "DELETE" and not data:
        return dict(request.path_params)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("the request body is not JSON") from None
    if not isinstance(body, dict):
        raise InputError("the request body is not a JSON object")
    return {**body, **request.path_params}


def json_response(value: Json, status: int = 200) -> Response:
    """Return a response with a JSON object."""
    # A file name may be no valid UTF-8: its bad bytes become "?".
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "replace"
    )
    return Response(body, status, media_type="application/json")


def image_response(data: bytes, media_type: str, request: Request, version: str) -> Response:
    """Return a response with an image. A browser keeps it if the URL has its version `v`."""
    is_current = request.query_params.get("v") == version
    cache = "private, max-age=31536000, immutable" if is_current else "no-store"
    return Response(data, media_type=media_type, headers={"cache-control": cache})


def error_response(error: DskError, status: int) -> Response:
    """Return a response with the message of an error."""
    return json_response({"error": error.message, "hint": error.hint}, status)


# ---- values of requests


def text(values: Values, key: str) -> str:
    """Return a text of a request. Raises InputError."""
    value = values.get(key)
    if not is_text(value):
        raise InputError(f"{key} must be text")
    return value


def flag(values: Values, key: str, default: bool = False) -> bool:
    """Return true or false of a JSON request. Raises InputError."""
    value = values.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false")
    return value


def number(values: Values, key: str) -> int:
    """Return a whole number of a JSON request. Raises InputError."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{key} must be a whole number")
    return value


def table(values: Values, key: str) -> Mapping[str, Any]:
    """Return an object of a JSON request, empty where it is missing. Raises InputError."""
    value = values.get(key, {})
    if not isinstance(value, dict):
        raise InputError(f"{key} must be an object")
    return value


def query_number(values: Values, key: str, default: int, maximum: int) -> int:
    """Return a whole number of a query or a path. Raises InputError."""
    written = str(values.get(key, default))
    if not is_whole_number(written) or int(written) > maximum:
        raise InputError(f"{key} must be a whole number up to {maximum:,}")
    return int(written)


def is_whole_number(written: str) -> bool:
    """Tell whether a text is a number that fits everywhere."""
    return written.isascii() and written.isdecimal() and len(written) <= _MAX_DIGITS
