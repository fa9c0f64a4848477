"""What became of the pictures that outputs were made from: outputs take new names with them, or leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.files import MASKS, PROJECT, companions, display
from datasetkit.core.plans import Move, Plan
from datasetkit.core.store import Output, Store
from datasetkit.scan import Scan
from datasetkit.verbs.project import Project


@dataclass(frozen=True, slots=True)
class Followed:
    """An output that followed its source. new: where it stands now; None: in the trash."""

    old: Path
    new: Path | None


def follow(found: Scan, targets: Mapping[Path, Path], out: Path, project: Project) -> tuple[Followed, ...]:
    """Let the outputs in `out` follow what became of their sources, with captions and masks, as one plan.

    A source that was renamed: its output takes the new name, and nothing is tagged again; sources that took each
    other's names swap their outputs. A source that is gone: its output goes to the trash, or it would still be trained
    on. A source that gets another format: so does the old output, and the caption stays for the new one. An output
    that somebody edited stays, and so does one whose source holds another picture now: it is made anew, and its
    caption is kept.
    """
    store = project.store

    def known(path: Path) -> Path:  # spelt as the store spells it
        return store.path(store.key(path))

    pictures = [(known(r.path), known(targets[r.path]), r.id) for r in found.records]
    goals = {source: goal for source, goal, _ in pictures}
    ids = {goal: picture for _, goal, picture in pictures}
    leaving = _leaving(_outputs(known(found.folder), known(out), store), ids, set(goals), store.is_ours)
    if not leaving:
        return ()
    trash = project.root / PROJECT / "trash" / f"resize-{project.journal.next_id()}"
    origins = {goal: origin for origin, goal in goals.items()}
    taken = {goal for _, goal in leaving}
    ops: list[Move] = []
    moved: list[Output] = []
    followed: list[Followed] = []
    for output, goal in leaving:
        old, thrown = output.path, trash / output.path.relative_to(project.root)
        new = goal if goal is not None and goal.suffix == old.suffix else None
        heir = goals.get(output.origin)
        if goal is None and heir is not None and heir.with_suffix("") == old.with_suffix("") and heir not in taken:
            goal = heir  # another picture in another format, under the same name: it has the caption
        ops += [Move(old, new or thrown), *_with_it(old, goal or thrown)]
        moved.append(replace(output, path=new or thrown, origin=origins.get(new or thrown, output.origin)))
        followed.append(Followed(old, new))
    title = f"follows {display(found.folder.name)}: {len(moved)} renamed or removed"
    project.apply(Plan(tuple(ops)), "resize", title, outputs=moved)
    if not project.how.dry_run:
        store.settle(moved)
    return tuple(followed)


def _with_it(old: Path, new: Path) -> list[Move]:
    """Return the moves of an output's caption and mask to where those of `new` stand."""
    moves = []
    for path in companions(old.parent, [old])[old]:
        place = new.parent / MASKS if path.parent.name == MASKS else new.parent
        moves.append(Move(path, place / f"{new.stem}{path.suffix}"))
    return [move for move in moves if move.src != move.dst]


def _outputs(folder: Path, out: Path, store: Store) -> list[Output]:
    """Return the outputs in `out` that were made of pictures of the folder."""
    inside, source, trash = (f"{place}{os.sep}" for place in (out, folder, store.root / PROJECT))
    return [
        output
        for output in store.outputs("resize-")
        if str(output.path).startswith(inside)
        and str(output.origin).startswith(source)
        and not str(output.path).startswith(trash)
    ]


def _leaving(
    outputs: Sequence[Output], ids: Mapping[Path, str], scanned: set[Path], is_ours: Callable[[Path], bool]
) -> list[tuple[Output, Path | None]]:
    """Decide which outputs leave their place, and for which other one (None: the trash).

    ids: the picture that each place shall hold. scanned: the sources that are there and can be read. is_ours: whether
    nobody touched an output since it was made.
    """
    at_home = {output.path for output in outputs if ids.get(output.path) == output.source}
    astray = [o for o in outputs if o.path not in at_home and o.path.exists() and is_ours(o.path)]
    lost = {output.path for output in astray}
    free: dict[str, Path] = {}
    for place, picture in ids.items():
        if place not in at_home and (place in lost or not os.path.lexists(place)):
            free.setdefault(picture, place)
    goals = {output.path: free.pop(output.source, None) for output in astray}
    taken = set(goals.values())
    leaving: list[tuple[Output, Path | None]] = []
    for output in astray:
        goal, place = goals[output.path], output.path
        made_anew = place in ids
        unreadable = output.origin.exists() and output.origin not in scanned
        if goal is not None or place in taken or not (made_anew or unreadable):
            leaving.append((output, goal))
    return leaving
