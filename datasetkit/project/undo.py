"""Undoing: the steps that take a finished command back, and why some cannot be taken."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasetkit.core.files import IMAGE_SUFFIXES, MASKS, display
from datasetkit.project.file_ops import JournalOperation, sign


class PlannedState:
    """Where files will be, and what texts will hold, when steps are done that so far are only
    planned.
    """

    def __init__(self) -> None:
        self._will_be: dict[Path, Path | bytes | None] = {}

    def find(self, path: Path) -> Path | bytes | None:
        """Return where what will be at `path` is now, or its bytes; None for nothing."""
        for place in (path, *path.parents) if self._will_be else ():
            if place in self._will_be:
                now = self._will_be[place]
                return (
                    now / path.relative_to(place)
                    if isinstance(now, Path)
                    else now
                    if place == path
                    else None
                )
        return path

    def add(self, steps: Sequence[JournalOperation]) -> None:
        """Take steps, which happen at once, as done."""
        moves = [step for step in steps if step.kind == "move" and step.src is not None]
        gone: dict[Path, Path | bytes | None] = {
            step.src: None for step in moves if step.src is not None
        }
        here = {step.dst: self.find(step.src) for step in moves if step.src is not None}
        written = {step.dst: step.after for step in steps if step.kind == "write"}
        self._will_be |= gone | here | written


def stands(now: Path | bytes | None) -> bool:
    """Tell whether `PlannedState.find` found anything."""
    return os.path.lexists(now) if isinstance(now, Path) else now is not None


def inverse(
    done: Sequence[JournalOperation],
    foreseen: PlannedState,
    *,
    trash: Path,
    root: Path,
    with_companions: bool,
) -> tuple[list[JournalOperation], list[str]]:
    """Return the steps that take `done` back, last first, and why some cannot be taken.

    trash: a fresh folder for files that dsk had made. with_companions: what joined a renamed
    image goes back with it.
    """
    vacated = {step.dst for step in done}
    steps: list[JournalOperation] = []
    problems: list[str] = []
    for n, step in enumerate(reversed(done)):
        problem = _changed_since(step, foreseen)
        returns = step.kind == "move" and step.src is not None and step.src not in vacated
        if problem is None and returns and stands(foreseen.find(step.src or step.dst)):
            problem = f"{display(os.path.relpath(step.src or step.dst, root))} is taken again"
        if problem is not None:
            problems.append(problem)
        elif step.kind == "write" and step.before is not None:
            steps.append(
                JournalOperation("write", None, step.dst, before=step.after, after=step.before)
            )
        elif step.kind == "move" and step.src is not None:
            steps.append(JournalOperation("move", step.dst, step.src, temp=step.dst))
            if with_companions:
                steps.extend(_companions(step, vacated))
        else:
            steps.append(JournalOperation("move", step.dst, trash / str(n) / step.dst.name))
    return steps, problems


def _changed_since(step: JournalOperation, foreseen: PlannedState) -> str | None:
    """Return why a finished step cannot be taken back, or None. A moved file may have been edited:
    it moves back.
    """
    now = foreseen.find(step.dst)
    if not stands(now):
        return f"{display(step.dst.name)} is gone"
    if step.kind == "move" or sign(step, now) == step.sign:
        return None
    return f"{display(step.dst.name)} was changed since"


def _companions(step: JournalOperation, vacated: set[Path]) -> Iterator[JournalOperation]:
    """Captions, masks and side-cars that joined a renamed image later go back with it."""
    if step.src is None or step.dst.suffix.lower() not in IMAGE_SUFFIXES:
        return
    for folder, home in (
        (step.dst.parent, step.src.parent),
        (step.dst.parent / MASKS, step.src.parent / MASKS),
    ):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if path in vacated or (path.suffix.lower() in IMAGE_SUFFIXES and folder.name != MASKS):
                continue
            if path.stem == step.dst.stem:
                target = home / f"{step.src.stem}{path.suffix}"
            elif path.name.startswith(step.dst.name + "."):
                target = home / f"{step.src.name}{path.name.removeprefix(step.dst.name)}"
            else:
                continue
            if not os.path.lexists(target):
                yield JournalOperation("move", path, target)
