"""What became of the images that outputs were made from: outputs take new names with them, or
leave.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.files import MASKS, PROJECT, companions, display
from datasetkit.images.scan import Scan
from datasetkit.outputs.produce import BESIDE
from datasetkit.project.plans import Move, Plan
from datasetkit.project.session import Project
from datasetkit.project.store import Output, Store

# The verbs that make images of images, as the recipes of their outputs begin.
STAGES = ("faces", "resize", "cutout")
_BESIDE = (BESIDE, "carried", "caption")  # masks, made or carried along, and captions


@dataclass(frozen=True, slots=True)
class RenamedSource:
    """An output that followed its source. new: where it stands now; None: in the trash."""

    old: Path
    new: Path | None


def follow(
    found: Scan, wanted: Sequence[Output], out: Path, project: Project, verb: str
) -> tuple[RenamedSource, ...]:
    """Let the outputs in `out` follow what became of their sources, with captions and masks, as one
    plan.

    wanted: the images that the verb is to make there. A source that was renamed: its output takes
    the new name, and nothing is tagged again; sources that took each other's names swap their
    outputs. A source that is gone: its output goes to the trash, or it would still be trained on. A
    source that gets another format: so does the old output, and the caption stays for the new one;
    it does so too where another verb made the old output, which is superseded. An output that
    somebody edited stays, and so does one whose source holds another image now: it is made anew,
    and its caption is kept.
    """
    store = project.store

    def known(path: Path) -> Path:  # spelt as the store spells it
        return store.path(store.key(path))

    images = [(known(one.origin), known(one.path), one.source) for one in wanted]
    goals = {source: goal for source, goal, _ in images}
    ids = {goal: image for _, goal, image in images}
    place = known(out)
    own = _outputs(known(found.folder), place, store, f"{verb}-")
    scanned = {known(record.path) for record in found.records}
    leaving = _leaving(own, ids, scanned, store.is_ours)
    superseded = _superseded(place, set(ids), store, verb)
    if not leaving and not superseded:
        return ()
    trash = project.root / PROJECT / "trash" / f"{verb}-{project.journal.next_id()}"
    origins = {goal: origin for origin, goal, _ in images}
    taken = {goal for _, goal in leaving}
    beside = [output for kind in _BESIDE for output in store.outputs(kind)]
    going_along = {output.path: output for output in beside if store.is_ours(output.path)}
    ops: list[Move] = []
    moved: list[Output] = []
    followed: list[RenamedSource] = []
    for output, goal in leaving:
        old, thrown = output.path, trash / output.path.relative_to(project.root)
        new = goal if goal is not None and goal.suffix == old.suffix else None
        heir = goals.get(output.origin)
        if (
            goal is None
            and heir is not None
            and heir.with_suffix("") == old.with_suffix("")
            and heir not in taken
        ):
            goal = heir  # another image in another format, under the same name: it has the caption
        with_it = _with_it(old, goal or thrown)
        ops += [Move(old, new or thrown), *with_it]
        moved.append(
            replace(output, path=new or thrown, origin=origins.get(new or thrown, output.origin))
        )
        moved += [
            replace(going_along[move.src], path=move.dst)
            for move in with_it
            if move.src in going_along
        ]
        followed.append(RenamedSource(old, new))
    gone = {op.src for op in ops}
    for output in superseded:
        if output.path not in gone:
            thrown = trash / output.path.relative_to(project.root)
            ops.append(Move(output.path, thrown))
            moved.append(replace(output, path=thrown))
    title = (
        f"follows {display(found.folder.name)}: {len(leaving) + len(superseded)} renamed or removed"
    )
    project.apply(Plan(tuple(ops)), verb, title, outputs=moved)
    if not project.context.dry_run:
        store.put_finished(moved)
    return tuple(followed)


def _superseded(out: Path, wanted: set[Path], store: Store, verb: str) -> list[Output]:
    """Return what another verb made in `out` under the names of images that are wanted now:
    images and masks.

    An image of another format would share its caption with the new one; a mask would mask what it
    does not fit.
    """
    inside, stems = f"{out}{os.sep}", {path.with_suffix("") for path in wanted}
    found = []
    for kind in STAGES:
        for output in store.outputs(f"{kind}-") if kind != verb else ():
            path = output.path
            if (
                path not in wanted
                and path.with_suffix("") in stems
                and str(path).startswith(inside)
            ):
                found.append(output)
        for output in store.outputs(f"{BESIDE} {kind}") if kind != verb else ():
            image = output.path.parent.parent / output.path.stem
            if image in stems and str(image).startswith(inside):
                found.append(output)
    return [output for output in found if output.path.exists() and store.is_ours(output.path)]


def _with_it(old: Path, new: Path) -> list[Move]:
    """Return the moves of an output's caption and mask to where those of `new` stand."""
    moves = []
    for path in companions(old.parent, [old])[old]:
        place = new.parent / MASKS if path.parent.name == MASKS else new.parent
        moves.append(Move(path, place / f"{new.stem}{path.suffix}"))
    return [move for move in moves if move.src != move.dst]


def _outputs(folder: Path, out: Path, store: Store, kind: str) -> list[Output]:
    """Return the outputs of a kind in `out` that were made of images of the folder."""
    inside, source, trash = (f"{place}{os.sep}" for place in (out, folder, store.root / PROJECT))
    return [
        output
        for output in store.outputs(kind)
        if str(output.path).startswith(inside)
        and str(output.origin).startswith(source)
        and not str(output.path).startswith(trash)
    ]


def _leaving(
    outputs: Sequence[Output],
    ids: Mapping[Path, str],
    scanned: set[Path],
    is_ours: Callable[[Path], bool],
) -> list[tuple[Output, Path | None]]:
    """Decide which outputs leave their place, and for which other one (None: the trash).

    ids: the image that each place shall hold. scanned: the sources that are there and can be
    read. is_ours: whether nobody touched an output since it was made.
    """
    at_home = {output.path for output in outputs if ids.get(output.path) == output.source}
    astray = [o for o in outputs if o.path not in at_home and o.path.exists() and is_ours(o.path)]
    lost = {output.path for output in astray}
    free: dict[str, Path] = {}
    for place, image in ids.items():
        if place not in at_home and (place in lost or not os.path.lexists(place)):
            free.setdefault(image, place)
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
