"""What a command costs, in turns with the commands that it is compared with, and how their costs stand to each other."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# getrusage gives kilobytes on Linux and bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds: by the wall clock. cpu: seconds of all its threads, user and system. peak: bytes of memory held."""

    seconds: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Row:
    """One way of doing a piece of work, measured in several rounds; ratio: its speed as a multiple of the baseline's.

    spread: the least and the greatest ratio of a round. note: what else was measured, and the goal.
    """

    way: str
    speed: float
    cpu: float
    peak: int
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    note: str = ""


def python(*arguments: str | Path) -> list[str]:
    """Return the command that runs a module with this interpreter."""
    return [sys.executable, "-m", *map(str, arguments)]


def run(command: Sequence[str | Path]) -> tuple[Cost, str]:
    """Run a command as a child of this process; return what it cost, and its stdout. Raises where it fails.

    A child's peak is never below this process's own at its start (exec keeps the mark): work on pixels, which needs
    memory, is done in children too.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    begun = time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        out = child.stdout.read() if child.stdout else ""
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(map(str, command[:4]))} ... ended with {child.returncode}: {out[-500:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _RSS_UNIT), out


def in_turns(ways: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Run every way once a round, A/B/A/B: what else the machine does meanwhile hits all of them alike."""
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, once in ways.items():
            costs[way].append(once())
    return costs


def rows(costs: Mapping[str, Sequence[Cost]], baseline: str, pictures: int, notes: Mapping[str, str]) -> list[Row]:
    """Take medians over the rounds; a ratio is taken round by round first."""
    found = []
    for way, measured in costs.items():
        pairs = [base.seconds / own.seconds for base, own in zip(costs[baseline], measured, strict=True)]
        found.append(
            Row(
                way,
                pictures / statistics.median(cost.seconds for cost in measured),
                statistics.median(cost.cpu for cost in measured) / pictures,
                max(cost.peak for cost in measured),
                statistics.median(pairs),
                (min(pairs), max(pairs)),
                notes.get(way, ""),
            )
        )
    return found


def table(title: str, measured: Sequence[Row]) -> str:
    """Lay rows out as a Markdown table, which is also readable in a terminal."""
    head = ("way", "pictures/s", "CPU s each", "peak MB", "ratio", "least-most", "note")
    cells = [head, *(_cells(row) for row in measured)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join((f"## {title}", "", lines[0], rule, *lines[1:], ""))


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    spread = "" if row.spread is None else f"{row.spread[0]:.2f}-{row.spread[1]:.2f}"
    return row.way, f"{row.speed:.2f}", f"{row.cpu:.3f}", f"{row.peak / 1e6:.0f}", ratio, spread, row.note
