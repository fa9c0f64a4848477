"""Seeing: where the faces and lines of text of pictures are, looked for once and remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.checks.base import Measure, Spot
from datasetkit.core.config import FacesOptions
from datasetkit.core.records import Done, Failed, ImageRecord
from datasetkit.executors import local
from datasetkit.stages.check import RECIPES, CheckStage, unpack_spots
from datasetkit.stages.faces import Places
from datasetkit.verbs.project import Project
from datasetkit.vision.faces import DEFAULT

# So many pictures are looked at before what was found is written down.
_KEEP_EVERY = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in pictures, and the pictures that cannot be read."""

    places: Mapping[Path, Places]
    failed: tuple[Failed, ...]


def see(records: Sequence[ImageRecord], options: FacesOptions, project: Project) -> Seen:
    """Find the faces, and with `text` the lines of text, that score enough; largest faces first where some are left.

    Raises ConfigError, MissingExtra and ModelFileError for the detectors.
    """
    needs: tuple[Measure, ...] = ("faces", "text") if options.text else ("faces",)
    rows, failed = _rows(records, needs, options, project)
    places: dict[Path, Places] = {}
    for record in records:
        if all(record.id in rows[need] for need in needs):
            found = {need: unpack_spots(rows[need][record.id]) for need in needs}
            faces = _chosen(found["faces"], options, record)
            text = tuple(spot for spot in found.get("text", ()) if spot.score >= options.text_threshold)
            places[record.path] = Places(faces, text)
    return Seen(places, failed)


def _chosen(spots: Sequence[Spot], options: FacesOptions, record: ImageRecord) -> tuple[Spot, ...]:
    def area(spot: Spot) -> float:
        return (spot.right - spot.left) * record.width * (spot.bottom - spot.top) * record.height

    enough = [spot for spot in spots if spot.score >= options.threshold]
    if options.most:
        enough = sorted(enough, key=lambda spot: -area(spot))[: options.most]
    return tuple(enough)


def _rows(
    records: Sequence[ImageRecord], needs: Sequence[Measure], options: FacesOptions, project: Project
) -> tuple[dict[Measure, dict[str, bytes]], tuple[Failed, ...]]:
    """Return the rows of each measure by picture id, from the store or by looking, on all cores."""
    store, remember = project.store, not project.how.dry_run
    recipes = {need: _recipe(need, options) for need in needs}
    rows = {need: store.measures(recipe) for need, recipe in recipes.items()}
    lacking = {r.id: r for r in records if any(r.id not in rows[need] for need in needs)}
    stage = CheckStage(tuple(needs), options.max_pixels, options.detector)
    failed: list[Failed] = []
    new: list[tuple[str, Mapping[Measure, bytes]]] = []

    def keep() -> None:
        for need, recipe in recipes.items():
            if remember and new:
                store.put_measures(recipe, [(image, found[need]) for image, found in new])
        new.clear()

    try:
        outcomes = local.run(stage, list(lacking.values()), workers=options.workers, reporter=project.how.reporter)
        for outcome in outcomes:
            if isinstance(outcome, Done):
                new.append((outcome.record.id, outcome.value.rows))
                for need, row in outcome.value.rows.items():
                    rows[need][outcome.record.id] = row
            elif isinstance(outcome, Failed):
                broken = {r.id for r in lacking.values() if r.path == outcome.path}
                failed += [Failed(r.path, outcome.error, outcome.hint) for r in records if r.id in broken]
            if len(new) >= _KEEP_EVERY:
                keep()
    finally:
        keep()
    return rows, tuple(failed)


def _recipe(need: Measure, options: FacesOptions) -> str:
    """Name a measure as the store does; `dsk check` shares those of the detector that it uses."""
    own = need == "faces" and options.detector != DEFAULT
    return f"{RECIPES[need]} {options.detector}" if own else RECIPES[need]
