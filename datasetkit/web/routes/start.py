"""Routes of the cards of an empty project."""

from __future__ import annotations

from datasetkit.core.errors import InputError
from datasetkit.verbs.studio import start
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import ApiRoute, Json, Values, flag, get, post


def overview(studio: StudioSession, query: Values) -> Json:
    return start.overview(studio)


def begin(studio: StudioSession, body: Values) -> Json:
    """Copy the example into the open folder."""
    if not flag(body, "example"):
        raise InputError("the request has no `example`", hint='e.g. {"example": true}')
    return start.copy_example(studio)


ROUTES: tuple[ApiRoute, ...] = (get("/api/start", overview), post("/api/start", begin))
