"""Routes of commands and jobs: plan, start, list, stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasetkit.core.errors import InputError
from datasetkit.verbs.studio import commands, jobs, pruning, tagging, training
from datasetkit.verbs.studio.commands import StudioCommand
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import (
    ApiRoute,
    Json,
    Values,
    flag,
    get,
    number,
    post,
    query_number,
    table,
    text,
)

_MOST_BYTES = 10**12


def _command(studio: StudioSession, values: Values) -> StudioCommand:
    arguments = values.get("arguments", [])
    if not isinstance(arguments, list):
        raise InputError("arguments must be a list of folders and files")
    return commands.command(studio, text(values, "verb"), arguments, table(values, "options"))


def _commands(studio: StudioSession, body: Values) -> tuple[StudioCommand, ...]:
    command = _command(studio, body)
    return training.chain(studio, command) if flag(body, "lay_out") else (command,)


def command(studio: StudioSession, body: Values) -> Json:
    return {"command": commands.shown(_commands(studio, body))}


def plan(studio: StudioSession, body: Values) -> Json:
    return studio.dry_runs.run(studio.roots.project, _command(studio, body))


def start(studio: StudioSession, body: Values) -> Json:
    when = text(body, "when") if "when" in body else "now"
    *before, job = jobs.start(studio, _commands(studio, body), when)
    return {"job": job, "before": before}


def before_training(studio: StudioSession, query: Values) -> Json:
    return training.overview(studio)


def to_prune(studio: StudioSession, query: Values) -> Json:
    return pruning.overview(studio)


def to_tag(studio: StudioSession, query: Values) -> Json:
    return tagging.overview(studio)


def list_jobs(studio: StudioSession, query: Values) -> Json:
    return {"jobs": jobs.all_jobs(studio)}


def job(studio: StudioSession, query: Values) -> Json:
    wanted = jobs.find(studio, query["id"])
    end = jobs.read_log(wanted, None, 8 * 1024)
    return {"job": jobs.view(studio, wanted), "log": "" if end is None else end["text"]}


def log(studio: StudioSession, query: Values) -> Json:
    begin = query_number(query, "from", 0, _MOST_BYTES) if "from" in query else None
    return jobs.log(studio, query["id"], begin)


def stop(studio: StudioSession, body: Values) -> Json:
    return {"job": jobs.stop(studio, body["id"], text(body, "how") if "how" in body else "save")}


def ask(studio: StudioSession, body: Values) -> Json:
    return {"job": jobs.ask(studio, body["id"], text(body, "action"))}


def resume(studio: StudioSession, body: Values) -> Json:
    return {"job": jobs.resume(studio, body["id"])}


def forget(studio: StudioSession, body: Values) -> Json:
    return {"job": jobs.forget(studio, body["id"])}


def remove(studio: StudioSession, body: Values) -> Json:
    return {"job": jobs.remove(studio, body["id"])}


def hold(studio: StudioSession, body: Values) -> Json:
    return {"job": jobs.hold(studio, body["id"], flag(body, "held", True))}


def order(studio: StudioSession, body: Values) -> Json:
    return {"job": jobs.order(studio, body["id"], number(body, "place"))}


_CHANGES: dict[str, Callable[[StudioSession, Values], dict[str, Any]]] = {
    "stop": stop, "ask": ask, "resume": resume, "forget": forget, "remove": remove, "hold": hold,
    "order": order,
}  # fmt: skip
ROUTES: tuple[ApiRoute, ...] = (
    post("/api/command", command, writes=False),
    post("/api/plan", plan, writes=False),
    get("/api/pruning", to_prune),
    get("/api/tagging", to_tag),
    get("/api/training", before_training),
    get("/api/jobs", list_jobs),
    post("/api/jobs", start),
    get("/api/jobs/{id}", job),
    get("/api/jobs/{id}/log", log),
    *(post(f"/api/jobs/{{id}}/{name}", handler) for name, handler in _CHANGES.items()),
)
