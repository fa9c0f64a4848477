"""Steps: a plan's operations as the journal keeps them, checked before the first, and how each is
done to a file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from datasetkit.core.errors import FileChanged, PlanConflict, StorageError
from datasetkit.core.files import (
    CAPTION_SUFFIX,
    TEMP_PREFIX,
    TEMP_SUFFIX,
    display,
    keep_mode,
    temp_name,
    write_new,
    writing,
)
from datasetkit.project.plans import Copy, Move, Plan, Rewrite, WriteBytes, WriteText

Kind = Literal["move", "copy", "link", "write", "made"]


@dataclass(frozen=True, slots=True)
class JournalOperation:
    """One operation as the journal keeps it. before/after: a text file's bytes; sign: how dst looks
    when done.
    """

    kind: Kind
    src: Path | None
    dst: Path
    before: bytes | None = None
    after: bytes | None = None
    sign: str = ""
    temp: Path | None = None


def check(plan: Plan) -> list[JournalOperation]:
    """Turn a plan into steps, or raise PlanConflict: a target that is taken, a source that is
    missing, a link.

    Outdated, where nothing else is wrong: a text is no longer the one that the plan was made for.
    """
    moved_away = {op.src for op in plan.ops if isinstance(op, Move) and op.src != op.dst}
    claimed: dict[Path, int] = {}
    steps: list[JournalOperation] = []
    problems: list[str] = []
    outdated: list[str] = []
    for op in plan.ops:
        dst = op.path if isinstance(op, (WriteText, WriteBytes)) else op.dst
        claimed[dst] = claimed.get(dst, 0) + 1
        if isinstance(op, (WriteText, WriteBytes)):
            regular = None if dst in moved_away else _is_regular(dst)
            if regular is False:
                problems.append(f"{display(dst)} is not a regular file")
                continue
            before = dst.read_bytes() if regular else None
            if isinstance(op, Rewrite) and op.over != before:
                outdated.append(display(dst))
            after = (
                op.data if isinstance(op, WriteBytes) else op.text.encode("utf-8", "surrogatepass")
            )
            if before != after:
                steps.append(JournalOperation("write", None, dst, before=before, after=after))
            continue
        occupied = os.path.lexists(dst) and dst not in moved_away
        if not os.path.lexists(op.src):
            problems.append(f"{display(op.src)} is gone")
        elif isinstance(op, Move):
            same_file = occupied and dst.samefile(
                op.src
            )  # a case-only rename where case does not count
            if op.src == dst:
                continue
            if occupied and not same_file:
                problems.append(f"{display(dst)} exists already")
            in_the_way = dst in moved_away or same_file
            steps.append(JournalOperation("move", op.src, dst, temp=dst if in_the_way else None))
        else:
            if occupied:
                problems.append(f"{display(dst)} exists already")
            steps.append(JournalOperation("copy" if isinstance(op, Copy) else "link", op.src, dst))
    problems.extend(
        f"{display(path)} would be written twice" for path, n in claimed.items() if n > 1
    )
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise PlanConflict("; ".join(problems[:5]) + more, hint="nothing was changed")
    if outdated:
        more = f" and {len(outdated) - 5} more" if len(outdated) > 5 else ""
        raise FileChanged(
            f"changed meanwhile: {', '.join(outdated[:5])}{more}", hint="nothing was changed"
        )
    return steps


def sign_of(step: JournalOperation) -> str:
    """Describe a finished step's file, so that undo can tell whether somebody changed it since."""
    return sign(step, step.after or b"" if step.kind == "write" else step.dst)


def sign(step: JournalOperation, now: Path | bytes | None) -> str:
    """Hash texts, which later commands rewrite and undo restores (at a new time); of images take
    size and time.
    """
    try:
        if isinstance(now, Path) and (
            step.kind == "write" or step.dst.suffix.lower() == CAPTION_SUFFIX
        ):
            now = now.read_bytes() if now.is_file() and not now.is_symlink() else None
        if isinstance(now, bytes):
            return hashlib.sha256(now).hexdigest()
        if now is not None:
            info = os.lstat(now)
            return f"{info.st_size}:{info.st_mtime_ns}"
    except OSError:
        pass
    return "gone"


def with_temp(step: JournalOperation) -> JournalOperation:
    """Give a step its temporary name; a plain rename needs none, and a moved file is never called a
    temporary.
    """
    if step.kind == "move" and step.temp is None:
        return step
    name = temp_name()
    if step.kind == "move":
        name = f"{TEMP_PREFIX}move-{name.removeprefix(TEMP_PREFIX).removesuffix(TEMP_SUFFIX)}"
    return replace(step, temp=step.dst.parent / name)


def make_temp(step: JournalOperation, *, sync: bool) -> None:
    if step.temp is None or step.kind == "move":
        return
    if step.kind == "write":
        write_new(step.temp, step.after or b"", sync=sync)
        keep_mode(step.dst, step.temp)
        return
    source = step.src or step.dst
    if step.kind == "link":
        try:
            os.link(os.path.realpath(source), step.temp)
            return
        except FileNotFoundError:
            raise
        except (
            OSError
        ):  # another disk, a file system without hard links, too many links: a copy serves as well
            pass
    try:
        shutil.copy2(source, step.temp)
    except BaseException:
        with suppress(OSError):
            os.unlink(step.temp)
        raise


def move(step: JournalOperation) -> None:
    """Let a file step aside or take its free name; done already (by the run that was killed) is
    fine.
    """
    goal = step.temp or step.dst
    if (
        step.src is None
        or not os.path.lexists(step.src)
        or (step.temp and os.path.lexists(step.temp))
    ):
        return
    _require_free(goal)
    with writing(goal):
        os.rename(step.src, goal)


def place(step: JournalOperation) -> bool:
    """Give one step its final name; done already (by the run that was killed) is fine.

    Returns False where a person has edited the text since the plan was made: theirs stays.
    """
    if step.temp is None or not os.path.lexists(step.temp):
        return True
    if step.kind != "write":
        _require_free(step.dst)
    with writing(step.dst):
        if step.kind == "write" and not _stands_as_before(step):
            os.unlink(step.temp)
            return False
        os.replace(step.temp, step.dst)
    return True


def _require_free(path: Path) -> None:
    if os.path.lexists(path):
        raise StorageError(
            f"{display(path)} appeared while the plan ran",
            hint="move it away and run any dsk command again",
        )


def _stands_as_before(step: JournalOperation) -> bool:
    regular = _is_regular(step.dst)
    return regular is None or (regular and step.dst.read_bytes() in (step.before, step.after))


def _is_regular(path: Path) -> bool | None:
    """Tell whether a regular file, no link to one, stands at a path; None for nothing."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return None


def sync_folders(folders: Iterable[Path]) -> None:
    """Make renames durable. Best effort: some file systems refuse to open a folder."""
    for folder in folders:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
