"""Where the faces and lines of text of images are: detected once, then read from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from datasetkit.checks.base import ImageRegion, Measure
from datasetkit.core.records import Failed, ImageRecord
from datasetkit.executors import place
from datasetkit.options.images import FacesOptions
from datasetkit.project.session import Project
from datasetkit.stages.check import RECIPES, ImageMeasurer, open_measuring, unpack_regions
from datasetkit.stages.faces import FaceBoxes
from datasetkit.vision.faces import DEFAULT

# Rows are stored after this many images: an interrupted run loses few, and the disk is synced
# rarely.
_KEEP_EVERY = 64


@dataclass(frozen=True, slots=True)
class Detections:
    """The faces and lines of text of images, and the images that cannot be read."""

    boxes: Mapping[Path, FaceBoxes]
    failed: tuple[Failed, ...]


def detect(records: Sequence[ImageRecord], options: FacesOptions, project: Project) -> Detections:
    """Return the faces and lines of text that the options ask for, above the thresholds; with
    `most`, the largest faces.

    Raises ConfigError, MissingExtra and ModelFileError for the detectors.
    """
    wanted: dict[Measure, bool] = {"faces": options.finds_faces, "text": options.finds_text}
    needs = tuple(measure for measure, is_wanted in wanted.items() if is_wanted)
    recipes = {need: _recipe(need, options) for need in needs}
    stage = partial(open_measuring, needs, options.max_pixels, options.detector)
    rows, broken = measured(records, recipes, stage, options.workers, project)
    boxes: dict[Path, FaceBoxes] = {}
    for record in records:
        if all(record.id in rows[need] for need in needs):
            regions = {need: unpack_regions(rows[need][record.id]) for need in needs}
            faces = _chosen(regions.get("faces", ()), options, record)
            text = tuple(
                line for line in regions.get("text", ()) if line.score >= options.text_threshold
            )
            boxes[record.path] = FaceBoxes(faces, text)
    return Detections(
        boxes, tuple(replace(broken[r.id], path=r.path) for r in records if r.id in broken)
    )


def _chosen(
    faces: Sequence[ImageRegion], options: FacesOptions, record: ImageRecord
) -> tuple[ImageRegion, ...]:
    def area(face: ImageRegion) -> float:
        return (face.right - face.left) * record.width * (face.bottom - face.top) * record.height

    chosen = [face for face in faces if face.score >= options.threshold]
    if options.most:
        chosen = sorted(chosen, key=lambda face: -area(face))[: options.most]
    return tuple(chosen)


def measured(
    records: Sequence[ImageRecord],
    recipes: Mapping[Measure, str],
    open_stage: Callable[[], ImageMeasurer],
    workers: int,
    project: Project,
) -> tuple[dict[Measure, dict[str, bytes]], dict[str, Failed]]:
    """Return the rows of each measure by image id, from the store or measured now; and the failures
    by image id.

    recipes: the wanted measures, and how the store names them. open_stage: loads the detectors;
    called only if an image has to be measured.
    """
    store, remember = project.store, not project.context.dry_run
    rows = {measure: store.measurements(recipe) for measure, recipe in recipes.items()}
    missing = {r.id: r for r in records if any(r.id not in rows[measure] for measure in recipes)}
    broken: dict[str, Failed] = {}
    new: list[tuple[str, Mapping[Measure, bytes]]] = []

    def keep() -> None:
        for measure, recipe in recipes.items():
            if remember and new:
                store.put_measurements(
                    recipe, [(image, measures[measure]) for image, measures in new]
                )
        new.clear()

    if not missing:
        return rows, broken
    reporter, images = project.context.reporter, list(missing.values())
    results = place.each(
        open_stage,
        images,
        name="checking",
        cluster=project.context.cluster,
        workers=workers,
        reporter=reporter,
    )
    try:
        for record, result in zip(images, results, strict=True):
            if isinstance(result, Failed):
                broken[record.id] = result
                continue
            new.append((record.id, result))
            for measure, row in result.items():
                rows[measure][record.id] = row
            if len(new) >= _KEEP_EVERY:
                keep()
    finally:
        results.close()
        keep()
    return rows, broken


def _recipe(need: Measure, options: FacesOptions) -> str:
    """Name a measure as the store does; `dsk check` shares those of the detector that it uses."""
    is_other = need == "faces" and options.detector != DEFAULT
    return f"{RECIPES[need]} {options.detector}" if is_other else RECIPES[need]
