"""Jobs: the long runs of this user on this machine, and how another process asks one to stop.

Each has a folder in the user's state folder, `jobs/<id>/`:

    spec.json       what runs: verb, title, command line, working folder, lane, GPUs in use
    dsk.toml        the options when it was added, of a job that came from the page
    pid.json        the process: number, start, boot and machine; only a kill needs it
    alive           locked by the run while it lives; the system frees it at any death
    progress.jsonl  how far it is, see job_progress.py
    log             its output, of a job that came from the queue
    stop            a request to stop: {"how": "save" | "now"}
    end.json        how it ended: {"code": ..., "reason": ...}

A job registers itself, whoever started it; one that waits in the queue has a spec alone (see
job_queue.py). No state is stored: it follows from the files and the lock. The lock says whether a
job runs, never the process number, which is used again. What the files say may be damaged: it is
shown, and nothing is decided by it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import DskError, InputError
from datasetkit.core.files import (
    CONFIG_NAME,
    display,
    read_existing,
    read_regular,
    write_atomic,
    write_new,
    writing,
)
from datasetkit.core.stopping import ACTIONS, Action, Request, RunPause, Terminated
from datasetkit.project import job_locks, processes
from datasetkit.project.signature import state_folder

State = Literal["queued", "running", "stopping", "done", "stopped", "failed", "lost"]
# gpu: one at a time, for what fills a GPU. light: one at a time, also beside a training. io: any
# number.
Lane = Literal["gpu", "light", "io"]
_LANES: Final[Mapping[str, Lane]] = {
    "train": "gpu", "grid": "gpu", "find-lr": "gpu", "reg generate": "gpu", "run": "gpu",
    "tag": "light", "caption": "light", "cutout": "light", "check": "light",
    "faces list": "light", "faces crop": "light", "faces erase": "light",
}  # fmt: skip
# Of jobs that have ended.
_KEPT: Final = 50
_LARGEST: Final = 64 * 1024  # bytes
_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{10}")
_ID_TIME: Final = "%Y%m%dT%H%M%S"
_SPEC, _PID, _ALIVE, _STOP = "spec.json", "pid.json", "alive", "stop"
_LOCK_SECONDS: Final = 2.0
END: Final = "end.json"
LOG: Final = "log"
# Jobs of this process. Their locks are not tried: closing a file frees the locks that the process
# has on it.
_own: set[str] = set()
# The job that this process was started for: its verb does not register another one.
_executed: list[JobFolder] = []


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is. done, of: items; 0 of 0 where the phase has none. time: in seconds since
    1970. per_second: items, since the phase began; None where it is not known.
    """

    phase: str
    done: int
    of: int
    time: float
    note: str = ""
    per_second: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds until the phase ends, at the same speed."""
        return (self.of - self.done) / self.per_second if self.per_second else None


@dataclass(frozen=True, slots=True)
class Job:
    """A job. id: its UTC time and random digits. title, command, folder: what runs, for people, and
    from where; "" where it is not known. started: in UTC, as text; of a job in the queue, when it
    was added. code: the exit code, None while it runs or where it is lost. reason: why it ended.
    progress: None where it is not known. place: in the queue, 1 for the next one; held: it waits
    there until it is released. after: the ids of jobs that must be done before it starts. run:
    folder and name of the run, of a training. asked: the request to stop, and when, in seconds
    since 1970.
    """

    id: str
    state: State
    verb: str
    title: str
    command: str
    folder: str
    started: str
    code: int | None = None
    reason: str = ""
    lane: Lane = "io"
    argv: tuple[str, ...] = field(default=(), repr=False)
    progress: JobProgress | None = None
    place: int = 0
    held: bool = False
    after: tuple[str, ...] = ()
    run: tuple[str, str] | None = None
    asked: tuple[Request, float] | None = None
    gpus: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def runs(self) -> bool:
        return self.state in ("running", "stopping")


class JobFolder:
    """The folder of a job of this process. path: None for one that is not registered; problem: why
    not, "" if it was not meant to be.
    """

    def __init__(self, path: Path | None = None, problem: str = "") -> None:
        self._path, self.problem = path, problem
        self._reason = ""  # that of a verb which ended before its process

    @property
    def path(self) -> Path | None:
        return self._path

    def path_of(self, name: str) -> Path:
        """Return a file of a job that is registered."""
        assert self._path is not None
        return self._path / name

    def stop_request(self) -> Request | None:
        """Return the request to stop, None without one."""
        if self._path is None or not os.path.lexists(self._path / _STOP):
            return None
        return "now" if _read(self._path / _STOP).get("how") == "now" else "save"

    def take_actions(self) -> frozenset[Action]:
        """Return what the run is asked to do after a step, and delete the requests."""
        taken: set[Action] = set()
        for action in ACTIONS if self._path is not None else ():
            with suppress(OSError):  # most of the time there is none
                self.path_of(_action_file(action)).unlink()
                taken.add(action)
        return frozenset(taken)

    def explain(self, title: str) -> None:
        """Replace the title by what is known of the run once it is planned."""
        self._add_to_spec("title", title)

    def name_run(self, folder: Path, name: str) -> None:
        """Record where the results of a training go."""
        self._add_to_spec("run", [str(folder.absolute()), name])

    def name_gpus(self, gpus: Mapping[str, float]) -> None:
        """Record which GPUs the job uses now, and since when."""
        self._add_to_spec("gpus", dict(gpus))

    def _add_to_spec(self, key: str, value: object) -> None:
        if self._path is not None:
            with suppress(DskError, OSError):
                _write(self._path / _SPEC, {**_read(self._path / _SPEC), key: value})

    def because(self, reason: str) -> None:
        """Keep the reason of an end for `end`, which follows when the process ends."""
        self._reason = reason

    def end(self, code: int, reason: str = "") -> None:
        """Record how the job ended. A disk that is full loses that alone."""
        if self._path is not None:
            with suppress(DskError, OSError):
                record = {"code": code, "reason": reason or self._reason}
                _write(self._path / END, record)


@contextmanager
def registered(verb: str, title: str) -> Iterator[JobFolder]:
    """Register a job while it runs, and record how it ends. In a process that was started for a job
    of the queue, it is that job.
    """
    if _executed:
        job = _executed[-1]
        if title:
            job.explain(title)
        try:
            yield job
        except BaseException as error:
            job.because(_ending(error)[1])
            raise
        return
    lock = -1
    try:
        path = add(verb, title, _own_command(), Path.cwd())
        try:
            lock = _begin(path)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        job = JobFolder(path)
    except (DskError, OSError) as error:
        job = JobFolder(problem=str(error))
    try:
        yield job
    except BaseException as error:
        job.end(*_ending(error))
        raise
    else:
        job.end(0, "done")
    finally:
        _close(job, lock)


@contextmanager
def executing(job_id: str) -> Iterator[JobFolder]:
    """Be the process of a job that was added before; its verbs do not register themselves. The
    caller records the end. Raises InputError, OSError.
    """
    jobs = _jobs_folder()
    if jobs is None or not _ID.fullmatch(job_id) or not (jobs / job_id / _SPEC).is_file():
        raise InputError(f"there is no job {display(job_id)}", hint="dsk jobs list shows the ids")
    lock = _begin(jobs / job_id)
    job = JobFolder(jobs / job_id)
    _executed.append(job)
    try:
        yield job
    finally:
        _executed.remove(job)
        _close(job, lock)


def is_from_queue() -> bool:
    """Tell whether this process was started for a job of the queue."""
    return bool(_executed)


def name_gpus(gpus: Mapping[str, float]) -> None:
    """Record in the jobs of this process which GPUs it uses now, and since when, in seconds since
    1970.
    """
    jobs = _jobs_folder()
    for job_id in _own:
        JobFolder(None if jobs is None else jobs / job_id).name_gpus(gpus)


def _close(job: JobFolder, lock: int) -> None:
    if job.path is not None:
        _own.discard(job.path.name)
    if lock >= 0:
        os.close(lock)


def unregistered() -> AbstractContextManager[JobFolder]:
    """Return the place of a job's folder for a run that is not registered."""
    return nullcontext(JobFolder())


