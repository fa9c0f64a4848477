"""Views: what the review page gets from the server, as plain values for JSON.

Many images or tags are sent as columns, one list for each property, which keeps the JSON small.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.filters import FilterError, Match, Not, exactly, parse, show
from datasetkit.captions.predicates import SCORE_STEPS
from datasetkit.captions.pruning import Suggestion
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.errors import ConfigError, DskError
from datasetkit.core.file_kinds import subfolder_summary, summary
from datasetkit.core.files import display
from datasetkit.core.records import Caption
from datasetkit.verbs.review import operations
from datasetkit.verbs.review.dataset import DatasetChange, ReviewDataset
from datasetkit.verbs.review.editing import CaptionDifference, EditConflict, Editor, EditResult
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.review.operations import OperationContext
from datasetkit.verbs.shared.image_facts import below
from datasetkit.verbs.shared.stored_scores import threshold_of
from datasetkit.verbs.shared.tag_meanings import TagMeanings

Json = dict[str, Any]
# Tags that are not in the caption are shown from this score on (in steps), and at most so many.
_OTHER_TAGS_FROM, _MAX_OTHER_TAGS = 2500, 20
_MAX_FAILED = 1000


def session(dataset: ReviewDataset, editor: Editor, translations: TagMeanings) -> Json:
    """Return what the page needs before anything else."""
    images = dataset.all()
    options = dataset.options[0]
    taggers = [source.keys for source in dataset.scores.sources]
    try:
        threshold = threshold_of(options, taggers[0][0] if taggers else "")
    except ConfigError:
        threshold = 0.35
    return {
        "version": dataset.version,
        "images": len(images),
        "captioned": sum(image.caption is not None for image in images),
        "failed": [
            {"name": display(failed.path.name), "error": failed.error, "hint": failed.hint}
            for failed in dataset.failed[:_MAX_FAILED]
        ],
        "concepts": _concepts(dataset, images),
        "trigger": _trigger(dataset),
        "scores": bool(taggers),
        "tagger": " ".join(taggers[0]) if taggers else "",
        "threshold": threshold,
        "character_threshold": options.character_threshold,
        "translations": bool(translations),
        "notice": "; ".join(
            filter(
                None,
                (
                    dataset.notice,
                    summary(dataset.left_out),
                    subfolder_summary(dataset.left_out),
                    translations.problem,
                ),
            )
        ),
        "undo": editor.undo_title,
        "redo": editor.redo_title,
    }


def _trigger(dataset: ReviewDataset, concept: int | None = None) -> list[str]:
    """Return the trigger words of one concept, by default of all."""
    return list(
        dict.fromkeys(
            word
            for (index, _), trigger in dataset.triggers().items()
            for word in trigger.words
            if concept in (None, index)
        )
    )


def _concepts(dataset: ReviewDataset, images: Sequence[ReviewImage]) -> list[Json]:
    counts = [0] * len(dataset.sets)
    for image in images:
        counts[image.concept] += 1
    return [
        {
            "name": concept.name,
            "repeats": concept.repeats,
            "images": count,
            "trigger": _trigger(dataset, index),
        }
        for index, (concept, count) in enumerate(zip(dataset.sets, counts, strict=True))
    ]


def window(
    dataset: ReviewDataset, ids: Sequence[int], offset: int, limit: int, *, captions: bool
) -> Json:
    """Return some of the images as columns."""
    shown = (dataset.get(image_id) for image_id in ids[offset : offset + limit])
    images = [image for image in shown if image is not None]
    columns = {"version": dataset.version, "total": len(ids), "offset": offset, **_columns(images)}
    if captions:
        columns["caption"] = [_text(image.caption) for image in images]
        columns["hash"] = [image.hash for image in images]
    return columns


def _columns(images: Sequence[ReviewImage]) -> Json:
    records = [image.facts.record for image in images]
    return {
        "id": [image.id for image in images],
        "name": [image.name for image in images],
        "w": [record.width for record in records],
        "h": [record.height for record in records],
        "v": [image.v for image in images],
        "concept": [image.concept for image in images],
        "tags": [_tag_count(image) for image in images],
        "edited": [int(image.facts.edited) for image in images],
    }


def _tag_count(image: ReviewImage) -> int:
    return -1 if image.caption is None else len(image.caption.tags)


def filter_result(dataset: ReviewDataset, where: str) -> Json:
    """Return a filter in its normal spelling and how many images match it. Raises FilterError."""
    normal = show(parse(where))
    return {"version": dataset.version, "where": normal, "total": len(dataset.ids(where))}


def image_details(
    dataset: ReviewDataset,
    context: OperationContext,
    image: ReviewImage,
    translations: TagMeanings,
    near_duplicates: Sequence[int],
) -> Json:
    """Return everything about one image. near_duplicates: the group that it is in."""
    facts, caption = image.facts, image.caption
    by_tagger = operations.tagger_caption(context, image)
    concept = dataset.sets[image.concept]
    return {
        "version": dataset.version,
        "id": image.id,
        "name": image.name,
        "folder": below(image.path.parent, dataset.folder.parent),
        "concept": concept.name,
        "repeats": concept.repeats,
        "w": facts.record.width,
        "h": facts.record.height,
        "v": image.v,
        "bytes": image.stamp.size,
        "caption": _text(caption),
        "hash": image.hash,
        "chars": facts.chars,
        "tokens": facts.tokens,
        "edited": facts.edited,
        "trigger": list(dataset.trigger_of(image).words),
        "tags": [
            {
                "tag": tag,
                "score": _score(facts.scores.get(form)),
                "category": context.vocabulary.category(tag),
                "translation": translations.of(form),
            }
            for tag, form in zip(
                caption.tags if caption is not None else (), facts.in_order, strict=True
            )
        ],
        "sentences": list(caption.sentences) if caption is not None else [],
        "other_tags": _other_tags(image, context.vocabulary),
        "tagger": None
        if by_tagger is None
        else {"caption": _tags_text(by_tagger), **_difference(image, by_tagger, caption)},
        "near_duplicates": list(near_duplicates),
    }


def _other_tags(image: ReviewImage, vocabulary: Vocabulary) -> list[Json]:
    """Return the tags with the best scores that the caption does not have."""
    rows = sorted(
        (
            (steps, form)
            for form, steps in image.facts.scores.items()
            if steps >= _OTHER_TAGS_FROM and form not in image.facts.forms
        ),
        key=lambda row: (-row[0], row[1]),
    )
    return [
        {
            "tag": vocabulary.spelling(form) or form,
            "score": _score(steps),
            "category": vocabulary.category(form),
        }
        for steps, form in rows[:_MAX_OTHER_TAGS]
    ]


def _difference(image: ReviewImage, before: Caption | None, after: Caption | None) -> Json:
    """Return the tags that were added and removed between two captions."""
    change = CaptionChange(image.path, before, after or Caption(()))
    return {"added": list(change.added), "removed": list(change.removed)}


def edited(result: EditResult, dataset: ReviewDataset, editor: Editor, *, dry_run: bool) -> Json:
    """Return what an operation did, or in a dry run would do."""
    plan = result.plan
    tags_added, tags_removed = plan.tag_counts()
    # An undo may remove a caption file altogether: such a caption is in `ids` but not in the plan.
    changed = len(result.ids or plan.changes) + result.meanings
    return {
        "version": dataset.version,
        "entry": result.entry,
        "title": result.title,
        "changed": changed + len(result.removed) + len(result.restored),
        "unchanged": plan.unchanged,
        "kept": plan.kept,
        "reason": plan.reason,
        "ids": list(result.ids),
        "removed": list(result.removed),
        "restored": list(result.restored),
        "tags_added": tags_added,
        "tags_removed": tags_removed,
        "without_scores": plan.without_scores,
        "warnings": list(plan.warnings),
        "trigger": _trigger(dataset),
        "undo": editor.undo_title,
        "redo": editor.redo_title,
        "dry_run": dry_run,
    }


def suggestions(dataset: ReviewDataset, rows: Sequence[Suggestion], images: int) -> Json:
    """Return the rows of a table of suggestions as columns, without those that keep a tag."""
    shown = [row for row in rows if row.action != "keep"]
    return {
        "version": dataset.version,
        "images": images,
        "folder": [row.folder for row in shown],
        "action": [row.action for row in shown],
        "tag": [row.tag for row in shown],
        "why": [row.why for row in shown],
        "reason": [row.reason for row in shown],
        "count": [len(row.images) for row in shown],
        "of": [row.of for row in shown],
        "recommended": [row.recommended for row in shown],
        "where": [
            show(Not(Match("tag", (row.tag,)))) if row.action == "add" else exactly(row.tag)
            for row in shown
        ],
        "kept": sorted({row.tag for row in rows if row.action == "keep"}),
    }


def changes(dataset: ReviewDataset, log: Sequence[DatasetChange] | None) -> Json:
    """Return what changed since the version that a page has seen.

    reset: the page is too far behind (log is None) and must reload everything.
    """
    log_or_empty = log or ()
    return {
        "version": dataset.version,
        "reset": log is None,
        "ids": _unique(change.captions for change in log_or_empty),
        "external": _unique(change.captions for change in log_or_empty if change.external),
        "added": _unique(change.added for change in log_or_empty),
        "removed": _unique(change.removed for change in log_or_empty),
    }


def _unique(ids: Iterable[Iterable[int]]) -> list[int]:
    return list(dict.fromkeys(image_id for several in ids for image_id in several))


def refusal(error: DskError, dataset: ReviewDataset | None) -> Json:
    """Return why a request was refused.

    position: of the error in a filter, from 0. conflicts: see EditConflict; `count` may be larger
    than their number.
    """
    answer: Json = {"error": error.message, "hint": error.hint}
    if isinstance(error, FilterError):
        answer["position"] = error.at
    if isinstance(error, EditConflict) and dataset is not None:
        answer["version"] = dataset.version
        answer["count"] = error.count
        answer["conflicts"] = [_conflict(difference, dataset) for difference in error.differences]
    return answer


def _conflict(difference: CaptionDifference, dataset: ReviewDataset) -> Json:
    image = dataset.get(difference.id)
    tags = (
        {"added": [], "removed": []}
        if image is None
        else _difference(image, difference.expected, difference.current)
    )
    return {
        "id": difference.id,
        "name": difference.name,
        "expected": _text(difference.expected),
        "current": _text(difference.current),
        "hash": "" if image is None else image.hash,
        **tags,
    }


def _tags_text(caption: Caption) -> str:
    """Return the text of a caption without its sentences, which no tagger writes."""
    return ", ".join(caption.tags) if caption.sentences else caption.text()


def _text(caption: Caption | None) -> str | None:
    return None if caption is None else caption.text()


def _score(steps: int | None) -> float | None:
    return None if steps is None else steps / SCORE_STEPS
