"""Everything that is printed: results to stdout; progress, remarks and errors to stderr. The only
module besides cli/show*.py that uses Rich.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text

from datasetkit.core.files import display

# File names and captions may contain Rich markup: they are always put into Text objects.
_MOST_LINES = 20
_BETWEEN_LINES = 60.0


def _out() -> Console:
    # A pipe has no width, and Rich would assume 80 columns, which folds tables that scripts read.
    return Console(soft_wrap=False, width=None if sys.stdout.isatty() else 160, highlight=False)


def _err() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def complain(message: str, hint: str = "") -> None:
    """Print an error and its hint."""
    err = _err()
    err.print(Text("error: ", "bold red").append(display(message), "default not bold"))
    if hint:
        err.print(Text("hint: ", "bold cyan").append(display(hint), "default not bold"))


def warn(message: str) -> None:
    """Print a warning."""
    _err().print(Text("warning: ", "bold yellow").append(display(message), "default not bold"))


def remark(message: str) -> None:
    """Print a line for people that is not part of the result."""
    _err().print(Text(display(message), "dim"))


def say(message: str = "", style: str = "") -> None:
    """Print a line of the result."""
    _out().print(Text(display(message), style), soft_wrap=True)


class Bars:
    """Shows progress on stderr while work runs: a bar on a terminal, at most one line a minute in a
    log.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._status: Status | None = None  # a phase without a bar
        self._log: _LogProgress | None = None
        self.warnings: list[str] = []

    def start(self, label: str, total: int) -> None:
        self.finish()
        console = _err()
        self._label = label
        if total > 1 and not console.is_terminal:
            self._log = _LogProgress(label, total, time.monotonic())
        elif total > 1:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(label, total=total, speed="", note="")

    def advance(self, n: int = 1) -> None:
        if self._progress is not None and self._task is not None:
            speed = self._progress.tasks[0].speed
            self._progress.update(
                self._task,
                advance=n,
                description=self._label,
                speed=_pace(speed) if speed else "",
            )
        elif self._log is not None:
            self._log.advance(n)

    def phase(self, name: str) -> None:
        """Show a phase instead of the bar's label, or beside a spinner; a log has no line for
        it.
        """
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=name)
        elif self._status is not None:
            self._status.update(Text(name))
        elif self._log is None and (console := _err()).is_terminal:
            self._status = console.status(Text(name))
            self._status.start()

    def note(self, text: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, note=text)
        elif self._log is not None:
            self._log.note = text

    def finish(self) -> None:
        self._log = None
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None

    def warn(self, message: str) -> None:
        if message not in self.warnings:  # a run would repeat it for every concept
            self.warnings.append(message)
            warn(message)


@dataclass
class _LogProgress:
    """Progress in a log: at most one line every `_BETWEEN_LINES` seconds, none for short work."""

    label: str
    total: int
    printed: float  # when the last line was printed
    note: str = ""
    done: int = 0
    first: int = 0  # the first advance, e.g. by a resumed run: not part of the pace
    started: float = 0.0

    def advance(self, n: int) -> None:
        now = time.monotonic()
        if not self.done:
            self.first, self.started = n, now
        self.done += n
        if now - self.printed >= _BETWEEN_LINES:
            self.printed = now
            new = self.done - self.first
            pace = _pace(new / (now - self.started)) if new else ""
            parts = (f"{self.label} {self.done:,}/{self.total:,}", pace, self.note)
            remark(" ".join(filter(None, parts)))


def _pace(speed: float) -> str:
    return f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"


@contextmanager
def bars() -> Iterator[Bars]:
    """Yield a reporter; remove its bar at the end, also after an error."""
    reporter = Bars()
    try:
        yield reporter
    finally:
        reporter.finish()


def plain(value: Any) -> Any:
    """Turn a result into what JSON can hold: dataclasses by field (their class as `is`), paths as
    text.

    Fields that begin with _ or have no repr are left out.
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = {
            f.name: plain(getattr(value, f.name))
            for f in fields(value)
            if f.repr and not f.name.startswith("_")
        }
        return {"is": type(value).__name__, **named}
    if isinstance(value, Mapping):
        return {_key(k): plain(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    match value:
        case Enum():
            return value.value
        case Path():
            return str(value)
        case re.Pattern():
            return value.pattern
        case bytes():
            return f"{len(value)} bytes"
        case float() if not math.isfinite(value):
            return None  # JSON has no NaN
    return value


def _key(key: Any) -> str:
    return "x".join(map(str, key)) if isinstance(key, tuple) else str(key)


def show_json(value: Any) -> None:
    """Print a result as one JSON document."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=True) + "\n")


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
) -> None:
    """Print rows as a table; columns named in `right` are aligned right."""
    rich_table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for column in columns:
        rich_table.add_column(
            column, justify="right" if column in right else "left", overflow="fold"
        )
    for row in rows:
        rich_table.add_row(
            *(cell if isinstance(cell, Text) else Text(display(str(cell))) for cell in row)
        )
    _out().print(rich_table)


def listed(lines: Sequence[str | Text], *, most: int = _MOST_LINES) -> None:
    """Print lines; of more than `most` the first ones and a count."""
    out = _out()
    for line in lines[:most]:
        out.print(line if isinstance(line, Text) else Text(display(line)), soft_wrap=True)
    if len(lines) > most:
        out.print(Text(f"... and {len(lines) - most:,} more (--json lists all)", "dim"))


def counted(n: int, what: str) -> str:
    """Return a count in words: `1 step`, `2 steps`."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def images(n: int) -> str:
    """Return a count of images in words."""
    return counted(n, "image")
