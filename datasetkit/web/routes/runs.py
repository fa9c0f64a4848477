"""Routes of training runs: what they are, their metrics and their logs."""

from __future__ import annotations

from datasetkit.core.errors import InputError
from datasetkit.verbs.studio import jobs, runs
from datasetkit.verbs.studio.errors import NotFound
from datasetkit.verbs.studio.metrics import MOST_POINTS
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import ApiRoute, Json, Values, get, query_number

_MOST_STEPS = 10**12
_MOST_KEYS = 100


def list_runs(studio: StudioSession, query: Values) -> Json:
    return {"runs": runs.all_runs(studio)}


def run(studio: StudioSession, query: Values) -> Json:
    return runs.details(studio, runs.find(studio, query["id"]))


def metrics(studio: StudioSession, query: Values) -> Json:
    keys = [key for key in str(query.get("keys", "")).split(",") if key]
    if len(keys) > _MOST_KEYS:
        raise InputError(f"keys has more than {_MOST_KEYS} names")
    begin = query_number(query, "from", 0, _MOST_STEPS) if query.get("from") else 0
    end = query_number(query, "to", 0, _MOST_STEPS) if query.get("to") else None
    points = query_number(query, "points", MOST_POINTS, MOST_POINTS)
    return runs.metrics(studio, runs.find(studio, query["id"]), keys, begin, end, points)


def log(studio: StudioSession, query: Values) -> Json:
    job = runs.job_id(runs.find(studio, query["id"]))
    if job is None:
        raise NotFound("this run has no log", hint="its output is in the terminal where it started")
    begin = query_number(query, "from", 0, _MOST_STEPS) if "from" in query else None
    return jobs.log(studio, job, begin)


ROUTES: tuple[ApiRoute, ...] = (
    get("/api/runs", list_runs),
    get("/api/runs/{id}", run),
    get("/api/runs/{id}/metrics", metrics),
    get("/api/runs/{id}/log", log),
)
