"""What the verbs of `dsk faces` share: where faces are, what is made of them, and the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Literal, TypeVar

from datasetkit.checks.base import ImageRegion
from datasetkit.core.files import display, read_existing
from datasetkit.core.records import ImageRecord, Outcome, RunReport, Skipped
from datasetkit.core.words import counted
from datasetkit.dataset.naming import require_names
from datasetkit.images import contact_sheet
from datasetkit.images.scan import Scan
from datasetkit.options.images import FacesOptions
from datasetkit.outputs.folder import (
    kept_suffix,
    prepare_output_folder,
    scan_images,
    unique_name,
)
from datasetkit.outputs.produce import ProduceResult
from datasetkit.outputs.renamed_sources import RenamedSource
from datasetkit.outputs.sidecars import CaptionRewriteResult
from datasetkit.project.plans import Plan, WriteBytes
from datasetkit.project.session import Project, RunContext, open_project
from datasetkit.stages.faces import Square
from datasetkit.verbs.shared.detections import Detections, detect
from datasetkit.vision import faces

T = TypeVar("T")
NO_FACE = "no face was found"


@dataclass(frozen=True, slots=True)
class FaceRegion:
    """A face or a line of text: its box in pixels of the upright image, and its score from 0
    to 1.
    """

    left: int
    top: int
    right: int
    bottom: int
    score: float


@dataclass(frozen=True, slots=True)
class ImageFaces:
    """The faces and lines of text of one image."""

    path: Path
    width: int
    height: int
    faces: tuple[FaceRegion, ...]
    text: tuple[FaceRegion, ...]


@dataclass(frozen=True, slots=True)
class FacesResult(Generic[T]):
    """What crop or erase did: one outcome per image, where the new images are, how captions
    followed.

    small: the images of which a face was left out since its crop would be too small. carried: how
    many captions and masks went along as they are. sheet: the contact sheet, if one was drawn.
    only: what was searched for.
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
    only: Literal["all", "faces", "text"] = "all"


@dataclass(frozen=True, slots=True)
class FaceScan:
    """A scanned folder with its faces, and the output folder."""

    project: Project
    images: Scan
    detections: Detections
    out: Path


def require_detector(options: FacesOptions) -> None:
    """Raise ConfigError for an unknown detector, or a contact sheet with a name that not every
    system takes, before any work is spent.
    """
    faces.require_detector(options.detector)
    if options.review:
        require_names(Path(options.review))


@contextmanager
def open_face_scan(
    folder: Path, out: Path | None, suffix: str, options: FacesOptions, context: RunContext
) -> Iterator[FaceScan]:
    """Open the project of `out`, scan the folder and find its faces."""
    require_detector(options)
    out = prepare_output_folder(folder, out, suffix, options, context)
    with open_project(out, context, create_folder=True) as project:
        images = scan_images(folder, project, options)
        yield FaceScan(project, images, detect(images.records, options, project), out)


def recipe(what: str, options: FacesOptions, *details: object) -> str:
    """Name everything that changes the bytes of an output: the options, and the version of the
    code. details: what only this kind of output depends on.
    """
    found_by = f"{options.detector} {options.threshold} {options.most} {options.margin}"
    return " ".join(map(str, ("faces-1", what, found_by, *details)))


def output_names(wanted: Iterable[tuple[ImageRecord, int]], scan: FaceScan) -> list[Path]:
    """Return so many names below `out` for each image: `a.jpg`, `a_2.jpg`; no stem twice, since a
    stem has one caption.
    """
    taken: set[str] = set()
    names = []
    for record, number in wanted:
        path = scan.out / record.path.relative_to(scan.images.folder)
        path = path.with_suffix(kept_suffix(path))
        names += [unique_name(path, taken) for _ in range(number)]
    return names


