"""`dsk faces crop`: a square around every face, for a face LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from datasetkit.core.files import existing_mask, mask_path
from datasetkit.core.records import ImageRecord
from datasetkit.options.images import FacesOptions
from datasetkit.outputs.gather import gather
from datasetkit.outputs.plan import plan_outputs
from datasetkit.outputs.produce import produce
from datasetkit.outputs.spec import OutputSpec, Targets
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.stages.base import bound
from datasetkit.stages.faces import CroppedFaces, FaceBoxes, crop_image, square
from datasetkit.verbs.shared.detections import Detections
from datasetkit.verbs.shared.faces import (
    FaceScan,
    FacesResult,
    draw_sheet,
    open_face_scan,
    output_names,
    recipe,
    result,
)


def crop_faces(
    folder: Path, out: Path | None, options: FacesOptions, context: RunContext = DEFAULT_CONTEXT
) -> FacesResult[CroppedFaces]:
    """Cut a square out around every face into `out` (default: a sibling `<folder>-faces`), one file
    a face.

    A crop is named after its image (`a.jpg`, `a_2.jpg`), and has a copy of its caption. Images
    without a face are left out and listed. A second run redoes only what changed. Raises as
    `resize` does.
    """
    options = replace(options, only="faces")
    with open_face_scan(folder, out, "faces", options, context) as scan:
        images, records = scan.images, scan.images.records
        boxes, small = _large_enough(records, scan.detections, options)
        spec = OutputSpec(
            scan.out,
            recipe("crop", options, options.size, options.min_size),
            _targets(records, boxes, scan),
            "would be cropped",
        )
        plan = plan_outputs(images, spec, gather(images, spec, scan.project))
        crops = {
            r.path: [square(f, r.width, r.height, options.margin) for f in boxes[r.path].faces]
            for r in records
        }
        sheet = draw_sheet(scan, options, crops)
        produced = produce(
            plan,
            partial(bound, crop_image, options),
            scan.project,
            workers=options.workers,
            details=boxes,
        )
        faceless = [
            r for r in records if r.path in scan.detections.boxes and not spec.targets[r.path]
        ]
        return result(scan, produced, options, sheet=sheet, faceless=faceless, small=small)


def _large_enough(
    records: Sequence[ImageRecord], detections: Detections, options: FacesOptions
) -> tuple[dict[Path, FaceBoxes], tuple[Path, ...]]:
    """Return the faces whose crops are large enough, and the images with a face whose crop is
    not.
    """
    chosen: dict[Path, FaceBoxes] = {}
    small: list[Path] = []
    for record in records:
        faces = detections.boxes.get(record.path, FaceBoxes()).faces
        large = []
        for face in faces:
            left, _, right, _ = square(face, record.width, record.height, options.margin)
            if right - left >= options.min_size:
                large.append(face)
        if len(large) < len(faces):
            small.append(record.path)
        chosen[record.path] = FaceBoxes(tuple(large))
    return chosen, tuple(small)


def _targets(
    records: Sequence[ImageRecord], boxes: Mapping[Path, FaceBoxes], scan: FaceScan
) -> Targets:
    """Return each image's crops, and as many masks if it has a mask."""
    names = iter(output_names([(r, len(boxes[r.path].faces)) for r in records], scan))
    targets: dict[Path, tuple[Path, ...]] = {}
    for record in records:
        crops = tuple(next(names) for _ in boxes[record.path].faces)
        masks = tuple(map(mask_path, crops)) if existing_mask(record.path) else ()
        targets[record.path] = (*crops, *masks)
    return targets
