"""Jobs: the long runs of this user on this machine, and how another process asks one to stop.

Each has a folder in the user's state folder, `jobs/<id>/`:

    spec.json   what runs: verb, title, command line, working folder
    pid.json    process, machine, time; for people alone
    alive       locked by the run while it lives; the system frees it at any death
    stop        a request to stop: {"how": "save" | "now"}
    end.json    how it ended: {"code": ..., "reason": ...}

The lock says whether a job runs, never the process number, which is used again. What the files say
may be damaged: it is shown, and nothing is decided by it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit.core.disk_sync import make_folders
from datasetkit.core.errors import DskError, InputError
from datasetkit.core.files import display, read_regular, write_atomic, write_new, writing
from datasetkit.core.stopping import Request, RunPause, Terminated
from datasetkit.project.signature import state_folder

State = Literal["running", "stopping", "done", "stopped", "failed", "lost"]
# Of jobs that have ended.
_KEPT: Final = 50
_LARGEST: Final = 64 * 1024  # bytes
_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{10}")
_ID_TIME: Final = "%Y%m%dT%H%M%S"
_SPEC, _PID, _ALIVE, _STOP, _END = "spec.json", "pid.json", "alive", "stop", "end.json"
# Jobs of this process. Their locks are not tried: closing a file frees the locks that the process
# has on it.
_own: set[str] = set()


@dataclass(frozen=True, slots=True)
class Job:
    """A job. id: its UTC time and random digits. title, command, folder: what runs, for people, and
    from where; "" where it is not known. started: in UTC, as text. code: the exit code, None while
    it runs or where it is lost.
    """

    id: str
    state: State
    verb: str
    title: str
    command: str
    folder: str
    started: str
    code: int | None = None

    @property
    def runs(self) -> bool:
        return self.state in ("running", "stopping")


class JobFolder:
    """The folder of a job of this process. path: None for one that is not registered; problem: why
    not, "" if it was not meant to be.
    """

    def __init__(self, path: Path | None = None, problem: str = "") -> None:
        self._path, self.problem = path, problem

    def stop_request(self) -> Request | None:
        """Return the request to stop, None without one."""
        if self._path is None or not os.path.lexists(self._path / _STOP):
            return None
        return "now" if _read(self._path / _STOP).get("how") == "now" else "save"

    def end(self, code: int, reason: str) -> None:
        """Record how the job ended. A disk that is full loses that alone."""
        if self._path is not None:
            with suppress(DskError, OSError):
                _write(self._path / _END, {"code": code, "reason": reason})


@contextmanager
def registered(verb: str, title: str) -> Iterator[JobFolder]:
    """Register a job while it runs, and record how it ends."""
    job_id = f"{datetime.now(UTC).strftime(_ID_TIME)}-{secrets.token_hex(5)}"
    lock = -1
    try:
        path, lock = _register(job_id, verb, title)
        job = JobFolder(path)
        _own.add(job_id)
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
        _own.discard(job_id)
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


def _register(job_id: str, verb: str, title: str) -> tuple[Path, int]:
    """Make the folder of a job; return it and its open lock. Raises OSError, InputError."""
    jobs = _jobs_folder()
    if jobs is None:
        raise InputError("there is no home folder")
    make_folders(jobs, mode=0o700)
    for private in (jobs.parent, jobs):
        private.chmod(0o700)
    _prune(jobs)
    folder = jobs / job_id
    folder.mkdir(mode=0o700)
    try:
        write_new(folder / _ALIVE, b" ", sync=False, mode=0o600)
        lock = os.open(folder / _ALIVE, os.O_RDWR)
        try:
            _lock(lock)
            own_command = Path(sys.argv[0]).name in ("dsk", "dsk.exe", "__main__.py")
            spec = {
                "verb": verb,
                "title": title,
                "argv": ["dsk", *sys.argv[1:]] if own_command else [],
                "folder": str(Path.cwd()),
            }
            _write(folder / _SPEC, spec)
            _write(folder / _PID, {"pid": os.getpid(), "host": socket.gethostname()})
        except BaseException:
            os.close(lock)
            raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder, lock


def list_jobs() -> tuple[Job, ...]:
    """Return the jobs that run, and those that ended of late; the newest first."""
    folder = _jobs_folder()
    return tuple(_job(path) for path in _job_folders(folder)) if folder is not None else ()


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
    matches = [job for job in jobs if job.id.startswith(job_id)]
    if len(matches) != 1:
        raise InputError(
            f"{len(matches):,} jobs have an id that begins with {display(job_id)}",
            hint="dsk jobs list shows the ids",
        )
    if not matches[0].runs:
        raise InputError(
            f"the job {matches[0].id} is not running: {matches[0].state}",
            hint="dsk jobs list shows those that are",
        )
    return matches[0]


def request_stop(job: Job, how: Request) -> None:
    """Ask a job to stop. Raises StorageError."""
    folder = _jobs_folder()
    if folder is not None:
        path = folder / job.id / _STOP
        with writing(path):
            _write(path, {"how": how})


# ---- files


def _jobs_folder() -> Path | None:
    state = state_folder()
    return None if state is None else state / "jobs"


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
    spec, end = _read(folder / _SPEC), _read(folder / _END)
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
    )


def _state(folder: Path, code: int | None) -> State:
    if _is_alive(folder):
        return "stopping" if os.path.lexists(folder / _STOP) else "running"
    if code is None:
        return "lost"
    return "done" if code in (0, 3) else "stopped" if code in (129, 130, 143) else "failed"


def _command(words: Sequence[str]) -> str:
    return shlex.join(words)


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return value if isinstance(value, str) else ""


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
    ended = [folder for folder in _job_folders(jobs) if not _is_alive(folder)]
    now = datetime.now(UTC)
    for folder in ended[_KEPT:]:
        started = _time(folder.name)
        if started is not None and abs((now - started).total_seconds()) > 60:
            shutil.rmtree(folder, ignore_errors=True)


# ---- the lock: it must not be inherited by processes that the job starts, as those of flock are


def _is_alive(folder: Path) -> bool:
    if folder.name in _own:
        return True
    path = folder / _ALIVE
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _is_free(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _is_free(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)

    def _is_free(descriptor: int) -> bool:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
        return True
