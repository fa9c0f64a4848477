"""Routes of the Captions tab: HTTP requests become calls of `datasetkit.verbs.review`.

GET  /api/<name>            one of READS: query parameters in, JSON out
GET  /api/image/<id>        everything about one image
POST /api/<name>            one of ACTIONS: a JSON object in, JSON out
GET  /thumb/<id>            a JPEG for the grid
GET  /preview/<id>          a larger JPEG
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from datasetkit.core.errors import InputError
from datasetkit.verbs.review import operations, views
from datasetkit.verbs.review.dataset import Scope
from datasetkit.verbs.review.editing import EditResult
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.session import ReviewSession
from datasetkit.verbs.review.tables import Columns
from datasetkit.verbs.review.thumbnails import SIZES, ImageGone
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import (
    ApiRoute,
    Endpoint,
    NotFound,
    Values,
    endpoint,
    error_response,
    get,
    image_response,
    is_whole_number,
    post,
    query_number,
    text,
)

# Of the dataset that is reviewed: from query parameters, or from the JSON object in the body.
CaptionsHandler = Callable[[ReviewSession, Mapping[str, Any]], views.Json]

_SCOPES = '{"in": "all"}, {"in": "where", "where": "..."} or {"in": "ids", "ids": [...]}'
_MAX_ROWS = 20_000
_MAX_COMPLETIONS = 200

# ---- reads


def images(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    offset = query_number(query, "offset", 0, 10**9)
    limit = query_number(query, "limit", 500, _MAX_ROWS)
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
    since = query_number(query, "since", 0, 10**12)
    log = session.dataset.changes_since(since)
    session.near_duplicates.update()
    return views.changes(session.dataset, log)


def complete(session: ReviewSession, query: Mapping[str, Any]) -> views.Json:
    limit = query_number(query, "limit", 20, _MAX_COMPLETIONS)
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


READS: Mapping[str, CaptionsHandler] = {
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
    where = text(body, "where")
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
    tag, meaning = text(body, "tag"), text(body, "meaning")
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


ACTIONS: Mapping[str, CaptionsHandler] = {
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
        where = text(given, "where")
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


def _image(session: ReviewSession, image_id: str) -> ReviewImage:
    """Return an image by its id. Raises NotFound."""
    if not is_whole_number(image_id):
        raise NotFound("an image id is a whole number")
    requested = session.dataset.get(int(image_id))
    if requested is None:
        raise NotFound(f"no image has the id {image_id}", hint="it may have been excluded or moved")
    return requested


# ---- to responses


def _edited(session: ReviewSession, result: EditResult) -> views.Json:
    session.tables.translations.refresh()
    edited = views.edited(result, session.dataset, session.editor, dry_run=False)
    return {**edited, "translations": bool(session.tables.translations)}


def _table(session: ReviewSession, selected: Sequence[ReviewImage], columns: Columns) -> views.Json:
    return {"version": session.dataset.version, "images": len(selected), **columns}


def _jpeg(kind: str) -> Endpoint:
    async def answer(studio: StudioSession, request: Request) -> Response:
        session = await run_in_threadpool(studio.captions.get)
        requested = _image(session, request.path_params["id"])
        try:
            data = await asyncio.wrap_future(session.thumbnails.request(requested, kind))
        except ImageGone as error:
            return error_response(error, 409)
        except InputError as error:
            return error_response(error, 415)
        return image_response(data, "image/jpeg", request, requested.v)

    return answer


def _of_captions(handler: CaptionsHandler) -> Callable[[StudioSession, Values], views.Json]:
    def answer(studio: StudioSession, values: Values) -> views.Json:
        return handler(studio.captions.get(), values)

    return answer


# These compute, or check themselves whether they may write.
_NO_WRITES = frozenset({"tags", "outliers", "suggestions", "filter", "apply"})
ROUTES: tuple[ApiRoute, ...] = (
    *(get(f"/api/{name}", _of_captions(handler)) for name, handler in READS.items()),
    get("/api/image/{id}", _of_captions(image)),
    *(
        post(f"/api/{name}", _of_captions(handler), writes=name not in _NO_WRITES)
        for name, handler in ACTIONS.items()
    ),
    *(endpoint("GET", f"/{kind}/{{id}}", _jpeg(kind)) for kind in SIZES),
)
