"""`dsk resize`: images at the size that trainers use, in a new folder or in place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.files import PROJECT, display, find_root, image_id, require_writable
from datasetkit.core.progress import SILENT, Reporter, WarningRecorder
from datasetkit.core.records import Failed, ImageRecord, LazyItems, RunReport, Skipped
from datasetkit.dataset.buckets import BucketRules, select
from datasetkit.images.scan import Scan
from datasetkit.options.images import ResizeOptions
from datasetkit.outputs.folder import (
    kept_suffix,
    prepare_output_folder,
    scan_images,
    unique_name,
)
from datasetkit.outputs.gather import gather
from datasetkit.outputs.plan import plan_outputs
from datasetkit.outputs.produce import StagedOutputLog, produce
from datasetkit.outputs.renamed_sources import RenamedSource
from datasetkit.outputs.sidecars import CaptionRewriteResult
from datasetkit.outputs.spec import OutputSpec
from datasetkit.project.plans import Move, Plan
from datasetkit.project.session import DEFAULT_CONTEXT, Project, RunContext, open_project
from datasetkit.project.store import Output
from datasetkit.stages.base import Stage, bound
from datasetkit.stages.resize import ResizedImage, resize_image, target_size
from datasetkit.verbs.shared.kept_results import NOT_KEPT, KeptReport, RunInputs, inputs_of, is_idle

_SUFFIXES = {"jpg": ".jpg", "png": ".png", "webp": ".webp"}


RESOLUTIONS = (512, 768, 1024)


@dataclass(frozen=True, slots=True)
class BucketFit:
    """How a trainer will use a resized image: by resolution its bucket, and the scale to it (above
    1, the image is enlarged).
    """

    path: Path
    size: tuple[int, int]
    bucket: dict[int, tuple[int, int]]
    scale: dict[int, float]


@dataclass(frozen=True, slots=True)
class EnlargedImages:
    """How many images a trainer would enlarge at a resolution, and the one that it enlarges most.
    None of those is enlarged where its scale is 1 or less.
    """

    resolution: int
    enlarged: int
    images: int
    most: Path
    bucket: tuple[int, int]
    scale: float


@dataclass(frozen=True, slots=True)
class ResizeResult:
    """What resize did: one outcome per image, and where the images are now.

    carried: how many captions and masks were copied along. uses: how a trainer will use each image
    that is there or would be; enlarged: what that means for all of them. followed: the outputs
    whose originals were renamed or removed since the last run. captions: those that were edited at
    the originals since they were copied.
    """

    report: RunReport[ResizedImage]
    out: Path
    carried: int
    entry: int | None
    uses: Sequence[BucketFit]
    followed: tuple[RenamedSource, ...] = ()
    captions: CaptionRewriteResult = field(default_factory=CaptionRewriteResult)
    enlarged: tuple[EnlargedImages, ...] = ()


def resize(
    folder: Path, out: Path | None, options: ResizeOptions, context: RunContext = DEFAULT_CONTEXT
) -> ResizeResult:
    """Shrink every image of `folder` into `out` (default: a sibling `<folder>-<max>`), or in
    place.

    Captions and masks are copied along. A second run redoes only what changed. Raises DatasetError
    without images, PlanConflict where an output would replace a file that dsk did not make.
    """
    if options.in_place and out is not None:
        raise InputError("--in-place writes no other folder", hint="leave OUT away, or --in-place")
    if options.in_place:
        return _resize_in_place(folder, options, context)
    out = prepare_output_folder(
        folder, out, str(options.max), options, context, hint="name another folder, or --in-place"
    )
    inputs = _inputs(folder, out, options, context.reporter) if out.is_dir() else NOT_KEPT
    if (kept := inputs.kept(_KeptResize)) is not None:
        dry_run = replace(context, dry_run=True, reporter=SILENT)
        for warning in kept.warnings:
            context.reporter.warn(warning)
        return kept.result(lambda: _resize(folder, out, options, dry_run, NOT_KEPT))
    return _resize(folder, out, options, context, inputs)


def _resize(
    folder: Path,
    out: Path,
    options: ResizeOptions,
    context: RunContext,
    inputs: RunInputs,
) -> ResizeResult:
    """Make the images that are not up to date."""
    warnings = WarningRecorder(context.reporter)
    context = replace(context, reporter=warnings)
    with open_project(out, context, create_folder=True) as project:
        images = scan_images(folder, project, options)
        targets = output_names(images.folder, images.records, out, options)
        spec = _spec(targets, out, options)
        plan = plan_outputs(images, spec, gather(images, spec, project))
        produced = produce(plan, _stage(options), project, workers=options.workers)
        fits = bucket_fits(_without(images.records, produced.failed), targets, options)
        result = ResizeResult(
            produced.report, out, produced.carried, produced.entry, fits, produced.followed,
            produced.captions, enlarged(fits),
        )  # fmt: skip
        if is_idle(project, produced.entry, changed=_has_changes(result)):
            _KeptResize.keep(result, warnings.warnings, inputs, project)
    return result


def _inputs(folder: Path, out: Path, options: ResizeOptions, reporter: Reporter) -> RunInputs:
    folders = [(folder, options.recursive), (out, True)]
    return inputs_of("resize", find_root(out), folders, (folder, out, options), reporter=reporter)


def _has_changes(result: ResizeResult) -> bool:
    """Tell whether a run did something, or failed to do it."""
    counts, captions = result.report.counts, result.captions
    return bool(
        counts.done or counts.failed or result.followed or result.carried or captions.changes
        or captions.failed or captions.entry
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _KeptResize:
    """What is kept of the result of a run that made nothing."""

    out: Path
    report: KeptReport
    enlarged: tuple[EnlargedImages, ...]
    warnings: tuple[str, ...]

    @classmethod
    def keep(
        cls, result: ResizeResult, warnings: Sequence[str], inputs: RunInputs, project: Project
    ) -> None:
        report = KeptReport.of(result.report)
        if report is not None:
            kept = cls(result.out, report, result.enlarged, tuple(warnings))
            inputs.keep(project.store, kept)

    def result(self, read: Callable[[], ResizeResult]) -> ResizeResult:
        """Return the result. read: reads the images."""
        report: RunReport[ResizedImage] = self.report.report(lambda: read().report.outcomes)
        images = self.enlarged[0].images if self.enlarged else 0
        uses = LazyItems(lambda: read().uses, images)
        return ResizeResult(report, self.out, 0, None, uses, enlarged=self.enlarged)


def _without(records: Sequence[ImageRecord], failed: set[Path]) -> list[ImageRecord]:
    """Leave out the images that failed: they had a header, and no image was made of them."""
    return [record for record in records if record.path not in failed]


def bucket_fits(
    records: Sequence[ImageRecord], targets: dict[Path, Path], options: ResizeOptions
) -> tuple[BucketFit, ...]:
    """Return the bucket and scale of each resized image at 512, 768 and 1024."""
    rules = {resolution: BucketRules.standard(resolution) for resolution in RESOLUTIONS}

    @functools.cache  # many images have one size
    def fit(
        width: int, height: int
    ) -> tuple[tuple[int, int], dict[int, tuple[int, int]], dict[int, float]]:
        size = target_size(width, height, max_side=options.max, mode=options.mode)
        chosen = {resolution: select(rule, *size) for resolution, rule in rules.items()}
        bucket = {resolution: use.bucket for resolution, use in chosen.items()}
        return size, bucket, {r: round(use.scale, 4) for r, use in chosen.items()}

    return tuple(BucketFit(targets[r.path], *fit(r.width, r.height)) for r in records)


def enlarged(uses: Sequence[BucketFit]) -> tuple[EnlargedImages, ...]:
    """Return for each resolution how many images a trainer would enlarge, and the largest
    factor.
    """
    if not uses:
        return ()
    rows = []
    for resolution in uses[0].scale:
        most = max(uses, key=lambda use: use.scale[resolution])
        larger = sum(use.scale[resolution] > 1 for use in uses)
        bucket, scale = most.bucket[resolution], most.scale[resolution]
        rows.append(EnlargedImages(resolution, larger, len(uses), most.path, bucket, scale))
    return tuple(rows)


def output_names(
    folder: Path, records: Sequence[ImageRecord], out: Path, options: ResizeOptions
) -> dict[Path, Path]:
    """Return each image's output path: the same path below `out`, with the suffix of the format.

    Of images with one name (`a.jpg` and `a.png`), the later ones in input order are named `a_2`,
    `a_3`.
    """
    taken: set[str] = set()
    targets: dict[Path, Path] = {}
    for record in records:
        path = out / record.path.relative_to(folder)
        suffix = _SUFFIXES.get(options.format) or kept_suffix(path)
        if (
            options.alpha == "keep"
            and suffix in (".jpg", ".jpeg")
            and path.suffix.lower() not in (".jpg", ".jpeg")
        ):
            suffix = ".png"
        targets[record.path] = unique_name(path.with_suffix(suffix), taken)
    return targets


def _recipe(options: ResizeOptions) -> str:
    """Name what makes an output: the options that change its bytes, and the version of the code
    that makes it.
    """
    return f"resize-3 {options.max} {options.mode} {options.quality} {options.alpha}"


def _spec(targets: dict[Path, Path], out: Path, options: ResizeOptions) -> OutputSpec:
    files = {source: (target,) for source, target in targets.items()}
    return OutputSpec(out, _recipe(options), files, "would be resized")


def _stage(options: ResizeOptions) -> Callable[[], Stage[ResizedImage]]:
    return partial(bound, resize_image, options)


def _resize_in_place(folder: Path, options: ResizeOptions, context: RunContext) -> ResizeResult:
    """Make the new images in `.dsk/`, then swap them in with one plan that keeps the originals."""
    with open_project(folder, context) as project:
        if not context.dry_run:
            require_writable(folder)
        images = scan_images(folder, project, options)
        recipe = _recipe(options)
        outdated = tuple(
            r for r in images.records if not project.store.is_current_in_place(r.path, recipe)
        )
        # A folder for each command: undo puts what was swapped in back here. The work of a killed
        # run is taken up again.
        number = str(project.journal.next_id())
        stage_folder = project.root / PROJECT / "stage" / number
        staged = output_names(folder, outdated, stage_folder, options)
        spec = replace(_spec(staged, stage_folder, options), staged=True)
        todo = Scan(folder, outdated, images.failed, images.left_out)
        plan = plan_outputs(todo, spec, gather(todo, spec, project))
        log = StagedOutputLog(project)
        report = produce(plan, _stage(options), project, workers=options.workers, log=log).report
        originals = project.root / PROJECT / "originals" / number
        swap = _swap(report, staged, folder, originals, recipe) if not context.dry_run else _Swap()
        for path in swap.unused:
            path.unlink(missing_ok=True)
        title = f"{display(folder.resolve().name)} in place"
        entry = project.apply(Plan(swap.moves), "resize", title, outputs=swap.swapped)
        project.store.put_finished(swap.settled)
    current = tuple(Skipped(r, "up to date") for r in images.records if r not in outdated)
    failed = {failure.path for failure in report.failed}
    paths = {record.path: record.path for record in images.records}
    fits = bucket_fits(_without(images.records, failed), paths, options)
    return ResizeResult(
        RunReport("resize", (*report.outcomes, *current), images.left_out),
        folder,
        0,
        entry,
        fits,
        enlarged=enlarged(fits),
    )


@dataclass(frozen=True, slots=True)
class _Swap:
    """How new images take the place of the originals. unused: new ones that are byte for byte the
    original. swapped: what the store lists of the others, settled: of all.
    """

    moves: tuple[Move, ...] = ()
    unused: tuple[Path, ...] = ()
    swapped: tuple[Output, ...] = ()
    settled: tuple[Output, ...] = ()


def _swap(
    report: RunReport[ResizedImage],
    staged: Mapping[Path, Path],
    folder: Path,
    originals: Path,
    recipe: str,
) -> _Swap:
    moves: list[Move] = []
    unused: list[Path] = []
    swapped: list[Output] = []
    settled: list[Output] = []
    for outcome in report.outcomes:
        if isinstance(outcome, Failed):
            continue
        source, new = outcome.record.path, staged[outcome.record.path]
        target = source.with_suffix(new.suffix)
        output = Output(target, outcome.record.id, recipe, source)
        settled.append(output)
        if target == source and image_id(new) == outcome.record.id:
            unused.append(new)
        else:
            moves += [Move(source, originals / source.relative_to(folder)), Move(new, target)]
            swapped.append(output)
    return _Swap(tuple(moves), tuple(unused), tuple(swapped), tuple(settled))
