"""How far a job is: lines in its folder, so that any terminal and the page can show it.

Each line of `progress.jsonl` is {"time": seconds since 1970, "phase", "done", "of", "note"}. A line
is written at most twice a second, and less often the longer the job runs.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from datasetkit.core.progress import Reporter
from datasetkit.project.jobs import JobFolder, JobProgress

FILE: Final = "progress.jsonl"
_SHORTEST: Final = 0.5  # seconds between two lines
_LINES: Final = 5000  # about as many lines a job has at most
_TAIL: Final = 4096  # bytes that hold the last line


class JobReporter:
    """A reporter that also writes the progress into the folder of a job."""

    def __init__(self, shown: Reporter, job: JobFolder) -> None:
        self._shown = shown
        self._file = None if job.path is None else job.path / FILE
        self._began = self._phase_began = time.time()
        self._next = 0.0
        self._label = self._name = self._note = ""
        self._done = self._of = 0

    def start(self, label: str, total: int) -> None:
        self._shown.start(label, total)
        self._label = self._name = label
        self._done, self._of, self._note = 0, total, ""
        self._phase_began = time.time()
        self._write(now=True)

    def advance(self, n: int = 1) -> None:
        self._shown.advance(n)
        self._done += n
        self._name = self._label
        self._write(now=self._done >= self._of)

    def phase(self, name: str) -> None:
        self._shown.phase(name)
        self._name = name
        self._write()

    def note(self, text: str) -> None:
        self._shown.note(text)
        self._note = text

    def finish(self) -> None:
        self._shown.finish()
        self._label = self._note = ""
        self._done = self._of = 0

    def warn(self, message: str) -> None:
        self._shown.warn(message)

    def _write(self, *, now: bool = False) -> None:
        moment = time.time()
        if self._file is None or (moment < self._next and not now):
            return
        self._next = moment + max(_SHORTEST, (moment - self._began) / _LINES)
        line: dict[str, Any] = {
            "time": round(moment, 3), "phase": self._name, "done": self._done, "of": self._of,
            "note": self._note, "began": round(self._phase_began, 3),
        }  # fmt: skip
        # A disk that is full loses the line, not the job.
        with suppress(OSError), self._file.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shown, name)  # what a reporter has beside the protocol


def read(folder: Path) -> JobProgress | None:
    """Return how far a job is, None where no line can be read."""
    try:
        with (folder / FILE).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read(_TAIL).splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
            done, of, moment = int(record["done"]), int(record["of"]), float(record["time"])
            seconds = moment - float(record["began"])
            return JobProgress(
                phase=str(record["phase"]),
                done=done,
                of=of,
                time=moment,
                note=str(record["note"]),
                per_second=done / seconds if done and seconds > 0 else None,
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            continue  # a line that is not whole yet
    return None
