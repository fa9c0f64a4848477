"""The training runs of a project, by their files: wherever they were started.

A run is `<name>-run.json` with its `<name>-metrics.jsonl`. Whether it goes on says its lock, never
a stored status.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

from datasetkit.core.errors import DskError
from datasetkit.core.files import PROJECT, display
from datasetkit.project.jobs import Job
from datasetkit.verbs.studio.errors import NotFound
from datasetkit.verbs.studio.metrics import RunMetrics
from trainer.files import run_lock, run_manifest
from trainer.files.run_manifest import RunManifest

Json = dict[str, Any]
_DEPTH: Final = 4  # folders below the project that are searched for results
_MOST_FOLDERS: Final = 2000
_SEARCH_SECONDS: Final = 5.0
_SEARCH_SHARE: Final = 20  # a search starts again after this many times what it took
_OPENED: Final = 16  # runs whose metrics stay in memory
_NOT_SEARCHED: Final = frozenset({PROJECT, ".git", "node_modules", "masks", "sample", "previous"})


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Where a run lies: the folder of its results, and its name."""

    folder: Path
    name: str

    @property
    def id(self) -> str:
        return run_id(self.folder, self.name)

    @property
    def metrics(self) -> Path:
        return self.folder / f"{self.name}-metrics.jsonl"


def run_id(folder: Path, name: str) -> str:
    """Return the id of a run: the same for each server and each start."""
    text = f"{folder.resolve()}\0{name}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class RunFinder:
    """Finds runs, and keeps the metrics of those that somebody looks at in memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._folders: tuple[Path, ...] = ()
        self._next_search = 0.0
        self._metrics: dict[str, RunMetrics] = {}

    def places(self, project: Path, output: Path | None, jobs: Iterable[Job]) -> list[RunPlace]:
        """Return the runs of a project: those below it, in its output folder, and those that a job
        of the project has put elsewhere.
        """
        folders = dict.fromkeys(self._searched(project))
        if output is not None:
            folders[output.resolve()] = None
        named: list[RunPlace] = []
        for job in jobs:
            if job.run is None:
                continue
            folder = Path(job.run[0]).resolve()
            if folder.is_relative_to(project) or Path(job.folder).is_relative_to(project):
                folders[folder] = None
                named.append(RunPlace(folder, job.run[1]))
        below = [
            RunPlace(folder, name) for folder in folders for name in run_manifest.names(folder)
        ]
        with_files = [run for run in named if run.metrics.is_file()]
        return list(dict.fromkeys([*below, *with_files]))

    def _searched(self, project: Path) -> tuple[Path, ...]:
        """Return the folders below a project that hold results, as of some seconds ago."""
        now = time.monotonic()
        with self._lock:
            if now < self._next_search:
                return self._folders
            self._folders = tuple(_with_results(project))
            took = time.monotonic() - now
            pause = max(_SEARCH_SECONDS, _SEARCH_SHARE * took)
            self._next_search = time.monotonic() + pause
            return self._folders

    def metrics(self, run: RunPlace) -> RunMetrics:
        """Return the metrics of a run, read up to now."""
        with self._lock:
            metrics = self._metrics.pop(run.id, None) or RunMetrics(run.metrics)
            self._metrics[run.id] = metrics
            while len(self._metrics) > _OPENED:
                del self._metrics[next(iter(self._metrics))]
        metrics.update()
        return metrics

    def last_metrics(self, run: RunPlace) -> RunMetrics:
        """Return metrics that have the last rows of a run at least: a list of many runs reads no
        more, and drops nothing that somebody looks at.
        """
        with self._lock:
            metrics = self._metrics.get(run.id)
        if metrics is None:
            return RunMetrics.of_end(run.metrics)
        metrics.update()
        return metrics


def _with_results(project: Path) -> Iterator[Path]:
    folders = [(project, 0)]
    count = 0
    while folders and count < _MOST_FOLDERS:
        folder, depth = folders.pop()
        count += 1
        try:
            with os.scandir(folder) as entries:
                has_run = False
                for entry in entries:
                    if entry.name.endswith("-run.json"):
                        has_run = True
                    elif (
                        depth < _DEPTH
                        and not entry.name.startswith(".")
                        and entry.name not in _NOT_SEARCHED
                        and entry.is_dir(follow_symlinks=False)
                    ):
                        folders.append((Path(entry.path), depth + 1))
        except OSError:
            continue
        if has_run:
            yield folder


def manifest(run: RunPlace) -> RunManifest | None:
    """Return the record of a run; None where there is none that can be read."""
    try:
        return run_manifest.read(run.folder, run.name)
    except DskError:
        return None


def view(run: RunPlace, metrics: RunMetrics, job: Job | None) -> Json:
    """Return a run as plain data. job: the one that runs it, or ran it last."""
    record = manifest(run)
    plan = dict(record.facts.get("plan") or {}) if record is not None else {}
    steps = plan.get("steps")
    state = _state(run, record, job)
    last = metrics.last()
    pace = metrics.seconds_per_step()
    step = int(last.get("step", 0))
    seconds_left = None
    if state in ("running", "stopping") and pace is not None and isinstance(steps, int):
        seconds_left = max(0.0, (steps - step) * pace)
    return {
        "id": run.id,
        "name": run.name,
        "folder": str(run.folder),
        "state": state,
        "started": None if record is None else record.started,
        "ended": None if record is None else record.ended,
        "steps": steps,
        "epochs": plan.get("epochs"),
        "step": step,
        "epoch": last.get("epoch"),
        "loss": last.get("loss"),
        "seconds_per_step": pace,
        "seconds_left": seconds_left,
        "memory": last.get("memory"),
        "job": None if job is None else job.id,
    }


def _state(run: RunPlace, record: RunManifest | None, job: Job | None) -> str:
    if run_lock.is_held(run.folder, run.name) or (job is not None and job.runs):
        return "stopping" if job is not None and job.state == "stopping" else "running"
    if record is None:
        return "ended"
    return "lost" if record.status == "running" else record.status


def job_of(run: RunPlace, jobs: Iterable[Job]) -> Job | None:
    """Return the newest job of a run."""
    matches = [
        job
        for job in jobs
        if job.run is not None and run_id(Path(job.run[0]), job.run[1]) == run.id
    ]
    running = [job for job in matches if job.runs]
    return next(iter(running or matches), None)


def find(places: Iterable[RunPlace], wanted: str) -> RunPlace:
    """Return the run of an id. Raises NotFound."""
    for run in places:
        if run.id == wanted:
            return run
    raise NotFound(
        f"there is no run {display(wanted)}", hint="its files may have been moved or removed"
    )
