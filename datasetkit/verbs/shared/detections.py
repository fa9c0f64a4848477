"""Where the faces and lines of text of images are: detected once, then read from the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from datasetkit.checks.base import ImageRegion, Measure
from datasetkit.core.records import Failed, ImageRecord
from datasetkit.executors import local
from datasetkit.options.images import FacesOptions
from datasetkit.project.session import Project
from datasetkit.stages.check import RECIPES, ImageMeasurer, open_measuring, unpack_spots
from datasetkit.stages.faces import FaceBoxes
from datasetkit.vision.faces import DEFAULT

# So many images are looked at before what was found is written down.
_KEEP_EVERY = 64


@dataclass(frozen=True, slots=True)
class Detections:
    """The faces and lines of text of images, and the images that cannot be read."""

    boxes: Mapping[Path, FaceBoxes]
    failed: tuple[Failed, ...]


def detect(records: Sequence[ImageRecord], options: FacesOptions, project: Project) -> Detections:
    """Find the faces, and with `text` the lines of text, that score enough; largest faces first
    where some are left.

    Raises ConfigError, MissingExtra and ModelFileError for the detectors.
    """
    needs: tuple[Measure, ...] = ("faces", "text") if options.text else ("faces",)
    recipes = {need: _recipe(need, options) for need in needs}
    stage = partial(open_measuring, needs, options.max_pixels, options.detector)
    rows, broken = measured(records, recipes, stage, options.workers, project)
    boxes: dict[Path, FaceBoxes] = {}
    for record in records:
        if all(record.id in rows[need] for need in needs):
            found = {need: unpack_spots(rows[need][record.id]) for need in needs}
            faces = _chosen(found["faces"], options, record)
            text = tuple(
                spot for spot in found.get("text", ()) if spot.score >= options.text_threshold
            )
            boxes[record.path] = FaceBoxes(faces, text)
    return Detections(
        boxes, tuple(replace(broken[r.id], path=r.path) for r in records if r.id in broken)
    )


def _chosen(
    spots: Sequence[ImageRegion], options: FacesOptions, record: ImageRecord
) -> tuple[ImageRegion, ...]:
    def area(spot: ImageRegion) -> float:
        return (spot.right - spot.left) * record.width * (spot.bottom - spot.top) * record.height

    enough = [spot for spot in spots if spot.score >= options.threshold]
    if options.most:
        enough = sorted(enough, key=lambda spot: -area(spot))[: options.most]
    return tuple(enough)


def measured(
    records: Sequence[ImageRecord],
    recipes: Mapping[Measure, str],
    open_stage: Callable[[], ImageMeasurer],
    workers: int,
    project: Project,
) -> tuple[dict[Measure, dict[str, bytes]], dict[str, Failed]]:
    """Return the rows of each measure by image id, from the store or by looking, on all cores;
    and what failed by id.

    recipes: the measures that are wanted, and how the store names them. open_stage: loads what
    takes these measures; called only where an image has to be looked at.
    """
    store, remember = project.store, not project.context.dry_run
    rows = {measure: store.measurements(recipe) for measure, recipe in recipes.items()}
    missing = {r.id: r for r in records if any(r.id not in rows[measure] for measure in recipes)}
    broken: dict[str, Failed] = {}
    new: list[tuple[str, Mapping[Measure, bytes]]] = []

    def keep() -> None:
        for measure, recipe in recipes.items():
            if remember and new:
                store.put_measurements(recipe, [(image, found[measure]) for image, found in new])
        new.clear()

    if not missing:
        return rows, broken
    reporter, images = project.context.reporter, list(missing.values())
    results = local.each(open_stage(), images, name="checking", workers=workers, reporter=reporter)
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
    own = need == "faces" and options.detector != DEFAULT
    return f"{RECIPES[need]} {options.detector}" if own else RECIPES[need]
