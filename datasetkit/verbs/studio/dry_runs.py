"""Dry runs for the page: a command with --dry-run, in a process of its own. So the server loads no
model and no torch, and a plan that nobody waits for any more ends at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Semaphore
from typing import TYPE_CHECKING, Any, Final

from datasetkit.core.errors import PlanConflict

if TYPE_CHECKING:
    from datasetkit.verbs.studio.commands import StudioCommand

_PROGRAM: Final = (sys.executable, "-m", "datasetkit.cli.dry_run")
_MOST: Final = 2


class DryRunReplaced(PlanConflict):
    """A newer dry run of the same verb has taken the place of this one."""


class DryRuns:
    """The dry runs of a server: at most two at once, and one of each verb."""

    def __init__(self) -> None:
        self._free = Semaphore(_MOST)
        self._lock = Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._newest: dict[str, int] = {}

    def run(self, folder: Path, command: StudioCommand) -> dict[str, Any]:
        """Return what a dry run in a folder printed: {"command", "code", "output", "error",
        "hint"}.

        Raises DryRunReplaced when another one of this verb was asked for meanwhile.
        """
        with self._lock:
            number = self._newest[command.verb] = self._newest.get(command.verb, 0) + 1
            older = self._running.get(command.verb)
            if older is not None:
                older.kill()
        with self._free, self._started(folder, command, number) as process:
            words = json.dumps(list(command.words)).encode()
            out, err = process.communicate(words)
        if self._newest[command.verb] != number:
            raise _replaced(command)
        shown = command.with_words("--dry-run").shown
        return {"command": shown, "code": process.returncode, **_output(out, err)}

    @contextmanager
    def _started(
        self, folder: Path, command: StudioCommand, number: int
    ) -> Iterator[subprocess.Popen[bytes]]:
        with self._lock:
            if self._newest[command.verb] != number:
                raise _replaced(command)
            process = self._running[command.verb] = subprocess.Popen(
                _PROGRAM,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        try:
            with process:
                yield process
        finally:
            with self._lock:
                if self._running.get(command.verb) is process:
                    del self._running[command.verb]

    def stop(self) -> None:
        """End all of them."""
        with self._lock:
            for process in self._running.values():
                process.kill()


def _replaced(command: StudioCommand) -> DryRunReplaced:
    return DryRunReplaced(f"a newer plan of dsk {command.verb} was asked for", hint="wait for that")


def _output(out: bytes, err: bytes) -> dict[str, Any]:
    """Return the JSON that a command printed, or its error and the hint."""
    try:
        return {"output": json.loads(out), "error": "", "hint": ""}
    except ValueError:
        pass
    error, hint = error_of(err)
    return {"output": None, "error": error, "hint": hint}


def error_of(err: bytes) -> tuple[str, str]:
    """Return the error that a command printed, and its hint."""
    lines = [line for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [n for n, line in enumerate(lines) if line.startswith("error: ")]
    start = errors[-1] if errors else max(0, len(lines) - 1)
    rest = [line.strip() for line in lines[start + 1 :]]
    hint = " ".join(line.removeprefix("hint: ") for line in rest)
    error = lines[start].removeprefix("error: ") if lines else "the command printed nothing"
    return error, hint