def _ending(error: BaseException) -> tuple[int, str]:
    match error:
        case RunPause():
            return error.exit_code, error.message
        case KeyboardInterrupt():
            return 130, "interrupted"
        case Terminated():
            return 128 + error.signum, "terminated"
        case DskError():
            return error.exit_code, error.message
    return 1, type(error).__name__


def _own_command() -> list[str]:
    """Return the arguments of this process, if it is `dsk`."""
    is_dsk = Path(sys.argv[0]).name in ("dsk", "dsk.exe", "__main__.py")
    return sys.argv[1:] if is_dsk else []


def lane_of(arguments: Sequence[str]) -> Lane:
    """Return the lane of a command line without `dsk`."""
    names = (" ".join(arguments[:2]), *arguments[:1])
    return next((_LANES[name] for name in names if name in _LANES), "io")


def add(
    verb: str,
    title: str,
    arguments: Sequence[str],
    folder: Path,
    config: tuple[Path, bytes] | None = None,
    after: Sequence[str] = (),
) -> Path:
    """Make the folder of a new job, which nothing runs yet; return it. arguments: of `dsk`. config:
    a dsk.toml and the text that the job reads in it; later edits of the file do not count. after:
    ids of jobs that must be done before it starts. Raises OSError, InputError.
    """
    jobs = _jobs_folder()
    if jobs is None:
        raise InputError("there is no home folder", hint="set XDG_STATE_HOME to a folder")
    make_folders(jobs, mode=0o700)
    for private in (jobs.parent, jobs):
        private.chmod(0o700)
    _prune(jobs)
    path = jobs / f"{datetime.now(UTC).strftime(_ID_TIME)}-{secrets.token_hex(5)}"
    path.mkdir(mode=0o700)
    try:
        spec = {
            "verb": verb,
            "title": title,
            "argv": ["dsk", *arguments] if arguments else [],
            "folder": str(folder),
            "lane": lane_of(arguments or verb.split()),
        }
        if after:
            spec["after"] = list(after)
        if config is not None:
            spec["config"] = str(config[0])
            write_new(path / CONFIG_NAME, config[1], sync=False, mode=0o600)
        _write(path / _SPEC, spec)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def _begin(folder: Path) -> int:
    """Become the process of a job; return its open lock. Raises OSError, InputError where another
    process is or was that of the job: a runner may start it twice, if the first one is killed
    before the job has registered.
    """
    lock = os.open(folder / _ALIVE, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if not _lock_alone(lock) or os.path.lexists(folder / _PID):
            raise InputError(
                f"the job {folder.name} was started already", hint="dsk jobs list shows its state"
            )
        pid = os.getpid()
        process = {"pid": pid, "started": processes.started(pid), "boot": processes.boot()}
        _write(folder / _PID, {**process, "host": socket.gethostname()})
    except BaseException:
        os.close(lock)
        raise
    _own.add(folder.name)
    return lock


def _lock_alone(descriptor: int) -> bool:
    """Lock an open file; tell whether that succeeded. Whoever looks at the lock holds it for a
    moment, so it is tried again.
    """
    end = time.monotonic() + _LOCK_SECONDS
    while not (is_locked := job_locks.try_lock(descriptor)) and time.monotonic() < end:
        time.sleep(0.02)
    return is_locked


def list_jobs() -> tuple[Job, ...]:
    """Return the jobs that run, and those that ended of late; the newest first."""
    folder = _jobs_folder()
    return tuple(_job(path) for path in _job_folders(folder)) if folder is not None else ()


def folder_of(job: Job) -> JobFolder:
    """Return the folder of any job of this user."""
    folder = _jobs_folder()
    return JobFolder(None if folder is None else folder / job.id)


def find(job_id: str) -> Job:
    """Return the job of an id, or of the beginning of one. Raises InputError."""
    return the_one(list_jobs(), job_id, "jobs")


def the_one(jobs: Iterable[Job], job_id: str, what: str) -> Job:
    """Return the job whose id is, or begins with, `job_id`. what: the jobs, for the error. Raises
    InputError.
    """
    matches = [job for job in jobs if job.id.startswith(job_id)]
    if len(matches) != 1 or not job_id:
        raise InputError(
            f"{len(matches):,} {what} have an id that begins with {display(job_id)}",
            hint="dsk jobs list shows the ids",
        )
    return matches[0]


def find_running(job_id: str = "") -> Job:
    """Return the job of an id, or of the beginning of one; without it the only one that runs.

    Raises InputError.
    """
    jobs = list_jobs()
    running = [job for job in jobs if job.runs]
    if not job_id:
        if len(running) == 1:
            return running[0]
        ids = ", ".join(job.id for job in running)
        raise InputError(
            f"{len(running):,} jobs are running: {ids}" if running else "no job is running",
            hint="name one of them" if running else "dsk jobs list shows those that have ended",
        )
    job = find(job_id)
    if not job.runs:
        raise InputError(
            f"the job {job.id} is not running: {job.state}",
            hint="dsk jobs list shows those that are",
        )
    return job


def request_stop(job: Job, how: Request) -> None:
    """Ask a job to stop. Raises StorageError."""
    folder = _jobs_folder()
    if folder is not None:
        path = folder / job.id / _STOP
        with writing(path):
            _write(path, {"how": how})


def request_action(job: Job, action: Action) -> None:
    """Ask a job to do something after its step, and to go on. Raises StorageError."""
    folder = _jobs_folder()
    if folder is not None:
        path = folder / job.id / _action_file(action)
        with writing(path):
            _write(path, {})


def pending_actions(job: Job) -> tuple[Action, ...]:
    """Return what a job was asked to do and has not begun."""
    folder = folder_of(job).path
    if folder is None:
        return ()
    return tuple(action for action in ACTIONS if os.path.lexists(folder / _action_file(action)))


def _action_file(action: Action) -> str:
    return f"{action}-now"


def has_begun(job: Job) -> bool:
    """Tell whether the process of a job has registered."""
    folder = folder_of(job).path
    return folder is not None and os.path.lexists(folder / _PID)


def kill(job: Job) -> bool:
    """Kill the process of a job that runs, if it is still the one that registered; tell whether it
    was. It saves nothing.
    """
    folder = _jobs_folder()
    if folder is None or not _is_alive(folder / job.id) or job.id in _own:
        return False
    process = _read(folder / job.id / _PID)
    pid = process.get("pid")
    if type(pid) is not int or process.get("host") != socket.gethostname():
        return False
    return processes.kill(pid, _text(process, "started"), _text(process, "boot"))


def forget(job: Job) -> None:
    """Delete the folder of a job that has ended. Its results stay. Raises InputError."""
    folder = _jobs_folder()
    if job.runs or job.state == "queued":
        raise InputError(f"the job {job.id} is {job.state}", hint="stop it first")
    waiting = next((other.id for other in list_jobs() if job.id in _awaited(other)), "")
    if waiting:
        raise InputError(
            f"the job {waiting} waits for {job.id}",
            hint=f"take that out of the queue first: dsk jobs remove {waiting}",
        )
    if folder is not None:
        shutil.rmtree(folder / job.id, ignore_errors=True)


def frozen_config(job: Job) -> tuple[Path, bytes] | None:
    """Return the path of the dsk.toml that governs a job, and its text when the job was added; None
    where the job reads the file itself.
    """
    folder = folder_of(job).path
    path = "" if folder is None else _text(_read(folder / _SPEC), "config")
    data = read_existing(folder / CONFIG_NAME) if folder is not None and path else None
    return None if data is None else (Path(path), data)


# ---- files


def _jobs_folder() -> Path | None:
    state = state_folder()
    return None if state is None else state / "jobs"


def queue_folder() -> Path | None:
    """Return the folder of the queue, see job_queue.py."""
    state = state_folder()
    return None if state is None else state / "queue"


def is_queued(folder: Path) -> bool:
    """Tell whether a job waits: it has not begun, and is in the queue."""
    queue = queue_folder()
    if queue is None or os.path.lexists(folder / _PID):
        return False
    try:
        return any(path.name.endswith(f"-{folder.name}") for path in queue.iterdir())
    except OSError:
        return False


def _job_folders(jobs: Path) -> list[Path]:
    """Return the folders of jobs, the newest first; anything else in there is left alone."""
    try:
        with os.scandir(jobs) as entries:
            names = [
                entry.name
                for entry in entries
                if _ID.fullmatch(entry.name)
                and entry.is_dir(follow_symlinks=False)
                and _time(entry.name) is not None
            ]
    except OSError:
        return []
    return [jobs / name for name in sorted(names, reverse=True)]


def _job(folder: Path) -> Job:
    spec, end = _read(folder / _SPEC), _read(folder / END)
    argv = spec.get("argv")
    words = [word for word in argv if isinstance(word, str)] if isinstance(argv, list) else []
    code = end.get("code")
    code = code if type(code) is int else None
    started = _time(folder.name)
    return Job(
        id=folder.name,
        state=_state(folder, code),
        verb=_text(spec, "verb"),
        title=_text(spec, "title"),
        command=_command(words),
        folder=_text(spec, "folder"),
        started=started.strftime("%Y-%m-%dT%H:%M:%SZ") if started else "",
        code=code,
        reason=_text(end, "reason"),
        lane=lane if (lane := spec.get("lane")) in ("gpu", "light") else "io",
        argv=tuple(words[1:]),
        after=_ids(spec.get("after")),
        run=_run(spec.get("run")),
        asked=_asked(folder / _STOP),
        gpus=_times(spec, "gpus"),
    )


def _state(folder: Path, code: int | None) -> State:
    if _is_alive(folder):
        return "stopping" if os.path.lexists(folder / _STOP) else "running"
    if code is None:
        return "queued" if is_queued(folder) else "lost"
    return "done" if code in (0, 3) else "stopped" if code in (129, 130, 143) else "failed"


def _ids(value: object) -> tuple[str, ...]:
    ids = value if isinstance(value, list) else []
    return tuple(text for text in ids if isinstance(text, str) and _ID.fullmatch(text))


def _awaited(job: Job) -> tuple[str, ...]:
    """Return the ids of the jobs that must be done before a job of the queue starts."""
    return job.after if job.state == "queued" else ()


def _run(value: object) -> tuple[str, str] | None:
    match value:
        case [str() as folder, str() as name]:
            return folder, name
    return None


def _asked(path: Path) -> tuple[Request, float] | None:
    try:
        moment = path.stat().st_mtime
    except OSError:
        return None
    return "now" if _read(path).get("how") == "now" else "save", moment


def _command(words: Sequence[str]) -> str:
    return shlex.join(words)


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


def _times(record: Mapping[str, Any], key: str) -> dict[str, float]:
    value = record.get(key)
    pairs = value.items() if isinstance(value, dict) else ()
    return {
        name: float(time) for name, time in pairs if type(time) in (int, float) and 0 <= time < 1e10
    }


def _time(job_id: str) -> datetime | None:
    try:
        return datetime.strptime(job_id.partition("-")[0], _ID_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty where there is none that can be read."""
    try:
        data = read_regular(path, limit=_LARGEST)
        value = json.loads(data) if data is not None else None
    except (InputError, OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _write(path: Path, value: object) -> None:
    write_atomic(path, json.dumps(value).encode("ascii"))
    path.chmod(0o600)


def _prune(jobs: Path) -> None:
    """Delete the folders of jobs that ended, but for the newest. A job registers itself in less
    than a minute, so younger folders are left alone.
    """
    folders = _job_folders(jobs)
    if len(folders) <= _KEPT:
        return  # as most times: no lock has to be tried
    ended = [folder for folder in folders if not _is_alive(folder) and not is_queued(folder)]
    awaited = {job_id for folder in set(folders) - set(ended) for job_id in _awaited(_job(folder))}
    ended = [folder for folder in ended if folder.name not in awaited]
    now = datetime.now(UTC)
    for folder in ended[_KEPT:]:
        started = _time(folder.name)
        if started is not None and abs((now - started).total_seconds()) > 60:
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(folder: Path) -> bool:
    return folder.name in _own or job_locks.is_held(folder / _ALIVE)
