"""Routes of the review page: HTTP requests become calls of `datasetkit.verbs.review`, their results
JSON.

    GET  /                      the built page, from datasetkit/web/static
    GET  /api/session           what the page needs first
    GET  /api/<name>            one of READS: query parameters in, JSON out
    GET  /api/image/<id>        everything about one image
    POST /api/<name>            one of ACTIONS: a JSON object in, JSON out
    GET  /thumb/<id>            a JPEG for the grid
    GET  /preview/<id>          a larger JPEG

Errors are JSON too: {"error", "hint"} and, for some, what the page shows beside them
(`views.refusal`). Who may send a request at all is decided before, in security.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from datasetkit.core.errors import DskError, InputError, Locked, PlanConflict, StorageError
from datasetkit.verbs.review import operations, views
from datasetkit.verbs.review.dataset import Scope
from datasetkit.verbs.review.editing import EditResult, ReadOnly
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.session import ReviewSession
from datasetkit.verbs.review.tables import Columns
from datasetkit.verbs.review.thumbnails import SIZES, ImageGone

Endpoint = Callable[[Request], Awaitable[Response]]
# From query parameters, or from the JSON object in the body.
Handler = Callable[[ReviewSession, Mapping[str, Any]], views.Json]


class UnknownImage(InputError):
    """No image has this id."""


# The first class that matches decides.
_STATUS: tuple[tuple[type[DskError], int], ...] = (
    (UnknownImage, 404),
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
_SCOPES = '{"in": "all"}, {"in": "where", "where": "..."} or {"in": "ids", "ids": [...]}'
_MAX_ROWS = 20_000
_MAX_COMPLETIONS = 200
_MAX_DIGITS = 15


def application(session: ReviewSession, token: str) -> Starlette:
    """Return the application of one review. token: what the page must send with each POST."""

    def session_info(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
        return views.session(session.dataset, session.editor, session.tables.translations, token)

    reads = {"session": session_info, "image/{id}": image, **READS}
    routes: list[BaseRoute] = [
        *(Route(path, _static(body, kind)) for path, (body, kind) in static_files().items()),
        *(Route(f"/api/{name}", _get(session, handler)) for name, handler in reads.items()),
        *(
            Route(f"/api/{name}", _post(session, handler), methods=["POST"])
            for name, handler in ACTIONS.items()
        ),
        *(Route(f"/{kind}/{{id}}", _jpeg(session, kind)) for kind in SIZES),
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


# ---- reads


def images(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    offset = _whole_number(query, "offset", 0, 10**9)
    limit = _whole_number(query, "limit", 500, _MAX_ROWS)
    captions = query.get("captions") == "1"
    dataset, where = session.dataset, query.get("where", "")
    _group_near_duplicates(session, where)
    with dataset.lock:
        return views.window(dataset, dataset.ids(where), offset, limit, captions=captions)


def ids(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    dataset, where = session.dataset, query.get("where", "")
    _group_near_duplicates(session, where)
    with dataset.lock:
        matches = dataset.ids(where)
        return {"version": dataset.version, "total": len(matches), "id": list(matches)}


def changes(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    since = _whole_number(query, "since", 0, 10**12)
    log = session.dataset.changes_since(since)
    session.near_duplicates.update()
    return views.changes(session.dataset, log)


def complete(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    limit = _whole_number(query, "limit", 20, _MAX_COMPLETIONS)
    return dict(session.tables.complete(query.get("q", ""), limit))


def near_duplicates(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    offered = session.near_duplicates.offered()
    done, total = session.near_duplicates.progress()
    return {
        "version": session.dataset.version,
        "done": done,
        "total": total,
        "groups": offered.groups,
        "copies": offered.copies,
        "kept": offered.kept,
    }


def progress(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    now = session.editor.progress.now
    return {"label": now.label, "done": now.done, "total": now.total}


def image(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    requested = _image(session, query["id"])
    with session.editor.lock:
        group = session.near_duplicates.group_of(requested.id)
        return views.image_details(
            session.dataset, session.context, requested, session.tables.translations, group
        )


READS: Mapping[str, Handler] = {
    "images": images,
    "ids": ids,
    "changes": changes,
    "complete": complete,
    "near-duplicates": near_duplicates,
    "progress": progress,
}

# ---- actions


def tags(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    scope = _scope(session, body)
    session.tables.translations.refresh()
    with session.dataset.lock:
        selected = session.dataset.select(scope)
        rows = session.tables.tags(selected)
        groups = session.tables.groups(selected, rows["tag"])
        return {**_table(session, selected, rows), "groups": groups}


def outliers(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    scope = _scope(session, body)
    share = body.get("share", 0.8)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise InputError("share must be a number above 0 and at most 1")
    with session.dataset.lock:
        selected = session.dataset.select(scope)
        return _table(session, selected, session.tables.outliers(selected, share))


def filter_result(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    where = _text(body, "where")
    _group_near_duplicates(session, where)
    return views.filter_result(session.dataset, where)


def apply(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    wanted = body.get("do")
    if not isinstance(wanted, dict):
        raise InputError("the request has no `do`", hint='e.g. "do": {"remove": ["lips"]}')
    dry_run = body.get("dry_run") is True
    version = 0 if dry_run else _version(body)
    result = session.editor.apply(version, _scope(session, body), wanted, dry_run=dry_run)
    return views.edited(result, session.dataset, session.editor, dry_run=dry_run)


def caption(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    image_id = body.get("id")
    if isinstance(image_id, bool) or not isinstance(image_id, int):
        raise InputError("the request has no image `id`")
    _image(session, str(image_id))
    result = session.editor.edit(_version(body), image_id, body.get("hash"), body.get("caption"))
    edited = _image(session, str(image_id))
    return {
        **_edited(session, result),
        "caption": None if edited.caption is None else edited.caption.text(),
        "hash": edited.hash,
    }


def keep(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    """Keep all images of a group of near-duplicates, or offer the group again: without `ids`, all
    groups.
    """
    session.editor.require_writable()
    numbers, wanted = body.get("ids"), body.get("keep")
    if not isinstance(wanted, bool):
        raise InputError("the request has no `keep`", hint='"keep": true or "keep": false')
    images = None if numbers is None and not wanted else session.dataset.select(_ids(numbers))
    if wanted:
        session.near_duplicates.keep(images or ())
    else:
        session.near_duplicates.offer_again(images)
    return near_duplicates(session, {})


def translate(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    """Write what a tag means."""
    tag, meaning = _text(body, "tag"), _text(body, "meaning")
    return _edited(session, session.editor.translate(tag, meaning))


def undo(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    return _edited(session, session.editor.undo())


def redo(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    return _edited(session, session.editor.redo())


def suggestions(session: ReviewSession, body: Mapping[str, Any]) -> views.Json:
    scope = _scope(session, body)
    with session.dataset.lock:
        selected = session.dataset.select(scope)
        rows = operations.suggestions(
            session.editor.context, selected, body.get("kind", "character")
        )
        return views.suggestions(session.dataset, rows, len(selected))


ACTIONS: Mapping[str, Handler] = {
    "tags": tags,
    "outliers": outliers,
    "suggestions": suggestions,
    "filter": filter_result,
    "apply": apply,
    "caption": caption,
    "keep": keep,
    "translate": translate,
    "undo": undo,
    "redo": redo,
}

# ---- from requests


def _scope(session: ReviewSession, body: Mapping[str, Any]) -> Scope:
    """Read the scope of a request, all images by default. Raises InputError."""
    given = body.get("scope", {"in": "all"})
    kind = given.get("in") if isinstance(given, dict) else None
    if kind == "all":
        return Scope()
    if kind == "where":
        where = _text(given, "where")
        _group_near_duplicates(session, where)
        return Scope("where", where)
    if kind == "ids":
        return _ids(given.get("ids"))
    raise InputError("the request has no valid `scope`", hint=_SCOPES)


def _ids(numbers: object) -> Scope:
    """Read a list of image ids. Raises InputError."""
    if isinstance(numbers, list) and all(type(number) is int for number in numbers):
        return Scope("ids", ids=tuple(numbers))
    raise InputError("the request has no valid `scope`", hint=_SCOPES)


def _group_near_duplicates(session: ReviewSession, where: str) -> None:
    """Bring the groups up to date if a filter asks for them: `dup:yes`."""
    if "dup" in where.lower():
        session.near_duplicates.groups()


def _version(body: Mapping[str, Any]) -> int:
    """Read the newest version that the page has seen."""
    version = body.get("version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise InputError("the request has no `version`", hint='e.g. "version": 1')
    return version


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if not operations.is_text(value):
        raise InputError(f"{key} must be text")
    return value


def _whole_number(query: Mapping[str, Any], key: str, default: int, maximum: int) -> int:
    text = str(query.get(key, default))
    if not _is_whole_number(text) or int(text) > maximum:
        raise InputError(f"{key} must be a whole number up to {maximum:,}")
    return int(text)


def _is_whole_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


def _image(session: ReviewSession, image_id: str) -> ReviewImage:
    """Return an image by its id. Raises UnknownImage."""
    if not _is_whole_number(image_id):
        raise UnknownImage("an image id is a whole number")
    requested = session.dataset.get(int(image_id))
    if requested is None:
        raise UnknownImage(
            f"no image has the id {image_id}", hint="it may have been excluded or moved"
        )
    return requested


# ---- to responses


def _edited(session: ReviewSession, result: EditResult) -> views.Json:
    session.tables.translations.refresh()
    edited = views.edited(result, session.dataset, session.editor, dry_run=False)
    return {**edited, "translations": bool(session.tables.translations)}


def _table(session: ReviewSession, selected: Sequence[ReviewImage], columns: Columns) -> views.Json:
    return {"version": session.dataset.version, "images": len(selected), **columns}


def _json(value: views.Json, status: int = 200) -> Response:
    # A file name may be no valid UTF-8: its bad bytes become "?".
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "replace"
    )
    return Response(body, status, media_type="application/json")


def _get(session: ReviewSession, handler: Handler) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        query = {**request.query_params, **request.path_params}
        return await run_in_threadpool(lambda: _json(handler(session, query)))

    return endpoint


def _post(session: ReviewSession, handler: Handler) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except (ValueError, RecursionError):
            raise InputError("the request body is not JSON") from None
        if not isinstance(body, dict):
            raise InputError("the request body is not a JSON object")
        return await run_in_threadpool(lambda: _json(handler(session, body)))

    return endpoint


def _jpeg(session: ReviewSession, kind: str) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        requested = _image(session, request.path_params["id"])
        try:
            data = await asyncio.wrap_future(session.thumbnails.request(requested, kind))
        except ImageGone as error:
            return _json({"error": error.message, "hint": error.hint}, 409)
        except InputError as error:
            return _json({"error": error.message, "hint": error.hint}, 415)
        is_current = request.query_params.get("v") == requested.v
        cache = "private, max-age=31536000, immutable" if is_current else "no-store"
        return Response(data, media_type="image/jpeg", headers={"cache-control": cache})

    return endpoint


def _static(body: bytes, content_type: str) -> Endpoint:
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
    return _json({"error": message, "hint": ""}, status)


def _dsk_error(session: ReviewSession) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        if not isinstance(error, DskError):
            raise error
        status = next(code for kind, code in _STATUS if isinstance(error, kind))
        return _json(views.refusal(error, session.dataset), status)

    return answer
