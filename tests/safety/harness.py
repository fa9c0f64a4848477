"""Runs a command in a child process, makes one of its system calls kill it or fail, and checks the
files that are left.
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import shutil
import signal
import sqlite3
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasetkit.core.errors import DskError
from datasetkit.core.file_kinds import IMAGE_SUFFIXES
from datasetkit.core.files import PROJECT, TEMP_PREFIX

# The name of the running command, which is written if the disk allows it.
HOLDER = f"{PROJECT}/running"
BUG = 70  # the exit code of a child in which something other than a DskError was raised
PATIENCE = 60  # seconds after which a child counts as hung
CALLS = ("open", "write", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir")

Strike = Callable[[str, tuple[Any, ...]], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. code: its exit code, None if it was killed; said: its error; points: the
    calls that were counted; calls: their names; seconds: how long it took.
    """

    code: int | None
    output: str
    points: int
    seconds: float
    calls: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Case:
    """One command on one small dataset. build: makes the dataset; run: runs the command in the
    dataset's folder.
    """

    name: str
    build: Callable[[Path], None]
    run: Callable[[Path], object]


# ---- what a folder holds


def walk(root: Path) -> Iterator[Path]:
    """Yield everything below a folder; links are not followed."""
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))


def tree(root: Path) -> dict[str, str]:
    """Return all that is visible below a folder, without `.dsk`: names, and a hash of each file."""
    seen = {}
    for path in walk(root):
        name = path.relative_to(root)
        if PROJECT in name.parts:
            continue
        if path.is_symlink():
            seen[str(name)] = f"link to {path.readlink()}"
        elif path.is_dir():
            seen[str(name)] = "folder"
        else:
            seen[str(name)] = digest(path)
    return seen


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:20]


def strays(root: Path) -> list[str]:
    """Return the temporary files below a folder, `.dsk` included."""
    return [str(p.relative_to(root)) for p in walk(root) if p.name.startswith(TEMP_PREFIX)]


def files(root: Path) -> list[Path]:
    return [p for p in walk(root) if p.is_file() and not p.is_symlink()]


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def damage(
    root: Path, before: dict[str, str], after: dict[str, str], images: Counter[str]
) -> list[str]:
    """Return what a kill has lost or damaged.

    before, after: the trees of the untouched dataset and of the uninterrupted run. images: hashes
    of all images, each of which must still exist. Visible files must be old or new, not a mixture.
    """
    found = []
    here = Counter(digest(p) for p in files(root))
    for lost in (images - here).elements():
        found.append(f"image {lost} is nowhere")
    whole = {*before.values(), *after.values()}
    for path in files(root):
        name = path.relative_to(root)
        if PROJECT in name.parts or path.name.startswith(TEMP_PREFIX):
            continue
        if digest(path) not in whole:
            found.append(f"{name} is neither old nor new: {path.read_bytes()[:60]!r}")
    return found


# ---- striking


class Watch:
    """Counts the system calls that concern a folder, and sqlite's statements; calls `strike` at
    number `at`. Calls on the note of the lock's holder do not count: a command works without it.
    """

    def __init__(
        self, root: Path, *, at: int = 0, strike: Strike | None = None, statements: bool = True
    ) -> None:
        self.root, self.at, self.strike, self.statements = str(root), at, strike, statements
        self.points = 0
        self.calls: set[str] = set()
        self.descriptors: set[int] = set()

    def install(self) -> None:
        """Wrap the system calls for the rest of this process."""
        for name in CALLS:
            setattr(os, name, self._wrap(name, getattr(os, name)))
        if self.statements:
            connect = sqlite3.connect

            def watched(*args: Any, **options: Any) -> sqlite3.Connection:
                database: sqlite3.Connection = connect(*args, **options)
                database.set_trace_callback(lambda statement: self.point("sql", (statement,)))
                return database

            sqlite3.connect = watched  # type: ignore[assignment]

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            # The system refuses to create a folder that is there, on a full disk, too.
            exists = name == "mkdir" and os.path.isdir(args[0])  # noqa: PTH112
            if self._concerns(args) and not exists:
                self.point(name, args)
            result = real(*args, **options)
            if name == "open" and self._concerns(args):
                self.descriptors.add(result)
            return result

        return call

    def _concerns(self, args: tuple[Any, ...]) -> bool:
        first = args[0] if args else None
        if isinstance(first, int):
            return first in self.descriptors
        if not isinstance(first, str | os.PathLike):
            return False
        path = os.fspath(first)
        return path.startswith(self.root) and not path.endswith(HOLDER)

    def point(self, name: str, args: tuple[Any, ...]) -> None:
        self.points += 1
        self.calls.add(name)
        if self.points == self.at and self.strike is not None:
            self.strike(name, args)


REAL_WRITE = os.write


