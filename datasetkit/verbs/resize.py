"""`dsk resize`: images at the size that trainers use, in a new folder or in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.files import PROJECT, display, image_id, require_writable
from datasetkit.core.records import Done, Failed, ImageRecord, RunReport, Skipped
from datasetkit.dataset.buckets import BucketRules, select
from datasetkit.images.scan import Scan
from datasetkit.options.images import ResizeOptions
from datasetkit.outputs.produce import (
    OutputSpec,
    StagedOutputLog,
    beside,
    kept_suffix,
    look,
    make,
)
from datasetkit.outputs.renamed_sources import RenamedSource, follow
from datasetkit.outputs.sidecars import (
    CaptionRewrite,
    CaptionRewriteResult,
    carry,
    copy,
    edited_at_origin,
    reword,
)
from datasetkit.project.plans import Move, Plan
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.project.store import Output
from datasetkit.stages.base import Stage
from datasetkit.stages.resize import ResizedImage, resize_image, target_size

_SUFFIXES = {"jpg": ".jpg", "png": ".png", "webp": ".webp"}


RESOLUTIONS = (512, 768, 1024)


@dataclass(frozen=True, slots=True)
class BucketFit:
    """What a trainer will make of a resized image: for each resolution its bucket, and the scale
    to it (over 1: the image is enlarged).
    """

    path: Path
    size: tuple[int, int]
    bucket: dict[int, tuple[int, int]]
    scale: dict[int, float]


@dataclass(frozen=True, slots=True)
class ResizeResult:
    """What resize did: one outcome an image, where the images are now, and what else was carried
    along.

    uses: what a trainer will make of each image that is there or would be. followed: the outputs
    whose images were renamed or removed since the last run. captions: those edited beside the
    originals since they were carried along.
    """

    report: RunReport[ResizedImage]
    out: Path
    carried: int
    entry: int | None
    uses: tuple[BucketFit, ...]
    followed: tuple[RenamedSource, ...] = ()
    captions: CaptionRewriteResult = field(default_factory=CaptionRewriteResult)


def resize(
    folder: Path, out: Path | None, options: ResizeOptions, context: RunContext = DEFAULT_CONTEXT
) -> ResizeResult:
    """Shrink every image of `folder` into `out` (default: a sibling `<folder>-<max>`), or in
    place.

    Captions and masks are carried along. A second run redoes only what changed. Raises DatasetError
    without images, PlanConflict where an output would replace a file that dsk did not make.
    """
    if options.in_place and out is not None:
        raise InputError("--in-place writes no other folder", hint="leave OUT away, or --in-place")
    if options.in_place:
        return _resize_in_place(folder, options, context)
    out = beside(
        folder, out, str(options.max), options, context, hint="name another folder, or --in-place"
    )
    with open_project(out, context) as project:
        found = look(folder, project, options)
        targets = output_names(found.folder, found.records, out, options)
        making = _making(targets, out, options)
        followed = follow(found, making.images(found.records), out, project, "resize")
        with project.journal.recording("resize", display(found.folder.name)) as recording:
            report = make(found, making, project, recording)
            there = _without(found.records, report.failed)
            carried = carry(there, targets, project.store)
            if not context.dry_run:
                copy(carried, project, recording)
        edited = edited_at_origin(
            (CaptionRewrite(targets[r.path], r.path) for r in there), project.store
        )
        captions = reword(
            (), "resize", f"captions of {display(found.folder.name)}", project, anew=edited
        )
        seen = uses(there, targets, options)
        return ResizeResult(report, out, len(carried), recording.entry, seen, followed, captions)


def _without(records: Sequence[ImageRecord], failed: Sequence[Failed]) -> list[ImageRecord]:
    """Leave out the images that failed: they had a header, and no image was made of them."""
    paths = {problem.path for problem in failed}
    return [record for record in records if record.path not in paths]


def uses(
    records: Sequence[ImageRecord], targets: dict[Path, Path], options: ResizeOptions
) -> tuple[BucketFit, ...]:
    """Say, for each resized image, which bucket and scale the trainer will use at 512, 768 and
    1024.
    """
    rules = {resolution: BucketRules.standard(resolution) for resolution in RESOLUTIONS}
    found = []
    for record in records:
        size = target_size(record.width, record.height, max_side=options.max, mode=options.mode)
        chosen = {resolution: select(rule, *size) for resolution, rule in rules.items()}
        bucket = {resolution: use.bucket for resolution, use in chosen.items()}
        scale = {resolution: round(use.scale, 4) for resolution, use in chosen.items()}
        found.append(BucketFit(targets[record.path], size, bucket, scale))
    return tuple(found)


def output_names(
    folder: Path, records: Sequence[ImageRecord], out: Path, options: ResizeOptions
) -> dict[Path, Path]:
    """Return each image's output path: its own place below `out`, never one name twice.

    Two images that would get one name (`a.png` and `a.gif` as JPEG) are told apart by `a_2`,
    `a_3`, in input order.
    """
    taken: set[Path] = set()
    targets: dict[Path, Path] = {}
    for record in records:
        place = out / record.path.relative_to(folder)
        suffix = _SUFFIXES.get(options.format) or kept_suffix(place)
        if (
            options.alpha == "keep"
            and suffix in (".jpg", ".jpeg")
            and place.suffix.lower() not in (".jpg", ".jpeg")
        ):
            suffix = ".png"
        target, n = place.with_suffix(suffix), 1
        while target in taken:
            n += 1
            target = place.with_name(f"{place.stem}_{n}{suffix}")
        taken.add(target)
        targets[record.path] = target
    return targets


def _recipe(options: ResizeOptions) -> str:
    """Name what makes an output: the options that change its bytes, and the version of the code
    that makes it.
    """
    return f"resize-3 {options.max} {options.mode} {options.quality} {options.alpha}"


def _making(
    targets: dict[Path, Path], out: Path, options: ResizeOptions
) -> OutputSpec[ResizedImage]:
    def stage() -> Stage[ResizedImage]:
        return partial(resize_image, options=options)

    wanted = {source: (target,) for source, target in targets.items()}
    return OutputSpec(out, _recipe(options), wanted, stage, "would be resized", options.workers)


def _resize_in_place(folder: Path, options: ResizeOptions, context: RunContext) -> ResizeResult:
    """Make the new images in `.dsk/`, then swap them in with one plan that keeps the
    originals.
    """
    with open_project(folder, context) as project:
        if not context.dry_run:
            require_writable(folder)
        found = look(folder, project, options)
        recipe = _recipe(options)
        fresh = tuple(
            r for r in found.records if not project.store.is_current_in_place(r.path, recipe)
        )

        # Of its own for each command: undo puts what was swapped in back here. A killed run's work
        # is taken up again.
        stage_folder = project.root / PROJECT / "stage" / str(project.journal.next_id())
        staged = output_names(folder, fresh, stage_folder, options)
        making = _making(staged, stage_folder, options)
        report = make(Scan(folder, fresh, found.failed), making, project, StagedOutputLog(project))
        keep = project.root / PROJECT / "originals" / str(project.journal.next_id())
        ops: list[Move] = []
        settled: list[Output] = []
        swapped: list[Output] = []
        for outcome in report.outcomes:
            if not isinstance(outcome, (Done, Skipped)) or context.dry_run:
                continue
            source, new = outcome.record.path, staged[outcome.record.path]
            goal = source.with_suffix(new.suffix)
            settled.append(Output(goal, outcome.record.id, recipe, source))
            if image_id(new) != outcome.record.id or goal != source:
                ops += [Move(source, keep / source.relative_to(folder)), Move(new, goal)]
                swapped.append(settled[-1])
            else:
                new.unlink(missing_ok=True)
        entry = project.apply(
            Plan(tuple(ops)), "resize", f"{display(folder.name)} in place", outputs=swapped
        )
        project.store.put_finished(settled)
    same = tuple(Skipped(r, "up to date") for r in found.records if r not in fresh)
    places = {r.path: r.path for r in found.records}
    return ResizeResult(
        RunReport("resize", (*report.outcomes, *same)),
        folder,
        0,
        entry,
        uses(_without(found.records, report.failed), places, options),
    )
