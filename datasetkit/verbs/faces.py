"""`dsk faces`: faces listed, cut out for a face LoRA, or erased, with lines of text, for a
garment's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from datasetkit.captions import vocabulary
from datasetkit.captions.rules import RuleSet, apply, build, load_groups
from datasetkit.core.files import MASKS, caption_path, display, existing_mask, mask_path
from datasetkit.core.records import Caption, Failed, ImageRecord, Outcome, RunReport, Skipped
from datasetkit.images.scan import Scan, require_images
from datasetkit.options.images import FacesOptions
from datasetkit.outputs.produce import OutputSpec, Targets, beside, kept_suffix, look, make
from datasetkit.outputs.renamed_sources import RenamedSource, follow
from datasetkit.outputs.sidecars import (
    CaptionRewrite,
    CaptionRewriteResult,
    announce,
    carry,
    copy,
    due,
    edited_at_origin,
    reword,
)
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    finish_interrupted,
    open_project,
)
from datasetkit.stages.base import Stage
from datasetkit.stages.faces import (
    CroppedFaces,
    ErasedImage,
    FaceBoxes,
    crop_image,
    erase_image,
    square,
)
from datasetkit.verbs.shared.detections import Detections, see
from datasetkit.verbs.shared.face_report import NO_FACE, ImageFaces, draw_sheet, found_in
from datasetkit.vision import faces

T = TypeVar("T")
# What captions say of faces, and of writing in the image, that is erased.
FACE_TAGS = ("@face",)
TEXT_TAGS = (
    "signature", "watermark", "sample watermark", "artist name", "character name", "copyright name",
    "copyright notice", "company name", "web address", "dated", "timestamp", "page number",
    "*username", "*logo", "* text", "speech bubble", "subtitled", "lyrics",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FacesListResult:
    """What was found in a folder. sheet: the contact sheet, where one was drawn."""

    folder: Path
    images: tuple[ImageFaces, ...]
    failed: tuple[Failed, ...]
    sheet: Path | None = None
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class FacesResult(Generic[T]):
    """What crop or erase did: one outcome an image, where the new images are, how captions
    followed.

    small: the images of which a face was left out since its crop would be too small. carried:
    captions and masks that went along as they are. sheet: the contact sheet, where one was drawn.
    """

    report: RunReport[T]
    out: Path
    images: tuple[ImageFaces, ...]
    captions: CaptionRewriteResult
    entry: int | None
    carried: int = 0
    small: tuple[Path, ...] = ()
    followed: tuple[RenamedSource, ...] = ()
    sheet: Path | None = None


def require_detector(options: FacesOptions) -> None:
    """Raise ConfigError for a detector that there is not, before any work is spent."""
    faces.require_detector(options.detector)


def list_faces(
    folder: Path, options: FacesOptions, context: RunContext = DEFAULT_CONTEXT
) -> FacesListResult:
    """Find the faces (and with `text` the lines of text) of every image of a folder; nothing else
    is done.

    Raises DatasetError without images, ConfigError, MissingExtra and ModelFileError for the
    detectors.
    """
    require_detector(options)
    finish_interrupted(folder, context)
    require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    with open_project(folder, context) as project:
        found = look(folder, project, options)
        seen = see(found.records, options, project)
        images = found_in(found.records, seen)
        sheet, entry = draw_sheet(images, options, project)
    return FacesListResult(folder, images, (*seen.failed, *found.failed), sheet, entry)


def crop_faces(
    folder: Path, out: Path | None, options: FacesOptions, context: RunContext = DEFAULT_CONTEXT
) -> FacesResult[CroppedFaces]:
    """Cut a square out around every face into `out` (default: a sibling `<folder>-faces`), one file
    a face.

    A crop is named after its image (`a.jpg`, `a_2.jpg`), and has a copy of its caption. Images
    without a face are left out and listed. A second run redoes only what changed. Raises as
    `resize` does.
    """
    with _looking(folder, out, "faces", options, context) as looked:
        chosen, small = _large_enough(looked.found.records, looked.seen, options)
        targets = _crop_names(looked.found.records, chosen, looked)

        def stage() -> Stage[CroppedFaces]:
            return partial(crop_image, boxes=chosen, options=options)

        making = OutputSpec(
            looked.out,
            _recipe("crop", options),
            targets,
            stage,
            "would be cropped",
            options.workers,
        )
        return _made(looked, making, options, small=small)


def erase_faces(
    folder: Path, out: Path | None, options: FacesOptions, context: RunContext = DEFAULT_CONTEXT
) -> FacesResult[ErasedImage]:
    """Fill every face, and with `text` every line of text, into `out` (default: a sibling
    `<folder>-erased`).

    Every image is written, its mask where something was erased; its caption loses the words for
    what is gone. A second run redoes only what changed. Raises as `resize` does.
    """
    with _looking(folder, out, "erased", options, context) as looked:
        places = looked.seen.places
        records = [r for r in looked.found.records if r.path in places]
        targets = {
            record.path: (target, mask_path(target))
            if _anything(places[record.path])
            else (target,)
            for record, target in zip(
                records, _names([(r, 1) for r in records], looked), strict=True
            )
        }

        def stage() -> Stage[ErasedImage]:
            return partial(erase_image, boxes=places, options=options)

        making = OutputSpec(
            looked.out,
            _recipe("erase", options),
            targets,
            stage,
            "would be written",
            options.workers,
        )
        rules = {source: _rules(places[source]) for source in targets if _anything(places[source])}
        return _made(looked, making, options, rules=rules)


@dataclass(frozen=True, slots=True)
class _FaceScan:
    """A folder that was looked at, and where its new images go."""

    project: Project
    found: Scan
    seen: Detections
    out: Path


@contextmanager
def _looking(
    folder: Path, out: Path | None, suffix: str, options: FacesOptions, context: RunContext
) -> Iterator[_FaceScan]:
    """Open the project of `out`, and find what there is in the images of the folder."""
    require_detector(options)
    out = beside(folder, out, suffix, options, context)
    with open_project(out, context) as project:
        found = look(folder, project, options)
        yield _FaceScan(project, found, see(found.records, options, project), out)


def _recipe(what: str, options: FacesOptions) -> str:
    """Name what makes an output: the options that change its bytes, and the version of the code
    that makes it.
    """
    looked = f"{options.detector} {options.threshold} {options.most} {options.margin}"
    own = f"{options.size} {options.min_size}" if what == "crop" else f"{options.fill}"
    text = f" {options.text_threshold}" if options.text and what == "erase" else ""
    return f"faces-1 {what} {looked} {own}{text}"


def _made(
    looked: _FaceScan,
    making: OutputSpec[T],
    options: FacesOptions,
    *,
    rules: Mapping[Path, RuleSet] | None = None,
    small: tuple[Path, ...] = (),
) -> FacesResult[T]:
    """Make the files, let captions and masks go along, and draw the contact sheet.

    rules: what the captions of images lose; those of the others go along as they are.
    """
    project, store, out = looked.project, looked.project.store, looked.out
    records = [r for r in looked.found.records if making.targets.get(r.path)]
    rewordings = {
        r.path: CaptionRewrite(
            making.targets[r.path][0], r.path, partial(_less, rules=rules[r.path])
        )
        for r in records
        if rules and r.path in rules
    }
    followed = follow(looked.found, making.images(records), out, project, "faces")
    new = [
        (r.path, path)
        for r in records
        for path in making.targets[r.path]
        if path.parent.name != MASKS
    ]
    alike = [CaptionRewrite(path, source) for source, path in new if source not in rewordings]
    edited = edited_at_origin((*rewordings.values(), *alike), store)
    if not project.context.dry_run:
        current = {
            r.path
            for r in records
            if store.is_current(making.targets[r.path][0], r.id, making.recipe)
        }
        announce([one for path, one in rewordings.items() if path not in current], "faces", store)
    with project.journal.recording("faces", display(looked.found.folder.name)) as recording:
        report = make(replace(looked.found, records=tuple(records)), making, project, recording)
        failed = {problem.path for problem in report.failed}
        carried = _carried(
            [r for r in records if r.path not in failed], making, set(rewordings), project
        )
        if not project.context.dry_run:
            copy(carried, project, recording)
    title = f"captions of {display(looked.found.folder.name)}"
    captions = reword(
        due(report, making.waiting, rewordings, store), "faces", title, project, anew=edited
    )
    images = found_in(looked.found.records, looked.seen)
    sheet, _ = draw_sheet(images, options, project)
    faceless = [
        r for r in looked.found.records if r not in records and r.path in looked.seen.places
    ]
    outcomes: list[Outcome[T]] = [
        *report.outcomes,
        *(Skipped(r, NO_FACE) for r in faceless),
        *looked.seen.failed,
    ]
    told = RunReport(report.stage, tuple(outcomes))
    return FacesResult(
        told, out, images, captions, recording.entry, len(carried), small, followed, sheet
    )


def _carried(
    records: Sequence[ImageRecord], making: OutputSpec[T], reworded: set[Path], project: Project
) -> list[tuple[Path, Path]]:
    """Return (source, target) of what goes along as it is: captions that are not reworded, masks
    that are not made.
    """
    made = {path for files in making.targets.values() for path in files}
    carried: list[tuple[Path, Path]] = []
    for n in range(max((len(files) for files in making.targets.values()), default=0)):
        mains = {
            r.path: making.targets[r.path][n]
            for r in records
            if n < len(making.targets[r.path]) and making.targets[r.path][n].parent.name != MASKS
        }
        those = [r for r in records if r.path in mains]
        carried += [
            (source, goal)
            for source, goal in carry(those, mains, project.store)
            if goal not in made
        ]
    own = {caption_path(making.targets[source][0]) for source in reworded}
    return [(source, goal) for source, goal in carried if goal not in own]


# ---- which places, and under which names
# ----------------------------------------------------------------------------


def _anything(places: FaceBoxes) -> bool:
    return bool(places.faces or places.text)


def _large_enough(
    records: Sequence[ImageRecord], seen: Detections, options: FacesOptions
) -> tuple[dict[Path, FaceBoxes], tuple[Path, ...]]:
    """Return the faces whose crops are large enough, and the images of which one was not."""
    chosen: dict[Path, FaceBoxes] = {}
    small: list[Path] = []
    for record in records:
        found = seen.places.get(record.path, FaceBoxes()).faces
        kept = []
        for face in found:
            left, _, right, _ = square(face, record.width, record.height, options.margin)
            if right - left >= options.min_size:
                kept.append(face)
        if len(kept) < len(found):
            small.append(record.path)
        chosen[record.path] = FaceBoxes(tuple(kept))
    return chosen, tuple(small)


def _crop_names(
    records: Sequence[ImageRecord], chosen: Mapping[Path, FaceBoxes], looked: _FaceScan
) -> Targets:
    """Return each image's crops, and as many masks where it has a mask."""
    names = iter(_names([(record, len(chosen[record.path].faces)) for record in records], looked))
    targets: dict[Path, tuple[Path, ...]] = {}
    for record in records:
        crops = tuple(next(names) for _ in chosen[record.path].faces)
        masks = tuple(map(mask_path, crops)) if existing_mask(record.path) else ()
        targets[record.path] = (*crops, *masks)
    return targets


def _names(wanted: Iterable[tuple[ImageRecord, int]], looked: _FaceScan) -> list[Path]:
    """Return so many names below `out` for each image: `a.jpg`, `a_2.jpg`; no stem twice, for
    captions' sake.
    """
    taken: set[Path] = set()
    names = []
    for record, number in wanted:
        place = looked.out / record.path.relative_to(looked.found.folder)
        suffix = kept_suffix(place)
        stem, n = place.stem, 1
        for _ in range(number):
            while place.with_name(stem if n == 1 else f"{stem}_{n}") in taken:
                n += 1
            bare = place.with_name(stem if n == 1 else f"{stem}_{n}")
            taken.add(bare)
            names.append(bare.with_name(f"{bare.name}{suffix}"))
    return names


# ---- captions
# --------------------------------------------------------------------------------------------------


def _rules(places: FaceBoxes) -> RuleSet:
    exclude = (*(FACE_TAGS if places.faces else ()), *(TEXT_TAGS if places.text else ()))
    return build(exclude=exclude, vocabulary=vocabulary.load(), groups=load_groups())


def _less(caption: Caption, *, rules: RuleSet) -> Caption:
    return Caption(apply(rules, caption.tags, category=vocabulary.load().category).tags)
