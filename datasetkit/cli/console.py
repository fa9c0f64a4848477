"""Everything that is printed: results to stdout; progress, remarks and errors to stderr.

On a terminal, lines are wrapped by words, and a table whose words do not fit beside each other is
printed row by row. Into a file or a pipe each message and each row of a table is one line of any
length, so that `grep` finds whole lines.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from rich.cells import cell_len
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
from datasetkit.core.words import counted as counted

# File names and captions may contain Rich markup: they are always put into Text objects.
_MOST_LINES = 20
_BETWEEN_LINES = 60.0
# Columns: of a bar, and of what stands beside it.
_LEAST_BAR, _WIDEST_BAR, _BESIDE_BAR = 10, 40, 74
_UNLIMITED = 10**5  # columns of what is not a terminal
_CONTINUED = "  "  # before the further lines of a message


def _out() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else _UNLIMITED)


def _err() -> Console:
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _UNLIMITED)


def complain(
    message: str, hint: str = "", details: Sequence[str] = (), *, command: str = ""
) -> None:
    """Print an error, the lines that belong to it, its hint, and the command that continues."""
    _print(_err, Text("error: ", "bold red").append(display(message), "default not bold"))
    _print(_err, *(Text(f"{_CONTINUED}{display(line)}") for line in details))
    if hint:
        _print(_err, Text("hint: ", "bold cyan").append(display(hint), "default not bold"))
    _continue_with(command)


def paused(message: str, command: str = "") -> None:
    """Print that a run was stopped and can go on, and the command that continues it."""
    _print(_err, Text(display(message), "bold"))
    _continue_with(command)


def _continue_with(command: str) -> None:
    """Print a command on one line, so that it can be copied from a terminal of any width."""
    if command:
        with Bars.hidden():
            line = Text("to continue: ", "bold cyan").append(display(command), "default not bold")
            _err().print(line, soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning."""
    _print(_err, Text("warning: ", "bold yellow").append(display(message), "default not bold"))


def remark(message: str) -> None:
    """Print a line for people that is not part of the result."""
    _print(_err, Text(display(message), "dim"))


def say(message: str = "", style: str = "") -> None:
    """Print a line of the result."""
    _print(_out, Text(display(message), style))


def _print(console: Callable[[], Console], *lines: Text) -> None:
    """Print lines, each wrapped by words. A bar or spinner is gone while they are printed, for two
    consoles that write to one terminal overwrite each other's lines.
    """
    with Bars.hidden():
        to = console()
        for line in lines:
            for part in wrapped(line, to.width):
                to.print(part, soft_wrap=True)


def wrapped(text: Text, width: int) -> list[Text]:
    """Break a text into lines of at most `width` columns, between words; further lines are
    indented.

    A longer word has a line of its own: the terminal breaks it, and copies it whole.
    """
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        indent = line.plain[: len(line.plain) - len(line.plain.lstrip())] + _CONTINUED
        breaks, used = [], 0
        for word in re.finditer(r"\s*\S+", line.plain):
            space = len(word.group()) - len(word.group().lstrip())
            if used and used + cell_len(word.group()) > width:
                breaks.append(word.start() + space)
                used = len(indent) + cell_len(word.group().lstrip())
            else:
                used += cell_len(word.group())
        first, *more = line.divide(breaks)
        lines.append(first)
        lines += [Text(indent).append_text(part) for part in more]
    for part in lines:
        part.rstrip()
    return lines


class Bars:
    """Shows progress on stderr while work runs: a bar on a terminal, at most one line a minute in a
    log.
    """

    _shown: ClassVar[Bars | None] = None  # the one that has a bar or spinner now

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._status: Status | None = None  # a phase without a bar
        self._log: _LogProgress | None = None
        self.warnings: list[str] = []

    @classmethod
    @contextmanager
    def hidden(cls) -> Iterator[None]:
        """Remove the bar or spinner for a time."""
        bars, cls._shown = cls._shown, None
        live = bars and (bars._progress or bars._status)
        if live:
            live.stop()
        try:
            yield
        finally:
            if live:
                live.start()
            cls._shown = bars

    def start(self, label: str, total: int) -> None:
        self.finish()
        console = _err()
        self._label = label
        if total > 1 and not console.is_terminal:
            self._log = _LogProgress(label, total, time.monotonic())
        elif total > 1:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(max(_LEAST_BAR, min(_WIDEST_BAR, console.width - _BESIDE_BAR))),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[speed]}"),
                TextColumn("{task.fields[note]}", markup=False),
                console=console,
                transient=True,
            )
            self._progress.start()
            Bars._shown = self
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
            Bars._shown = self

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
        if Bars._shown is self:
            Bars._shown = None

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
            pace = left = ""
            if new:
                each = (now - self.started) / new
                pace, left = _pace(1 / each), time_left((self.total - self.done) * each)
            parts = (f"{self.label} {self.done:,}/{self.total:,}", left, pace, self.note)
            remark(", ".join(filter(None, parts)))


def time_left(seconds: float) -> str:
    """Return how long work takes still, for people."""
    return f"{timedelta(seconds=round(seconds))} left"


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
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
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
    """Print rows as a table; columns named in `right` are aligned right.

    Where a terminal is so narrow that words would be broken, each row becomes a block of lines.
    """
    cells = [[c if isinstance(c, Text) else Text(display(str(c))) for c in row] for row in rows]
    rich_table = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        rich_table.add_column(column, justify="right" if column in right else "left")
    for row in cells:
        rich_table.add_row(*row)
    if title:
        _print(_out, Text(title, "italic"))
    drawn = _out().render_lines(rich_table, pad=False)
    lines = [Text.assemble(*((s.text, s.style or "") for s in line)) for line in drawn]
    whole = {word for line in lines for word in line.plain.split()}
    if any(not whole.issuperset(cell.plain.split()) for row in cells for cell in row):
        lines = [line for row in cells for line in _block(columns, row)]
    _print(_out, *lines)


def _block(columns: Sequence[str], row: Sequence[Text]) -> Iterator[Text]:
    """Yield a row of a table as lines: its first cell, then each other one with its column."""
    first, *more = row
    yield Text.assemble((first.plain, "bold"))
    for column, cell in zip(columns[1:], more, strict=True):
        if cell.plain:
            yield Text("  ").append(f"{column}: " if column else "", "dim").append_text(cell)


def listed(lines: Sequence[str | Text], *, most: int = _MOST_LINES) -> None:
    """Print lines; of more than `most` the first ones and a count."""
    shown = [line if isinstance(line, Text) else Text(display(line)) for line in lines[:most]]
    if len(lines) > most:
        shown.append(Text(f"... and {len(lines) - most:,} more (--json lists all)", "dim"))
    _print(_out, *shown)


def images(n: int) -> str:
    """Return a count of images in words."""
    return counted(n, "image")