def result(
    scan: FaceScan,
    produced: ProduceResult[T],
    options: FacesOptions,
    *,
    sheet: Path | None,
    faceless: Sequence[ImageRecord] = (),
    small: tuple[Path, ...] = (),
) -> FacesResult[T]:
    """Report. sheet: the contact sheet, if one was drawn. faceless: images of which nothing was to
    be made.
    """
    images = faces_of(scan.images.records, scan.detections)
    outcomes: list[Outcome[T]] = [
        *produced.report.outcomes,
        *(Skipped(record, NO_FACE) for record in faceless),
        *scan.detections.failed,
    ]
    return FacesResult(
        RunReport(produced.report.stage, tuple(outcomes), scan.images.left_out), scan.out, images,
        produced.captions, produced.entry, produced.carried, small, produced.followed, sheet,
        options.only,
    )  # fmt: skip


def draw_sheet(
    scan: FaceScan,
    options: FacesOptions,
    crops: Mapping[Path, Sequence[Square]] = MappingProxyType({}),
) -> Path | None:
    """Draw the contact sheet of a scan; return its path.

    It comes before the images are made, so that their entry is the newest, which `dsk undo` takes.
    crops: what is cut out of each image.
    """
    images = faces_of(scan.images.records, scan.detections)
    return draw_review(images, options, scan.project, crops)[0]


def faces_of(records: Sequence[ImageRecord], detections: Detections) -> tuple[ImageFaces, ...]:
    """Return the faces and lines of text of each image that could be read, in pixels."""
    return tuple(
        ImageFaces(r.path, r.width, r.height, _regions(boxes.faces, r), _regions(boxes.text, r))
        for r in records
        if (boxes := detections.boxes.get(r.path)) is not None
    )


def _regions(spots: Sequence[ImageRegion], record: ImageRecord) -> tuple[FaceRegion, ...]:
    width, height = record.width, record.height
    return tuple(
        FaceRegion(
            max(0, round(s.left * width)), max(0, round(s.top * height)),
            min(width, round(s.right * width)), min(height, round(s.bottom * height)), s.score,
        )
        for s in spots
    )  # fmt: skip


def draw_review(
    images: Sequence[ImageFaces],
    options: FacesOptions,
    project: Project,
    crops: Mapping[Path, Sequence[Square]] = MappingProxyType({}),
) -> tuple[Path | None, int | None]:
    """Draw the contact sheet that `--review` asks for: every image with boxes around its faces, and
    around what is cut out.

    Returns its path and its number in the history.
    """
    if not options.review:
        return None, None
    path = Path(options.review)
    if project.context.dry_run:
        return None, None
    over = read_existing(path)
    data = contact_sheet.draw(
        [_entry(image, options, crops.get(image.path, ())) for image in images],
        images[0].path.resolve().parent.name if images else "no images",
        _counts(images, options),
        max_pixels=options.max_pixels,
    )
    return path, project.apply(
        Plan((WriteBytes(path, data, over),)), "faces", f"contact sheet {display(path.name)}"
    )


def _counts(images: Sequence[ImageFaces], options: FacesOptions) -> str:
    if not options.finds_faces:
        lines = sum(len(image.text) for image in images)
        return f"{counted(lines, 'line')} of text in {counted(len(images), 'image')}"
    number = sum(len(image.faces) for image in images)
    without = sum(not image.faces for image in images)
    return f"{counted(number, 'face')} in {counted(len(images), 'image')}, {without} without"


def _entry(
    image: ImageFaces, options: FacesOptions, crops: Sequence[Square]
) -> contact_sheet.SheetCell:
    kinds = (("faces", image.faces), ("text", image.text))
    boxes = [
        contact_sheet.SheetBox(
            kind,
            r.left / image.width,
            r.top / image.height,
            r.right / image.width,
            r.bottom / image.height,
        )
        for kind, regions in kinds
        for r in regions
    ]
    boxes += [
        contact_sheet.SheetBox(
            "crop",
            left / image.width,
            top / image.height,
            right / image.width,
            bottom / image.height,
        )
        for left, top, right, bottom in crops
    ]
    scores = ", ".join(f"{region.score:.2f}" for region in image.faces)
    reasons = []
    if options.finds_faces:
        reasons.append(f"face {scores}" if image.faces else NO_FACE)
    reasons += (
        [f"text {', '.join(f'{region.score:.2f}' for region in image.text)}"] if image.text else []
    )
    return contact_sheet.SheetCell(image.path, image.path.name, tuple(reasons), tuple(boxes))
