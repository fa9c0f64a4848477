"""The metrics of a run, `<name>-metrics.jsonl`, read as they grow.

A run that is resumed replaces the file by one that ends at the step it goes on from, so what was
read of later steps is void. Columns are kept as numbers; a chart gets at most some thousand points,
each with the least, the greatest and the mean of its steps.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from array import array
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import RLock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
MOST_POINTS: Final = 2000
_CHUNK: Final = 2**20  # bytes that are read at once
_MOST_STEPS: Final = 2**53
_RECENT: Final = 50  # steps by which the pace is measured
_LARGEST_LINE: Final = 64 * 1024
_MARKED: Final = 64  # bytes before a position by which it is known again


@dataclass(slots=True)
class _Column:
    """The values of a key: not every row has it."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def equal_until(self, other: _Column) -> float:
        """Return the last step up to which two columns are equal; infinity for equal ones."""
        count = min(len(self.steps), len(other.steps))
        same = np.equal(self.steps[:count], other.steps[:count]) & np.equal(
            self.values[:count], other.values[:count]
        )
        first = count if same.all() else int(np.argmin(same))
        if first == len(self.steps) == len(other.steps):
            return math.inf
        return self.steps[first - 1] if first else 0


class RunMetrics:
    """The metrics of one run. position: bytes of the file that were read; last_step: 0 for none;
    valid_until: the step up to which no replacement of the file changed anything, None if none was
    seen.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = RLock()
        self.position = 0
        self.last_step = 0
        self.valid_until: int | None = None
        self._end = b""
        self._inode = 0
        self._columns: dict[str, _Column] = {}

    @classmethod
    def of_end(cls, path: Path) -> RunMetrics:
        """Read the last rows alone, which is enough for `last` and `seconds_per_step`."""
        metrics = cls(path)
        with suppress(OSError), path.open("rb") as file:
            metrics.position = max(0, os.fstat(file.fileno()).st_size - _LARGEST_LINE)
            metrics._read(file)  # the part of a line that it begins with is not a row
        return metrics

    def update(self) -> int | None:
        """Read what was added; return the last step that is still valid where the file was
        replaced, None where it only grew.
        """
        with self.lock:
            before, last = self._columns, self.last_step
            was_read = self.position > 0
            try:
                with self.path.open("rb") as file:
                    info = os.fstat(file.fileno())
                    replaced = info.st_ino != self._inode or info.st_size < self.position
                    if replaced:
                        self._restart(info.st_ino)
                    self._read(file)
            except OSError:
                replaced = was_read
                self._restart(0)
            if not (replaced and was_read):
                return None
            valid = min(
                (
                    column.equal_until(self._columns.get(key, _Column()))
                    for key, column in before.items()
                ),
                default=0,
            )
            valid = int(min(valid, last, self.last_step))
            earlier = self.valid_until
            self.valid_until = valid if earlier is None else min(earlier, valid)
            return valid

    def _restart(self, inode: int) -> None:
        """Forget everything."""
        self._inode, self.position, self.last_step, self._end = inode, 0, 0, b""
        self._columns = {}

    @property
    def mark(self) -> str:
        """Names what was read last: a reader that comes back with it knows whether it goes on in
        the same file.
        """
        return f"{zlib.crc32(self._end):08x}"

    def is_read_until(self, position: int, mark: str) -> bool:
        """Tell whether a reader that was there at `mark` can go on from its position."""
        with self.lock:
            if position == self.position:
                return mark == self.mark
            if not 0 < position < self.position:
                return position == 0
            try:
                with self.path.open("rb") as file:
                    file.seek(max(0, position - _MARKED))
                    data = file.read(min(position, _MARKED))
            except OSError:
                return False
            return mark == f"{zlib.crc32(data):08x}"

    def step_at(self, position: int) -> int:
        """Return the step of the row that ends at a position of the file, 0 for none."""
        if position <= 0:
            return 0
        with self.lock:
            if position == self.position:
                return self.last_step
            try:
                with self.path.open("rb") as file:
                    file.seek(max(0, position - _LARGEST_LINE))
                    lines = file.read(min(position, _LARGEST_LINE)).splitlines()
                return max(0, int(json.loads(lines[-1])["step"]))
            except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
                return 0

    def _read(self, file: Any) -> None:
        file.seek(self.position)
        rest = b""
        while chunk := file.read(_CHUNK):
            whole, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                self._add(whole.split(b"\n"))
                self.position += len(whole) + 1
                self._end = (self._end + whole[-_MARKED:] + b"\n")[-_MARKED:]
            if len(rest) > _LARGEST_LINE:
                return  # no line of metrics: it is read again if it ends

    def _add(self, lines: list[bytes]) -> None:
        rows = _rows(lines)
        if not rows:
            return
        steps = np.array([row["step"] for row in rows], np.int64)
        self.last_step = max(self.last_step, int(steps.max()))
        for key in dict.fromkeys(chain.from_iterable(rows)):
            if key != "step":
                values = _numbers([row.get(key) for row in rows])
                known = np.isfinite(values)
                if known.any():
                    column = self._columns.setdefault(key, _Column())
                    column.steps.frombytes(steps[known].tobytes())
                    column.values.frombytes(values[known].tobytes())

    def keys(self) -> list[str]:
        """Return the names of the columns."""
        with self.lock:
            return sorted(self._columns)

    def last(self) -> dict[str, float]:
        """Return the last value of each column, and the step."""
        with self.lock:
            values = {key: column.values[-1] for key, column in self._columns.items()}
            return {**values, "step": self.last_step}

    def seconds_per_step(self) -> float | None:
        """Return the mean time of the last steps, previews and saving not counted; None without
        any.
        """
        with self.lock:
            column = self._columns.get("seconds")
            if column is None:
                return None
            recent = column.values[-_RECENT:]
            return round(sum(recent) / len(recent), 6)

    def rows_after(self, step: int, most: int) -> Json | None:
        """Return the rows after a step as columns; None for more than `most`."""
        with self.lock:
            series: Json = {}
            for key, column in self._columns.items():
                first = int(np.searchsorted(column.steps, step, "right"))
                if len(column.steps) - first > most:
                    return None
                if first < len(column.steps):
                    values = [_short(value) for value in column.values[first:]]
                    series[key] = {"step": list(column.steps[first:]), "mean": values}
            return series

    def series(self, keys: list[str], begin: int, end: int | None, points: int) -> dict[str, Json]:
        """Return columns for a chart: between two steps, at most so many points each."""
        points = max(1, min(points, MOST_POINTS))
        with self.lock:
            last = self.last_step if end is None else end
            return {
                key: _points(self._columns[key], begin, last, points)
                for key in keys
                if key in self._columns
            }


def _points(column: _Column, begin: int, end: int, points: int) -> Json:
    """Return a column between two steps: each value, or the values of groups of steps."""
    steps = np.frombuffer(column.steps, np.int64)
    first, behind = np.searchsorted(steps, begin), np.searchsorted(steps, end, "right")
    steps = steps[first:behind].copy()
    # A copy, as the buffer of an array that is shown cannot grow.
    values = np.frombuffer(column.values, np.float64)[first:behind].copy()
    if len(steps) <= points:
        return {"step": steps.tolist(), "mean": [_short(value) for value in values]}
    starts = np.unique(np.linspace(0, len(steps), points, endpoint=False).astype(np.int64))
    counts = np.diff(np.append(starts, len(steps)))
    means = np.add.reduceat(values, starts) / counts
    return {
        "step": steps[starts].tolist(),
        "mean": [_short(value) for value in means],
        "min": [_short(value) for value in np.minimum.reduceat(values, starts)],
        "max": [_short(value) for value in np.maximum.reduceat(values, starts)],
    }


def _rows(lines: list[bytes]) -> list[Json]:
    """Return the rows of lines, all at once if they can be: that takes a third of the time. What is
    not a row is left out.
    """
    lines = [line for line in lines if line]
    rows: list[Json] = []
    with suppress(ValueError, RecursionError):
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    if len(rows) != len(lines) or not all(map(_is_row, rows)):
        rows = [row for line in lines if (row := _row(line)) is not None]
    return rows


def _is_row(row: object) -> bool:
    return type(row) is dict and type(step := row.get("step")) is int and abs(step) < _MOST_STEPS


def _row(line: bytes) -> Json | None:
    try:
        row = json.loads(line)
        row["step"] = int(row["step"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return row if _is_row(row) else None


def _numbers(values: list[Any]) -> NDArray[np.float64]:
    """Return values as numbers, NaN for what is none."""
    if set(map(type, values)) <= {int, float}:
        with suppress(OverflowError):
            return np.array(values, np.float64)
    return np.array([_number(value) for value in values], np.float64)


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _short(value: float) -> float:
    """Return a value with the digits that a chart can show."""
    return float(f"{value:.9g}")
