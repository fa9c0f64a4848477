"""Run the rows and write the table: python -m tests.gpu [FOLDER] [--cpu] [--minutes N].

Each row runs in a process of its own with a time limit. Its result is written as soon as it ends,
as a line of gpu.jsonl and a row of gpu.md. What is not installed is skipped by name.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.gpu.rows import CORRECTNESS, REFERENCE, ROWS, SPEED, TAGGING, Row
from tests.gpu.run_row import MACHINE

OLDEST_TORCH: Final = (2, 11)
LEAST: Final = 20  # seconds that a row needs to be started
PROVIDER: Final = "CUDAExecutionProvider"
COLUMNS: Final = {
    CORRECTNESS: ("loss", "loss difference", "cosine", "bounds"),
    SPEED: ("it/s", "s a step", "peak MB", "parameters"),
    TAGGING: ("images/s", "difference"),
}


@dataclass(slots=True)
class Table:
    """The results so far, and the folder that they are written to."""

    folder: Path
    title: str
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, row: Row, values: dict[str, Any]) -> None:
        """Write the result of a row. Rows may end in any order."""
        line = {"row": row.name, "group": row.group, **values}
        with self._lock:
            self.results[row.name] = values
            with (self.folder / "gpu.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            (self.folder / "gpu.md").write_text(self.markdown(), encoding="utf-8")
        print(f"{values['status']:8} {values['seconds']:6.1f} s  {row.name}", flush=True)

    def markdown(self) -> str:
        """Return the table of each group."""
        lines = [self.title, ""]
        for group, columns in COLUMNS.items():
            rows = [row for row in ROWS if row.group == group and row.name in self.results]
            if rows:
                header = (group, "result", *columns, "note")
                lines += [_line(header), _line(["---"] * len(header))]
                lines += [self._row(row, columns) for row in rows] + [""]
        return "\n".join(lines)

    def _row(self, row: Row, columns: Iterable[str]) -> str:
        values = self.results[row.name]
        cells = [_cell(values.get(column, "")) for column in columns]
        return _line([row.name, values["status"], *cells, values.get("note", "")])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def missing(row: Row, machine: dict[str, Any], *, cpu: bool) -> str:
    """Return what a row needs that is not there, "" for nothing."""
    for package in row.needs:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    if row.settings.get("provider") == "cuda" and not cpu and PROVIDER not in machine["providers"]:
        return f"onnxruntime has no {PROVIDER}: the package onnxruntime-gpu is not installed"
    if row.settings.get("torch_compile") and not cpu and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return ""


def child(
    name: str, work: Path, limit: float, *, cpu: bool, on_cpu: bool = False
) -> dict[str, Any]:
    """Run a row in a process of its own; end it, with its children, at its limit."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        result, log = Path(folder, "result.json"), Path(folder, "log")
        flags = ["--cpu"] if cpu else []
        module = [sys.executable, "-m", "tests.gpu.run_row"]
        begun = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*module, name, str(work), str(result), *flags],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=_environment(cpu or on_cpu),
            )
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        seconds = round(time.monotonic() - begun, 1)
        if code == 0:
            values = json.loads(result.read_text(encoding="utf-8"))
            return {"status": "ok", "seconds": seconds, **values}
        if code is None:
            return {"status": "failed", "seconds": seconds, "note": f"more than {limit:.0f} s"}
        return {"seconds": seconds, **failure(_last_line(log, code))}


def failure(line: str) -> dict[str, str]:
    """Return the status and the note of a row whose process failed. line: its last one."""
    absent = re.fullmatch(r"ModuleNotFoundError: No module named '([^'.]+).*'", line)
    if absent and not Path(absent[1]).is_dir():  # a folder here is a package of this repository
        return {"status": "skipped", "note": f"{absent[1]} is not installed"}
    return {"status": "failed", "note": line}


def _environment(on_cpu: bool) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
    hidden = {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"} if on_cpu else {}
    return {**os.environ, **offline, **hidden}


def _last_line(log: Path, code: int) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else f"exit code {code}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the script. end: the moment after which no row is started."""

    table: Table
    machine: dict[str, Any]
    work: Path
    end: float
    cpu: bool

    def row(self, row: Row) -> None:
        """Run one row, or skip it, and write its result."""
        time_left = self.end - time.monotonic()
        reason = missing(row, self.machine, cpu=self.cpu)
        if not reason and time_left < LEAST:
            reason = "no time left"
        if reason:
            self.table.add(row, {"status": "skipped", "seconds": 0.0, "note": reason})
            return
        limit = min(row.limit, time_left)
        self.table.add(row, child(row.name, self.work, limit, cpu=self.cpu, on_cpu=row.on_cpu))

    def rows(self, rows: Sequence[Row], jobs: int) -> None:
        """Run the reference first, then the rows whose speed is not measured, several at a time,
        then the others one by one.
        """
        first = [row for row in rows if row.name == REFERENCE]
        together = [r for r in rows if (r.group == CORRECTNESS or self.cpu) and r not in first]
        for row in first:
            self.row(row)
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(self.row, together))
        for row in rows:
            if row not in first and row not in together:
                self.row(row)


def chosen(only: str) -> list[Row]:
    """Return the rows whose names or groups have a text, with the reference that they need."""
    parts = [part.strip() for part in only.split(";")]
    rows = [r for r in ROWS if any(p in r.name or p == r.group for p in parts)]
    if any("bounds" in row.settings for row in rows):
        rows += [row for row in ROWS if row.name == REFERENCE and row not in rows]
    return rows


def problem(machine: dict[str, Any], *, cpu: bool) -> str:
    """Return why nothing can be run on this machine, "" for nothing."""
    if machine["torch"] is None:
        return "torch is not installed"
    version = tuple(int(n) for n in machine["torch"].split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        return f"torch {machine['torch']} is older than 2.11"
    if machine["device"] is None and not cpu:
        return "torch has no CUDA device; --cpu runs every row on tiny models"
    return ""


def main(arguments: Sequence[str], write: Callable[[str], object] = sys.stderr.write) -> int:
    """Run the rows; return 1 if one failed, 2 if nothing can be run."""
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    parser.add_argument("--cpu", action="store_true", help="every row on tiny random models")
    parser.add_argument("--minutes", type=float, default=10.0, help="of all rows (default: 10)")
    parser.add_argument("--only", default="", help="rows whose names have one of these; a;b")
    given = parser.parse_args(arguments)
    folder: Path = given.folder or Path(os.environ.get("OUT") or "build/gpu")
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="dsk-gpu-") as temporary:
        work = Path(temporary)
        machine = child(MACHINE, work, 120, cpu=given.cpu)
        if machine["status"] != "ok":
            write(f"error: torch cannot be loaded: {machine['note']}\n")
            return 2
        if reason := problem(machine, cpu=given.cpu):
            write(f"error: {reason}\n")
            return 2
        device = "the CPU, tiny models: no speeds" if given.cpu else machine["device"]
        (folder / "gpu.jsonl").write_text("", encoding="utf-8")
        versions = {"torch": machine["torch"], **machine["versions"]}
        title = ", ".join(f"{name} {version}" for name, version in versions.items())
        table = Table(folder, f"{title}; on {device}")
        Run(table, machine, work, end, given.cpu).rows(
            chosen(given.only), min(4, os.cpu_count() or 1)
        )
    print(f"{folder / 'gpu.md'}")
    return int(any(values["status"] == "failed" for values in table.results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
