"""What has changed since a client looked last.

The id of an event is how far its client has read, such as `c:1f.k3a9:18231.9f0e1c2b`: positions in
the metrics and logs that it watches, and versions of everything else. A client that comes back
sends the last id, also to another server; so the server keeps nothing of its clients. Events are
made when they are sent, from the position of the client: a slow client gets fewer and larger ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from datasetkit import __version__
from datasetkit.core.files import PROJECT
from datasetkit.project.jobs import Job
from datasetkit.verbs.jobs_list import jobs as list_jobs
from datasetkit.verbs.studio import config_file, jobs, runs
from datasetkit.verbs.studio.metrics import MOST_POINTS
from datasetkit.verbs.studio.run_files import RunPlace
from datasetkit.verbs.studio.session import StudioSession
from trainer.files.run_manifest import manifest_name

Json = dict[str, Any]
MOST_WATCHED: Final = 8  # runs or logs of one client
_FORMAT: Final = "1"
_ID: Final = re.compile(r"[0-9A-Za-z.:-]{0,1000}")
_LOG_BYTES: Final = 64 * 1024
_PAIRS: Final = 2


@dataclass(frozen=True, slots=True)
class StudioEvent:
    """An event. id: how far its client has read once it has it."""

    kind: str
    data: Json
    id: str


@dataclass(slots=True)
class ReadPositions:
    """How far a client has read. runs: id -> (position, mark), see RunMetrics; logs: id -> byte;
    versions: of everything else.
    """

    runs: dict[str, tuple[int, str]] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Return the id of an event."""
        parts = [_FORMAT]
        parts += [f"m{run}:{position}:{mark}" for run, (position, mark) in self.runs.items()]
        parts += [f"l{job}:{position}" for job, position in self.logs.items()]
        parts += [f"v{name}:{version}" for name, version in self.versions.items()]
        return ".".join(parts)

    @classmethod
    def parse(cls, text: str) -> ReadPositions | None:
        """Read an id; None for one that was not made here."""
        if not _ID.fullmatch(text) or text.split(".")[0] != _FORMAT:
            return None
        positions = cls()
        for part in text.split(".")[1:]:
            kind, rest = part[:1], part[1:].split(":")
            try:
                if kind == "m" and len(rest) == _PAIRS + 1:
                    positions.runs[rest[0]] = int(rest[1]), rest[2]
                elif kind == "l" and len(rest) == _PAIRS:
                    positions.logs[rest[0]] = int(rest[1])
                elif kind == "v" and len(rest) == _PAIRS:
                    positions.versions[rest[0]] = rest[1]
                else:
                    return None
            except ValueError:
                return None
        return positions


