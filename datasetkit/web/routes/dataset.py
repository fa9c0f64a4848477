"""Routes of the tabs Check and Plan."""

from __future__ import annotations

from datasetkit.core.errors import InputError
from datasetkit.verbs.studio import findings, layouts
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import ApiRoute, Json, Values, flag, get, post, query_number, text


def report(studio: StudioSession, query: Values) -> Json:
    return findings.report(studio)


def findings_of(studio: StudioSession, query: Values) -> Json:
    return findings.findings(studio, text(query, "check"))


def fix(studio: StudioSession, body: Values) -> Json:
    checks = body.get("checks")
    if not isinstance(checks, list) or not all(isinstance(name, str) for name in checks):
        raise InputError("the request has no `checks`", hint='e.g. "checks": ["tag-twice"]')
    return findings.fix(studio, checks, dry_run=flag(body, "dry_run"))


def plan(studio: StudioSession, query: Values) -> Json:
    return layouts.plan(studio)


def images(studio: StudioSession, query: Values) -> Json:
    offset = query_number(query, "offset", 0, 10**9)
    return layouts.images(studio, offset, query_number(query, "limit", 500, 20_000))


ROUTES: tuple[ApiRoute, ...] = (
    get("/api/check", report),
    get("/api/check/findings", findings_of),
    post("/api/check/fix", fix),
    get("/api/layout", plan),
    get("/api/layout/images", images),
)
