"""Routes: the addresses of the review page, from a request to a view and back."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from datasetkit.captions.filters import FilterError, parse, show
from datasetkit.core.errors import DskError, InputError, Locked, PlanConflict, StorageError
from datasetkit.verbs.review import operations, views
from datasetkit.verbs.review.dataset import Scope
from datasetkit.verbs.review.editing import EditConflict, ReadOnly
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.thumbnails import SIZES, ImageGone
from datasetkit.web.page import ReviewPage

Endpoint = Callable[[Request], Awaitable[Response]]
Call = Callable[[ReviewPage, Mapping[str, Any]], views.Json]
_MOST_ROWS = 20_000
_MOST_COMPLETIONS = 200
_MOST_DIGITS = 15
# The first that fits counts.
_STATUS: tuple[tuple[type[DskError], int], ...] = (
    (ReadOnly, 403),
    (PlanConflict, 409),
    (Locked, 423),
    (StorageError, 507),
    (DskError, 400),
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}


class UnknownImage(InputError):
    """No image has this number."""


def application(page: ReviewPage, token: str) -> Starlette:
    """Return the application of one run; `token` is for the page's script alone."""
    routes: list[BaseRoute] = [
        Route(path, _static(body, kind)) for path, (body, kind) in static_files().items()
    ]
    routes += [
        Route(
            "/api/session",
            _get(
                page,
                lambda page, _: views.session(
                    page.dataset, page.editor, page.tables.translations, token
                ),
            ),
        ),
        *(Route(f"/api/{name}", _get(page, call)) for name, call in _READS.items()),
        *(
            Route(f"/api/{name}", _post(page, call), methods=["POST"])
            for name, call in _CALLS.items()
        ),
        Route("/api/image/{id}", _get(page, one_image)),
        *(Route(f"/{kind}/{{id}}", _image_bytes(page, kind)) for kind in SIZES),
    ]
    handlers: Any = {HTTPException: _not_found, DskError: _refused(page)}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def static_files() -> dict[str, tuple[bytes, str]]:
    """Return the built page by address: read once, so that no address is ever made a path."""
    found: dict[str, tuple[bytes, str]] = {}
    folder = resources.files("datasetkit").joinpath("web", "static")
    if not folder.is_dir():
        return found
    waiting = [("", folder)]
    while waiting:
        below, place = waiting.pop()
        for entry in place.iterdir():
            name = f"{below}/{entry.name}"
            kind = _TYPES.get("." + entry.name.rpartition(".")[2])
            if entry.is_dir():
                waiting.append((name, entry))
            elif kind is not None:
                found[name] = entry.read_bytes(), kind
    if "/index.html" in found:
        found["/"] = found.pop("/index.html")
    return found


# ---- reading
# --------------------------------------------------------------------------------------------------


def images(page: ReviewPage, asked: Mapping[str, Any]) -> views.Json:
    offset = _number(asked, "offset", 0, 10**9)
    limit = _number(asked, "limit", 500, _MOST_ROWS)
    dataset = page.dataset
    _with_twins(page, asked.get("where", ""))
    with dataset.lock:
        ids = dataset.ids(asked.get("where", ""))
        return views.window(dataset, ids, offset, limit, captions=asked.get("captions") == "1")


def ids(page: ReviewPage, asked: Mapping[str, Any]) -> views.Json:
    _with_twins(page, asked.get("where", ""))
    with page.dataset.lock:
        found = page.dataset.ids(asked.get("where", ""))
        return {"version": page.dataset.version, "total": len(found), "id": list(found)}


def changes(page: ReviewPage, asked: Mapping[str, Any]) -> views.Json:
    since = page.dataset.since(_number(asked, "since", 0, 10**12))
    page.twins.follow()
    return views.changes(page.dataset, since, busy=False)


