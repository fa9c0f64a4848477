"""`dsk scores`: the stored scores of one image, and which of them choose a tag."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.errors import InputError
from datasetkit.core.file_kinds import IMAGE_SUFFIXES
from datasetkit.core.files import display, image_id, reading
from datasetkit.images import limits
from datasetkit.options.tag import TagOptions
from datasetkit.project.session import RunContext, open_project, recover_projects
from datasetkit.project.store import Store
from datasetkit.verbs.shared import scoring
from datasetkit.verbs.shared.stored_scores import of_named_taggers, threshold_of
from taggers import registry
from taggers.base import RATING, STEPS, Labels
from taggers.combine import Combination
from taggers.selection import KeptScores, Thresholds, choose

# How far from its threshold a score may be to be shown.
MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One tag of an image. threshold: the score that it needs, None if it is never chosen."""

    tag: str
    category: str
    score: float
    threshold: float | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class ScoresResult:
    """The scores of one image: chosen tags and those near their threshold, highest first.

    taggers: the keys of the scores. hidden: how many stored scores are not in the rows.
    """

    path: Path
    taggers: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    hidden: int


def scores(image: Path, options: TagOptions, *, margin: float = MARGIN) -> ScoresResult:
    """Return the stored scores of one image; no model is run, and nothing is changed.

    With `options.tagger` "auto" those of the last tagger. Tags are chosen by the thresholds alone:
    rules come after them. Raises InputError if the image was never tagged.
    """
    looking = RunContext(dry_run=True)
    recover_projects([image.parent], looking)
    if not image.is_file() or image.suffix.lower() not in IMAGE_SUFFIXES:
        what = "is not an image" if image.exists() else "does not exist"
        raise InputError(
            f"{display(image)} {what}", hint="name one image, e.g. dsk scores imgs/001.jpg"
        )
    scoring.names(options)
    with reading(image):
        limits.require_file_size(display(image), image.stat().st_size, options.max_pixels)
    with open_project(image.parent, looking) as project:
        stored = _stored(project.store, image_id(image), options)
    if not stored:
        raise InputError(
            f"{display(image)} has no scores"
            + ("" if options.tagger == registry.AUTO else f" of {options.tagger}"),
            hint=f"run dsk tag {shlex.quote(display(image.parent))} first",
        )
    combination = Combination.of([labels for _, (labels, _) in stored], options.combine)
    kept = combination.row([KeptScores.stored(blob, labels) for _, (labels, blob) in stored])
    thresholds = Thresholds(
        threshold_of(options, stored[0][0]),
        options.character_threshold,
        options.mcut,
        options.rating,
    )
    rows = _rows(kept, combination.labels, thresholds)
    shown = tuple(row for row in rows if row.chosen or _is_near(row, margin))
    return ScoresResult(image, tuple(key for key, _ in stored), shown, len(rows) - len(shown))


def _stored(
    store: Store, image: str, options: TagOptions
) -> list[tuple[str, tuple[Labels, bytes]]]:
    """Return key, labels and scores of the selected taggers; of "auto" the last one that scored the
    image.
    """
    stored = [
        (key, (Labels.from_pairs(pairs), blob))
        for key, pairs in store.models()
        if (blob := store.scores(image, key)) is not None
    ]
    return stored[:1] if options.tagger == registry.AUTO else of_named_taggers(stored, options)


def _rows(kept: KeptScores, labels: Labels, thresholds: Thresholds) -> list[ScoreRow]:
    """Return a row for every stored score, highest first."""
    chosen = {(tag.name, tag.category) for tag in choose(kept, labels, thresholds)}
    least = thresholds.of(kept, labels)
    rows = []
    for row, counted in zip(kept.rows.tolist(), kept.counted.tolist(), strict=True):
        label = labels.items[row]
        is_chosen = (label.name, label.category) in chosen
        rows.append(
            ScoreRow(
                label.name,
                label.category,
                counted / STEPS,
                least.get(label.category),
                is_chosen,
            )
        )
    return sorted(rows, key=lambda row: -row.score)


def _is_near(row: ScoreRow, margin: float) -> bool:
    """Tell whether a score is near its threshold; ratings always are, as the highest wins."""
    if row.threshold is None:
        return row.category == RATING
    return abs(row.score - row.threshold) <= margin + 0.5 / STEPS
