"""Carrying: captions and masks that go with images to the folder of their outputs, as they are or
reworded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.captions.caption import file_text, read_caption
from datasetkit.captions.diffs import CaptionChange
from datasetkit.core.errors import InputError
from datasetkit.core.files import (
    MASKS,
    caption_path,
    companions,
    mask_path,
    reading,
    sweep,
    write_atomic,
)
from datasetkit.core.records import Caption, Failed, ImageRecord, RunReport
from datasetkit.project.journal import OpenEntry
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import Project
from datasetkit.project.store import Output, Store, caption_hash


def carry(
    records: Sequence[ImageRecord], targets: Mapping[Path, Path], store: Store
) -> list[tuple[Path, Path]]:
    """Return (source, target) of the captions and masks that go with the images and are not there
    yet.

    What a killed run copied and could not note any more counts as not there; one that was edited
    since stays as it is.
    """
    by_place: dict[Path, list[Path]] = {}
    for record in records:
        by_place.setdefault(record.path.parent, []).append(record.path)
    goals: dict[Path, Path] = {}
    for place, images in by_place.items():
        for image, belongings in companions(place, images).items():
            target = targets[image]
            for path in belongings:
                if path.is_symlink():
                    continue
                if path == caption_path(image):
                    goals.setdefault(caption_path(target), path)
                elif path.parent.name == MASKS and path.suffix.lower() == ".png":
                    goals.setdefault(mask_path(target), path)
    return [
        (source, goal)
        for goal, source in goals.items()
        if not os.path.lexists(goal) or _is_left(goal, source, store)
    ]


def _is_left(goal: Path, source: Path, store: Store) -> bool:
    """Tell whether a killed run copied `source` to `goal`, and nobody touched the copy since."""
    if not store.is_pending(goal) or goal.is_symlink():
        return False
    with reading(source):
        return goal.read_bytes() == source.read_bytes()


def copy(carried: Sequence[tuple[Path, Path]], project: Project, recording: OpenEntry) -> None:
    """Copy captions and masks to their images, claimed before: undo then also knows the one that
    a kill cut short.
    """
    outputs = [Output(goal, _taken_as_it_is(source), "carried", source) for source, goal in carried]
    project.store.put_pending(outputs)
    for place in {output.path.parent for output in outputs}:
        recording.make_folder(place)
        sweep(place)
    for output in outputs:
        if not os.path.lexists(output.path):
            with reading(output.origin):
                data = output.origin.read_bytes()
            write_atomic(output.path, data)
        recording.record(output)


def _taken_as_it_is(path: Path) -> str:
    if path.parent.name == MASKS:
        return ""
    try:
        caption = read_caption(path)
    except InputError:
        return ""  # it is carried byte for byte, and said to be no caption where it is read
    return "" if caption is None else _taken(caption, caption)


Reword = Callable[[Caption], Caption]


def _as_it_is(caption: Caption) -> Caption:
    return caption


@dataclass(frozen=True, slots=True)
class CaptionRewrite:
    """A caption that follows what is done to its image. image: the new one; origin: the one
    that it is made of.
    """

    image: Path
    origin: Path
    change: Reword = _as_it_is

    @property
    def caption(self) -> Path:
        return caption_path(self.image)


@dataclass(frozen=True, slots=True)
class CaptionRewriteResult:
    """What was done to captions. changes: those that say something else now."""

    changes: tuple[CaptionChange, ...] = ()
    failed: tuple[Failed, ...] = ()
    entry: int | None = None


def announce(rewordings: Iterable[CaptionRewrite], verb: str, store: Store) -> None:
    """Note which captions are to follow their images: what a kill cuts short is made good by the
    next run.
    """
    standing = [
        one for one in rewordings if _stands(one.caption) or _stands(caption_path(one.origin))
    ]
    store.put_pending(_output(one, verb, store.source(one.caption)) for one in standing)


def due(
    report: RunReport[object], waiting: str, rewordings: Mapping[Path, CaptionRewrite], store: Store
) -> list[CaptionRewrite]:
    """Return the captions that follow: of what was made now, and of what a killed run made before
    them.

    waiting: what a dry run says of an image that would be made.
    """
    now = {done.record.path for done in report.done}
    now |= {skipped.record.path for skipped in report.skipped if skipped.reason == waiting}
    failed = {problem.path for problem in report.failed}
    left = {
        path
        for path, one in rewordings.items()
        if path not in failed and store.is_pending(one.caption)
    }
    return [one for path, one in rewordings.items() if path in now | left]


def edited_at_origin(rewordings: Iterable[CaptionRewrite], store: Store) -> list[CaptionRewrite]:
    """Return the captions that a person wrote or edited beside the original since they were last
    taken from there.

    Only where what stands beside the new image is as dsk left it: what was edited there stays.
    """
    edited: dict[Path, CaptionRewrite] = {}  # by caption: two images of one stem share theirs
    for one in (one for one in rewordings if _stands(one.caption)):
        try:
            origin = read_caption(one.origin)
            there = None if origin is None or not origin.tags else read_caption(one.image)
        except InputError:
            continue  # whoever carries it says so
        if origin is None or there is None or store.is_generated(origin):
            continue
        taken, _, left = (store.source(one.caption) or "").partition(" ")
        as_left = caption_hash(there) == left or store.is_generated(there)
        if as_left and caption_hash(origin) != taken and _changed(one, origin) != there:
            edited.setdefault(one.caption, one)
    return list(edited.values())


def reword(
    rewordings: Sequence[CaptionRewrite],
    verb: str,
    title: str,
    project: Project,
    *,
    anew: Sequence[CaptionRewrite] = (),
) -> CaptionRewriteResult:
    """Let captions follow their images, as one plan: the one that stands beside the new image,
    else its origin's.

    anew: those that are taken from the origin once more, see `edited_at_origin`. A caption that dsk
    wrote counts as written by dsk afterwards too. One that would be left empty stays as it was.
    """
    store = project.store
    changes: list[CaptionChange] = []
    writes: list[WriteText] = []
    generated: list[str] = []
    failed: list[Failed] = []
    again = {one.caption for one in anew}
    all_of_them = (*(one for one in rewordings if one.caption not in again), *anew)
    sources = {one.caption: store.source(one.caption) for one in all_of_them}
    for one in all_of_them:
        try:
            there = read_caption(one.image)
            from_origin = there is None or one.caption in again
            before = read_caption(one.origin) if from_origin else there
        except InputError as error:
            failed.append(Failed(one.image, error.message, error.hint))
            continue
        if before is None or not before.tags:
            continue
        after, shown = _changed(one, before), before if there is None else there
        changes += [CaptionChange(one.image, shown, after)] if after != shown else []
        if after != there:
            writes.append(WriteText(one.caption, file_text(after)))
            generated += [caption_hash(after)] if store.is_generated(before) else []
            source = sources[one.caption]
            sources[one.caption] = (
                _taken(before, after) if from_origin else _reworded(source, before, after)
            )
    written = {op.path for op in writes}
    outputs = [_output(one, verb, sources[one.caption]) for one in all_of_them]
    plan, new = Plan(tuple(writes)), [output for output in outputs if output.path in written]
    entry = project.apply(plan, verb, title, generated=generated, outputs=new)
    if not project.context.dry_run:
        store.put_finished(output for output in outputs if _stands(output.path))
    return CaptionRewriteResult(tuple(changes), tuple(failed), entry)


def _changed(one: CaptionRewrite, caption: Caption) -> Caption:
    after = one.change(caption)
    return after if after.tags else caption


def _output(rewording: CaptionRewrite, verb: str, source: str | None) -> Output:
    return Output(rewording.caption, source or "", f"caption {verb}", rewording.origin)


def _taken(origin: Caption, left: Caption) -> str:
    """Return what the store keeps of a caption that is taken over: what stood at the origin, and
    what it became.
    """
    return f"{caption_hash(origin)} {caption_hash(left)}"


def _reworded(source: str | None, before: Caption, after: Caption) -> str:
    """Return what the store keeps of a caption that is reworded where it stands: as dsk left it, if
    it was so.
    """
    taken, _, left = (source or "").partition(" ")
    return f"{taken} {caption_hash(after)}" if caption_hash(before) == left else source or ""


def _stands(path: Path) -> bool:
    return os.path.lexists(path)