def complete(page: ReviewPage, asked: Mapping[str, Any]) -> views.Json:
    return dict(
        page.tables.complete(asked.get("q", ""), _number(asked, "limit", 20, _MOST_COMPLETIONS))
    )


def duplicates(page: ReviewPage, asked: Mapping[str, Any]) -> views.Json:
    done, of = page.twins.progress()
    return {"version": page.dataset.version, "done": done, "of": of, "groups": page.twins.groups()}


def one_image(page: ReviewPage, asked: Mapping[str, Any]) -> views.Json:
    found = _image(page, asked["id"])
    with page.editor.turn:
        return views.image(
            page.dataset, page.bench, found, page.tables.translations, page.twins.of(found.id)
        )


_READS: Mapping[str, Call] = {
    "images": images,
    "ids": ids,
    "changes": changes,
    "complete": complete,
    "duplicates": duplicates,
}

# ---- calls
# --------------------------------------------------------------------------------------------------


def tags(page: ReviewPage, sent: Mapping[str, Any]) -> views.Json:
    scope = _scope(page, sent)
    with page.dataset.lock:
        chosen = page.dataset.select(scope)
        return {
            "version": page.dataset.version,
            "images": len(chosen),
            **page.tables.tags(chosen),
        }


def outliers(page: ReviewPage, sent: Mapping[str, Any]) -> views.Json:
    scope = _scope(page, sent)
    share = sent.get("share", 0.8)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise InputError("share must be a number above 0 and at most 1")
    with page.dataset.lock:
        chosen = page.dataset.select(scope)
        return {
            "version": page.dataset.version,
            "images": len(chosen),
            **page.tables.outliers(chosen, share),
        }


def filtered(page: ReviewPage, sent: Mapping[str, Any]) -> views.Json:
    where = _text(sent, "where")
    node = parse(where)
    _with_twins(page, where)
    return {
        "version": page.dataset.version,
        "where": show(node),
        "total": len(page.dataset.ids(where)),
    }


def apply(page: ReviewPage, sent: Mapping[str, Any]) -> views.Json:
    wanted = sent.get("do")
    if not isinstance(wanted, dict):
        raise InputError("the call says not what to do", hint='e.g. "do": {"remove": ["lips"]}')
    dry_run = sent.get("dry_run", False) is True
    done = page.editor.apply(
        _version(sent) if not dry_run else 0, _scope(page, sent), wanted, dry_run=dry_run
    )
    return views.edited(done, page.dataset, page.editor, dry_run=dry_run)


def caption(page: ReviewPage, sent: Mapping[str, Any]) -> views.Json:
    number = sent.get("id")
    if isinstance(number, bool) or not isinstance(number, int):
        raise InputError("the call names no image")
    found = _image(page, str(number))
    done = page.editor.edit(_version(sent), found.id, sent.get("hash"), sent.get("caption"))
    now = _image(page, str(number))
    text = now.caption.text() if now.caption is not None else None
    return {
        **views.edited(done, page.dataset, page.editor, dry_run=False),
        "caption": text,
        "hash": now.hash,
    }


def undo(page: ReviewPage, sent: Mapping[str, Any]) -> views.Json:
    return views.edited(page.editor.undo(), page.dataset, page.editor, dry_run=False)


def redo(page: ReviewPage, sent: Mapping[str, Any]) -> views.Json:
    return views.edited(page.editor.redo(), page.dataset, page.editor, dry_run=False)


_CALLS: Mapping[str, Call] = {
    "tags": tags,
    "outliers": outliers,
    "filter": filtered,
    "apply": apply,
    "caption": caption,
    "undo": undo,
    "redo": redo,
}


