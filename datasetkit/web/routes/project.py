"""Routes of the shell: what the page needs first, and what the state of each tab follows from."""

from __future__ import annotations

from datasetkit.verbs.studio.session import StudioSession, info
from datasetkit.web.table import ApiRoute, Json, Values, get


def session(studio: StudioSession, query: Values) -> Json:
    return info(studio)


ROUTES: tuple[ApiRoute, ...] = (get("/api/session", session),)
