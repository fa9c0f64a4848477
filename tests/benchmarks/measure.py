"""What commands cost when they run in turns, and how their costs stand to each other."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAUNCHER = Path(__file__).with_name("launch.py")
# getrusage gives kilobytes on Linux and bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds: by the wall clock. cpu: seconds of all its threads, user and system. peak: bytes of
    memory held.
    """

    seconds: float
    cpu: float
    peak: int


@dataclass(frozen=True, slots=True)
class Row:
    """One way of doing a piece of work, measured in several rounds; ratio: its speed as a multiple
    of the baseline's.

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
    """Run a command as a process of its own; return what it cost, and its stdout. Raises where it
    fails.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    with tempfile.TemporaryDirectory() as folder:
        costs = Path(folder) / "costs.json"
        done = subprocess.run(
            [sys.executable, "-S", "-E", LAUNCHER, costs, *command],
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
        )
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(map(str, command[:4]))} ... failed: {done.stdout[-500:]}"
            )
        seconds, cpu, peak = json.loads(costs.read_text("utf-8"))
    return Cost(seconds, cpu, peak * _RSS_UNIT), done.stdout


def in_turns(ways: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Run every way once a round, A/B/A/B: what else the machine does meanwhile hits all of them
    alike.
    """
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, once in ways.items():
            costs[way].append(once())
    return costs


def rows(
    costs: Mapping[str, Sequence[Cost]], baseline: str, images: int, notes: Mapping[str, str]
) -> list[Row]:
    """Take medians over the rounds; a ratio is taken round by round first."""
    found = []
    for way, measured in costs.items():
        pairs = [
            base.seconds / own.seconds for base, own in zip(costs[baseline], measured, strict=True)
        ]
        found.append(
            Row(
                way,
                images / statistics.median(cost.seconds for cost in measured),
                statistics.median(cost.cpu for cost in measured) / images,
                max(cost.peak for cost in measured),
                statistics.median(pairs),
                (min(pairs), max(pairs)),
                notes.get(way, ""),
            )
        )
    return found


def table(title: str, measured: Sequence[Row]) -> str:
    """Lay rows out as a Markdown table, which is also readable in a terminal."""
    head = ("way", "images/s", "CPU s each", "peak MB", "ratio", "least-most", "note")
    cells = [head, *(_cells(row) for row in measured)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    padded = (
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells
    )
    lines = ["| " + " | ".join(line) + " |" for line in padded]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join((f"## {title}", "", lines[0], rule, *lines[1:], ""))


def _cells(row: Row) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    spread = "" if row.spread is None else f"{row.spread[0]:.2f}-{row.spread[1]:.2f}"
    return (
        row.way,
        f"{row.speed:.2f}",
        f"{row.cpu:.3f}",
        f"{row.peak / 1e6:.0f}",
        ratio,
        spread,
        row.note,
    )
