"""What was found of faces and text in images, as people are told it: boxes in pixels, and a
contact sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.checks.base import ImageRegion
from datasetkit.core.files import display
from datasetkit.core.records import ImageRecord
from datasetkit.images import contact_sheet
from datasetkit.options.images import FacesOptions
from datasetkit.project.plans import Plan, WriteBytes
from datasetkit.project.session import Project
from datasetkit.verbs.shared.detections import Detections

NO_FACE = "no face was found"


@dataclass(frozen=True, slots=True)
class FaceRegion:
    """A face or a line of text: its box in pixels of the image as it is looked at, and its score
    from 0 to 1.
    """

    left: int
    top: int
    right: int
    bottom: int
    score: float


@dataclass(frozen=True, slots=True)
class ImageFaces:
    """What was found in one image."""

    path: Path
    width: int
    height: int
    faces: tuple[FaceRegion, ...]
    text: tuple[FaceRegion, ...]


def found_in(records: Sequence[ImageRecord], seen: Detections) -> tuple[ImageFaces, ...]:
    """Return what was found in each image that could be read, in pixels."""
    return tuple(
        ImageFaces(r.path, r.width, r.height, _regions(places.faces, r), _regions(places.text, r))
        for r in records
        if (places := seen.places.get(r.path)) is not None
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


def draw_sheet(
    images: Sequence[ImageFaces], options: FacesOptions, project: Project
) -> tuple[Path | None, int | None]:
    """Draw the contact sheet that was asked for: every image with what was found in it."""
    if not options.review:
        return None, None
    path = Path(options.review)
    if project.context.dry_run:
        return None, None
    data = contact_sheet.draw(
        [_entry(one) for one in images], _heading(images), max_pixels=options.max_pixels
    )
    return path, project.apply(
        Plan((WriteBytes(path, data),)), "faces", f"contact sheet {display(path.name)}"
    )


def _heading(images: Sequence[ImageFaces]) -> str:
    number, without = (
        sum(len(one.faces) for one in images),
        sum(not one.faces for one in images),
    )
    return f"{number} faces in {len(images)} images, {without} without"


def _entry(one: ImageFaces) -> contact_sheet.SheetCell:
    kinds = (("faces", one.faces), ("text", one.text))
    boxes = [
        contact_sheet.SheetBox(
            kind, r.left / one.width, r.top / one.height, r.right / one.width, r.bottom / one.height
        )
        for kind, regions in kinds
        for r in regions
    ]
    scores = ", ".join(f"{region.score:.2f}" for region in one.faces)
    reasons = [f"face {scores}" if one.faces else NO_FACE]
    reasons += (
        [f"text {', '.join(f'{region.score:.2f}' for region in one.text)}"] if one.text else []
    )
    return contact_sheet.SheetCell(one.path, one.path.name, tuple(reasons), tuple(boxes))