def _scope(page: ReviewPage, sent: Mapping[str, Any]) -> Scope:
    """Read a scope. Raises InputError for what is none."""
    given = sent.get("scope", {"in": "all"})
    kind = given.get("in") if isinstance(given, dict) else None
    if kind == "all":
        return Scope()
    if kind == "where":
        where = _text(given, "where")
        _with_twins(page, where)
        return Scope("where", where)
    if kind == "ids":
        numbers = given.get("ids")
        if isinstance(numbers, list) and all(type(number) is int for number in numbers):
            return Scope("ids", ids=tuple(numbers))
    raise InputError(
        "no such scope",
        hint='{"in": "all"}, {"in": "where", "where": "..."} or {"in": "ids", "ids": [...]}',
    )


def _with_twins(page: ReviewPage, where: str) -> None:
    """Let a filter that asks for duplicates find those that are known by now."""
    if "dup" in where.lower():
        page.twins.groups()


def _version(sent: Mapping[str, Any]) -> int:
    version = sent.get("version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise InputError(
            "the call says not which version the page has seen", hint='e.g. "version": 1'
        )
    return version


def _text(sent: Mapping[str, Any], key: str) -> str:
    value = sent.get(key)
    if not operations.is_text(value):
        raise InputError(f"{key} must be text")
    return value


def _number(asked: Mapping[str, Any], key: str, default: int, most: int) -> int:
    text = str(asked.get(key, default))
    if not _is_number(text) or int(text) > most:
        raise InputError(f"{key} must be a whole number up to {most:,}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS


def _image(page: ReviewPage, number: str) -> ReviewImage:
    """Return an image by its number. Raises NotThere."""
    found = page.dataset.get(int(number)) if _is_number(number) else None
    if found is None:
        shown = number if _is_number(number) else "of this name; they have numbers"
        raise UnknownImage(f"there is no image {shown}", hint="it may have been excluded or moved")
    return found


# ---- requests and answers
# ---------------------------------------------------------------------------------------


def _json(value: views.Json, status: int = 200) -> Response:
    # A name that is no UTF-8 is shown as it can be.
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "replace"
    )
    return Response(body, status, media_type="application/json")


def _get(page: ReviewPage, call: Call) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        asked = {**request.query_params, **request.path_params}
        return await run_in_threadpool(lambda: _json(call(page, asked)))

    return endpoint


def _post(page: ReviewPage, call: Call) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        try:
            sent = json.loads(await request.body())
        except (ValueError, RecursionError):
            raise InputError("the call is no JSON") from None
        if not isinstance(sent, dict):
            raise InputError("a call is a JSON object")
        return await run_in_threadpool(lambda: _json(call(page, sent)))

    return endpoint


def _image_bytes(page: ReviewPage, kind: str) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        found = _image(page, request.path_params["id"])
        try:
            data = await asyncio.wrap_future(page.thumbnails.ask(found, kind))
        except ImageGone as error:
            return _json({"error": error.message, "hint": error.hint}, 409)
        except InputError as error:
            return _json({"error": error.message, "hint": error.hint}, 415)
        lasting = request.query_params.get("v") == found.v
        keep = "private, max-age=31536000, immutable" if lasting else "no-store"
        return Response(data, media_type="image/jpeg", headers={"cache-control": keep})

    return endpoint


def _static(body: bytes, kind: str) -> Endpoint:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    async def endpoint(request: Request) -> Response:
        headers = {"cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=kind, headers=headers)

    return endpoint


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = {404: "there is nothing here", 405: "this address takes another method"}.get(
        status, "this cannot be answered"
    )
    return _json({"error": what, "hint": ""}, status)


def _refused(page: ReviewPage) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def refused(request: Request, error: Exception) -> Response:
        if not isinstance(error, DskError):
            raise error
        status = (
            404
            if isinstance(error, UnknownImage)
            else next(code for kind, code in _STATUS if isinstance(error, kind))
        )
        answer: views.Json = {"error": error.message, "hint": error.hint}
        if isinstance(error, FilterError):
            answer["at"] = error.at
        if isinstance(error, EditConflict):
            answer |= views.conflict(error, page.dataset)
        return _json(answer, status)

    return refused