class EventSource:
    """Makes the events of one client. watched: ids of runs and of jobs with a log."""

    def __init__(self, session: StudioSession, runs: list[str], logs: list[str], last: str) -> None:
        self.session = session
        self._runs, self._logs = runs[:MOST_WATCHED], logs[:MOST_WATCHED]
        read = ReadPositions.parse(last) if last else None
        self.resumed = read is not None
        before = read or ReadPositions()
        self.positions = ReadPositions(
            {run: at for run, at in before.runs.items() if run in self._runs},
            {job: at for job, at in before.logs.items() if job in self._logs},
            before.versions,
        )
        # What was sent of each job in this connection: a new one gets those that run.
        self._jobs: dict[str, Json] = {}
        self._first = True

    def hello(self) -> StudioEvent:
        """Return the first event. Its id has positions for everything: what a client fetches after
        it and what comes in later events overlap, and leave no gap.
        """
        new = [run for run in self._runs if run not in self.positions.runs]
        places = runs.places(self.session) if new or not self.resumed else []
        for run in new:
            files_of_run = _place(places, run)
            metrics = None if files_of_run is None else self.session.runs.metrics(files_of_run)
            at = (0, "") if metrics is None else (metrics.position, metrics.mark)
            self.positions.runs[run] = at
        if not self.resumed:
            versions = file_versions(self.session, places)
            self.positions.versions = {key: _short(v) for key, v in versions.values()}
        started = self.session.started.strftime("%Y-%m-%dT%H:%M:%SZ")
        data = {"dsk": __version__, "started": started, "resumed": self.resumed}
        return StudioEvent("hello", data, self.positions.text())

    def look(self) -> Iterator[StudioEvent]:
        """Yield what has changed, at most one event of each kind and run."""
        known = list_jobs()
        yield from self._of_jobs(known)
        places = runs.places(self.session, known)
        yield from self._of_files(places)
        for run in self._runs:
            yield from self._of_run(run, _place(places, run))
        for job in self._logs:
            yield from self._of_log(job, known)
        self._first = False

    def _of_jobs(self, known: tuple[Job, ...]) -> Iterator[StudioEvent]:
        now = [jobs.view(self.session, job) for job in known]
        changed, gone = jobs.changes(self._jobs, now)
        version = _digest([{k: job[k] for k in ("id", "state", "place", "held")} for job in now])
        is_known = self._first and self.positions.versions.get("j") == version
        self._jobs = {job["id"]: job for job in now}
        self.positions.versions["j"] = version
        if is_known:
            changed = [job for job in changed if job["state"] in ("running", "stopping")]
        if changed or gone:
            data = {"jobs": changed, **({"gone": gone} if gone else {})}
            yield StudioEvent("job", data, self.positions.text())

    def _of_files(self, places: Sequence[RunPlace]) -> Iterator[StudioEvent]:
        versions = file_versions(self.session, places)
        before = self.positions.versions
        changed = {
            name: version
            for name, (key, version) in versions.items()
            if before.get(key) != _short(version)
        }
        self.positions.versions |= {key: _short(version) for key, version in versions.values()}
        if changed:
            yield StudioEvent("files", changed, self.positions.text())

    def _of_run(self, run_id: str, files_of_run: RunPlace | None) -> Iterator[StudioEvent]:
        if files_of_run is None:
            return
        metrics = self.session.runs.metrics(files_of_run)
        with metrics.lock:
            position, mark = self.positions.runs.get(run_id, (0, ""))
            self.positions.runs[run_id] = metrics.position, metrics.mark
            data: Json = {"run": run_id, "last": metrics.last_step, "at": metrics.position}
            if not metrics.is_read_until(position, mark):
                step = metrics.valid_until or 0
                data |= {"reset": step, "from": step}
            elif position == metrics.position:
                return
            else:
                data["from"] = metrics.step_at(position)
            rows = metrics.rows_after(data["from"], MOST_POINTS)
            data |= {"buckets": True} if rows is None else {"rows": rows}
        yield StudioEvent("metrics", data, self.positions.text())

    def _of_log(self, job_id: str, known: tuple[Job, ...]) -> Iterator[StudioEvent]:
        job = next((job for job in known if job.id == job_id), None)
        if job is None:
            return
        position = self.positions.logs.get(job_id)
        part = jobs.read_log(job, position, _LOG_BYTES)
        if part is None:
            return
        if position is not None and part["size"] < position:  # a new file
            part = jobs.read_log(job, 0, _LOG_BYTES) or part
        self.positions.logs[job_id] = part["to"]
        if part["text"]:
            data = {"job": job_id, **{key: part[key] for key in ("from", "to", "text")}}
            yield StudioEvent("log", data, self.positions.text())


def position(session: StudioSession) -> str:
    """Return the id of an event that would come now: a stream from it has all that changes later.
    Nothing is watched yet.
    """
    versions = file_versions(session, runs.places(session))
    return ReadPositions(versions={key: _short(v) for key, v in versions.values()}).text()


def _place(places: Iterable[RunPlace], run_id: str) -> RunPlace | None:
    return next((run for run in places if run.id == run_id), None)


def file_versions(session: StudioSession, places: Iterable[RunPlace]) -> dict[str, tuple[str, str]]:
    """Return the version of each kind of files, with the letter that names it in an id. places: the
    runs of the project.
    """
    loaded = session.captions.loaded
    versions = {"config": ("c", config_file.version(session) or "none")}
    if loaded is not None:
        dataset = loaded.dataset
        with dataset.lock:
            versions["captions"] = "t", f"{session.started.timestamp():.0f}-{dataset.version}"
        versions["images"] = "i", session.captions.images_version()
    versions["outputs"] = "o", _digest([_stamps(run) for run in places])
    versions["history"] = "h", _digest(_stamp(session.root / PROJECT / "store.sqlite"))
    return versions


def _stamps(run: RunPlace) -> list[Any]:
    record = manifest_name(run.name)
    return [run.id, _stamp(run.folder / record), _stamp(run.folder)]


def _stamp(path: Path) -> list[int]:
    try:
        info = path.stat()
    except OSError:
        return []
    return [info.st_ino, info.st_size, info.st_mtime_ns]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]


def _short(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()[:8]


def wire(event: StudioEvent) -> bytes:
    """Return an event as it is sent."""
    data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode("utf-8", "replace")
