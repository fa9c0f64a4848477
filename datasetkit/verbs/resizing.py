"""`dsk resize`: pictures at the size that trainers use, in a new folder or in place."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datasetkit.core.buckets import BucketRules, select
from datasetkit.core.config import ResizeOptions
from datasetkit.core.errors import InputError, PlanConflict
from datasetkit.core.files import (
    MASKS,
    PROJECT,
    TEMP_PREFIX,
    caption_path,
    companions,
    display,
    nearest_folder,
    reading,
    refuse_link,
    require_writable,
    sweep,
    write_atomic,
    writing,
)
from datasetkit.core.plans import Move, Plan
from datasetkit.core.records import Done, Failed, ImageRecord, Outcome, RunReport, Skipped
from datasetkit.core.store import Output
from datasetkit.executors import local
from datasetkit.scan import Scan, file_id, scan
from datasetkit.stages.resize import Resized, ResizeStage, target_size
from datasetkit.verbs.following import Followed, follow
from datasetkit.verbs.project import JUST_DO_IT, How, Project, finish_interrupted, open_project
from datasetkit.verbs.sets import require_pictures

_SUFFIXES = {"jpg": ".jpg", "png": ".png", "webp": ".webp"}
# What trainers and every viewer read is kept; the other formats are written as PNG, which loses nothing.
_KEPT = frozenset({".jpg", ".jpeg", ".png", ".webp"})


RESOLUTIONS = (512, 768, 1024)


@dataclass(frozen=True, slots=True)
class TrainerUse:
    """What a trainer will make of a resized picture: for each resolution its bucket, and the scale to it (over 1: the
    picture is enlarged)."""

    path: Path
    size: tuple[int, int]
    bucket: dict[int, tuple[int, int]]
    scale: dict[int, float]


@dataclass(frozen=True, slots=True)
class ResizeResult:
    """What resize did: one outcome a picture, where the pictures are now, and what else was carried along.

    uses: what a trainer will make of each picture that is there or would be. followed: the outputs whose pictures were
    renamed or removed since the last run.
    """

    report: RunReport[Resized]
    out: Path
    carried: int
    entry: int | None
    uses: tuple[TrainerUse, ...]
    followed: tuple[Followed, ...] = ()


def resize(folder: Path, out: Path | None, options: ResizeOptions, how: How = JUST_DO_IT) -> ResizeResult:
    """Shrink every picture of `folder` into `out` (default: a sibling `<folder>-<max>`), or in place.

    Captions and masks are carried along. A second run redoes only what changed.
    Raises DatasetError without pictures, PlanConflict where an output would replace a file that dsk did not make.
    """
    if options.in_place and out is not None:
        raise InputError("--in-place writes no other folder", hint="leave OUT away, or --in-place")
    if options.in_place:
        return _resize_in_place(folder, options, how)
    out = out or folder.absolute().with_name(f"{folder.absolute().name}-{options.max}")
    if out.resolve() == folder.resolve():
        raise InputError(f"{display(out)} is the input folder itself", hint="name another folder, or --in-place")
    refuse_link(out)
    finish_interrupted(folder, how)
    if not how.dry_run:
        require_pictures(folder, recursive=options.recursive, follow_links=options.follow_links)
        require_writable(nearest_folder(out))
    with open_project(out, how) as project:
        found = _scan(folder, project, options)
        targets = output_names(found.folder, found.records, out, options)
        followed = follow(found, targets, out, project)
        with project.journal.recording("resize", display(found.folder.name)) as recording:
            report = _run(found, targets, project, options, recording)
            carried = carry(found.records, targets)
            for place in {goal.parent for _, goal in carried} if not how.dry_run else ():
                recording.folder(place)
                sweep(place)
            for source, goal in carried if not how.dry_run else ():
                with reading(source):
                    data = source.read_bytes()
                write_atomic(goal, data)
                recording.made(Output(goal, "", "carried", source))
        seen = uses(_without(found.records, report.failed), targets, options)
        return ResizeResult(report, out, len(carried), recording.entry, seen, followed)


def _without(records: Sequence[ImageRecord], failed: Sequence[Failed]) -> list[ImageRecord]:
    """Leave out the pictures that failed: they had a header, and no picture was made of them."""
    paths = {problem.path for problem in failed}
    return [record for record in records if record.path not in paths]


def uses(records: Sequence[ImageRecord], targets: dict[Path, Path], options: ResizeOptions) -> tuple[TrainerUse, ...]:
    """Say, for each resized picture, which bucket and scale the trainer will use at 512, 768 and 1024."""
    rules = {resolution: BucketRules.standard(resolution) for resolution in RESOLUTIONS}
    found = []
    for record in records:
        size = target_size(record.width, record.height, max_side=options.max, mode=options.mode)
        chosen = {resolution: select(rule, *size) for resolution, rule in rules.items()}
        bucket = {resolution: use.bucket for resolution, use in chosen.items()}
        scale = {resolution: round(use.scale, 4) for resolution, use in chosen.items()}
        found.append(TrainerUse(targets[record.path], size, bucket, scale))
    return tuple(found)


class Maker(Protocol):
    """Where outputs are noted as they are made: in the history, or only in the store for what is swapped in later."""

    def folder(self, path: Path) -> None: ...

    def made(self, output: Output) -> None: ...


@dataclass(frozen=True, slots=True)
class _Staging:
    """Notes outputs that are about to be swapped in; the swap is what the history shows."""

    project: Project

    def folder(self, path: Path) -> None:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)

    def made(self, output: Output) -> None:
        self.project.store.settle([output])


def _scan(folder: Path, project: Project, options: ResizeOptions) -> Scan:
    return scan(
        folder,
        project.store,
        recursive=options.recursive,
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        with_ids=True,
        captions=False,
        reporter=project.how.reporter,
    )


def output_names(folder: Path, records: Sequence[ImageRecord], out: Path, options: ResizeOptions) -> dict[Path, Path]:
    """Return each picture's output path: its own place below `out`, never one name twice.

    Two pictures that would get one name (`a.png` and `a.gif` as JPEG) are told apart by `a_2`, `a_3`, in input order.
    """
    taken: set[Path] = set()
    targets: dict[Path, Path] = {}
    for record in records:
        place = out / record.path.relative_to(folder)
        suffix = _SUFFIXES.get(options.format) or (place.suffix.lower() if place.suffix.lower() in _KEPT else ".png")
        if options.alpha == "keep" and suffix in (".jpg", ".jpeg") and place.suffix.lower() not in (".jpg", ".jpeg"):
            suffix = ".png"
        target, n = place.with_suffix(suffix), 1
        while target in taken:
            n += 1
            target = place.with_name(f"{place.stem}_{n}{suffix}")
        taken.add(target)
        targets[record.path] = target
    return targets


def _recipe(options: ResizeOptions) -> str:
    """Name what makes an output: the options that change its bytes, and the version of the code that makes it."""
    return f"resize-3 {options.max} {options.mode} {options.quality} {options.alpha}"


def _run(
    found: Scan,
    targets: dict[Path, Path],
    project: Project,
    options: ResizeOptions,
    maker: Maker,
) -> RunReport[Resized]:
    """Make the outputs that are not up to date; return the outcomes in input order, failures of the scan last."""
    store, recipe = project.store, _recipe(options)
    current = {r.path for r in found.records if store.is_current(targets[r.path], r.id, recipe)}
    todo = [r for r in found.records if r.path not in current]
    unknown = [r for r in todo if os.path.lexists(targets[r.path]) and not store.is_ours(targets[r.path])]
    if unknown:
        _require_same(unknown, targets, project, options)
        current |= {r.path for r in unknown}
        todo = [r for r in todo if r.path not in current]
        if not project.how.dry_run:
            store.settle([Output(targets[r.path], r.id, recipe, r.path) for r in unknown])
    done: dict[Path, Outcome[Resized]] = {}
    if todo and not project.how.dry_run:
        for place in {targets[r.path].parent for r in todo}:
            maker.folder(place)
            require_writable(place)
            sweep(place)
        outputs = {r.path: Output(targets[r.path], r.id, recipe, r.path) for r in todo}
        store.claim(outputs.values())
        stage = ResizeStage.of(options, {r.path: targets[r.path] for r in todo})
        for outcome in local.run(stage, todo, workers=options.workers, reporter=project.how.reporter):
            if isinstance(outcome, Failed):
                done[outcome.path] = outcome
                continue
            done[outcome.record.path] = outcome
            if isinstance(outcome, Done):
                maker.made(outputs[outcome.record.path])
    outcomes: list[Outcome[Resized]] = [
        Skipped(r, "up to date") if r.path in current else done.get(r.path, Skipped(r, "would be resized"))
        for r in found.records
    ]
    return RunReport("resize", (*outcomes, *found.failed))


def _require_same(
    unknown: Sequence[ImageRecord], targets: dict[Path, Path], project: Project, options: ResizeOptions
) -> None:
    """Raise PlanConflict unless every unknown file is, byte for byte, what would be made in its place.

    Then dsk made it, and its `.dsk/` was deleted since, which may cost time but nothing else.
    """
    with tempfile.TemporaryDirectory(prefix=TEMP_PREFIX) as folder:
        trial = {r.path: Path(folder) / f"{n}{targets[r.path].suffix}" for n, r in enumerate(unknown)}
        outcomes = local.run(
            ResizeStage.of(options, trial), unknown, workers=options.workers, reporter=project.how.reporter
        )
        with contextlib.closing(outcomes):
            for record, outcome in zip(unknown, outcomes, strict=True):
                there, made = targets[record.path], trial[record.path]
                if isinstance(outcome, Failed) or there.is_symlink() or there.read_bytes() != made.read_bytes():
                    raise PlanConflict(
                        f"{display(there)} was not made by dsk, or was edited since",
                        hint="move such files away, or name another output folder",
                    )
                made.unlink()


def carry(records: Sequence[ImageRecord], targets: dict[Path, Path]) -> list[tuple[Path, Path]]:
    """Return (source, target) of the captions and masks that go with the pictures and are not there yet."""
    by_place: dict[Path, list[Path]] = {}
    for record in records:
        by_place.setdefault(record.path.parent, []).append(record.path)
    goals: dict[Path, Path] = {}
    for place, pictures in by_place.items():
        for picture, belongings in companions(place, pictures).items():
            target = targets[picture]
            for path in belongings:
                if path.is_symlink():
                    continue
                if path == caption_path(picture):
                    goals.setdefault(caption_path(target), path)
                elif path.parent.name == MASKS and path.suffix.lower() == ".png":
                    goals.setdefault(target.parent / MASKS / f"{target.stem}.png", path)
    return [(source, goal) for goal, source in goals.items() if not os.path.lexists(goal)]


def _resize_in_place(folder: Path, options: ResizeOptions, how: How) -> ResizeResult:
    """Make the new pictures in `.dsk/`, then swap them in with one plan that keeps the originals."""
    with open_project(folder, how) as project:
        if not how.dry_run:
            require_writable(folder)
        found = _scan(folder, project, options)
        recipe = _recipe(options)
        fresh = tuple(r for r in found.records if not project.store.is_current_in_place(r.path, recipe))

        # Of its own for each command: undo puts what was swapped in back here. A killed run's work is taken up again.
        stage_folder = project.root / PROJECT / "stage" / str(project.journal.next_id())
        staged = output_names(folder, fresh, stage_folder, options)
        report = _run(Scan(folder, fresh, found.failed), staged, project, options, _Staging(project))
        keep = project.root / PROJECT / "originals" / str(project.journal.next_id())
        ops: list[Move] = []
        settled: list[Output] = []
        swapped: list[Output] = []
        for outcome in report.outcomes:
            if not isinstance(outcome, (Done, Skipped)) or how.dry_run:
                continue
            source, new = outcome.record.path, staged[outcome.record.path]
            goal = source.with_suffix(new.suffix)
            settled.append(Output(goal, outcome.record.id, recipe, source))
            if file_id(new) != outcome.record.id or goal != source:
                ops += [Move(source, keep / source.relative_to(folder)), Move(new, goal)]
                swapped.append(settled[-1])
            else:
                new.unlink(missing_ok=True)
        entry = project.apply(Plan(tuple(ops)), "resize", f"{display(folder.name)} in place", outputs=swapped)
        project.store.settle(settled)
    same = tuple(Skipped(r, "up to date") for r in found.records if r not in fresh)
    places = {r.path: r.path for r in found.records}
    return ResizeResult(
        RunReport("resize", (*report.outcomes, *same)),
        folder,
        0,
        entry,
        uses(_without(found.records, report.failed), places, options),
    )
