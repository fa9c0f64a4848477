"""The runs of a project, for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasetkit.core.errors import DskError
from datasetkit.options import toml
from datasetkit.options.declare import declared
from datasetkit.options.train import TrainOptions
from datasetkit.project.jobs import Job, list_jobs
from datasetkit.verbs.studio import run_files
from datasetkit.verbs.studio.metrics import MOST_POINTS
from datasetkit.verbs.studio.run_files import RunPlace
from datasetkit.verbs.studio.session import StudioSession

Json = dict[str, Any]


def places(session: StudioSession, jobs: Sequence[Job] | None = None) -> list[RunPlace]:
    """Return the runs of the project. jobs: those of this user, where they are listed already."""
    output = None
    try:
        table = toml.find(session.root).table("train")
        output = session.root / str(table.get("output_dir", TrainOptions().output_dir))
    except DskError:
        pass  # the page shows what is wrong with dsk.toml
    return session.runs.places(session.roots.project, output, list_jobs() if jobs is None else jobs)


def all_runs(session: StudioSession) -> list[Json]:
    """Return the runs of the project, newest first."""
    jobs = list_jobs()
    views = [
        run_files.view(run, session.runs.last_metrics(run), run_files.job_of(run, jobs))
        for run in places(session, jobs)
    ]
    return sorted(views, key=lambda run: run["started"] or "", reverse=True)


def find(session: StudioSession, run_id: str) -> RunPlace:
    """Return the run of an id. Raises InputError."""
    return run_files.find(places(session), run_id)


def details(session: StudioSession, run: RunPlace) -> Json:
    """Return everything about a run: its options, plan, versions and files, and what the form says
    now that it does not use.
    """
    job = run_files.job_of(run, list_jobs())
    record = run_files.manifest(run)
    facts: Mapping[str, Any] = {} if record is None else record.facts
    options = dict(facts.get("options") or {})
    return {
        "run": run_files.view(run, session.runs.last_metrics(run), job),
        "options": options,
        "plan": facts.get("plan") or {},
        "versions": facts.get("versions") or {},
        "files": [] if record is None else [asdict(file) for file in record.files],
        "differs": differences(session, options),
    }


def differences(session: StudioSession, options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the options in which dsk.toml differs from a run: name -> [run, dsk.toml]."""
    if not options:
        return {}
    try:
        form = asdict(toml.find(session.root).build(TrainOptions, "train", only_read=True))
    except DskError:
        return {}
    changed: dict[str, list[Any]] = {}
    for d in declared(TrainOptions):
        if d.name not in options:
            continue
        now = list(value) if isinstance(value := form[d.name], tuple) else value
        if now != options[d.name] and not _is_same_path(
            session, d.about.path, now, options[d.name]
        ):
            changed[d.name] = [options[d.name], now]
    return changed


def _is_same_path(session: StudioSession, kind: str, one: object, other: object) -> bool:
    if not kind or not isinstance(one, str) or not isinstance(other, str):
        return False
    return (session.root / Path(one)).resolve() == (session.root / Path(other)).resolve()


def metrics(
    session: StudioSession, run: RunPlace, keys: list[str], begin: int, end: int | None,
    points: int = MOST_POINTS,
) -> Json:  # fmt: skip
    """Return the metrics of a run for a chart."""
    rows = session.runs.metrics(run)
    with rows.lock:
        names = rows.keys()
        return {
            "run": run.id,
            "keys": names,
            "from": begin,
            "to": rows.last_step if end is None else end,
            "last": rows.last_step,
            "at": rows.position,
            "series": rows.series(keys or names, begin, end, points),
        }


def job_id(run: RunPlace) -> str | None:
    """Return the id of the newest job of a run, None for a run without one."""
    job = run_files.job_of(run, list_jobs())
    return None if job is None else job.id


def differs(session: StudioSession, run_id: str) -> bool:
    """Tell whether dsk.toml says something that a run did not use."""
    record = run_files.manifest(find(session, run_id))
    options = {} if record is None else record.facts.get("options") or {}
    return bool(differences(session, dict(options)))
