"""Routes of the shell: what the page needs first, the options, the machine, and what the state of
each tab follows from.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from datasetkit import __version__
from datasetkit.options.declare import describe
from datasetkit.options.run import ConceptOptions
from datasetkit.options.toml import TABLES, options_class
from datasetkit.verbs.studio import events, facts, past
from datasetkit.verbs.studio import system as machine
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import (
    ApiRoute,
    Json,
    Values,
    endpoint,
    flag,
    get,
    number,
    post,
    query_number,
)

_CARDS = machine.Cards()


def session(studio: StudioSession, query: Values) -> Json:
    """Answer what the page needs first. events: from where its stream goes on; before all that it
    fetches, so that no change is between them.
    """
    return {"events": events.position(studio), **facts.session_info(studio)}


def project(studio: StudioSession, query: Values) -> Json:
    return facts.project(studio)


def system(studio: StudioSession, query: Values) -> Json:
    return machine.system(studio, _CARDS)


async def schema(studio: StudioSession, request: Request) -> Response:
    """Answer the options of all commands; they are the same while the server runs."""
    body, etag = await run_in_threadpool(_schema)
    headers = {"etag": etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@cache
def _schema() -> tuple[bytes, str]:
    tables = {name: describe(options_class(name)) for name in TABLES}
    slots: dict[str, list[str]] = {}
    for name, options in tables.items():
        for option in options:
            if option["slot"] is not None:
                slots.setdefault(str(option["slot"]), []).append(f"{name}.{option['name']}")
    value: dict[str, Any] = {
        "version": __version__,
        "tables": tables,
        "concept": describe(ConceptOptions),
        "slots": dict(sorted(slots.items(), key=lambda slot: int(slot[0]))),
    }
    body = json.dumps(value, separators=(",", ":"), default=str).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def history(studio: StudioSession, query: Values) -> Json:
    return past.entries(studio)


def changes(studio: StudioSession, query: Values) -> Json:
    return past.changes(studio, query_number(query, "id", 0, 10**12))


def undo(studio: StudioSession, body: Values) -> Json:
    entry = None if body.get("entry") is None else number(body, "entry")
    return past.take_back(
        studio, entry, partial=flag(body, "partial"), dry_run=flag(body, "dry_run")
    )


ROUTES: tuple[ApiRoute, ...] = (
    get("/api/session", session),
    endpoint("GET", "/api/schema", schema),
    get("/api/project", project),
    get("/api/system", system),
    get("/api/history", history),
    get("/api/history/{id}", changes),
    post("/api/history/undo", undo),
)
