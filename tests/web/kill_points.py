"""Where a process is killed: at one of the changes that it makes to files.

A process counts its changes: files that it opens to write, and names that it makes, moves and
deletes, in the project and in the user's state folder. Others are not the same each time: a module
is compiled, a library makes its cache. At the wanted one it waits until the test has killed what it
wants to, or dies itself. These functions run in processes that tests.web.warm_python forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

# Where the point is: {"at": number of the change, 0 for none; "folder": of the files below;
# "counted": folders whose changes count; "process": "job" or "server"; "verb": of the job, "" for
# any; "dies": whether the process dies there by itself}
VARIABLE = "DSK_KILL_POINT"
REACHED, GO, COUNT, RUNNER_PID = "reached", "go", "count", "runner.pid"
_NAMES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
_FROM_AND_TO = ("os.rename", "os.link")
_PATHS = (str, bytes, os.PathLike)
# These are written by the clock, or are no files.
_UNCOUNTED = ("progress.jsonl", "log", "log.1", "null", "runner.lock", "queue.lock")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class KillPoint:
    """Counts the changes of this process and stops at one of them. counted: folders with a slash at
    the end.
    """

    def __init__(self, at: int, folder: Path, counted: tuple[str, ...], *, dies: bool) -> None:
        self.at, self.folder, self.counted, self.dies = at, folder, counted, dies
        self.count = 0
        self._pid = os.getpid()
        self._is_waiting = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_waiting or os.getpid() != self._pid or not _is_change(event, arguments):
            return  # a process that was forked from this one is not the one to kill
        if not self._is_counted(event, arguments):
            return
        self.count += 1
        if self.count != self.at:
            return
        self._is_waiting = True
        (self.folder / f"{REACHED}.new").write_text(str(os.getpid()))
        (self.folder / f"{REACHED}.new").rename(self.folder / REACHED)
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        end = time.monotonic() + 120
        while not (self.folder / GO).exists() and time.monotonic() < end:
            time.sleep(0.01)
        self._is_waiting = False

    def _is_counted(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Tell whether a path is in a counted folder; one that is relative to an open folder is."""
        paths = arguments[:2] if event in _FROM_AND_TO else arguments[:1]
        names = [os.fsdecode(path) for path in paths if isinstance(path, _PATHS)]
        return any(n[:1] != "/" or f"{n}/".startswith(self.counted) for n in names)


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        path, _, flags = arguments
        is_named = isinstance(path, _PATHS) and isinstance(flags, int)
        return is_named and bool(flags & _WRITES) and _name(path) not in _UNCOUNTED
    return event in _NAMES


def _name(path: Any) -> str:
    return os.fsdecode(path).rpartition(os.sep)[2]


def watch(process: str, verb: str = "") -> KillPoint | None:
    """Count from here on, if the point is in this kind of process and was not reached before. verb:
    of a job; another one may run at the same time.
    """
    point = json.loads(os.environ.get(VARIABLE, "{}"))
    if point.get("process") != process or point["verb"] not in ("", verb):
        return None
    if (Path(point["folder"]) / REACHED).exists():
        return None
    counted = tuple(f"{folder}/" for folder in point["counted"])
    watched = KillPoint(point["at"], Path(point["folder"]), counted, dies=point["dies"])
    sys.addaudithook(watched)
    return watched


def _record(watched: KillPoint | None) -> None:
    if watched is not None and not watched.at:
        (watched.folder / COUNT).write_text(str(watched.count))


class FlatDrawer:
    """Draws a flat colour for a cell of a grid."""

    def __init__(self, load: Any) -> None:
        pass

    def model_of(self, cell: Any) -> None:
        pass

    def draw(self, cell: Any) -> Image.Image:
        size = cell.request.prompt.width, cell.request.prompt.height
        return Image.new("RGB", size, (int(cell.key[:2], 16), int(cell.key[2:4], 16), 90))


def run_job(job_id: str) -> int:
    """Be the process of a job. What takes longer than a short training is left out, and images of
    grids are flat colours.
    """
    from datasetkit.cli import job
    from datasetkit.project import jobs

    if "trainer.run" in sys.modules:
        _leave_out_of_trainings()
    _start_runners_of_the_test()
    watched = watch("job", jobs.find(job_id).verb)
    code = job.run(job_id)
    _record(watched)
    return code


def _leave_out_of_trainings() -> None:
    from trainer import run
    from trainer.grid import draw
    from trainer.monitor import loss_plot

    replaced: list[tuple[Any, str, Any]] = [
        (run, "check_files", lambda *_: ()), (loss_plot, "plot", lambda *_, **__: None),
        (draw, "GridDrawer", FlatDrawer),
    ]  # fmt: skip
    for module, name, value in replaced:
        setattr(module, name, value)


def _start_runners_of_the_test() -> None:
    from datasetkit.project import job_runner

    runner: Any = job_runner
    runner._RUNNER = tuple(json.loads(os.environ[VARIABLE])["runner"])


def run_runner(job: list[str]) -> int:
    """Be a runner, and write its process number if it is the one that starts jobs. job: the command
    line of a job, without its id.
    """
    from datasetkit.project import job_runner

    path = Path(json.loads(os.environ[VARIABLE])["folder"]) / RUNNER_PID
    runner: Any = job_runner
    run = runner._Runner.run

    def run_alone(self: Any) -> Any:
        path.with_suffix(".new").write_text(str(os.getpid()))
        path.with_suffix(".new").rename(path)
        return run(self)

    runner._Runner.run = run_alone
    runner._JOB, runner._SECONDS_BETWEEN = tuple(job), 0.05
    runner.run()
    return 0


def run_server(folder: str) -> int:
    """Be a studio that prints its process number, port and link. It ends when it is killed, or at
    the end of its work with SIGINT.
    """
    from datasetkit import api

    _start_runners_of_the_test()
    watched: list[KillPoint | None] = []

    def ready(server: Any) -> None:
        print(json.dumps([os.getpid(), server.port, server.url]), flush=True)
        watched.append(watch("server"))

    api.studio(Path(folder), api.ReviewOptions(open=False, keep_token=True), ready=ready)
    _record(watched[0])
    return 0