def kill(name: str, args: tuple[Any, ...]) -> None:
    """Kill this process as a power cut does; a write gets half of its bytes to the file."""
    if name == "write":
        REAL_WRITE(args[0], bytes(args[1])[: len(args[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> Strike:
    """Return a strike that makes the call fail with an error of the operating system."""

    def strike(name: str, args: tuple[Any, ...]) -> None:
        where = args[0] if isinstance(args[0], str | os.PathLike) else None
        raise OSError(number, os.strerror(number), None if where is None else os.fspath(where))

    return strike


FULL, BROKEN = fail(errno.ENOSPC), fail(errno.EIO)


def in_child(
    action: Callable[[Path], object],
    *,
    root: Path,
    watch: Watch | None = None,
    before: Callable[[], None] | None = None,
    kill_after: float | None = None,
) -> Ended:
    """Run an action on `root` in a forked child, in that folder; kill it after some seconds if
    asked.

    before: a patch to apply in the child. The exit code is the DskError's, 0, or BUG.
    """
    reader, writer = os.pipe()
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # threads of other tests, which the child does not use
        pid = os.fork()
    if pid == 0:
        _be_child(action, root, watch, before, writer)
    os.close(writer)
    try:
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)
        output = b""
        while True:
            ready, _, _ = select.select([reader], [], [], PATIENCE)
            if not ready:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise TimeoutError(f"the child hung for {PATIENCE} s")
            piece = os.read(reader, 65536)
            if not piece:
                break
            output += piece
    finally:
        os.close(reader)
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    if os.WIFSIGNALED(status):
        return Ended(None, "", 0, seconds)
    counted, _, text = output.decode("utf-8", "replace").partition("\n")
    points, *calls = counted.split()
    return Ended(os.WEXITSTATUS(status), text, int(points), seconds, frozenset(calls))


def _be_child(
    action: Callable[[Path], object],
    root: Path,
    watch: Watch | None,
    before: Callable[[], None] | None,
    writer: int,
) -> None:
    code, output = BUG, ""
    try:
        os.chdir(root)
        if before is not None:
            before()
        if watch is not None:
            watch.install()
        action(root)
        code = 0
    except DskError as error:
        code, output = (
            int(error.exit_code),
            f"{type(error).__name__}: {error.message} | {error.hint}",
        )
    except BaseException:
        output = traceback.format_exc()
    finally:
        counted = f"{watch.points} {' '.join(watch.calls)}" if watch is not None else "0"
        REAL_WRITE(writer, f"{counted}\n{output}".encode("utf-8", "backslashreplace")[:60000])
        os._exit(code)


# ---- trials


class Trials:
    """Many runs of one case, each on a new copy of its dataset, compared with an
    uninterrupted run.
    """

    def __init__(self, case: Case, workdir: Path) -> None:
        self.case, self.workdir = case, workdir
        self.template = workdir / "template"
        self.template.mkdir(parents=True)
        made = in_child(case.build, root=self.template)
        assert made.code == 0, made.output
        self.before = tree(self.template)
        self.images = Counter(digest(p) for p in files(self.template) if is_image(p))
        whole = self.fresh("whole")
        watch = Watch(whole)
        self.whole = in_child(case.run, root=whole, watch=watch)
        assert self.whole.code == 0, self.whole.output
        self.after = tree(whole)
        assert strays(whole) == []
        assert self.after != self.before, (
            f"{case.name} changes nothing: the trial would prove nothing"
        )

    @property
    def points(self) -> int:
        return self.whole.points

    def fresh(self, name: str) -> Path:
        """Copy the dataset, with modification times, which the store compares."""
        root = self.workdir / name
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.template, root, symlinks=True)
        return root

    def again(self, root: Path) -> Ended:
        """Run the command once more, as a person would after a crash."""
        return in_child(self.case.run, root=root)

    def killed(
        self, *, at: int = 0, after: float | None = None, before: Callable[[], None] | None = None
    ) -> list[str]:
        """Kill a run, check, run again, check; return what is wrong."""
        root = self.fresh("trial")
        watch = Watch(root, at=at, strike=kill) if at else None
        ended = in_child(self.case.run, root=root, watch=watch, before=before, kill_after=after)
        when = (
            f"killed at {at or f'{after:.4f} s'}"
            if ended.code is None
            else f"ended with {ended.code}"
        )
        found = [] if ended.code in (None, 0) else [ended.output]
        found += damage(root, self.before, self.after, self.images)
        rerun = self.again(root)
        if rerun.code != 0:
            found.append(f"the next run ended with {rerun.code}: {rerun.output}")
        found += self.differences(root)
        return [f"{self.case.name}, {when}: {problem}" for problem in found]

    def differences(self, root: Path) -> list[str]:
        """Return the differences from the uninterrupted run, and the temporary files that are
        left.
        """
        now = tree(root)
        found = [f"{n} is missing" for n in self.after.keys() - now.keys()]
        found += [f"{n} should not be there" for n in now.keys() - self.after.keys()]
        found += [f"{n} differs" for n in self.after.keys() & now.keys() if now[n] != self.after[n]]
        return found + [f"stray {n}" for n in strays(root)]
