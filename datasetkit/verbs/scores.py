"""`dsk scores`: what the tagger gave one image, which of it is in its caption, and what
was near.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.files import IMAGE_SUFFIXES, display, image_id
from datasetkit.options.tag import TagOptions
from datasetkit.project.session import RunContext, open_project
from datasetkit.project.store import Store
from datasetkit.verbs.shared import scoring
from datasetkit.verbs.shared.stored_scores import threshold_of
from taggers import models, registry
from taggers.base import RATING, STEPS, Labels
from taggers.combine import Combination
from taggers.selection import KeptScores, Thresholds, choose

# How far below its threshold a score may lie to be shown although it is not in.
MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One tag of an image. threshold: the least score it needs, None for what is never chosen.
    chosen: it is in.
    """

    tag: str
    category: str
    score: float
    threshold: float | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class ScoresResult:
    """What is known of one image: rows by falling score, those that are in and those near their
    threshold.

    taggers: the keys of the scores. hidden: how many lower scores are kept that are not among the
    rows.
    """

    path: Path
    taggers: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    hidden: int


def scores(image: Path, options: TagOptions, *, margin: float = MARGIN) -> ScoresResult:
    """Return the scores of one image as the store has them; no model is run and nothing is
    changed.

    With `options.tagger` "auto" it is the tagger that saw the image last. Tags are in or out by
    the thresholds alone: rules come after them. Raises InputError where the image was never
    tagged.
    """
    if not image.is_file() or image.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"{display(image)} is no image", hint="name one image, e.g. dsk scores imgs/001.jpg"
        )
    scoring.names(options)
    with open_project(image.parent, RunContext(dry_run=True)) as project:
        found = _known(project.store, image_id(image), options)
    if not found:
        raise InputError(
            f"{display(image)} has no scores"
            + ("" if options.tagger == registry.AUTO else f" of {options.tagger}"),
            hint=f"dsk tag {display(image.parent)} keeps them",
        )
    combination = Combination.of([labels for _, labels, _ in found], options.combine)
    kept = combination.row([KeptScores.stored(blob, labels) for _, labels, blob in found])
    cut = Thresholds(
        threshold_of(options, found[0][0]),
        options.character_threshold,
        options.mcut,
        options.rating,
    )
    rows = _rows(kept, combination.labels, cut)
    shown = tuple(row for row in rows if row.chosen or _is_near(row, margin))
    return ScoresResult(image, tuple(key for key, _, _ in found), shown, len(rows) - len(shown))


def _known(store: Store, image: str, options: TagOptions) -> list[tuple[str, Labels, bytes]]:
    """Return key, labels and scores of each tagger that is asked for and saw the image; of "auto"
    the last one.
    """
    seen = [
        (key, Labels.from_pairs(pairs), blob)
        for key, pairs in store.models()
        if (blob := store.scores(image, key)) is not None
    ]
    if options.tagger == registry.AUTO:
        return seen[:1]
    wanted = [models.find(name).name if "/" in name else name for name in scoring.names(options)]
    found = [next((one for one in seen if one[0].startswith(f"{name}@")), None) for name in wanted]
    return [one for one in found if one is not None] if None not in found else []


def _rows(kept: KeptScores, labels: Labels, cut: Thresholds) -> list[ScoreRow]:
    """Return a row for every score that was kept, highest first."""
    chosen = {(tag.name, tag.category) for tag in choose(kept, labels, cut)}
    least = cut.of(kept, labels)
    rows = []
    for place, counted in zip(kept.rows.tolist(), kept.counted.tolist(), strict=True):
        label = labels.items[place]
        is_in = (label.name, label.category) in chosen
        rows.append(
            ScoreRow(label.name, label.category, counted / STEPS, least.get(label.category), is_in)
        )
    return sorted(rows, key=lambda row: -row.score)


def _is_near(row: ScoreRow, margin: float) -> bool:
    """Tell whether a row that is not in is worth a look; of ratings all are, as the highest
    wins.
    """
    if row.threshold is None:
        return row.category == RATING
    return abs(row.score - row.threshold) <= margin + 0.5 / STEPS
