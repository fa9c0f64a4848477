"""Views: what the review page is told, as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasetkit import __version__
from datasetkit.captions.caption import normal_form
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.predicates import SCORE_STEPS
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.records import Caption
from datasetkit.verbs.review import operations
from datasetkit.verbs.review.dataset import DatasetChange, ReviewDataset
from datasetkit.verbs.review.editing import CaptionDifference, EditConflict, Editor, EditResult
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.operations import OperationContext
from datasetkit.verbs.review.tables import Translations
from datasetkit.verbs.review.thumbnails import SIZES
from datasetkit.verbs.shared.image_facts import below
from datasetkit.verbs.shared.stored_scores import threshold_of

Json = dict[str, Any]
# Tags that are not in a caption are shown from this score on, so many at most.
_NEAR_FROM, _NEAR_MOST = 2500, 20
_MOST_FAILED = 1000


def session(dataset: ReviewDataset, editor: Editor, translations: Translations, token: str) -> Json:
    """Say what the page needs to know first."""
    images = dataset.all()
    options = dataset.options[0]
    keys = [source.keys for source in dataset.scores.sources]
    try:
        threshold = threshold_of(options, keys[0][0] if keys else "")
    except ConfigError:
        threshold = 0.35
    in_concept = [0] * len(dataset.sets)
    for image in images:
        in_concept[image.concept] += 1
    concepts = [
        {"name": one.name, "repeats": one.repeats, "images": number, "trigger": list(one.trigger)}
        for one, number in zip(dataset.sets, in_concept, strict=True)
    ]
    return {
        "token": token,
        "version": dataset.version,
        "name": dataset.folder.name,
        "read_only": editor.read_only,
        "images": len(images),
        "captioned": sum(image.caption is not None for image in images),
        "failed": [
            {"name": display(failed.path.name), "error": failed.error, "hint": failed.hint}
            for failed in dataset.failed[:_MOST_FAILED]
        ],
        "concepts": concepts,
        "trigger": list(dict.fromkeys(tag for one in dataset.sets for tag in one.trigger)),
        "scores": bool(keys),
        "tagger": " ".join(keys[0]) if keys else "",
        "threshold": threshold,
        "character_threshold": options.character_threshold,
        "translations": bool(translations),
        "notice": "; ".join(filter(None, (dataset.notice, translations.problem))),
        "undo": editor.undo_title,
        "redo": editor.redo_title,
        **SIZES,
        "dsk": __version__,
    }


def window(
    dataset: ReviewDataset, ids: Sequence[int], offset: int, limit: int, *, captions: bool
) -> Json:
    """Return some of the images, a column for each of their properties."""
    several = [
        p for p in (dataset.get(number) for number in ids[offset : offset + limit]) if p is not None
    ]
    columns: Json = {
        "version": dataset.version,
        "total": len(ids),
        "offset": offset,
        "id": [p.id for p in several],
        "name": [p.name for p in several],
        "w": [p.facts.record.width for p in several],
        "h": [p.facts.record.height for p in several],
        "v": [p.v for p in several],
        "concept": [p.concept for p in several],
        "tags": [-1 if p.caption is None else len(p.caption.tags) for p in several],
        "edited": [int(p.facts.edited) for p in several],
    }
    if captions:
        columns["caption"] = [_text(p.caption) for p in several]
        columns["hash"] = [p.hash for p in several]
    return columns


def image(
    dataset: ReviewDataset,
    bench: OperationContext,
    one: ReviewImage,
    translations: Translations,
    group: Sequence[int],
) -> Json:
    """Return all that is known of one image."""
    facts, caption = one.facts, one.caption
    scores = facts.scores
    tagger = operations.tagger_caption(bench, one)
    concept = dataset.sets[one.concept]
    near = sorted(
        (
            (steps, form)
            for form, steps in scores.items()
            if steps >= _NEAR_FROM and form not in facts.forms
        ),
        key=lambda pair: (-pair[0], pair[1]),
    )
    return {
        "version": dataset.version,
        "id": one.id,
        "name": one.name,
        "folder": below(one.path.parent, dataset.folder.parent),
        "concept": concept.name,
        "repeats": concept.repeats,
        "w": facts.record.width,
        "h": facts.record.height,
        "v": one.v,
        "bytes": one.file.size,
        "caption": _text(caption),
        "hash": one.hash,
        "chars": facts.chars,
        "tokens": facts.tokens,
        "edited": facts.edited,
        "tags": [
            {
                "tag": tag,
                "score": _score(scores.get(normal_form(tag))),
                "category": bench.vocabulary.category(tag),
                "translation": translations.of(normal_form(tag)),
            }
            for tag in (caption.tags if caption is not None else ())
        ],
        "near": [_near(form, steps, bench.vocabulary) for steps, form in near[:_NEAR_MOST]],
        "tagger": None
        if tagger is None
        else {"caption": tagger.text(), **_difference(one, tagger, caption)},
        "group": list(group),
    }


def _near(form: str, steps: int, vocabulary: Vocabulary) -> Json:
    return {
        "tag": vocabulary.spelling(form) or form,
        "score": _score(steps),
        "category": vocabulary.category(form),
    }


def _difference(one: ReviewImage, before: Caption | None, after: Caption | None) -> Json:
    """Return what came and what went between two captions."""
    change = CaptionChange(one.path, before, after or Caption(()))
    return {"added": list(change.added), "removed": list(change.removed)}


def edited(done: EditResult, dataset: ReviewDataset, editor: Editor, *, dry_run: bool) -> Json:
    """Say what an operation did, or in a dry run would do."""
    added, removed = done.decided.tags()
    return {
        "version": dataset.version,
        "entry": done.entry,
        # A caption that an undo takes away altogether is no change to another one.
        "changed": len(done.gone) + len(done.back) + len(done.ids or done.decided.changes),
        "unchanged": done.decided.unchanged,
        "kept": done.decided.kept,
        "why": done.decided.why,
        "title": done.title,
        "ids": list(done.ids),
        "gone": list(done.gone),
        "back": list(done.back),
        "added": added,
        "removed": removed,
        "without_scores": done.decided.without_scores,
        "warnings": list(done.decided.warnings),
        "undo": editor.undo_title,
        "redo": editor.redo_title,
        "dry_run": dry_run,
    }


def changes(dataset: ReviewDataset, since: Sequence[DatasetChange] | None, *, busy: bool) -> Json:
    """Say what became new since a version that a page has seen."""
    if since is None:
        return {
            "version": dataset.version,
            "reset": True,
            "ids": [],
            "outside": [],
            "added": [],
            "removed": [],
            "busy": busy,
        }
    return {
        "version": dataset.version,
        "reset": False,
        "ids": _once(number for one in since for number in one.captions),
        "outside": _once(number for one in since if one.outside for number in one.captions),
        "added": _once(number for one in since for number in one.added),
        "removed": _once(number for one in since for number in one.removed),
        "busy": busy,
    }


def conflict(refused: EditConflict, dataset: ReviewDataset) -> Json:
    """Show what stood in the way of an operation."""
    return {
        "version": dataset.version,
        "count": refused.count,
        "changed": [_stands(one, dataset) for one in refused.differences],
    }


def _stands(one: CaptionDifference, dataset: ReviewDataset) -> Json:
    found = dataset.get(one.id)
    return {
        "id": one.id,
        "name": one.name,
        "known": _text(one.known),
        "now": _text(one.now),
        "hash": found.hash if found is not None else "",
        **(
            _difference(found, one.known, one.now)
            if found is not None
            else {"added": [], "removed": []}
        ),
    }


def _once(numbers: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def _text(caption: Caption | None) -> str | None:
    return None if caption is None else caption.text()


def _score(steps: int | None) -> float | None:
    return None if steps is None else steps / SCORE_STEPS
